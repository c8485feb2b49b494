// What several parts of the page share, and a hook that draws a part again if its share changed.
import { useEffect, useReducer } from "./hooks.js";

const THEME = "gamemetrics.theme";
const ZONE = "gamemetrics.zone";

const state = {
  key: "", // an API key: in this memory only, gone with the page
  asking: "", // why the dialog for a key is open; "": it is not
  theme: kept(THEME, ["auto", "light", "dark"]),
  zone: kept(ZONE, ["local", "UTC"]),
  link: { state: "connecting", reason: "", retryAt: 0, since: Date.now() },
  connections: 0, // how often the stream was opened: what was loaded before may be out of date
  overview: null,
  overviewAt: 0, // by this browser's clock
  history: null,
  skewMs: 0, // the server's clock minus this browser's
};
const listeners = new Set();

/** Change some of the state. */
export function put(changes) {
  Object.assign(state, changes);
  for (const listener of [...listeners]) listener();
}

/** Return the state; it is changed by `put` alone. */
export function now() {
  return state;
}

/** Draw the component again whenever what `select` picks is another value; returns that value. */
export function useStore(select) {
  const [, draw] = useReducer((count) => count + 1, 0);
  const value = select(state);
  useEffect(() => {
    let seen = value;
    const look = () => {
      const next = select(state);
      if (!Object.is(next, seen)) {
        seen = next;
        draw();
      }
    };
    listeners.add(look);
    look();
    return () => listeners.delete(look);
  }, []);
  return value;
}

/** Choose a colour scheme ("auto" follows the system) or a zone for times, and remember it. */
export function choose(name, value) {
  try {
    localStorage.setItem(name === "theme" ? THEME : ZONE, value);
  } catch {
    // A browser that keeps nothing for us: the choice holds for this page.
  }
  put({ [name]: value });
}

/** Return the server's time in milliseconds since 1970, as far as this browser knows it. */
export function serverNow() {
  return Date.now() + state.skewMs;
}

function kept(name, values) {
  try {
    const value = localStorage.getItem(name);
    return values.includes(value) ? value : values[0];
  } catch {
    return values[0];
  }
}
