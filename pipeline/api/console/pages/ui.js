// Small parts that every page is made of.
import { advice } from "./api.js";
import { clock, utc } from "./format.js";
import { useEffect, useRef, useState } from "./hooks.js";
import { html } from "./html.js";
import { go, href } from "./router.js";
import { put, serverNow, useStore } from "./store.js";

const MARKS = { ok: "●", degraded: "▲", down: "■", unknown: "○" };
// What is not seen, or turns the direction of what follows it. The joiners that emoji and many scripts need are not in it.
const UNSEEN = /([\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb])/;

/** A state: a mark, a word, and the reason on hover. */
export function State({ state = "unknown", reason = "", word = state }) {
  return html`<span class=${`state ${state}`} title=${reason || null}>
    <span aria-hidden="true">${MARKS[state] ?? MARKS.unknown}</span>${word}</span>`;
}

export function mark(state) {
  return MARKS[state] ?? MARKS.unknown;
}

/** A name that somebody chose: as text, apart from the direction of what is around it, with what hides in it shown. */
export function Name({ of, href: where }) {
  const parts = String(of).split(UNSEEN).map((part, place) =>
    place % 2 ? html`<span class="control"
      title="a character that is not seen">U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}</span>` : part,
  );
  const shown = String(of).trim() === "" ? html`<span class="control">${"␣".repeat(Math.max(1, String(of).length))}</span>` : parts;
  return where ? html`<a class="name" href=${where} title=${long(of)}><bdi>${shown}</bdi></a>` : html`<bdi class="name">${shown}</bdi>`;
}

export function Player({ id, game }) {
  return html`<${Name} of=${id} href=${href("players", [id], { game })} />`;
}

/** What is cut off in a list is said on hover. */
function long(name) {
  return name.length > 60 ? name : null;
}

/** A time in the chosen zone, in UTC on hover. */
export function Time({ at, ms = false }) {
  const zone = useStore((state) => state.zone);
  if (!at) return html`<span class="muted">–</span>`;
  return html`<time class="nowrap" datetime=${at} title=${utc(at)}>${clock(at, zone, serverNow(), ms)}</time>`;
}

/** A heading that is focused after a change of page, for who does not see that it changed. */
export function Title({ children, aside }) {
  const heading = useRef(null);
  useEffect(() => {
    document.title = `${heading.current.textContent} · gamemetrics`;
    if (document.activeElement === document.body && document.body.dataset.moved) heading.current.focus({ preventScroll: true });
  }, []);
  return html`<div class="page-head"><h1 tabindex="-1" ref=${heading}>${children}</h1>${aside}</div>`;
}

export function Card({ title, aside, children, label }) {
  return html`<section class="card" aria-label=${label ?? null}>
    ${title && html`<div class="card-head"><h2>${title}</h2>${aside}</div>`}
    ${children}
  </section>`;
}

/** Nothing to show: why, and what to do. */
export function Empty({ title, children }) {
  return html`<div class="notice"><strong>${title}</strong>${children}</div>`;
}

export function Loading({ what }) {
  return html`<div class="notice" role="status"><span><span class="wait" aria-hidden="true"></span> Loading ${what} …</span></div>`;
}

/** An error: what, and what to do. `quiet` where older content stays in sight. */
export function Fault({ error, again, quiet = false }) {
  const needsKey = error.status === 401 || error.status === 403;
  return html`<div class=${quiet ? "alert quiet" : "alert"} role="alert">
    <span><strong>${error.status ? `${error.message}.` : `Not loaded: ${error.message}.`}</strong> ${advice(error)}</span>
    ${needsKey && html`<button type="button" onClick=${() => askForKey(error.message)}>Enter a key</button>`}
    ${again && html`<button type="button" onClick=${again}>Try again</button>`}
  </div>`;
}

export function askForKey(why) {
  put({ asking: why || "A key opens what this API does not show to everybody" });
}

/** What a load is: its spinner, its error, or what `children` make of its data. */
export function Loaded({ load, what, children }) {
  if (load.data == null) {
    return load.error ? html`<${Fault} error=${load.error} again=${load.again} />` : html`<${Loading} what=${what} />`;
  }
  return html`${load.error && html`<${Fault} error=${load.error} again=${load.again} quiet />`}${children(load.data)}`;
}

/** Load, and load again every `every` ms while the page is seen; whenever the API comes back; and when `again` is called. */
export function useLoad(load, parts, every = 0) {
  const about = JSON.stringify(parts);
  const [turn, next] = useState(0);
  const [held, hold] = useState({ about, data: null, error: null });
  const key = useStore((state) => state.key);
  const connections = useStore((state) => state.connections);
  useEffect(() => {
    const control = new AbortController();
    let timer = 0;
    const run = async () => {
      const result = document.hidden && every ? {} : await attempt(load, control.signal);
      if (control.signal.aborted) return;
      hold((before) => ({ about, data: before.about === about ? before.data : null, error: null, ...result }));
      if (every) timer = setTimeout(run, result.error ? every * 3 : every);
    };
    run();
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [about, key, connections, turn]);
  const mine = held.about === about ? held : { data: null, error: null };
  return { ...mine, again: () => next((count) => count + 1) };
}

async function attempt(load, signal) {
  try {
    return { data: await load(signal) };
  } catch (error) {
    return error.name === "AbortError" ? {} : { error };
  }
}

/** A button that copies a text and says so. */
export function Copy({ text, children = "Copy" }) {
  const [said, say] = useState("");
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => say(""), 2000);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => say((await copied(text)) ? "Copied" : "Select the text and copy it by hand");
  return html`<button type="button" class="tiny" onClick=${copy}>${said || children}
    <span class="unseen" role="status">${said}</span></button>`;
}

/** Copy; on plain http beyond loopback browsers have no clipboard, and the older way is taken. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A labelled control; `children` is the control, with the id that is given. */
export function Field({ id, label, hint, wrong, narrow, children }) {
  return html`<div class=${narrow ? "field narrow" : "field"}>
    <label for=${id}>${label}</label>${children}
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
    ${wrong && html`<span class="wrong" id=${`${id}-wrong`} role="alert">${wrong}</span>`}
  </div>`;
}

/** A form of one or more names that leads to an address. `fields`: [{name, label, value, list, type}]; `to` makes the address. */
export function Finder({ fields, to, verb = "Show", children }) {
  const submit = (event) => {
    event.preventDefault();
    go(to(Object.fromEntries(new FormData(event.currentTarget))));
  };
  return html`<form class="fields" onSubmit=${submit}>
    ${fields.map(
      ({ name, label, value, narrow, ...rest }) => html`<${Field} key=${`${name} ${value}`} id=${`find-${name}`}
        label=${label} narrow=${narrow}>
        <input id=${`find-${name}`} name=${name} defaultValue=${value ?? ""} autocomplete="off" spellcheck=${false} ...${rest} />
      <//>`,
    )}
    <button class="main">${verb}</button>${children}
  </form>`;
}

/** A dialog over the page, closed by Escape. Focus comes back to where it was. */
export function Dialog({ title, close, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onCancel=${close} onClose=${close}>
    <div class="stack"><h2 id="dialog-title">${title}</h2>${children}</div>
  </dialog>`;
}
