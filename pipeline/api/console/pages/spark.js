// A figure with its last quarter of an hour.
import { useRef, useState } from "./hooks.js";
import { html } from "./html.js";
import { duration } from "./format.js";

const WIDTH = 180; // units of the drawing
const LEAST = 24; // points across the width at least: what began a moment ago is a line, and no speck
const HEIGHT = 56;
const TOP = 4;

/** `points` newest last, null where unknown; `show` writes one with its unit. */
export function Tile({ title, value, unit = "", points, step, show, note }) {
  const [at, look] = useState(null);
  const seen = since(points ?? []);
  const known = seen.filter((point) => point != null);
  const most = known.length ? Math.max(...known) : 0;
  const pointed = at != null && seen[at] !== undefined;
  const ago = pointed ? (seen.length - 1 - at) * step : 0;
  return html`<section class="card tile">
    <h2>${title}</h2>
    <p class="value">${value}${unit && html` <small>${unit}</small>`}</p>
    <${Spark} title=${title} points=${seen} most=${most} show=${show} at=${pointed ? at : null} look=${look} />
    <p class="spark-foot">
      ${pointed
        ? html`<span>${ago ? `${duration(ago)} ago` : "now"}</span><strong>${seen[at] == null ? "unknown" : show(seen[at])}</strong>`
        : html`<span>${duration(Math.max(LEAST, seen.length) * step)}</span><span>${note ?? (known.length ? `most ${show(most)}` : "nothing yet")}</span>`}
    </p>
  </section>`;
}

/** A series from where it is known on. */
function since(points) {
  const first = points.findIndex((point) => point != null);
  return first < 0 ? [] : points.slice(first);
}

function Spark({ title, points, most, show, at, look }) {
  const picture = useRef(null);
  const across = Math.max(LEAST, points.length);
  const x = (place) => ((across - points.length + place + 0.5) / across) * WIDTH;
  const point = (event) => {
    const { left, width } = picture.current.getBoundingClientRect();
    const place = Math.floor(((event.clientX - left) / width) * across) - (across - points.length);
    look(place >= 0 && place < points.length ? place : null);
  };
  const known = points.filter((value) => value != null);
  const summary = known.length
    ? `${title}, the last quarter of an hour: now ${show(known.at(-1))}, least ${show(Math.min(...known))}, most ${show(most)}`
    : `${title}: nothing known yet`;
  const lines = segments(points, most || 1, x);
  const marked = at == null ? null : x(at);
  return html`<svg ref=${picture} class="spark" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img"
    aria-label=${summary}
    onPointerMove=${point} onPointerLeave=${() => look(null)}>
    ${lines.map((line, place) => html`<path key=${`a${place}`}
      class="area" d=${`M${line[0][0]} ${HEIGHT - 1}L${text(line)}L${line.at(-1)[0]} ${HEIGHT - 1}Z`} />`)}
    <path class="base" d=${`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
    ${lines.map((line, place) => html`<path key=${`l${place}`} class="line" d=${`M${text(line)}${line.length === 1 ? "h.5" : ""}`} />`)}
    ${marked != null && html`<path class="at" d=${`M${marked} 0V${HEIGHT}`} />`}
  </svg>`;
}

/** The runs of known points, as [x, y]: a gap where nothing is known, newest at the right edge. */
function segments(points, most, x) {
  const lines = [];
  let line = null;
  points.forEach((value, place) => {
    if (value == null) {
      line = null;
      return;
    }
    if (!line) lines.push((line = []));
    line.push([x(place), HEIGHT - 1.5 - (value / most) * (HEIGHT - TOP)]);
  });
  return lines;
}

function text(line) {
  return line.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
}
