// The flow as a picture: HTTP, Kafka, the consumers, PostgreSQL and Redis, with what passes between them now.
import { count, counted, duration, rate, roughly } from "./format.js";
import { useLayoutEffect, useRef, useState } from "./hooks.js";
import { html } from "./html.js";
import { layOut } from "./layout.js";
import { href } from "./router.js";
import { mark } from "./ui.js";

const NOBODY = { group: "", state: "degraded", reason: "", records_per_second: 0, lag_records: null, lag_seconds: null, partitions: [] };

export function Flow({ overview }) {
  const [holder, width] = useWidth();
  const groups = overview.groups.length ? overview.groups : [NOBODY];
  const plan = layOut(width, groups.map(({ partitions }) => ({ toRedis: !partitions.length || partitions.some(({ redis }) => redis != null) })));
  return html`<div ref=${holder}>
    <svg class="flow" viewBox=${`0 0 ${plan.width} ${plan.height}`} height=${plan.height} role="group" aria-label="The flow of events">
      ${plan.pipes.map((pipe) => html`<${Pipe} key=${pipe.name} pipe=${pipe} of=${passing(pipe.name, overview, groups)} wide=${plan.wide} />`)}
      <${Edge} at=${plan.boxes.edge} of=${overview.edge} uptime=${overview.uptime_seconds} />
      <${Kafka} at=${plan.boxes.kafka} of=${overview.kafka} topic=${overview.topic} />
      ${groups.map((group, place) => html`<${Group} key=${group.group} at=${plan.boxes[`group${place}`]} of=${group} />`)}
      <${Box} at=${plan.boxes.postgres} title="PostgreSQL" state=${overview.postgres.state} reason=${overview.postgres.reason}
        ...${freshness(overview.groups)} to=${href("players")} />
      <${Box} at=${plan.boxes.redis} title="Redis" state=${overview.redis.state} reason=${overview.redis.reason}
        big=${behind(overview.redis.behind_records)} lines=${["with PostgreSQL", "boards, statistics"]} to=${href("boards")} />
      <${Small} at=${plan.boxes.refused} bad=${overview.edge.refused_per_second > 0} to=${href("trace")}
        text=${`Refused: ${roughly(overview.edge.refused_total)}`} />
      <${Small} at=${plan.boxes.letters} bad=${overview.dead_letters.waiting > 0} to=${href("dead-letters")}
        text=${`Dead letters: ${count(overview.dead_letters.waiting)}`} />
    </svg>
  </div>`;
}

/** What passes through a pipe: {perSecond, label, note, bad}. */
function passing(name, overview, groups) {
  const place = Number(/\d+$/.exec(name)?.[0] ?? 0);
  const { edge, dead_letters: letters } = overview;
  if (name === "accepted") return { perSecond: edge.accepted_per_second, label: `${rate(edge.accepted_per_second)} /s` };
  if (name === "refused") return { perSecond: edge.refused_per_second, label: `${rate(edge.refused_per_second)} /s`, bad: true };
  if (name === "letters") return { perSecond: 0, label: letters.waiting ? "waiting" : "", bad: true };
  const group = groups[place];
  if (name.startsWith("read") && groups.length === 1) {
    return { perSecond: group.records_per_second, label: `${rate(group.records_per_second)} /s`, note: lag(group) };
  }
  return { perSecond: group.records_per_second, label: "" };
}

function lag({ lag_records: records, lag_seconds: seconds }) {
  if (records == null) return "";
  return records && seconds ? `${duration(seconds)} behind` : "";
}

/** One speed for each power of ten, so that dots do not jump at each update. */
function speed(perSecond) {
  return perSecond > 0 ? Math.min(5, Math.max(1, Math.floor(Math.log10(perSecond)) + 2)) : 0;
}

function Pipe({ pipe, of, wide }) {
  const above = wide && pipe.anchor === "middle";
  return html`<g>
    <path class="pipe" d=${pipe.d} />
    <path class=${`run s${speed(of.perSecond)}${of.bad ? " bad" : ""}`} d=${pipe.d} />
    ${of.label && html`<text x=${pipe.at.x} y=${pipe.at.y - (above ? 12 : 0)} text-anchor=${pipe.anchor}>
      ${of.label}${!above && of.note ? `  ·  ${of.note}` : ""}</text>`}
    ${above && of.note && html`<text class="dim" x=${pipe.at.x} y=${pipe.at.y + 24} text-anchor="middle">${of.note}</text>`}
  </g>`;
}

