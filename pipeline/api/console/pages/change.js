// Redrive and drop: first what it would do, then why, then it is done.
import { CallError, change } from "./api.js";
import { count, counted } from "./format.js";
import { useEffect, useState } from "./hooks.js";
import { html } from "./html.js";
import { useStore } from "./store.js";
import { askForKey, Dialog, Fault, Field, Loading, Name } from "./ui.js";

const WORDS = {
  redrive: {
    verb: "Redrive",
    done: "Redriven",
    effect: "They go to the topic again, under the same ids: what was counted before is not counted twice.",
  },
  drop: { verb: "Drop", done: "Dropped", effect: "They are never counted. Their text stays to be looked up." },
};

/** `body` says which letters: {ids} or {code}. `clear` is called after, `done` too. */
export function ChangeDialog({ action, body, what, clear, close, done }) {
  const words = WORDS[action];
  const where = `/api/v1/console/dead-letters/${action}`;
  const [{ preview, fault, result, busy, soFar }, set] = useState({ preview: null, fault: null, result: null, busy: true, soFar: 0 });
  const key = useStore((state) => state.key);
  const attempt = async (work) => {
    set((before) => ({ ...before, fault: null, busy: true }));
    try {
      const told = await work();
      set((before) => ({ ...before, ...told, busy: false }));
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      set((before) => ({ ...before, fault: error, busy: false }));
    }
  };
  useEffect(() => {
    attempt(async () => ({ preview: await change(where, { ...body, preview: true }) }));
  }, [key]);
  const submit = (event) => {
    event.preventDefault();
    const reason = new FormData(event.currentTarget).get("reason").trim();
    attempt(async () => {
      const all = await changeAll(where, { ...body, preview: false, reason }, (count) => set((before) => ({ ...before, soFar: count })));
      return { result: all };
    }).finally(done);
  };
  const leave = () => {
    if (result) clear?.();
    close();
  };
  return html`<${Dialog} title=${`${words.verb} ${what}`} close=${leave}>
    ${fault && html`<${Failed} fault=${fault} />`}
    ${result
      ? html`<p class="alert good" role="status"><span>
        <strong>${words.done}: ${counted(result.count, "letter")}.</strong> It is noted below, with your reason.</span></p>
          <div class="actions end"><button type="button" class="main" onClick=${leave}>Close</button></div>`
      : preview
        ? html`<p><strong>${counted(preview.count, "letter")}.</strong> ${words.effect}</p>
            ${preview.unfit > 0 && html`<p>${counted(preview.unfit, "letter")} more can never be sent again: drop them.</p>`}
            <${Sample} of=${preview} />
            <form onSubmit=${submit}>
              <${Field} id="reason" label="Why (kept with your name)">
              <input id="reason" name="reason" required maxlength="500" autocomplete="off" pattern=".*\\S.*" /><//>
              <div class="actions end"><button type="button" onClick=${leave}>Cancel</button>
                <button class=${action === "drop" ? "danger" : "main"} disabled=${busy || !preview.count}>
                ${busy ? `Working … ${soFar ? count(soFar) : ""}` : `${words.verb} ${counted(preview.count, "letter")}`}</button></div>
            </form>`
        : html`${busy && html`<${Loading} what="what it would do" />`}<div class="actions end">
          <button type="button" onClick=${leave}>Cancel</button></div>`}
  <//>`;
}

/** A reason's letters are changed a part at a time: ask until all are. */
async function changeAll(where, body, tell) {
  for (let total = 0; ; ) {
    const answer = await change(where, body);
    total += answer.count;
    if (answer.done || !answer.count) return { ...answer, count: total };
    tell(total);
  }
}

function Failed({ fault }) {
  if (fault.status !== 401 && fault.status !== 403) return html`<${Fault} error=${fault} />`;
  const why = "Changing dead letters needs a key of scope admin";
  return html`<div class="alert" role="alert"><span><strong>${why}.</strong> ${fault.message}</span>
    <button type="button" onClick=${() => askForKey(why)}>Enter a key</button></div>`;
}

function Sample({ of: { letters, count: all } }) {
  if (!letters.length) return null;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="The first of them"><table>
    <thead><tr><th scope="col">Letter</th><th scope="col">Why</th><th scope="col">From</th></tr></thead>
    <tbody>${letters.slice(0, 8).map((one) => html`<tr key=${one.id}><th scope="row">${one.id}</th><td>
    <strong>${one.code}</strong> <${Name} of=${one.error} /></td><td class="nowrap">${one.partition} : ${one.offset}</td></tr>`)}</tbody>
  </table></div>
  ${all > 8 && html`<p class="muted small">and ${count(all - 8)} more</p>`}`;
}
