// Dialogs, of which one is open at a time, and notices at the edge of the page.
import { announceChange } from './api.js';
import { html, useEffect, useRef, useState } from './html.js';

let show = () => {};
let notify = () => {};

/** Opens a dialog. `content` is a component that gets `close`. */
export function openDialog(content) {
  show({ content });
}

/** Shows a notice for a few seconds. */
export function say(text) {
  notify(text);
}

/** Place of the dialogs and notices of the page. */
export function Dialogs() {
  const [dialog, setDialog] = useState(null);
  const [notices, setNotices] = useState([]);
  const element = useRef(null);
  const opened = useRef(0);
  show = (next) => {
    // Each dialog is an element of its own.
    opened.current += 1;
    setDialog({ ...next, key: opened.current });
  };
  notify = (text) => {
    const notice = { text };
    setNotices((all) => [...all, notice]);
    setTimeout(() => setNotices((all) => all.filter((one) => one !== notice)), 6000);
  };
  useEffect(() => {
    if (dialog && !element.current.open) element.current.showModal();
  }, [dialog]);
  // A late event of a former dialog does not close the next one.
  const gone = () => setDialog((present) => (present === dialog ? null : present));
  // The browser returns the focus to where it was.
  const close = () => {
    element.current?.close();
    gone();
  };
  return html`
    ${dialog && html`<dialog key=${dialog.key} ref=${element} aria-labelledby="dialog-title"
      onClose=${gone}
      onCancel=${(event) => { if (element.current.dataset.busy) event.preventDefault(); }}>
      <${dialog.content} close=${close} dialog=${element} />
    </dialog>`}
    <div class="notices" role="status" aria-live="polite">
      ${notices.map((notice) => html`<p class="notice">${notice.text}</p>`)}
    </div>`;
}

/** Quotes a text for a shell. */
export function quoted(text) {
  return /^[\w./:@=+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * Content of a dialog that changes something once its button is pressed.
 *
 * `run` gets a function that shows progress, and a signal that is aborted by the button “Stop”. It
 * returns the text of a notice. `command` does the same on the command line.
 */
export function Change({
  title, children, command, action, danger, run, close, dialog, stoppable, ready = true,
}) {
  const [state, setState] = useState({ busy: false, error: null, progress: null });
  const stop = useRef(null);
  const busy = (is) => {
    if (dialog.current) {
      if (is) dialog.current.dataset.busy = 'yes';
      else delete dialog.current.dataset.busy;
    }
  };
  const submit = async (event) => {
    event.preventDefault();
    if (state.busy || !ready) return;
    stop.current = new AbortController();
    busy(true);
    setState({ busy: true, error: null, progress: null });
    try {
      const report = (progress) => setState({ busy: true, error: null, progress });
      const done = await run(report, stop.current.signal);
      close();
      if (done) say(done);
    } catch (error) {
      busy(false);
      setState({ busy: false, error, progress: null });
    }
    announceChange();
  };
  return html`<form class="dialog" onSubmit=${submit} novalidate>
    <h2 id="dialog-title">${title}</h2>
    <div class="dialog-body">
      ${children}
      ${command && html`<p class="command"><span class="dim">Same as</span>
        <code>${command}</code></p>`}
      ${state.progress && html`<div class="progress" role="status">
        <progress max=${state.progress.total || undefined} value=${
          state.progress.total ? state.progress.done : undefined} aria-label="Progress"></progress>
        <span>${state.progress.text}</span></div>`}
      ${state.error && html`<p class="note bad" role="alert">${state.error.message}</p>`}
    </div>
    <footer class="dialog-foot">
      ${state.busy && stoppable
        ? html`<button type="button" onClick=${() => stop.current.abort()}>Stop</button>`
        : html`<button type="button" disabled=${state.busy} onClick=${close}>Cancel</button>`}
      <button type="submit" class=${danger ? 'danger' : 'primary'}
        disabled=${state.busy || !ready}>${state.busy ? 'Working…' : action}</button>
    </footer>
  </form>`;
}

/** Opens a dialog that asks before it changes something. */
export function confirm(options) {
  openDialog(({ close, dialog }) => html`
    <${Change} ...${options} close=${close} dialog=${dialog}>${options.text}<//>`);
}
