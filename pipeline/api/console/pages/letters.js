// Dead letters: by reason and state, one record whole, redrive and drop, and who did what.
import { get, path, query } from "./api.js";
import { ChangeDialog } from "./change.js";
import { count, counted } from "./format.js";
import { useState } from "./hooks.js";
import { html } from "./html.js";
import { Text } from "./json.js";
import { href } from "./router.js";
import { Card, Copy, Empty, Loaded, Name, State, Time, Title, useLoad } from "./ui.js";

const STATES = { waiting: "Waiting", redriven: "Redriven", dropped: "Dropped" };
const EMPTY = { waiting: "A record that cannot be counted comes here with its reason and place; what is around it is counted." };
const REFRESH_MS = 3000;
const LIMIT = 50;
/** What the codes mean, and what to do. A code that is not here is shown as it is. */
const MEANINGS = {
  invalid: "The record breaks the contract of an event. Mend its producer; then drop these.",
  refused: "PostgreSQL refused the row. Read the reason; redrive once it is mended.",
  uncovered: "No partition of the table holds its day: too old, or too far ahead. Redrive once there is one.",
  internal: "A fault of ours. Report it; redrive after the update.",
};

export function Letters({ segments: [id], values }) {
  const [asked, ask] = useState(null); // the change under way: {action, what, codes or ids}
  const [turn, again] = useState(0);
  const state = values.state in STATES ? values.state : "waiting";
  return html`<${Title}>Dead letters<//>
    ${id === undefined
      ? html`<${List} key=${`${state} ${values.code} ${values.before}`}
        state=${state} code=${values.code} before=${values.before} ask=${ask} turn=${turn} />`
      : html`<${Letter} key=${id} id=${id} ask=${ask} turn=${turn} />`}
    <${Audit} turn=${turn} />
    ${asked && html`<${ChangeDialog} ...${asked} close=${() => ask(null)} done=${() => again(turn + 1)} />`}`;
}

function List({ state, code, before, ask, turn }) {
  const where = `/api/v1/console/dead-letters${query({ state, code, before, limit: LIMIT })}`;
  const load = useLoad((signal) => get(where, signal), [where, turn], REFRESH_MS);
  const [chosen, choose] = useState(new Set());
  const at = (changes) => href("dead-letters", [], { state: state === "waiting" ? "" : state, code, ...changes });
  return html`<${Card} label="Dead letters">
    <div class="card-head">
      <div class="segments" role="group" aria-label="State">
      ${Object.entries(STATES).map(([name, title]) => html`<a key=${name} href=${at({ state: name === "waiting" ? "" : name })}
        aria-current=${name === state ? "true" : null}>${title}</a>`)}</div>
    </div>
    <${Loaded} load=${load} what="dead letters">${(page) => html`
      <${Codes} counts=${state === "waiting" ? page.by_code : {}} code=${code} at=${at} />
      ${code && html`<p class="muted">${MEANINGS[code] ?? ""}</p>`}
      ${page.letters.length
        ? html`${state === "waiting" && html`<${Actions} page=${page} code=${code} chosen=${chosen} ask=${ask} clear=${() => choose(new Set())} />`}
            <${Rows} letters=${page.letters} chosen=${state === "waiting" ? chosen : null} choose=${choose} />
            ${page.next != null && html`<div class="actions"><a class="button" href=${at({ before: page.next })}>Older ones</a></div>`}`
        : html`<${Empty} title=${state === "waiting" ? "No record waits here" : `None was ${state}`}>
            <p>${EMPTY[state] ?? "What is redriven or dropped stays here to be looked up."}</p><//>`}`}<//>
  <//>`;
}

function Codes({ counts, code, at }) {
  const codes = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  if (!codes.length) return null;
  return html`<ul class="segments" aria-label="Reasons">
    <li><a href=${at({ code: "" })} aria-current=${code ? null : "true"}>All reasons</a></li>
    ${codes.map(([name, number]) => html`<li key=${name}>
      <a href=${at({ code: name })} aria-current=${name === code ? "true" : null} title=${MEANINGS[name] ?? null}>
      ${name}: ${count(number)}</a></li>`)}
  </ul>`;
}

function Actions({ page, code, chosen, ask, clear }) {
  const ids = page.letters.map(({ id }) => id).filter((id) => chosen.has(id));
  const about = (action) => () => ask(ids.length
    ? { action, body: { ids }, what: counted(ids.length, "chosen letter"), clear }
    : { action, body: { code }, what: `every waiting letter of the reason “${code}”`, clear });
  const none = !ids.length && !code;
  const target = ids.length ? `${count(ids.length)} chosen` : code ? `all of ${code}` : "…";
  return html`<div class="actions">
    <button type="button" disabled=${none} onClick=${about("redrive")}>Redrive ${target}</button>
    <button type="button" disabled=${none} onClick=${about("drop")}>Drop ${target}</button>
    ${none && html`<span class="muted small">Choose letters, or a reason, to redrive or drop.</span>`}
  </div>`;
}

