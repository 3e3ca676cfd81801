// Ingresses and egresses: how far they are, and pauses.
import { get, getAll, path, send, useLoaded } from '../api.js';
import { Change, confirm, openDialog, quoted } from '../dialogs.js';
import { count, duration } from '../format.js';
import { Fragment, html, useState } from '../html.js';
import { Act, Badge, Empty, Field, Loading, Panel, Problem, Table, Time } from '../parts.js';

const CAUSES = {
  pending_limit: 'paused: too much waits',
  memory_limit: 'paused: memory limit',
  dead_letter_limit: 'paused: dead-letter limit',
  congestion: 'paused: congestion',
  held: 'held fork',
  person: 'paused by a person',
};

function route(id, verb) {
  const at = id.lastIndexOf('/');
  return `/ingresses${path(id.slice(0, at), id.slice(at + 1))}/${verb}`;
}

function pause(id) {
  openDialog(function Pause({ close, dialog }) {
    const [reason, setReason] = useState('');
    const run = async () => {
      await send('POST', route(id, 'pause'), { params: { reason } });
      return `${id} is paused.`;
    };
    return html`<${Change} title="Pause ${id}" action="Pause" run=${run} close=${close}
      dialog=${dialog} command=${`satchel ingress pause ${quoted(id)}${
        reason && ` --reason ${quoted(reason)}`}`}>
      <p>Nothing more is read until it is resumed. Positions are kept. The pause outlives restarts.
        Records may expire in the stream meanwhile.</p>
      <${Field} label="Reason" hint="shown on this page and by /readyz"><input value=${reason}
        maxlength="1000" onInput=${(event) => setReason(event.currentTarget.value)} /><//>
    <//>`;
  });
}

function resume(id) {
  confirm({
    title: `Resume ${id}`,
    text: html`<p>It is read from where it was paused. Streams and queues that could not be read are
      tried again.</p>`,
    action: 'Resume',
    command: `satchel ingress resume ${quoted(id)}`,
    run: async () => {
      await send('POST', route(id, 'resume'));
      return `${id} is resumed.`;
    },
  });
}

function LastError({ error }) {
  if (!error) return html`<span class="dim">none</span>`;
  return html`<${Time} at=${error.at} /><div class="reason">${error.message}</div>`;
}

const POSITIONS = {
  beginning: () => 'the beginning',
  since: ({ at }) => `records since ${at}`,
  after: ({ sequence, sub_sequence: sub }) => html`after <code>${String(sequence)}</code>${
    sub ? ` (${sub})` : ''}`,
  end: () => 'the end',
};

const TONES = { reads: 'ok', ended: 'dim', stopped: 'bad' };

/** Positions of the shards of an ingress, page by page. */
function Shards({ ingress }) {
  const [after, setAfter] = useState([undefined]);
  const from = after.at(-1);
  const { data, error, reload } = useLoaded(
    () => get('/shards', { ingress, after: from, limit: 100 }), [ingress, from], 3000);
  if (error && !data) return html`<${Problem} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} />`;
  if (data.shards.length === 0) return html`<${Empty}>No shard has a position yet.<//>`;
  return html`<${Table} label="Shards of ${ingress}" columns=${['Stream', 'Shard', 'State',
    'Applied', '#Lag', '#Partition']}>${data.shards.map((one) => html`<tr key=${one.id}>
      <td><code>${one.stream}</code></td><td><code>${one.shard}</code></td>
      <td><${Badge} tone=${TONES[one.state] ?? 'warn'}>${one.state}<//></td>
      <td class="wide">${POSITIONS[one.position.kind](one.position)}</td>
      <td class="number">${one.lag_seconds === null ? '–' : duration(one.lag_seconds)}</td>
      <td class="number">${one.partition}</td></tr>`)}<//>
    ${(after.length > 1 || data.next) && html`<nav class="pager" aria-label="Pages of shards">
      <button type="button" disabled=${after.length === 1}
        onClick=${() => setAfter(after.slice(0, -1))}>Back</button>
      <button type="button" disabled=${!data.next}
        onClick=${() => setAfter([...after, data.next])}>Next</button></nav>`}`;
}

