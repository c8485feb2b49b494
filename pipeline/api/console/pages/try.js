// The form of an event, and the curl that sends the same.
import { CallError, send } from "./api.js";
import { useState } from "./hooks.js";
import { html } from "./html.js";
import { now, useStore } from "./store.js";
import { askForKey, Copy, Field } from "./ui.js";

const GUIDE = { event_type: "player_score", player_id: "player-test-001", game_id: "game-test-001", timestamp: "", data: '{"score": 1500}' };
const TYPES = ["player_score", "quest_completed", "achievement_unlocked", "boss_defeated", "player_level_up", "login"];
let draft = { ...GUIDE }; // what is in the form: it outlives a look at another page

/** `sends` is called with each event that Kafka acknowledged: the event's fields, event_id, sentAt, replyMs, position. */
export function TryForm({ sends }) {
  const [fields, set] = useState(draft);
  const [fault, fail] = useState(null);
  const [busy, work] = useState(false);
  const key = useStore((state) => state.key);
  const { event, wrong } = composed(fields);
  const change = (name) => (input) => set((draft = { ...draft, [name]: input.target.value }));
  const submit = async (form) => {
    form.preventDefault();
    if (busy || wrong) return;
    work(true);
    fail(null);
    try {
      sends(await sent(fields));
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      fail(error);
    }
    work(false);
  };
  const named = fault && Object.keys(GUIDE).find((name) => fault.message.startsWith(name));
  const problem = (name) => (name === "data" && wrong) || (named === name ? fault.message : null);
  const input = (name, label, more = {}) => html`<${Field} id=${`try-${name}`} label=${label} wrong=${problem(name)} hint=${more.hint}>
    <input id=${`try-${name}`} value=${fields[name]} onInput=${change(name)} autocomplete="off" spellcheck=${false} list=${more.list}
      placeholder=${more.placeholder}
      aria-invalid=${problem(name) ? "true" : null} aria-describedby=${problem(name) ? `try-${name}-wrong` : null} />
  <//>`;
  return html`<form class="column" onSubmit=${submit}>
    <div class="fields">${input("event_type", "event_type", { list: "try-types" })}${input("player_id", "player_id")}</div>
    <div class="fields">
    ${input("game_id", "game_id")}${input("timestamp", "timestamp (empty: now)", { placeholder: "2026-01-15T10:35:00Z" })}</div>
    <datalist id="try-types">${TYPES.map((type) => html`<option key=${type} value=${type} />`)}</datalist>
    <${Field} id="try-data" label="data (a JSON object)" wrong=${problem("data")}>
      <textarea id="try-data" rows="3" value=${fields.data} onInput=${change("data")} spellcheck=${false}
        aria-invalid=${problem("data") ? "true" : null} aria-describedby=${problem("data") ? "try-data-wrong" : null}></textarea>
    <//>
    ${fault && html`<div class="alert" role="alert"><span>
      <strong>${fault.status === 400 ? "Refused" : "Not sent"}: ${fault.message}.</strong> ${told(fault)}</span>
      ${(fault.status === 401 || fault.status === 403) && html`<button type="button"
        onClick=${() => askForKey(fault.message)}>Enter a key</button>`}</div>`}
    <div class="actions"><button class="main" disabled=${busy || !!wrong}>${busy ? "Sending …" : "Send"}</button>
      <button type="button" onClick=${() => { set((draft = { ...GUIDE })); fail(null); }}>The guide's event again</button></div>
    <div class="column"><div class="card-head"><span class="label">The same with curl</span><${Copy} text=${curl(event, key)} /></div>
      <pre class="text" tabindex="0" role="group" aria-label="The same with curl">${curl(event, key)}</pre></div>
  </form>`;
}

function told({ status }) {
  if (status === 400) return "The pipeline never saw it; mend the field and send again.";
  if (status === 0 || status === 503) return "Nothing was counted as accepted: 200 is given only if Kafka has the event.";
  return "";
}

/** Send what is in the fields; returns them with what the reply told. Raises CallError. */
export async function sent(fields) {
  const began = performance.now();
  const sentAt = new Date().toISOString();
  const { body, headers } = await send(composed(fields).event);
  return { ...fields, event_id: body.event_id, sentAt, replyMs: performance.now() - began, position: headers.get("X-Event-Position") };
}

/** The JSON of the fields. `data` goes as it is written, or numbers of many digits would change. */
function composed(fields) {
  let wrong = null;
  try {
    JSON.parse(fields.data || "{}");
  } catch (error) {
    wrong = `Not JSON: ${error.message}`;
  }
  const texts = ["event_type", "player_id", "game_id", "event_id", "timestamp"].filter((name) => fields[name]);
  const parts = texts.map((name) => `"${name}": ${JSON.stringify(fields[name])}`);
  return { event: `{${[...parts, `"data": ${fields.data || "{}"}`].join(", ")}}`, wrong };
}

/** The command for a shell. The key is not in it: what is copied ends up in histories and chats. */
export function curl(event, key = now().key) {
  const quoted = `'${event.replaceAll("'", String.raw`'\''`)}'`;
  const authorization = key ? ` \\\n  -H "Authorization: Bearer $API_KEY"` : "";
  return `curl -X POST ${location.origin}/api/v1/events \\\n  -H "Content-Type: application/json"${authorization} \\\n  -d ${quoted}`;
}
