// What can be done with one dead letter, and with many.
import { addressPath, Failure, path, send } from '../api.js';
import { Change, confirm, openDialog, quoted } from '../dialogs.js';
import { count, plural } from '../format.js';
import { html, useState } from '../html.js';
import { parseAddress } from '../parts.js';
import { editable, Editor, encode } from '../values.js';

const REQUEST = 500;
const PATIENCE_MS = 60_000;

/** A dead letter's message, as the lists of states describe values. */
export function valueOf(letter) {
  return { value: letter.message, base64: letter.base64 };
}

export function retry(letter) {
  confirm({
    title: 'Retry a dead letter',
    text: html`<p>The message is sent to <code>${letter.address ?? letter.source}</code> again, as a
      new message, and the dead letter is deleted. If it fails again, it becomes a new one.</p>`,
    action: 'Retry',
    command: `satchel dead-letters retry ${letter.id}`,
    run: async () => {
      await send('POST', `/dead-letters${path(letter.id)}/retry`);
      return 'The message was sent again.';
    },
  });
}

export function drop(letter) {
  confirm({
    title: 'Drop a dead letter',
    text: html`<p>The message is deleted for good. Nothing of it can be restored, except from a
      savepoint or the history of the state.</p>`,
    action: 'Drop',
    danger: true,
    command: `satchel dead-letters drop ${letter.id}`,
    run: async () => {
      await send('DELETE', `/dead-letters${path(letter.id)}`);
      return 'The dead letter was dropped.';
    },
  });
}

export function edit(letter) {
  const address = parseAddress(letter.address);
  // A repeat after a lost answer must not send a second message.
  const key = `dead-letter-${letter.id}-${crypto.getRandomValues(new Uint32Array(2)).join('-')}`;
  openDialog(function Edit({ close, dialog }) {
    const [draft, setDraft] = useState(() => editable(valueOf(letter)));
    const [sent, setSent] = useState(null);
    const run = async () => {
      if (sent !== null && sent !== draft.text) {
        throw new Failure(0, 'sent', 'The message was sent with its former text. '
          + 'Restore that text to drop the dead letter, or close this dialog.');
      }
      const body = encode(letter.typename, draft.form, draft.text);
      const headers = {
        'content-type': `application/vnd.${letter.typename}`, 'idempotency-key': key,
      };
      await send('POST', `${addressPath(address)}/send`, { body, headers });
      setSent(draft.text);
      await send('DELETE', `/dead-letters${path(letter.id)}`);
      return 'The edited message was sent, and the dead letter was dropped.';
    };
    return html`<${Change} title="Edit and retry" action="Send and drop" run=${run}
      close=${close} dialog=${dialog}>
      <p>The edited message is sent to <code>${letter.address}</code> as a new message of this
        console, and the dead letter is dropped once it is durable. A caller that waited for the
        original gets no answer.</p>
      <p class="dim">Type <code>${letter.typename}</code></p>
      <${Editor} typename=${letter.typename} draft=${draft} onInput=${setDraft} label="Message" />
    <//>`;
  });
}

/** Sends a request again while too much is queued, for up to a minute. */
async function patiently(request, signal) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (error.status !== 503 || Date.now() > end || signal.aborted) throw error;
      await new Promise((resolve) => { setTimeout(resolve, 1000); });
    }
  }
}

const VERBS = {
  retry: { title: 'Retry', done: 'retried' },
  drop: { title: 'Drop', done: 'dropped' },
};

function conditionsText(filter) {
  const parts = [
    filter.function && `--function ${quoted(filter.function)}`,
    filter.reason && `--reason ${quoted(filter.reason)}`,
    filter.since && `--since ${quoted(filter.since)}`,
  ].filter(Boolean);
  return parts.length ? parts.join(' ') : '--all';
}

/** Changes all dead letters that a filter matches, request by request. */
export function changeMatching(verb, filter) {
  const { title, done } = VERBS[verb];
  const isAll = !filter.function && !filter.reason && !filter.since;
  // Kept while the dialog is open, so that it continues where it ended.
  const progress = { cursor: undefined, changed: 0, skipped: 0 };
  const said = () => `${plural(progress.changed, 'dead letter was', 'dead letters were')} ${done}`
    + `${progress.skipped ? `, ${count(progress.skipped)} cannot be retried and are kept` : ''}.`;
  confirm({
    title: `${title} ${isAll ? 'all dead letters' : 'all that match'}`,
    text: html`<p>${verb === 'retry'
      ? 'Each message is sent to its address again, as a new message, oldest first.'
      : 'Each message is deleted for good, oldest first.'}</p>
      <p>Only dead letters that exist now are changed. You can stop in between.</p>`,
    action: isAll ? `${title} all` : `${title} matching`,
    danger: verb === 'drop',
    stoppable: true,
    command: `satchel dead-letters ${verb} ${conditionsText(filter)}`,
    run: async (report, signal) => {
      do {
        const params = {
          ...filter, all: isAll ? 'true' : undefined, limit: REQUEST, cursor: progress.cursor,
        };
        const response = await patiently(
          () => send('POST', `/dead-letters/${verb}`, { params }), signal);
        const answer = await response.json();
        progress.changed += answer.changed;
        progress.skipped += answer.skipped;
        progress.cursor = answer.next ?? undefined;
        report({ text: said() });
      } while (progress.cursor && !signal.aborted);
      return said();
    },
  });
}

/** Changes the chosen dead letters, one by one. */
export function changeChosen(verb, letters, forget) {
  const { title, done } = VERBS[verb];
  const left = [...letters];
  const total = left.length;
  confirm({
    title: `${title} ${plural(total, 'dead letter')}`,
    text: html`<p>${verb === 'retry'
      ? 'Each message is sent to its address again, as a new message.'
      : 'Each message is deleted for good.'}</p>`,
    action: title,
    danger: verb === 'drop',
    stoppable: true,
    run: async (report, signal) => {
      while (left.length && !signal.aborted) {
        const route = `/dead-letters${path(left[0])}`;
        await patiently(() => (verb === 'retry' ? send('POST', `${route}/retry`)
          : send('DELETE', route)), signal);
        forget(left.shift());
        const number = total - left.length;
        report({ done: number, total, text: `${count(number)} of ${count(total)} ${done}` });
      }
      return `${plural(total - left.length, 'dead letter was', 'dead letters were')} ${done}.`;
    },
  });
}
