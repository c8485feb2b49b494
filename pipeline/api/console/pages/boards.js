// Boards: a game's ranking of all time, of a day or of a week, as it moves; and a player's place with neighbours.
import { get, path, query } from "./api.js";
import { count } from "./format.js";
import { useEffect, useRef } from "./hooks.js";
import { html } from "./html.js";
import { FIRST, PERIODS } from "./periods.js";
import { go, href } from "./router.js";
import { Card, Empty, Field, Finder, Loaded, Name, Player, Title, useLoad } from "./ui.js";

const PAGE = 25;
const CHIPS = 12;
const REFRESH_MS = 1000;

export function Boards({ segments: [game], values }) {
  const games = useLoad((signal) => get(`/api/v1/console/games${query({ limit: 200 })}`, signal), ["games"], game ? 0 : 3000);
  const first = games.data?.games[0];
  useEffect(() => {
    if (game === undefined && first !== undefined) go(href("boards", [first]), true);
  }, [game, first]);
  return html`<${Title}>Boards<//>
    <${Loaded} load=${games} what="games">${({ games: known, next }) =>
      known.length || game
        ? html`<${Games} known=${known} more=${next} game=${game} values=${values} />
          ${game && html`<${Game} key=${game} game=${game} values=${values} />`}`
        : html`<${Card}><${Empty} title="No game has a board yet"><p>A board appears with the first score of a game.</p>
          <a class="button main" href=${href("trace")}>Send a score</a><//><//>`}
    <//>`;
}

function Games({ known, more, game, values }) {
  const shown = known.slice(0, CHIPS);
  const label = `Game (${count(known.length)}${more ? " and more: type a name" : ""})`;
  const to = (found) => href("boards", [found.game], { period: values.period, date: values.date });
  return html`<${Card} label="Games">
    <${Finder} to=${to} fields=${[{ name: "game", label, value: game, list: "games", required: true }]} />
    <datalist id="games">${known.map((one) => html`<option key=${one} value=${one} />`)}</datalist>
    ${known.length > 1 && html`<ul class="segments" aria-label="Games">${shown.map((one) => html`<li key=${one}>
      <a href=${to({ game: one })} aria-current=${one === game ? "true" : null}><${Name} of=${one} /></a></li>`)}</ul>`}
  <//>`;
}

function Game({ game, values }) {
  const period = Object.hasOwn(PERIODS, values.period) ? values.period : FIRST;
  const { date, player } = values;
  const offset = Math.max(0, Number.parseInt(values.offset ?? "0", 10) || 0);
  const at = (changes) => href("boards", [game], { period: period === FIRST ? "" : period, date, player, ...changes });
  return html`
    <div class="columns wide-left">
      <${Card} title=${html`<${Name} of=${game} />`} aside=${html`<div class="segments" role="group" aria-label="Period">
          ${Object.entries(PERIODS).map(([name, { title }]) => html`<a key=${name}
            href=${at({ period: name === FIRST ? "" : name, date: "" })} aria-current=${name === period ? "true" : null}>${title}</a>`)}
        </div>`}>
        ${PERIODS[period].choose && html`<${Days} game=${game} period=${period} date=${date} at=${at} />`}
        <${Board} key=${`${period} ${date} ${offset}`} game=${game} period=${period} date=${date} offset=${offset} player=${player} at=${at} />
      <//>
      <${Card} title="A player's place">
        <${Finder} verb="Find" to=${(found) => at({ player: found.player })}
          fields=${[{ name: "player", label: "player_id", value: player, required: true }]} />
        ${player && html`<${Place} key=${`${period} ${date} ${player}`} game=${game} period=${period} date=${date} player=${player} />`}
      <//>
    </div>`;
}

