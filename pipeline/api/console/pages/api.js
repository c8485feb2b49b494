// Calls of the API: paths by their segments, errors as sentences, the key where there is one.
import { now } from "./store.js";

/** Why a call has no result: `status` is 0 where nothing answered. */
export class CallError extends Error {
  constructor(status, message, body = null) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** Make a path of segments that may hold any text. Raises CallError for the two names that no browser can ask for. */
export function path(...segments) {
  if (segments.some((segment) => segment === "." || segment === "..")) {
    throw new CallError(0, "a browser takes “.” and “..” in a path for directions; ask for this name with curl --path-as-is");
  }
  try {
    return `/${segments.map(encodeURIComponent).join("/")}`;
  } catch {
    throw new CallError(0, "this name holds half of a character, which no path can carry");
  }
}

/** Write a query; what is null or "" is left out. */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value != null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

export function headers() {
  const { key } = now();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** GET, and return the JSON. Raises CallError; AbortError where `signal` ended it. */
export async function get(where, signal) {
  return (await call(where, { headers: headers(), signal })).body;
}

/** POST an event; returns {status, headers, body}. */
export async function send(event) {
  return call("/api/v1/events", { method: "POST", headers: { ...headers(), "Content-Type": "application/json" }, body: event });
}

/** POST a change. X-Requested-By makes it a request that no other site's form can make. */
export async function change(where, body) {
  const own = { ...headers(), "Content-Type": "application/json", "X-Requested-By": "console" };
  return (await call(where, { method: "POST", headers: own, body: JSON.stringify(body) })).body;
}

/** Say what to do about an error. */
export function advice(error) {
  if (error.status === 0) return "It is asked again as soon as the API answers.";
  if (error.status === 401) return "Give an API key that may read (gamemetrics keys create NAME --scope read).";
  if (error.status === 403) return "The key may not do this: it needs another scope, or is limited to some games.";
  if (error.status === 429) return "Too many requests: wait a moment.";
  if (error.status === 503) return "The API waits for a server behind it; see the overview.";
  return "";
}

async function call(where, options) {
  let answer;
  try {
    answer = await fetch(where, { ...options, cache: "no-cache", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError(0, "the API does not answer");
  }
  const text = await answer.text().catch(() => {
    throw new CallError(0, "the API's answer was cut short");
  });
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    if (answer.ok) throw new CallError(answer.status, "the answer is not JSON: is something else on this port?");
  }
  if (!answer.ok) throw new CallError(answer.status, body?.error ?? `HTTP ${answer.status}`, body);
  return { status: answer.status, headers: answer.headers, body };
}
