// Templates: html`<p>${text}</p>` makes DOM nodes by preact. What is put in is text, whatever it holds, and never markup.
import { h } from "./preact.js";
import htm from "./htm.js";

export const html = htm.bind(h);
