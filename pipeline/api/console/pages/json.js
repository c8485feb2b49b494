// JSON as it was written, indented and coloured. It is never parsed and written again: a number of many digits, a
// repeated key and an escape stay what they are in the topic.
import { html } from "./html.js";

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/gs;

/** Show a text, laid out if it is JSON. */
export function Text({ of, label }) {
  return html`<pre class="text" tabindex="0" role="group" aria-label=${label}>${isJson(of) ? layOut(of) : of}</pre>`;
}

export function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function layOut(text) {
  const tokens = text.match(TOKEN) ?? [];
  const out = [];
  let depth = 0;
  tokens.forEach((token, place) => {
    const next = tokens[place + 1];
    if ("{[".includes(token)) {
      depth += 1;
      out.push(token, closes(next) ? "" : line(depth));
    } else if (closes(token)) {
      depth -= 1;
      out.push(opens(tokens[place - 1]) ? "" : line(depth), token);
    } else if (token === ",") out.push(token, line(depth));
    else if (token === ":") out.push(": ");
    else out.push(html`<span class=${kind(token, next)}>${token}</span>`);
  });
  return out;
}

const opens = (token) => token === "{" || token === "[";
const closes = (token) => token === "}" || token === "]";
const line = (depth) => `\n${"  ".repeat(depth)}`;

function kind(token, next) {
  if (token.startsWith('"')) return next === ":" ? "json-key" : "json-string";
  return /^[tfn]/.test(token) ? "json-word" : "json-number";
}
