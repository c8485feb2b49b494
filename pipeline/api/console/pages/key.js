// The dialog for an API key. The key stays in the memory of this page: nothing stores it, and no address carries it.
import { html } from "./html.js";
import { put, useStore } from "./store.js";
import { retry } from "./stream.js";
import { Dialog, Field } from "./ui.js";

export function KeyDialog() {
  const why = useStore((state) => state.asking);
  const key = useStore((state) => state.key);
  if (!why) return null;
  const close = () => put({ asking: "" });
  const use = (event) => {
    event.preventDefault();
    put({ key: new FormData(event.currentTarget).get("key").trim(), asking: "" });
    retry();
  };
  const forget = () => {
    put({ key: "", asking: "" });
    retry();
  };
  return html`<${Dialog} title="API key" close=${close}>
    <p>${why}.</p>
    <form onSubmit=${use}>
      <${Field} id="key" label="Key" hint="Kept in this page's memory only: gone when the page is closed or loaded again.">
        <input id="key" name="key" type="password" autocomplete="off" required aria-describedby="key-hint" />
      <//>
      <p class="small muted">Reading needs scope <code>read</code>, changing dead letters scope <code>admin</code>:
        <code> gamemetrics keys create NAME --scope admin</code></p>
      <div class="actions end">
        ${key && html`<button type="button" onClick=${forget}>Forget the key</button>`}
        <button type="button" onClick=${close}>Cancel</button>
        <button class="main">Use this key</button>
      </div>
    </form>
  <//>`;
}
