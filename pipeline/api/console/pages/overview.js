// The overview: what passes through the system now, and whether all is well.
import { count, counted, duration, rate, sentence } from "./format.js";
import { Flow, trigger } from "./flow.js";
import { html } from "./html.js";
import { href } from "./router.js";
import { useStore } from "./store.js";
import { figures } from "./stream.js";
import { Tile } from "./spark.js";
import { Card, Empty, Loading, mark, State, Time, Title } from "./ui.js";
import { verdict } from "./verdict.js";

const SMALL_LAG = 1000; // records: a few make no bar across the table

export function Overview() {
  const overview = useStore((state) => state.overview);
  const history = useStore((state) => state.history);
  const link = useStore((state) => state.link.state);
  return html`<${Title} aside=${html`<a class="button main" href=${href("trace")}>Send an event</a>`}>Overview<//>
    ${overview ? html`<${Live} overview=${overview} history=${history} />` : html`<${Waiting} link=${link} />`}`;
}

function Waiting({ link }) {
  return html`<${Card} label="Live figures">
    ${link === "connecting"
      ? html`<${Loading} what="the live figures" />`
      : html`<${Empty} title="No figures yet">
        <p>They appear as soon as the API answers${link === "refused" ? " to your key" : ""}.</p><//>`}
  <//>`;
}

function Live({ overview, history }) {
  return html`
    <${Verdict} overview=${overview} />
    <${Card} label="The flow"><${Flow} overview=${overview} /><//>
    <${Charts} overview=${overview} history=${history} />
    <div class="columns three"><${Proof} proof=${overview.proof} /><${Letters} letters=${overview.dead_letters} />
    <${Refusals} edge=${overview.edge} /></div>
    ${overview.groups.map((group) => html`<${Positions} key=${group.group} group=${group} />`)}
    ${!overview.groups.length && html`<${Card} title="Positions"><${Empty} title="No group has read the topic yet">
      <p>Start <code>gamemetrics consume</code>.</p><//><//>`}`;
}

function Verdict({ overview }) {
  const { state, headline, more } = verdict(overview);
  return html`<div class=${`verdict ${state}`}>
    <span class="mark" aria-hidden="true">${mark(state)}</span>
    <p><strong role="status">${headline}.</strong> ${more}</p>
  </div>`;
}

function Charts({ overview, history }) {
  const now = figures(overview);
  const at = (name) => ({ points: history?.series[name], step: history?.step_seconds ?? 5 });
  const perSecond = (value) => `${rate(value)} /s`;
  return html`<div class="tiles">
    <${Tile} title="Accepted" value=${rate(now.accepted)} unit="events/s" show=${perSecond} ...${at("accepted")} />
    <${Tile} title="Counted" value=${rate(now.counted)} unit="events/s" show=${perSecond} ...${at("counted")} />
    <${Tile} title="Lag" value=${count(now.lag_records)} unit=${lagUnit(overview, now)}
      show=${(value) => counted(Math.round(value), "record")} ...${at("lag_records")} />
    <${Tile} title="Freshness" value=${duration(now.freshness_seconds)} unit=${waits(now.freshness_seconds)}
      show=${duration} ...${at("freshness_seconds")} />
    <${Tile} title="Dead letters" value=${count(now.dead_letters)} unit=${now.dead_letters === 1 ? "waits" : "wait"}
      show=${(value) => counted(Math.round(value), "letter")} ...${at("dead_letters")} />
  </div>`;
}

function waits(seconds) {
  if (seconds == null) return "";
  return seconds ? "oldest that waits" : "nothing waits";
}

function lagUnit(overview, now) {
  const seconds = overview.groups.reduce((most, { lag_seconds: one }) => Math.max(most, one ?? 0), 0);
  return `record${now.lag_records === 1 ? "" : "s"}${seconds ? ` · ${duration(seconds)}` : ""}`;
}

