// The live figures: server-sent events, read by fetch so that a key can go along; opened again with backoff.
import { headers } from "./api.js";
import { now, put } from "./store.js";

const SILENCE_MS = 10_000; // an overview comes each second: after ten without one the connection is taken for dead
const WAITS_MS = [500, 1000, 2000, 4000, 8000, 15000];
const HIDDEN_MS = 20_000; // a browser has few connections per server: tabs that nobody sees give theirs back

let opened = null; // the AbortController of the connection that is open or being waited for
let wake = null; // ends the waiting before the next attempt

/** Keep the figures coming as long as the page lives. */
export async function follow() {
  watchVisibility();
  for (let failures = 0; ; ) {
    const began = now().connections;
    const fault = await read();
    failures = now().connections > began ? 0 : failures + 1;
    if (fault === "hidden") {
      put({ link: { state: "paused", reason: "paused while this tab was hidden", retryAt: 0, since: Date.now() } });
      await pause(Infinity);
    } else if (fault.status === 401 || fault.status === 403) {
      lost("refused", fault.message, 0);
      await pause(Infinity);
    } else {
      const wait = WAITS_MS[Math.min(failures, WAITS_MS.length - 1)] * (0.75 + Math.random() / 2);
      lost("lost", fault.message, Date.now() + wait);
      await pause(wait);
    }
  }
}

/** Try again now: after a new key, or because somebody asks for it. */
export function retry() {
  opened?.abort();
  wake?.();
}

function lost(state, reason, retryAt) {
  const { link } = now();
  const since = link.state === "lost" || link.state === "refused" ? link.since : Date.now();
  put({ link: { state, reason, retryAt, since } });
}

function pause(ms) {
  return new Promise((resolve) => {
    const timer = ms === Infinity ? 0 : setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

/** Read one connection to its end; returns why it ended. */
async function read() {
  const control = new AbortController();
  opened = control;
  let watchdog = setTimeout(() => control.abort(), SILENCE_MS);
  try {
    const answer = await fetch("/api/v1/console/stream", { headers: headers(), signal: control.signal, cache: "no-store" });
    if (!answer.ok) return { status: answer.status, message: (await told(answer)) ?? `HTTP ${answer.status}` };
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return { status: 0, message: "the API closed the stream" };
      clearTimeout(watchdog);
      watchdog = setTimeout(() => control.abort(), SILENCE_MS);
      text = take(text + value);
    }
  } catch {
    if (document.hidden && control.signal.reason === "hidden") return "hidden";
    return { status: 0, message: control.signal.aborted ? "the API is silent" : "the API does not answer" };
  } finally {
    clearTimeout(watchdog);
  }
}

async function told(answer) {
  return answer.json().then((body) => body.error, () => null);
}

/** Use the whole messages of a text, and return what is left of it. */
function take(text) {
  const messages = text.replaceAll("\r\n", "\n").split("\n\n");
  for (const message of messages.slice(0, -1)) {
    const lines = message.split("\n");
    const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim();
    const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
    if (data && name === "history") begin(JSON.parse(data));
    if (data && name === "overview") update(JSON.parse(data));
  }
  return messages.at(-1);
}

function begin(history) {
  put({ history: { ...history, gathered: [] } });
}

function update(overview) {
  const { link, history, connections } = now();
  const changes = { overview, overviewAt: Date.now(), skewMs: Date.parse(overview.at) - Date.now() };
  if (link.state !== "live") {
    changes.link = { state: "live", reason: "", retryAt: 0, since: Date.now() };
    changes.connections = connections + 1;
  }
  if (history) changes.history = extended(history, overview);
  put(changes);
}

/** Append to the series: what came within a step is one point, its mean. */
function extended(history, overview) {
  const gathered = [...history.gathered, figures(overview)];
  if (gathered.length < history.step_seconds) return { ...history, gathered };
  const series = { ...history.series };
  for (const name of Object.keys(series)) {
    const known = gathered.map((one) => one[name]).filter((value) => value != null);
    const mean = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
    series[name] = [...series[name], mean].slice(-180);
  }
  return { ...history, series, gathered: [] };
}

/** What the charts show, out of an overview. */
export function figures(overview) {
  const worst = (name) => overview.groups.reduce((most, group) => (group[name] == null ? most : Math.max(most ?? 0, group[name])), null);
  return {
    accepted: overview.edge.accepted_per_second,
    counted: worst("records_per_second"),
    lag_records: worst("lag_records"),
    freshness_seconds: worst("freshness_seconds"),
    dead_letters: overview.dead_letters.waiting,
  };
}

function watchVisibility() {
  let timer = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => opened?.abort("hidden"), HIDDEN_MS);
    else if (now().link.state === "paused" || now().link.state === "lost") wake?.();
  });
}
