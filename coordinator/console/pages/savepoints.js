// Savepoints: named states that are kept until they are deleted.
import { get, path, send, useLoaded } from '../api.js';
import { Change, confirm, openDialog, quoted } from '../dialogs.js';
import { html, useState } from '../html.js';
import {
  Act, Badge, Empty, Field, Loading, Panel, Problem, Table, Time,
} from '../parts.js';

const PATIENCE_MS = 600_000;

/** Waits until a savepoint that takes longer than a request is made, or has failed. */
async function awaitSavepoint(name, report, signal) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end && !signal.aborted) {
    report({ text: 'All state is read, to see that the savepoint is one moment…' });
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
    const { creating, failed } = await get('/savepoints');
    if (creating?.savepoint !== name) {
      if (failed?.savepoint === name) throw new Error(failed.reason);
      return `Savepoint ${name} was made.`;
    }
  }
  return `Savepoint ${name} is still being made; this page shows when it is.`;
}

function create() {
  openDialog(function Create({ close, dialog }) {
    const [name, setName] = useState('');
    const [comment, setComment] = useState('');
    const run = async (report, signal) => {
      const params = { name: name.trim(), comment, timeout: '5s' };
      const response = await send('POST', '/savepoints', { params });
      if (response.status === 202) return awaitSavepoint(name.trim(), report, signal);
      return `Savepoint ${name.trim()} was made.`;
    };
    const command = `satchel savepoint create ${quoted(name.trim() || 'NAME')}${
      comment && ` --comment ${quoted(comment)}`} --state ROOT`;
    return html`<${Change} title="New savepoint" action="Create" run=${run} close=${close}
      dialog=${dialog} ready=${name.trim() !== ''} command=${command} stoppable=${true}>
      <p>The state that is durable now is kept under this name until it is deleted. The application
        continues meanwhile.</p>
      <${Field} label="Name" hint="letters, digits, . _ -"><input value=${name} autofocus
        maxlength="64" spellcheck="false" autocomplete="off"
        onInput=${(event) => setName(event.currentTarget.value)} /><//>
      <${Field} label="Comment"><input value=${comment} maxlength="500"
        onInput=${(event) => setComment(event.currentTarget.value)} /><//>
    <//>`;
  });
}

function remove(name) {
  confirm({
    title: `Delete savepoint ${name}`,
    text: html`<p>The state that it keeps can no longer be restored, unless the history reaches back
      to it. Objects that only it needed are deleted later.</p>`,
    action: 'Delete savepoint',
    danger: true,
    command: `satchel savepoint delete ${quoted(name)} --state ROOT`,
    run: async () => {
      await send('DELETE', `/savepoints${path(name)}`);
      return `Savepoint ${name} was deleted.`;
    },
  });
}

function List({ savepoints, root }) {
  if (savepoints.length === 0) return html`<${Empty}>No savepoint was made yet.<//>`;
  return html`<${Table} label="Savepoints" columns=${['Savepoint', 'Made', 'Holds commits until',
    'Comment', 'Restore', '']}>${savepoints.map((one) => html`<tr key=${one.savepoint}>
      <td><code>${one.savepoint}</code>${!one.complete && html` <${Badge} tone="bad"
        title="Its creator died. It can only be deleted.">incomplete<//>`}</td>
      <td><${Time} at=${one.created_at} /></td>
      <td><time datetime=${one.committed_at}>${one.committed_at}</time></td>
      <td class="wide">${one.comment || html`<span class="dim">–</span>`}</td>
      <td>${root ? html`<code>--restore ${quoted(`${root}@${one.savepoint}`)}</code>`
        : html`<span class="dim">state in memory</span>`}</td>
      <td class="act"><${Act} onClick=${() => remove(one.savepoint)}
        label="Delete savepoint ${one.savepoint}">Delete<//></td></tr>`)}<//>`;
}

export function Savepoints() {
  const { data, error, reload } = useLoaded(() => get('/savepoints'), [], 5000);
  const reach = useLoaded(() => get('/history'), []);
  return html`<div class="title"><h1>Savepoints</h1>
      <div class="actions"><${Act} tone="primary" onClick=${create}>New savepoint<//></div></div>
    <${Problem} error=${error} retry=${reload} />
    ${data?.creating && html`<p class="note" role="status">Savepoint
      ${' '}<code>${data.creating.savepoint}</code> is being made since
      ${' '}<${Time} at=${data.creating.since} />.</p>`}
    ${data?.failed && html`<div class="note bad"><p>Savepoint
      ${' '}<code>${data.failed.savepoint}</code> was not made: ${data.failed.reason}</p></div>`}
    <${Panel} label="Savepoints">${data ? html`<${List} savepoints=${data.savepoints}
      root=${reach.data?.root} />` : !error && html`<${Loading} />`}<//>
    <p class="dim">A fork of a savepoint is a new application with its state:
      ${' '}<code>satchel dev MODULES --data-dir FOLDER --restore ROOT@NAME</code>.</p>`;
}
