// The trail of one event: hop by hop, asked again until it has arrived.
import { get, path, query } from "./api.js";
import { counted, duration } from "./format.js";
import { useEffect, useState } from "./hooks.js";
import { html } from "./html.js";
import { PERIODS } from "./periods.js";
import { href } from "./router.js";
import { useStore } from "./store.js";
import { Copy, Fault, Loading, Name, Player, Time } from "./ui.js";

const TITLES = { acknowledged: "Acknowledged by Kafka", read: "Read by the consumer", counted: "Counted in PostgreSQL", redis: "Shown by Redis" };
const FATES = {
  counted: ["good", "Counted"],
  duplicate: ["quiet", "A copy: not counted again"],
  dead_letter: ["", "A dead letter"],
  not_read: ["quiet", "On its way"],
  unknown: ["quiet", "Not known"],
  expired: ["quiet", "Too old"],
  refused: ["", "Refused"],
};
const SOON = [404, 504]; // what is asked for too early
const SOON_MS = 200;
const LATER_MS = 1000;
const PATIENCE_MS = 60_000;

/**
 * `reply` is what sending it gave, if it was sent from this page: {sentAt, replyMs, position}. `after`: the trail of the
 * record with this receipt, which may be a copy. `again` sends the same event once more, given its time.
 */
