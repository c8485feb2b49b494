// The few signs of the frame, drawn: fonts differ in which of them they have.
import { html } from "./html.js";

const PATHS = {
  key: "M10.5 2a4 4 0 0 0-3.8 5.3L2 12v2.5h3V13h1.5v-1.5H8l.9-.9A4 4 0 1 0 10.5 2Zm1 3.2a.8.8 0 1 1-1.6 0 .8.8 0 0 1 1.6 0Z",
  light: "M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7ZM8 .5v2M8 13.5v2M.5 8h2M13.5 8h2M2.7 2.7l1.4 1.4M11.9 11.9l1.4 1.4M2.7 13.3l1.4-1.4M11.9 4.1l1.4-1.4",
  dark: "M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3Z",
  auto: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 0v12M8 4.5l4 .3M8 8h5.5M8 11.5l4-.3",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}
