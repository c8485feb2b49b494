// The topic: the newest records of a partition, or those from an offset on; by player, type or time.
import { get, path, query } from "./api.js";
import { count, counted } from "./format.js";
import { useState } from "./hooks.js";
import { html } from "./html.js";
import { Record, Save } from "./record.js";
import { go, href } from "./router.js";
import { Card, Empty, Field, Loaded, Time, Title, useLoad } from "./ui.js";

const LIMIT = 50;
const REFRESH_MS = 2000;

export function Topic({ segments: [chosen], values }) {
  const load = useLoad((signal) => get("/api/v1/console/topic", signal), ["topic"], REFRESH_MS);
  return html`<${Title}>Topic<//>
    <${Loaded} load=${load} what="the topic">${({ topic, partitions }) => {
      const partition = chosen ?? String(fullest(partitions));
      return html`<${Card} title=${html`<span class="name">${topic}</span>`} aside=${html`<span class="muted">
        ${counted(partitions.length, "partition")}, ${counted(partitions.reduce((sum, one) => sum + one.end - one.first, 0), "offset")}</span>`}>
          <ul class="segments" aria-label="Partitions">${partitions.map((one) => html`<li key=${one.partition}>
            <a href=${href("topic", [String(one.partition)], kept(values))}
              aria-current=${String(one.partition) === partition ? "true" : null}>
              ${one.partition} <span class="small">(${count(one.first)}–${count(one.end)})</span></a></li>`)}</ul>
          <${Filter} key=${JSON.stringify(values)} partition=${partition} values=${values} />
        <//>
        <${Records} key=${`${partition} ${JSON.stringify(values)}`} partition=${partition} values=${values} />`;
    }}<//>`;
}

/** The partition that a newcomer wants to see: one that has something. */
function fullest(partitions) {
  return partitions.reduce((best, one) => (one.end > best.end ? one : best), partitions[0]).partition;
}

/** What holds for another partition and for the next page too. */
function kept({ player_id, event_type }) {
  return { player_id, event_type };
}

function Filter({ partition, values }) {
  const submit = (event) => {
    event.preventDefault();
    const { since, ...given } = Object.fromEntries(new FormData(event.currentTarget));
    go(href("topic", [partition], { ...given, since: since && !given.offset ? new Date(since).toISOString() : "" }));
  };
  const input = (name, label, more) => html`<${Field} id=${`topic-${name}`} label=${label}>
    <input id=${`topic-${name}`} name=${name} defaultValue=${more?.value ?? values[name] ?? ""} autocomplete="off"
      spellcheck=${false} ...${more} /><//>`;
  return html`<form class="fields" onSubmit=${submit}>
    ${input("offset", "From offset (empty: newest)", { inputmode: "numeric", pattern: "\\d*" })}
    ${input("player_id", "player_id")}${input("event_type", "event_type")}
    ${input("since", "Since (your zone)", { type: "datetime-local", step: "1", value: forInput(values.since) })}
    <div class="actions"><button class="main">Show</button><a class="button" href=${href("topic", [partition])}>Newest, all</a></div>
  </form>`;
}

/** A time as an input of type datetime-local takes it. */
function forInput(since) {
  const moment = new Date(since);
  if (!since || Number.isNaN(moment.getTime())) return "";
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

function Records({ partition, values }) {
  const [paused, pause] = useState(false);
  const onward = Boolean(values.offset || values.since); // from there on, oldest first; otherwise newest first
  const newest = !onward && !values.before;
  const follows = newest && !paused;
  const asked = query({ ...values, limit: LIMIT });
  const ask = (signal) => get(path("api", "v1", "console", "topic", partition) + asked, signal);
  const load = useLoad(ask, [partition, asked], follows ? REFRESH_MS : 0);
  const next = (page) => href("topic", [partition], { ...kept(values), [onward ? "offset" : "before"]: page.next });
  const filtered = Boolean(values.player_id || values.event_type);
  const aside = html`<div class="actions">
    ${newest && html`<button type="button" class="tiny" aria-pressed=${String(follows)} onClick=${() => pause(!paused)}>
      ${follows ? "Following" : "Follow"}</button>`}
    ${load.data?.records.length ? html`<${Save} name=${`partition-${partition}`} records=${load.data.records} partition=${partition} />` : null}
  </div>`;
  return html`<${Card} title=${titled(partition, values)} aside=${aside}>
    <${Loaded} load=${load} what="records">${(page) => html`
      ${page.records.length
        ? html`<div>
          ${page.records.map((record) => html`<${Record} key=${record.offset} record=${record} partition=${partition}
            open=${String(record.offset) === values.offset} />`)}</div>`
        : html`<${None} page=${page} filtered=${filtered} values=${values} partition=${partition} />`}
      <div class="actions">
      <span class="muted small">
      ${filtered ? `${counted(page.scanned, "record")} looked through. ` : ""}The log has offsets ${count(page.first)} to ${count(page.end)}.</span>
        ${page.next != null && html`<a class="button" href=${next(page)}>${onward ? "Further" : "Earlier"}</a>`}</div>`}<//>
  <//>`;
}

function titled(partition, { offset, before, since }) {
  if (offset) return `Partition ${partition} from offset ${count(Number(offset))}`;
  if (since) return html`Partition ${partition} since <${Time} at=${since} />`;
  return `Partition ${partition}, newest first${before ? `, before offset ${count(Number(before))}` : ""}`;
}

function None({ page, filtered, values, partition }) {
  if (page.first === page.end) {
    return html`<${Empty} title="This partition is empty">
      <p>A player's events are all in one partition: look at another, or send an event.</p>
      <a class="button" href=${href("trace")}>Send an event</a><//>`;
  }
  if (filtered) {
    return html`<${Empty} title="No record matches">
      <p>${counted(page.scanned, "record")} were looked through${page.next != null ? "; there are more" : ""}.
        A player's events are all in one partition, which may be another one.</p><//>`;
  }
  const where = values.since ? "since then" : values.before ? "before that" : `at offset ${count(Number(values.offset))} or after`;
  return html`<${Empty} title=${`Nothing ${where}`}><p>The log ends at ${count(page.end)}.</p>
    <a class="button" href=${href("topic", [partition])}>The newest</a><//>`;
}