function Rows({ letters, chosen, choose }) {
  const all = chosen && letters.every(({ id }) => chosen.has(id));
  const toggle = (ids, on) => {
    const next = new Set(chosen);
    ids.forEach((id) => (on ? next.add(id) : next.delete(id)));
    choose(next);
  };
  return html`<div class="scroll" tabindex="0" role="region" aria-label="List of dead letters"><table>
    <thead><tr>${chosen && html`<th scope="col" class="pick">
    <input type="checkbox" aria-label="Choose all on this page" checked=${all}
      onChange=${(event) => toggle(letters.map(({ id }) => id), event.target.checked)} /></th>`}
      <th scope="col" class="pick">Letter</th><th scope="col">Why</th><th scope="col" class="narrow-hide">From</th>
      <th scope="col" class="number">When</th></tr></thead>
    <tbody>${letters.map((one) => html`<tr key=${one.id}>
      ${chosen && html`<td class="pick">
        <input type="checkbox" aria-label=${`Choose letter ${one.id}`} checked=${chosen.has(one.id)}
          onChange=${(event) => toggle([one.id], event.target.checked)} /></td>`}
      <th scope="row" class="plain-head"><a href=${href("dead-letters", [String(one.id)])}>${one.id}</a></th>
      <td><strong>${one.code}</strong> <span class="name">${one.error}</span></td>
      <td class="narrow-hide nowrap">${one.partition} : ${one.offset}</td><td class="number">
      <${Time} at=${one.created_at} /></td></tr>`)}</tbody>
  </table></div>`;
}

function Letter({ id, ask, turn }) {
  const load = useLoad((signal) => get(path("api", "v1", "console", "dead-letters", id), signal), [id, turn], REFRESH_MS);
  if (load.error?.status === 404) {
    return html`<${Card} label="Not found"><${Empty} title=${`No dead letter ${id}`}><p>It may have been dropped by retention.</p>
      <a class="button" href=${href("dead-letters")}>All dead letters</a><//><//>`;
  }
  return html`<${Loaded} load=${load} what="the dead letter">${(one) => html`<${Whole} one=${one} ask=${ask} />`}<//>`;
}

function Whole({ one, ask }) {
  const state = one.dropped_at ? "dropped" : one.redriven_at ? "redriven" : "waiting";
  const about = (action) => () => ask({ action, body: { ids: [one.id] }, what: `dead letter ${one.id}` });
  return html`<${Card} title=${`Dead letter ${one.id}`} aside=${html`<a href=${href("dead-letters")}>All dead letters</a>`}>
    <p><${State} state=${state === "waiting" ? "degraded" : "unknown"} word=${STATES[state]} /> <strong>
    ${one.code}</strong>: <span class="name">${one.error}</span></p>
    ${MEANINGS[one.code] && html`<p class="muted">${MEANINGS[one.code]}</p>`}
    <dl class="facts">
      <dt>Record</dt>
      <dd><a href=${href("topic", [String(one.partition)], { offset: one.offset })}>partition ${one.partition}, offset ${one.offset}</a></dd>
      <dt>Topic</dt><dd class="name">${one.topic}</dd>
      <dt>Written</dt><dd><${Time} at=${one.record_timestamp} ms /></dd>
      <dt>Set aside</dt><dd><${Time} at=${one.created_at} ms /> by <${Name} of=${one.service ?? ""} /></dd>
      ${one.redriven_at && html`<dt>Redriven</dt><dd><${Time} at=${one.redriven_at} /></dd>`}
      ${one.dropped_at && html`<dt>Dropped</dt><dd><${Time} at=${one.dropped_at} /></dd>`}
    </dl>
    <${Text} of=${one.event ?? one.value_base64 ?? ""} label="The record's value" />
    <div class="actions"><${Copy} text=${one.event ?? one.value_base64 ?? ""}>Copy the value<//>
      ${state === "waiting" && html`<button type="button" onClick=${about("redrive")}>Redrive</button>
        <button type="button" onClick=${about("drop")}>Drop</button>`}</div>
  <//>`;
}

function Audit({ turn }) {
  const load = useLoad((signal) => get(`/api/v1/console/audit${query({ limit: 20 })}`, signal), ["audit", turn], 10_000);
  return html`<${Card} title="Who did what">
    <${Loaded} load=${load} what="the audit">${({ entries }) => entries.length
      ? html`<div class="scroll" tabindex="0" role="region" aria-label="Audit"><table>
          <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">Did</th><th scope="col" class="number">Letters</th>
          <th scope="col">Why</th></tr></thead>
          <tbody>${entries.map((one, place) => html`<tr key=${`${one.at} ${place}`}><td><${Time} at=${one.at} /></td><td>
          <${Name} of=${one.actor} /></td><td>${one.action}</td><td class="number">${count(one.count)}</td><td>
          <${Name} of=${one.reason} /></td></tr>`)}</tbody>
        </table></div>`
      : html`<p class="muted">Nothing was redriven or dropped here yet. Each time is noted with who, when and why.</p>`}<//>
  <//>`;
}