export function Trail({ playerId, eventId, timestamp, reply, after, again: sendAgain }) {
  const [{ trail, error, tired }, set] = useState({ trail: null, error: null, tired: false });
  const [turn, again] = useState(0);
  const key = useStore((state) => state.key);
  const connections = useStore((state) => state.connections);
  useEffect(() => {
    const control = new AbortController();
    const began = performance.now();
    let timer = 0;
    const look = async () => {
      const next = await ask(playerId, eventId, { timestamp, after, wait_ms: after && LATER_MS }, control.signal);
      if (control.signal.aborted) return;
      const waited = performance.now() - began;
      const open = next.error ? reply && SOON.includes(next.error.status) : under(next.trail);
      set((before) => ({ ...before, ...next, tired: Boolean(open && waited > PATIENCE_MS) }));
      if (open && waited < PATIENCE_MS) timer = setTimeout(look, waited < 5000 ? SOON_MS : LATER_MS);
    };
    look();
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [turn, key, connections]);
  const look = () => again((count) => count + 1);
  return html`<div class="column">
    <p class="small muted"><${Name} of=${playerId} /> · <code class="name">${eventId}</code> <${Copy} text=${eventId}>Copy id<//></p>
    ${error && !trail && !reply && html`<${Fault} error=${error} again=${look} />`}
    ${error && reply && !SOON.includes(error.status) && html`<${Fault} error=${error} again=${look} quiet />`}
    ${trail && html`<${Fate} trail=${trail} />`}
    ${!trail && !error && !reply && html`<${Loading} what="the trail" />`}
    ${(trail || reply) && html`<ol class="trail" aria-label="The trail">
      ${hops(trail, reply).map((hop, place) => html`<${Hop} key=${hop.hop} hop=${hop} number=${place + 1} />`)}</ol>`}
    ${trail && html`<${Whole} hops=${trail.hops} />`}
    ${trail && html`<${Effects} effects=${trail.effects} playerId=${playerId} />`}
    ${sendAgain && trail?.timestamp && html`<div class="actions">
      <button type="button" onClick=${() => sendAgain(trail.timestamp)}>Send the same again</button>
      <span class="small muted">It counts once, however often it is sent.</span></div>`}
    ${tired && html`<p class="alert quiet"><span>
      <strong>Not there after a minute.</strong> Does a consumer run? See its lag on the overview.</span>
      <button type="button" onClick=${look}>Look again</button></p>`}
  </div>`;
}

async function ask(playerId, eventId, parameters, signal) {
  try {
    return { trail: await get(path("api", "v1", "events", playerId, eventId.trim()) + query(parameters), signal), error: null };
  } catch (error) {
    return error.name === "AbortError" ? {} : { error };
  }
}

/** Whether something of it is still to come. */
function under(trail) {
  return trail.fate === "not_read" || trail.fate === "unknown" || trail.hops.some(({ state }) => state === "waiting");
}

/** The four hops; before the first answer, what the reply to the POST told. */
function hops(trail, reply) {
  const told = new Map((trail?.hops ?? []).map((hop) => [hop.hop, hop]));
  return Object.keys(TITLES).map((name) => {
    const hop = told.get(name) ?? { hop: name, state: "waiting", at: null, after_ms: null, detail: "" };
    if (name !== "acknowledged" || !reply) return hop;
    const position = reply.position?.replace(/^(\d+):(\d+)$/, "partition $1, offset $2");
    const detail = [hop.detail || position, `the API replied after ${duration(reply.replyMs / 1000)}`];
    return { ...hop, state: "done", at: hop.at ?? reply.sentAt, detail: detail.filter(Boolean).join("; ") };
  });
}

function Fate({ trail }) {
  const [kind, word] = FATES[trail.fate] ?? ["quiet", trail.fate];
  const { dead_letter: letter, duplicate_of: first, lag } = trail;
  return html`<p class=${`alert ${kind}`} role="status"><span><strong>${word}.</strong> ${trail.summary}
    ${letter && html` <a href=${href("dead-letters", [String(letter.id)])}>The dead letter</a>`}
    ${first && html` <a href=${href("topic", [String(first.partition)], { offset: first.offset })}>The first of them</a>`}
    ${trail.fate === "not_read" && lag?.records ? ` ${counted(lag.records, "record")} are before it.` : ""}</span></p>`;
}

/** How long the whole way took, once it is gone. */
function Whole({ hops: all }) {
  const times = all.filter(({ state, at }) => state === "done" && at).map(({ at }) => Date.parse(at));
  if (times.length < 2 || all.some(({ state }) => state === "waiting")) return null;
  return html`<p>From Kafka's acknowledgement to the last step: <strong>
    ${duration((Math.max(...times) - Math.min(...times)) / 1000)}</strong>.</p>`;
}

const SIGNS = { done: "✓", waiting: "…", none: "–" };

function Hop({ hop, number }) {
  const place = /partition (\d+), offset (\d+)/.exec(hop.detail ?? "");
  return html`<li class=${`hop ${hop.state}`}>
    <span class="dot" aria-hidden="true">${SIGNS[hop.state] ?? number}</span>
    <div><p class="line"><strong>${TITLES[hop.hop]}<span class="unseen">: ${hop.state}</span></strong>
      <span>${hop.after_ms > 0 && html`<span class="after">+${duration(hop.after_ms / 1000)}</span> `}
        ${hop.at ? html`<${Time} at=${hop.at} ms />` : hop.state === "waiting" && html`<span class="muted">waiting</span>`}</span></p>
      ${hop.detail && html`<p class="small muted name">
        ${hop.detail}${place && html` · <a href=${href("topic", [place[1]], { offset: place[2] })}>See the record</a>`}</p>`}
    </div></li>`;
}

/** What it changed, each with a way to see it. */
function Effects({ effects, playerId }) {
  const { statistics = [], boards = [] } = effects ?? {};
  if (!statistics.length && !boards.length) return null;
  return html`<div class="column"><h3>What it changed</h3><ul>
    ${statistics.map((one) => html`<li key=${one.event_type}>
      <${Player} id=${playerId} />: ${one.event_type} <strong>${signed(one.added)}</strong></li>`)}
    ${boards.map((one) => html`<li key=${one.key}><${Board} of=${one} playerId=${playerId} /></li>`)}
  </ul></div>`;
}

function Board({ of: { added, game_id: game, period, stamp, first_day: date }, playerId }) {
  const where = href("boards", [game], { period, date, player: playerId });
  const what = `${PERIODS[period]?.of ?? period}${stamp ? ` ${stamp}` : ""}`;
  return html`<a href=${where}>Board of <${Name} of=${game} />, ${what}</a>: <strong>${signed(added)}</strong>`;
}

function signed(number) {
  return number < 0 ? `−${new Intl.NumberFormat("en").format(-number)}` : `+${new Intl.NumberFormat("en").format(number)}`;
}