function Edge({ at, of, uptime }) {
  return html`<${Box} at=${at} title="HTTP API" state=${of.state} reason=${of.reason} to=${href("trace")}
    big=${`${rate(of.accepted_per_second)} events/s`} lines=${[`${roughly(of.accepted_total)} in all`, `up ${duration(Math.round(uptime))}`]} />`;
}

function Kafka({ at, of, topic }) {
  const lanes = Math.min(of.partitions ?? 0, 6);
  return html`<${Box} at=${at} title="Kafka" state=${of.state} reason=${of.reason} to=${href("topic")}
      big=${roughly(of.records_total)} lines=${[`records, ${counted(of.partitions, "partition")}`, topic]}>
    ${Array.from({ length: lanes }, (_, lane) => {
      const y = at.y + at.h - 9 - (lanes - 1 - lane) * Math.min(9, 27 / lanes);
      const d = `M${at.x + 14} ${y}H${at.x + at.w - 14}`;
      return html`<g key=${lane}><path class="lane" d=${d} />
        <path class=${`run s${speed((of.records_per_second ?? 0) / lanes)}`} d=${d} /></g>`;
    })}
  <//>`;
}

function Group({ at, of }) {
  if (!of.group) {
    return html`<${Box} at=${at} title="Consumer" state="degraded" big="none" lines=${["start “gamemetrics consume”"]} />`;
  }
  const epoch = of.epoch ? `epoch of ${count(of.epoch.events)}, ${trigger(of.epoch.trigger)}` : "no epoch yet";
  return html`<${Box} at=${at} title="Consumer" state=${of.state} reason=${of.reason}
    big=${of.lag_records ? `${roughly(of.lag_records)} behind` : "no lag"} lines=${[of.group, epoch]} />`;
}

const TRIGGERS = { events: "full", bytes: "full by bytes", wait: "by age" };

/** What made an epoch due, in words. */
export function trigger(name) {
  return TRIGGERS[name] ?? name;
}

function Box({ at, title, state, reason, big, lines = [], to, children }) {
  const fit = (text, size) => shorten(text, Math.floor((at.w - 26) / size));
  const told = reason && state !== "ok" ? [reason, ...lines].slice(0, lines.length) : lines;
  const word = state === "ok" ? "" : ` ${state}`;
  if (state === "down" && title !== "Consumer") big = "away";
  const drawn = html`<title>${`${title}: ${state}${reason ? `, ${reason}` : ""}. ${[big, ...lines].join(", ")}`}</title>
    <rect class=${`box ${state}`} x=${at.x} y=${at.y} width=${at.w} height=${at.h} rx="10" />
    <text class="title" x=${at.x + 14} y=${at.y + 25}>${title}</text>
    <text class=${`mark ${state}`} x=${at.x + at.w - 14} y=${at.y + 25} text-anchor="end">${mark(state)}${word}</text>
    <text class="big" x=${at.x + 14} y=${at.y + 54}>${fit(big, 10.6)}</text>
    ${told.map((line, place) => html`<text key=${place} class="dim" x=${at.x + 14} y=${at.y + 76 + place * 18}>${fit(line, 6.7)}</text>`)}
    ${children}`;
  return to ? html`<a href=${to}>${drawn}</a>` : html`<g>${drawn}</g>`;
}

function Small({ at, text, bad, to }) {
  return html`<a href=${to}>
    <rect class=${`box ${bad ? "degraded" : ""}`} x=${at.x} y=${at.y} width=${at.w} height=${at.h} rx="10" />
    <text class=${bad ? "warning" : "dim"} x=${at.x + 14} y=${at.y + 28}>${shorten(text, Math.floor((at.w - 26) / 7.2))}</text>
  </a>`;
}

/** How far what can be read is behind what was sent, and how much there is. */
function freshness(groups) {
  const known = groups.map((group) => group.freshness_seconds).filter((value) => value != null);
  const oldest = Math.max(0, ...known);
  const admitted = Math.max(0, ...groups.map((group) => group.admitted));
  return { big: oldest ? `${duration(oldest)} behind` : "up to date", lines: [`${roughly(admitted)} counted`, "events and boards"] };
}

function behind(records) {
  return records ? `${roughly(records)} behind` : "level";
}

function shorten(text, characters) {
  const all = [...String(text)];
  return all.length > characters ? `${all.slice(0, Math.max(1, characters - 1)).join("")}…` : text;
}

/** The width of an element in whole pixels, as it changes. */
function useWidth() {
  const holder = useRef(null);
  const [width, set] = useState(320);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(([entry]) => set(Math.max(240, Math.floor(entry.contentRect.width))));
    set(Math.max(240, Math.floor(holder.current.clientWidth)));
    watch.observe(holder.current);
    return () => watch.disconnect();
  }, []);
  return [holder, width];
}
