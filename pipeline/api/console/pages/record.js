// One record of the topic: key, value and headers, to read, to copy and to save.
import { bytes } from "./format.js";
import { html } from "./html.js";
import { isJson, Text } from "./json.js";
import { href } from "./router.js";
import { Copy, Name, Time } from "./ui.js";

export function Record({ record, partition, open }) {
  const event = eventOf(record);
  return html`<details class="record" open=${open}>
    <summary><span class="offset">${record.offset}</span>
    <span class="grow">${event?.event_type ? html`<strong class="name">${event.event_type}</strong> ` : html`<em class="muted">
    ${record.value == null && !record.value_base64 ? "no value" : "no event"}</em> `}
      <${Name} of=${record.key ?? "(no key)"} /></span><span class="muted small narrow-hide">${bytes(record.bytes)}</span>
      <${Time} at=${record.timestamp} ms /></summary>
    <div class="body">
      <dl class="facts small"><dt>Key</dt><dd><${Name} of=${record.key ?? "(none)"} /></dd>
        ${record.headers.map(([name, value], place) => html`<dt key=${`t${place}`}>Header ${name}</dt>
          <dd class="mono" key=${`d${place}`}>${value}</dd>`)}</dl>
      <${Value} record=${record} />
      <div class="actions">
        ${record.value != null && html`<${Copy} text=${record.value}>Copy the value<//>`}
        <${Copy} text=${lines([record], partition)}>Copy the record<//>
        ${event?.player_id && event.event_id && html`<a class="button"
          href=${href("trace", [], { player_id: event.player_id, event_id: event.event_id, timestamp: event.timestamp })}>Its trail</a>`}
        ${event?.player_id && html`<a class="button" href=${href("players", [event.player_id])}>The player</a>`}
      </div>
    </div></details>`;
}

function Value({ record }) {
  if (record.value != null) return html`<${Text} of=${record.value} label="Value" />`;
  if (record.value_base64) return html`<p class="muted">Not text; in base64:</p>
    <${Text} of=${record.value_base64} label="Value in base64" />`;
  return html`<p class="muted">A tombstone: the record has no value.</p>`;
}

/** A button that saves records as lines of JSON. */
export function Save({ name, records, partition }) {
  const save = () => {
    const url = URL.createObjectURL(new Blob([lines(records, partition)], { type: "application/x-ndjson" }));
    Object.assign(document.createElement("a"), { href: url, download: `${name}-${records[0].offset}.ndjson` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  return html`<button type="button" class="tiny" onClick=${save}>Save as JSON</button>`;
}

/** Records as lines of JSON, in the order of the log; a value that is JSON as it is written, any other as a text. */
function lines(records, partition) {
  const inOrder = [...records].sort((a, b) => a.offset - b.offset);
  return inOrder.map((record) => {
    const { value, ...rest } = record;
    const text = value != null && isJson(value) ? value : JSON.stringify(value);
    return `${JSON.stringify({ partition: Number(partition), ...rest }).slice(0, -1)},"value":${text.replaceAll("\n", " ")}}\n`;
  }).join("");
}

function eventOf({ value }) {
  try {
    const event = JSON.parse(value);
    return event && typeof event === "object" ? texts(event) : null;
  } catch {
    return null;
  }
}

/** The fields that links are made of, if they are texts: a record may hold anything. */
function texts(event) {
  const names = ["event_type", "player_id", "event_id", "timestamp"];
  return Object.fromEntries(names.filter((name) => typeof event[name] === "string").map((name) => [name, event[name]]));
}
