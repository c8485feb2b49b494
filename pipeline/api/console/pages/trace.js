// Try & trace: send an event and see it arrive; find any event by its ids; what was refused or could not be counted.
import { CallError, get, query } from "./api.js";
import { useState } from "./hooks.js";
import { html } from "./html.js";
import { href } from "./router.js";
import { Trail } from "./trail.js";
import { sent, TryForm } from "./try.js";
import { Card, Empty, Fault, Finder, Loaded, Name, Time, Title, useLoad } from "./ui.js";

const history = []; // what was sent from this page, newest first: it outlives a look at another page
const KEPT = 10;
const UUID = "\\s*[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\\s*";

export function Trace({ values }) {
  const [shown, show] = useState(history[0] ?? null);
  const [fault, fail] = useState(null);
  const sends = (one) => {
    history.unshift(one);
    history.length = Math.min(history.length, KEPT);
    show(one);
  };
  const again = async (timestamp) => {
    try {
      const copy = await sent({ ...shown, timestamp });
      sends({ ...copy, after: copy.position });
      fail(null);
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      fail(error);
    }
  };
  const asked = values.player_id && values.event_id ? values : null;
  return html`<${Title}>Try & trace<//>
    ${asked && html`<${Card} title="The trail of an event" aside=${html`<a href=${href("trace")}>Send one of your own</a>`}>
      <${Trail} key=${JSON.stringify(asked)} playerId=${asked.player_id} eventId=${asked.event_id} timestamp=${asked.timestamp} />
    <//>`}
    ${!asked && html`<div class="columns two">
      <${Card} title="Send an event"><${TryForm} sends=${sends} /><//>
      <div class="column">
        <${Card} title="Its trail">
          ${shown
            ? html`${fault && html`<${Fault} error=${fault} quiet />`}
                <${Trail} key=${`${shown.event_id} ${shown.after}`} playerId=${shown.player_id} eventId=${shown.event_id}
                  timestamp=${shown.timestamp} reply=${shown} after=${shown.after} again=${again} />`
            : html`<${Empty} title="Send the event, and watch it arrive">
              <p>Kafka acknowledges it, the consumer reads it, PostgreSQL counts it, Redis shows it. Each step appears here with its time.</p><//>`}
        <//>
        ${history.length > 1 && html`<${Sent} shown=${shown} show=${show} />`}
      </div>
    </div>`}
    <${Card} title="Find the trail of any event">
      <${Finder} verb="Trace" to=${(found) => href("trace", [], found)} fields=${[
        { name: "player_id", label: "player_id", value: values.player_id, required: true },
        { name: "event_id", label: "event_id", value: values.event_id, required: true, pattern: UUID, title: "A UUID: the reply to a POST has it" },
        { name: "timestamp", label: "timestamp (if known: found sooner)", value: values.timestamp, placeholder: "2026-01-15T10:35:00Z" },
      ]} />
    <//>
    <div class="columns two"><${Refusals} /><${Letters} /></div>`;
}

function Sent({ shown, show }) {
  return html`<${Card} title="Sent from this page"><ul class="segments">
    ${history.map((one) => html`<li key=${`${one.event_id} ${one.after}`}>
      <button type="button" class="tiny" aria-pressed=${String(one === shown)} onClick=${() => show(one)}>
      ${one.event_type} · <${Name} of=${one.player_id} /></button></li>`)}
  </ul><//>`;
}

function Refusals() {
  const load = useLoad((signal) => get("/api/v1/refusals", signal), ["refusals"], 3000);
  const absent = load.error && [404, 501].includes(load.error.status);
  return html`<${Card} title="Refused at the door">
    ${absent
      ? html`<p class="muted">This API counts refusals, and does not keep them. The reply to a refused event names the field.</p>`
      : html`<${Loaded} load=${load} what="refusals">${({ refusals }) => refusals.length
        ? html`<ul class="list">${refusals.map((one, place) => html`<li key=${`${one.at} ${place}`}><p><strong>${one.reason}</strong></p>
            <p class="muted small"><${Time} at=${one.at} ms /> ${one.event_type && html`· ${one.event_type} `}
              ${one.player_id && html`· <${Name} of=${one.player_id} /> `}${one.key && html`· key ${one.key}`}</p></li>`)}</ul>`
        : html`<p class="muted">None lately. Send an event without a player_id to see one.</p>`}<//>`}
  <//>`;
}

function Letters() {
  const load = useLoad((signal) => get(`/api/v1/console/dead-letters${query({ state: "waiting", limit: 5 })}`, signal), ["letters"], 3000);
  return html`<${Card} title="Newest dead letters" aside=${html`<a href=${href("dead-letters")}>All</a>`}>
    <${Loaded} load=${load} what="dead letters">${({ letters }) => letters.length
      ? html`<ul class="list">${letters.map((one) => html`<li key=${one.id}><p>
        <a href=${href("dead-letters", [String(one.id)])}>${one.code}</a>: <span class="name">${one.error}</span></p>
          <p class="muted small"><${Time} at=${one.created_at} /> · partition ${one.partition}, offset ${one.offset}</p></li>`)}</ul>`
      : html`<p class="muted">None waits.</p>`}<//>
  <//>`;
}
