// A player: statistics, recent events with their trails, and the boards it is on.
import { get, path, query } from "./api.js";
import { count, counted } from "./format.js";
import { html } from "./html.js";
import { Text } from "./json.js";
import { href } from "./router.js";
import { Card, Empty, Finder, Loaded, Name, Time, Title, useLoad } from "./ui.js";

const REFRESH_MS = 2000;

export function Players({ segments: [id] }) {
  return html`<${Title}>Players<//>
    <${Card} label="Find a player">
      <${Finder} to=${(found) => href("players", [found.player_id])}
        fields=${[{ name: "player_id", label: "player_id", value: id, required: true }]} />
    <//>
    ${id === undefined ? html`<${Nobody} />` : html`<${Player} key=${id} id=${id} />`}`;
}

function Nobody() {
  return html`<${Card} label="No player"><${Empty} title="Whose events?">
    <p>Give a player_id, or choose a player on a board. <code>player-test-001</code> is the guide's own.</p>
    <div class="actions"><a class="button" href=${href("players", ["player-test-001"])}>player-test-001</a>
    <a class="button" href=${href("boards")}>The boards</a></div>
  <//><//>`;
}

function Player({ id }) {
  const load = useLoad((signal) => get(path("api", "v1", "console", "players", id) + query({ limit: 50 }), signal), [id], REFRESH_MS);
  return html`<${Loaded} load=${load} what="the player">${(player) => player.statistics || player.events.length
    ? html`<div class="columns wide-left">
        <${Card} title="Recent events" aside=${html`<span class="muted small">newest first, at most 50</span>`}>
        <${Events} of=${player.events} id=${id} /><//>
        <div class="column"><${Statistics} of=${player.statistics} id=${id} /><${Games} of=${player.games} id=${id} /></div>
      </div>`
    : html`<${Card} label="Nothing"><${Empty} title="Nothing was counted for this player">
        <p><${Name} of=${id} /> has no event here. An event just sent takes a moment; names are compared letter by letter.</p>
        <a class="button" href=${href("trace")}>Send an event</a><//><//>`}<//>`;
}

function Statistics({ of, id }) {
  if (!of) return null;
  const types = Object.entries(of.events).sort((a, b) => b[1] - a[1]);
  const most = Math.max(1, ...types.map(([, number]) => number));
  return html`<${Card} title=${html`<${Name} of=${id} />`}>
    <dl class="facts"><dt>Events in all</dt><dd><strong>${count(of.total_events)}</strong></dd><dt>Last event</dt><dd>
    <${Time} at=${of.last_event} /></dd></dl>
    ${of.types_left_out ? html`<p class="muted small">${counted(of.types_left_out, "more type")}, not shown.</p>` : null}
    <table><thead><tr><th scope="col">Type</th><th scope="col" class="number">Events</th><th scope="col" class="bar-cell">
    <span class="unseen">Share</span></th></tr></thead>
      <tbody>${types.map(([type, number]) => html`<tr key=${type}><th scope="row" class="plain-head name">${type}</th>
      <td class="number">${count(number)}</td>
        <td class="bar-cell"><span class="bar" style=${{ width: `${(100 * number) / most}%` }}></span></td></tr>`)}</tbody></table>
  <//>`;
}

function Games({ of, id }) {
  if (!of?.length) return null;
  return html`<${Card} title=${`In ${counted(of.length, "game")}`}>
    <ul>${of.map((game) => html`<li key=${game}>
    <a href=${href("boards", [game], { player: id })}>Place on the board of <${Name} of=${game} /></a></li>`)}</ul>
  <//>`;
}

function Events({ of, id }) {
  if (!of.length) return html`<${Empty} title="No event is kept">
    <p>The statistics count more than the events that are kept: old days are dropped by retention.</p><//>`;
  return html`<div>${of.map((event) => html`<details class="record" key=${`${event.event_id} ${event.timestamp}`}>
    <summary><span class="grow"><strong>${event.event_type}</strong> <span class="muted">in</span> <${Name} of=${event.game_id} /></span>
    <${Time} at=${event.timestamp} ms /></summary>
    <div class="body">
      <dl class="facts small"><dt>event_id</dt><dd class="mono">${event.event_id}</dd><dt>Received</dt><dd>
      <${Time} at=${event.ingested_at} ms /></dd><dt>Counted</dt><dd><${Time} at=${event.counted_at} ms /></dd></dl>
      <${Text} of=${JSON.stringify(event.data)} label="data" />
      <div class="actions">
      <a class="button"
        href=${href("trace", [], { player_id: id, event_id: event.event_id, timestamp: event.timestamp })}>Its trail</a></div>
    </div></details>`)}</div>`;
}