function Positions({ group }) {
  const committed = group.partitions.some((one) => one.committed != null); // not every server asks Kafka for it
  const most = Math.max(SMALL_LAG, ...group.partitions.map((one) => one.lag_records));
  return html`<${Card} title=${html`Positions of <span class="name">
    ${group.group}</span>`} aside=${html`<${State} state=${group.state} reason=${group.reason} />`}>
    ${group.state !== "ok" && group.reason && html`<p>${group.reason}</p>`}
    <p class="muted">${group.epoch
      ? html`Last epoch: ${counted(group.epoch.events, "event")}, ${trigger(group.epoch.trigger)}, <${Time} at=${group.epoch.at} />. `
      : "No epoch yet. "}${tally(group)}</p>
    <div class="scroll" tabindex="0" role="region" aria-label=${`Positions of ${group.group}`}><table>
      <thead><tr><th scope="col">Partition</th><th scope="col" class="number">End of the log</th>
      <th scope="col" class="number">PostgreSQL</th>
        <th scope="col" class="number">Redis</th>${committed && html`<th scope="col" class="number narrow-hide">Committed</th>`}
        <th scope="col" class="number">Lag</th><th scope="col" class="bar-cell narrow-hide">
        <span class="unseen">Share of the lag</span></th><th scope="col" class="number narrow-hide">Moved</th></tr></thead>
      <tbody>${group.partitions.map((one) => html`<tr key=${one.partition}>
        <th scope="row"><a href=${href("topic", [String(one.partition)])}>${one.partition}</a></th>
        <td class="number">${count(one.end)}</td><td class="number">${count(one.postgres)}</td><td class="number">${count(one.redis)}</td>
        ${committed && html`<td class="number narrow-hide">${count(one.committed)}</td>`}<td class="number">
          <strong>${count(one.lag_records)}</strong></td>
        <td class="bar-cell narrow-hide">
        ${one.lag_records > 0 && html`<span class="bar warn" style=${{ width: `${(100 * one.lag_records) / most}%` }}></span>`}</td>
        <td class="number narrow-hide"><${Time} at=${one.updated_at} /></td></tr>`)}
      </tbody></table></div>
  <//>`;
}

function tally({ admitted, duplicates, dead_lettered: buried }) {
  return `${counted(admitted, "event")} counted, ${count(duplicates)} sent again and not counted twice, ${count(buried)} to the dead letters.`;
}

function Proof({ proof }) {
  if (!proof) {
    return html`<${Card} title="Proof">
      <p class="muted">“gamemetrics verify” counts the topic again, apart from the pipeline, and names what differs.
      It has left no checkpoint here yet.</p><//>`;
  }
  const [word, verdict] = {
    ok: ["no drift", "Nothing lost, nothing counted twice"],
    degraded: ["stale", "Nothing was lost or counted twice when it was counted last"],
    unknown: ["not yet", "Everything is counted again for the first time"],
    down: ["drift", html`<strong>${counted(proof.differences, "difference")}</strong> between the topic and what is stored`],
  }[proof.state] ?? [proof.state, proof.reason];
  const reach = proof.behind_records ? `${counted(proof.behind_records, "record")} behind where the consumers stand` : "to where the consumers stand";
  const { records = 0, sums = 0 } = proof.unproven;
  return html`<${Card} title="Proof" aside=${html`<${State} state=${proof.state} reason=${proof.reason} word=${word} />`}>
    <p>${verdict}${proof.age_seconds == null || proof.state === "unknown"
      ? " and not done yet."
      : `: counted again ${duration(Math.round(proof.age_seconds))} ago, ${reach}.`}</p>
    ${proof.state === "degraded" && html`<p>${sentence(proof.reason)}</p>`}
    ${records > 0 && html`<p>${counted(records, "record")} were gone from the log before anybody counted them again.</p>`}
    ${sums > 0 && html`<p>Days were dropped (EVENTS_KEEP_DAYS): statistics and boards cannot be counted again.</p>`}
  <//>`;
}

function Letters({ letters }) {
  const codes = Object.entries(letters.by_code).sort((a, b) => b[1] - a[1]);
  return html`<${Card} title="Dead letters" aside=${html`<a href=${href("dead-letters")}>All</a>`}>
    ${letters.waiting
      ? html`<p><strong>${letters.at_least ? "At least " : ""}${counted(letters.waiting, "record")}</strong> could not be counted;
          somebody must decide.</p>
        <ul class="segments">${codes.map(([code, number]) => html`<li key=${code}>
        <a class="chip" href=${href("dead-letters", [], { code })}>${code}: ${count(number)}</a></li>`)}</ul>`
      : html`<p class="muted">None waits. A record that breaks the contract comes here with its reason; its neighbours are counted.</p>`}
  <//>`;
}

function Refusals({ edge }) {
  return html`<${Card} title="Refused at the door" aside=${html`<a href=${href("trace")}>Try one</a>`}>
    <p class="muted">${edge.refused_total
      ? html`<strong>${counted(edge.refused_total, "event")}</strong> since the start, ${rate(edge.refused_per_second)} a second now:
          each with a reply that names the field.`
      : "None since the start. An event that breaks the contract gets a reply that names the field."}</p>
  <//>`;
}