function Backlog({ one }) {
  if (one.backlog_messages === null) return html`<span class="dim">–</span>`;
  return html`${count(one.backlog_messages)}${one.in_flight_messages > 0 && html`
    <div class="dim">${count(one.in_flight_messages)} in flight</div>`}`;
}

function Ingresses({ list }) {
  const [open, setOpen] = useState(null);
  if (list.length === 0) return html`<${Empty}>No module file has an ingress.<//>`;
  const hasShards = (one) => one.kind === 'stream' || one.kind === 'topic';
  return html`<${Table} label="Ingresses" columns=${['Ingress', 'Sources', 'State', '#Lag',
    '#Backlog', '#Received', 'Last error', '']}>${list.map((one) => html`<${Fragment} key=${one.id}>
      <tr class=${open === one.id ? 'open' : ''}>
      <td>${hasShards(one) ? html`<button type="button" class="plain" aria-expanded=${
        open === one.id} aria-label="Shards of ${one.id}"
        onClick=${() => setOpen(open === one.id ? null : one.id)}><code>${one.id}</code></button>`
        : html`<code>${one.id}</code>`} <span class="dim">${one.kind}</span></td>
      <td>${one.sources.map((source) => html`<code class="tag">${source}</code>`)}</td>
      <td>${one.stopped.map((stop) => html`<div><${Badge} tone="bad">stopped<//>
          ${' '}<code>${stop.source}</code> ${stop.problem} <${Time} at=${stop.since} /></div>`)}
        ${one.paused ? html`<${Badge} tone="warn">${CAUSES[one.paused] ?? one.paused}<//>`
          : one.stopped.length === 0 && html`<${Badge} tone="ok">reads<//>`}</td>
      <td class="number">${one.lag_seconds === null ? '–' : duration(one.lag_seconds)}</td>
      <td class="number"><${Backlog} one=${one} /></td>
      <td class="number">${count(one.received)}</td>
      <td class="wide"><${LastError} error=${one.last_error} /></td>
      <td class="act">${one.paused === 'person' || one.stopped.length > 0
        ? html`<${Act} onClick=${() => resume(one.id)} label="Resume ${one.id}">Resume<//>`
        : html`<${Act} onClick=${() => pause(one.id)} label="Pause ${one.id}">Pause<//>`}</td>
    </tr>${open === one.id && html`<tr class="open"><td colspan="8" class="inner">
      <${Shards} ingress=${one.id} /></td></tr>`}<//>`)}<//>`;
}

function Egresses({ list }) {
  if (list.length === 0) return html`<${Empty}>No module file has an egress.<//>`;
  return html`<${Table} label="Egresses" columns=${['Egress', 'State', '#Waiting', '#Delivered',
    '#Retried', '#Refused', 'Last delivery', 'Last error']}>${list.map((one) => html`<tr>
      <td><code>${one.id}</code></td>
      <td>${one.stopped ? html`<${Badge} tone="bad">stopped: ${one.stopped.problem}<//>
        ${' '}<${Time} at=${one.stopped.since} />` : html`<${Badge} tone="ok">delivers<//>`}</td>
      <td class="number">${count(one.waiting)}</td>
      <td class="number">${count(one.delivered)}</td>
      <td class="number">${count(one.retried)}</td>
      <td class="number ${one.refused > 0 ? 'alarm' : ''}">${count(one.refused)}</td>
      <td><${Time} at=${one.last_success} /></td>
      <td class="wide"><${LastError} error=${one.last_error} /></td></tr>`)}<//>`;
}

export function Connectors() {
  const ingresses = useLoaded(() => getAll('/ingresses', 'ingresses'), [], 3000);
  const egresses = useLoaded(() => getAll('/egresses', 'egresses'), [], 3000);
  const part = ({ data, error, reload }, View) => html`
    <${Problem} error=${error} retry=${reload} />
    ${data ? html`<${View} list=${data} />` : !error && html`<${Loading} />`}`;
  return html`<div class="title"><h1>Ingresses & egresses</h1></div>
    <${Panel} title="Ingresses">${part(ingresses, Ingresses)}<//>
    <${Panel} title="Egresses">${part(egresses, Egresses)}<//>
    <p class="dim">Figures of received and delivered records count from the start of the
      process.</p>`;
}
