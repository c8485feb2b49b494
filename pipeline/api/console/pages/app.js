// The frame: navigation, what the connection is like, the key, the colours; and the page that the address names.
import { Boards } from "./boards.js";
import { duration } from "./format.js";
import { useEffect, useErrorBoundary, useReducer } from "./hooks.js";
import { html } from "./html.js";
import { Icon } from "./icons.js";
import { KeyDialog } from "./key.js";
import { Letters } from "./letters.js";
import { Overview } from "./overview.js";
import { Players } from "./players.js";
import { render } from "./preact.js";
import { href, useRoute } from "./router.js";
import { choose, now, useStore } from "./store.js";
import { follow, retry } from "./stream.js";
import { Topic } from "./topic.js";
import { Trace } from "./trace.js";
import { askForKey, Empty, State, Title } from "./ui.js";

/** The pages, in the order of the navigation; the first is what `/` shows. Another page is another line. */
const PAGES = [
  { page: "overview", title: "Overview", Part: Overview },
  { page: "trace", title: "Try & trace", Part: Trace },
  { page: "boards", title: "Boards", Part: Boards },
  { page: "players", title: "Players", Part: Players },
  { page: "dead-letters", title: "Dead letters", Part: Letters },
  { page: "topic", title: "Topic", Part: Topic },
];
const THEMES = { auto: "light", light: "dark", dark: "auto" };
const LINKS = {
  live: ["ok", "live"],
  connecting: ["unknown", "connecting"],
  lost: ["down", "no connection"],
  refused: ["degraded", "key needed"],
  paused: ["unknown", "paused"],
};

function App() {
  const at = useRoute();
  const wanted = at && (at.page || PAGES[0].page);
  const found = PAGES.find(({ page }) => page === wanted);
  useEffect(() => {
    scrollTo(0, 0);
  }, [wanted]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <div class="top-row">
        <a class="brand" href="#/"><img src="/console/icon.svg" alt="" />gamemetrics</a>
        <nav class="nav" aria-label="Pages">
          ${PAGES.map(({ page, title }) => html`<a key=${page} href=${href(page)} aria-current=${page === wanted ? "page" : null}>
            ${title}</a>`)}
        </nav>
        <${Tools} />
      </div>
    </header>
    <${Offline} />
    <main class="page" id="main" tabindex="-1">
      ${found ? html`<${Shown} key=${wanted} Part=${found.Part} at=${at} />` : html`<${Lost} />`}
    </main>
    <${Foot} />
    <${KeyDialog} />
  `;
}

/** A page; where drawing it fails, that is said, and the rest of the console goes on. */
function Shown({ Part, at }) {
  const [fault, clear] = useErrorBoundary((error) => console.error(error));
  if (!fault) return html`<${Part} ...${at} />`;
  return html`<${Title}>A fault of the console<//><section class="card"><${Empty} title="This page could not be drawn">
    <p>${String(fault.message)}</p><button type="button" onClick=${clear}>Draw it again</button>
  <//></section>`;
}

function Tools() {
  const theme = useStore((state) => state.theme);
  const key = useStore((state) => state.key);
  const link = useStore((state) => state.link);
  const [state, word] = LINKS[link.state];
  return html`<div class="tools">
    <${State} state=${state} word=${word} reason=${link.reason} />
    <button type="button" class="plain" onClick=${() => askForKey("")} aria-label=${key ? "Key: set" : "Key: none"}
      title=${key ? "A key is set" : "Use an API key"}>
      <${Icon} name="key" />${key && "set"}
    </button>
    <button type="button" class="plain" onClick=${() => choose("theme", THEMES[theme])} aria-label=${`Colours: ${theme}`}
      title=${`Colours: ${theme}`}>
      <${Icon} name=${theme} />
    </button>
  </div>`;
}

/** What is shown while no figures come: since when, and when it is tried again. */
function Offline() {
  const link = useStore((state) => state.link);
  const [, tick] = useReducer((count) => count + 1, 0);
  const cut = link.state === "lost";
  useEffect(() => {
    if (!cut) return undefined;
    const timer = setInterval(tick, 250);
    return () => clearInterval(timer);
  }, [cut]);
  if (link.state === "refused") {
    return html`<section class="offline" aria-label="Connection"><div role="alert">
      <span><strong>The live figures need a key.</strong> ${link.reason}</span>
      <button type="button" onClick=${() => askForKey(link.reason)}>Enter a key</button>
    </div></section>`;
  }
  if (!cut) return null;
  const wait = Math.max(0, link.retryAt - Date.now()) / 1000;
  const known = now().overviewAt;
  const old = duration(Math.round((Date.now() - known) / 1000));
  return html`<section class="offline" aria-label="Connection"><div>
    <span role="alert">
    <strong>No connection: ${link.reason}.</strong>${known ? " What you see is from before." : " Is “gamemetrics serve” running?"}</span>
    <span class="nowrap">${known ? `Last figures ${old} ago. ` : ""}${wait >= 0.5 ? `Trying again in ${Math.ceil(wait)} s.` : "Trying …"}</span>
    <button type="button" class="tiny" onClick=${retry}>Try now</button>
  </div></section>`;
}

function Foot() {
  const zone = useStore((state) => state.zone);
  const local = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return html`<footer class="foot">
    <span>Times are in ${zone === "UTC" || local === "UTC" ? "UTC" : `your zone (${local}); UTC on hover`}.${" "}
      ${local !== "UTC" && html`<button type="button" class="tiny" onClick=${() => choose("zone", zone === "UTC" ? "local" : "UTC")}>
        ${zone === "UTC" ? `Show ${local}` : "Show UTC"}</button>`}</span>
    <a href="/docs">HTTP API</a><a href="/metrics">Metrics</a>
  </footer>`;
}

function Lost() {
  return html`<${Title}>No such page<//><section class="card"><${Empty} title="This address names no page of the console">
    <p><a href="#/">Go to the overview</a></p>
  <//></section>`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

/** The scheme of the system, or the one that was chosen. Before anything is drawn, or a dark room would flash white. */
function paint() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const { theme } = now();
    document.documentElement.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
  };
  dark.addEventListener("change", apply);
  apply();
  return apply;
}

function Painter({ apply }) {
  const theme = useStore((state) => state.theme);
  useEffect(apply, [theme]);
  return null;
}

const apply = paint();
addEventListener("hashchange", () => {
  document.body.dataset.moved = "yes";
});
render(html`<${App} /><${Painter} apply=${apply} />`, document.getElementById("console"));
follow();
