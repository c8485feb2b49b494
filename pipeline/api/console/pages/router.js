// Addresses of pages: `#/boards/game-1?period=daily`. Names are percent-encoded, whatever they hold.
import { useEffect, useState } from "./hooks.js";
import { query } from "./api.js";

/** Write the address of a page. */
export function href(page, segments = [], values = {}) {
  return `#/${[page, ...segments].filter((segment) => segment !== "").map(encode).join("/")}${query(values)}`;
}

/** Go to a page; `replace` leaves no step to come back to. */
export function go(where, replace = false) {
  if (replace) location.replace(where);
  else location.hash = where;
}

/** Read the address: {page, segments, values}; null where it is none. */
export function route(hash = location.hash) {
  const [where, given = ""] = split(hash.replace(/^#\/?/, ""));
  try {
    const [page, ...segments] = where.split("/").map(decodeURIComponent);
    return { page, segments: segments.filter((segment) => segment !== ""), values: Object.fromEntries(new URLSearchParams(given)) };
  } catch {
    return null;
  }
}

export function useRoute() {
  const [at, move] = useState(route);
  useEffect(() => {
    const moved = () => move(route());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return at;
}

function encode(segment) {
  return encodeURIComponent(segment.toWellFormed?.() ?? segment);
}

function split(text) {
  const place = text.indexOf("?");
  return place < 0 ? [text] : [text.slice(0, place), text.slice(place + 1)];
}