/** The days, or the weeks, that have a board. */
function Days({ game, period, date, at }) {
  const load = useLoad((signal) => get(path("api", "v1", "console", "games", game, "days") + query({ limit: 366 }), signal), [game, "days"]);
  const { choose, now } = PERIODS[period];
  return html`<${Loaded} load=${load} what="days">${({ boards }) => {
    const choices = boards.filter((one) => one.period === period);
    const chosen = date && choices.find(({ first_day: first, last_day: last }) => first <= date && date <= last);
    const change = (event) => go(at({ date: event.target.value }));
    return html`<${Field} id="board-date" label=${choose}>
      <select id="board-date" onChange=${change}>
        <option value="" selected=${!date}>${now}</option>
        ${date && !chosen && html`<option value=${date} selected>${date}</option>`}
        ${choices.map((one) => html`<option key=${one.stamp} value=${one.first_day} selected=${one === chosen}>${one.stamp}</option>`)}
      </select>
    <//>`;
  }}<//>`;
}

function Board({ game, period, date, offset, player, at }) {
  const asked = query({ period, date, offset, limit: PAGE });
  const load = useLoad((signal) => get(path("api", "v1", "leaderboards", game) + asked, signal), [game, asked], REFRESH_MS);
  const moved = useMoved(load.data?.entries);
  return html`<${Loaded} load=${load} what="the board">${(board) => board.entries.length
    ? html`<${Ranking} entries=${board.entries} me=${player} moved=${moved} game=${game} />
      <div class="actions"><span class="muted">${count(board.total)} on this board.</span>
        ${offset > 0 && html`<a class="button" href=${at({ offset: Math.max(0, offset - PAGE) || "" })}>Better ones</a>`}
        ${board.next_offset != null && html`<a class="button" href=${at({ offset: board.next_offset })}>Next ${PAGE}</a>`}</div>`
    : html`<${Empty} title="Nobody is on this board">
      <p>${PERIODS[period].choose ? "No score of this period was counted: choose another, or send one." : "No score of this game was counted yet."}</p>
        <a class="button" href=${href("trace")}>Send a score</a><//>`}<//>`;
}

function Place({ game, period, date, player }) {
  const asked = query({ period, date, around: 4 });
  const ask = (signal) => get(path("api", "v1", "leaderboards", game, "players", player) + asked, signal);
  const load = useLoad(ask, [game, player, asked], REFRESH_MS);
  const moved = useMoved(load.data?.neighbours);
  if (load.error?.status === 404) {
    return html`<${Empty} title="Not on this board"><p>
      <${Name} of=${player} /> has no score here. <a href=${href("players", [player])}>What is known of this player</a></p><//>`;
  }
  return html`<${Loaded} load=${load} what="the place">${(place) => html`
    <p><${Player} id=${player} game=${game} /> is <strong>${count(place.rank)}</strong> of ${count(place.total)}, with <strong>
    ${count(place.score)}</strong> points.</p>
    <${Ranking} entries=${place.neighbours} me=${player} moved=${moved} game=${game} />`}<//>`;
}

function Ranking({ entries, me, moved, game }) {
  const most = Math.max(1, ...entries.map(({ score }) => score));
  return html`<table class="ranking">
    <thead><tr><th scope="col" class="number pick">Rank</th><th scope="col">Player</th><th scope="col" class="number">Points</th>
    <th scope="col" class="bar-cell narrow-hide"><span class="unseen">Share of the best</span></th></tr></thead>
    <tbody>${entries.map(({ rank, player_id: id, score }) => html`<tr key=${id}
      class=${`${id === me ? "me" : ""} ${moved.has(id) ? `moved${moved.get(id) % 2}` : ""}`}>
      <td class="number">${count(rank)}</td><th scope="row" class="plain-head"><${Player} id=${id} game=${game} /></th>
      <td class="number">${count(score)}</td>
      <td class="bar-cell narrow-hide"><span class="bar" style=${{ width: `${Math.max(0, (100 * score) / most)}%` }}></span></td></tr>`)}
    </tbody></table>`;
}

/** Whose score changed since the list was first seen, and how often: by its parity the row's animation starts anew. */
function useMoved(entries) {
  const before = useRef(null);
  const moved = useRef(new Map());
  if (entries && before.current) {
    for (const { player_id: id, score } of entries) {
      if (before.current.get(id) !== score) moved.current.set(id, (moved.current.get(id) ?? 0) + 1);
    }
  }
  if (entries) before.current = new Map(entries.map(({ player_id: id, score }) => [id, score]));
  return moved.current;
}
