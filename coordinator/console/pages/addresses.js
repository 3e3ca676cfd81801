// Functions, and their addresses by function and prefix.
import { get, getAll, path, send, useLoaded } from '../api.js';
import { confirm, openDialog, Change, quoted } from '../dialogs.js';
import { bytes, count } from '../format.js';
import { html, useEffect, useState } from '../html.js';
import {
  Act, addressLink, Badge, Empty, Field, link, Loading, Panel, parseAddress, Problem, Table,
} from '../parts.js';

const PAGE = 100;
const CONDITIONS = [
  ['', 'Any'], ['suspended', 'Suspended'], ['failing', 'Failing'], ['waiting', 'Messages wait'],
];

function pauseFunction(name) {
  const { namespace, name: short } = split(name);
  openDialog(function Pause({ close, dialog }) {
    const [reason, setReason] = useState('');
    const run = async () => {
      const route = `/functions${path(namespace, short)}/pause`;
      await send('POST', route, { params: { reason } });
      return `${name} is paused.`;
    };
    return html`<${Change} title="Pause ${name}" action="Pause" run=${run} close=${close}
      dialog=${dialog} command=${`satchel function pause ${quoted(name)}${
        reason && ` --reason ${quoted(reason)}`}`}>
      <p>No message of this function is processed until it is resumed. Messages wait. Calls are
        refused at once. The pause outlives restarts.</p>
      <${Field} label="Reason" hint="shown to callers and on this page"><input value=${reason}
        maxlength="1000" onInput=${(event) => setReason(event.currentTarget.value)} /><//>
    <//>`;
  });
}

function resumeFunction(name) {
  const { namespace, name: short } = split(name);
  confirm({
    title: `Resume ${name}`,
    text: html`<p>Messages that wait for this function are processed.</p>`,
    action: 'Resume',
    command: `satchel function resume ${quoted(name)}`,
    run: async () => {
      await send('POST', `/functions${path(namespace, short)}/resume`);
      return `${name} is resumed.`;
    },
  });
}

function split(name) {
  const at = name.lastIndexOf('/');
  return { namespace: name.slice(0, at), name: name.slice(at + 1) };
}

function FunctionsTable({ functions }) {
  return html`<${Table} label="Functions" columns=${['Function', 'State', '#Addresses', '#Backlog',
    '#Suspended', '#Dead letters', 'States', '']}>
    ${functions.map((one) => {
      const isPaused = one.stopped?.startsWith('paused');
      return html`<tr>
        <td><a href=${link('/addresses', { function: one.function })}>
          <code>${one.function}</code></a></td>
        <td>${one.stopped ? html`<${Badge} tone="warn">${one.stopped}<//>`
          : html`<${Badge} tone=${one.endpoint_state === 'down' ? 'bad' : 'ok'}>
            ${one.endpoint_state === 'down' ? 'endpoint down' : 'runs'}<//>`}</td>
        <td class="number">${count(one.addresses)}</td>
        <td class="number" title=${bytes(one.backlog.bytes)}>${count(one.backlog.messages)}</td>
        <td class="number ${one.suspended > 0 ? 'alarm' : ''}">${count(one.suspended)}</td>
        <td class="number ${one.dead_letters > 0 ? 'alarm' : ''}">${count(one.dead_letters)}</td>
        <td>${one.states.map((state) => html`<code class="tag" title=${state.typename}>
          ${state.name}</code>`)}</td>
        <td class="act">${isPaused
          ? html`<${Act} onClick=${() => resumeFunction(one.function)}
            label="Resume ${one.function}">Resume<//>`
          : html`<${Act} onClick=${() => pauseFunction(one.function)}
            label="Pause ${one.function}">Pause<//>`}</td></tr>`;
    })}<//>`;
}

function Condition({ one }) {
  if (one.suspended !== null) {
    return html`<${Badge} tone="bad">suspended<//> <span class="reason">${one.suspended}</span>`;
  }
  if (one.failing) {
    return html`<${Badge} tone="warn">failing<//> <span class="reason">
      ${one.failing.reason}</span>`;
  }
  if (one.in_flight) return html`<${Badge} tone="ok">in flight<//>`;
  return one.backlog.messages > 0 ? html`<${Badge}>waits<//>` : html`<span class="dim">idle</span>`;
}

/** A page of addresses. A filter may find nothing in many buckets, so a page may end early. */
function Found({ params }) {
  const [cursors, setCursors] = useState([undefined]);
  const after = cursors.at(-1);
  const { function: name, prefix, condition } = params;
  useEffect(() => setCursors([undefined]), [name, prefix, condition]);
  const { data, error, reload } = useLoaded(
    () => get('/addresses', { function: name, prefix, condition, after, limit: PAGE }),
    [name, prefix, condition, after]);
  if (error && !data) return html`<${Problem} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} />`;
  const { addresses, next } = data;
  return html`<${Problem} error=${error} retry=${reload} />
    ${addresses.length === 0
      ? html`<${Empty}>${next ? 'Nothing was found so far. The search goes bucket by bucket.'
        : 'No address matches.'}<//>`
      : html`<${Table} label="Addresses" columns=${['Address', 'Condition', '#States', '#Messages',
        '#Bytes']}>${addresses.map((one) => html`<tr>
          <td><a href=${addressLink(one)}><code>
            <span class="dim">${`${one.namespace}/${one.name}/`}</span>${one.id}</code></a></td>
          <td><${Condition} one=${one} /></td>
          <td class="number">${count(one.states)}</td>
          <td class="number">${count(one.backlog.messages)}</td>
          <td class="number">${bytes(one.backlog.bytes)}</td></tr>`)}<//>`}
    <nav class="pager" aria-label="Pages of addresses">
      <button type="button" disabled=${cursors.length === 1}
        onClick=${() => setCursors(cursors.slice(0, -1))}>Back</button>
      <span class="dim">Page ${cursors.length} · ${count(addresses.length)} shown</span>
      <button type="button" disabled=${!next} onClick=${() => setCursors([...cursors, next])}>
        ${addresses.length < PAGE && next ? 'Search further' : 'Next'}</button>
    </nav>`;
}

export function Addresses({ params }) {
  const { data: functions, error, reload } = useLoaded(
    () => getAll('/functions', 'functions'), [], 15_000);
  const [name, setName] = useState(params.function ?? '');
  const [prefix, setPrefix] = useState(params.prefix ?? '');
  const [condition, setCondition] = useState(params.condition ?? '');
  const [exact, setExact] = useState('');
  useEffect(() => {
    setName(params.function ?? '');
    setPrefix(params.prefix ?? '');
    setCondition(params.condition ?? '');
  }, [params.function, params.prefix, params.condition]);
  const search = (event) => {
    event.preventDefault();
    location.hash = link('/addresses', { function: name, prefix, condition, all: 'yes' });
  };
  const open = (event) => {
    event.preventDefault();
    const address = parseAddress(exact.trim());
    if (address.namespace && address.name && address.id) location.hash = addressLink(address);
  };
  const searches = ['function', 'prefix', 'condition', 'all'].some((part) => params[part]);
  return html`<div class="title"><h1>Addresses</h1></div>
    <div class="filters">
      <form class="filters" onSubmit=${search} role="search">
        <${Field} label="Function"><select value=${name}
          onChange=${(event) => setName(event.currentTarget.value)}>
          <option value="">All functions</option>
          ${(functions ?? []).map((one) => html`
            <option value=${one.function}>${one.function}</option>`)}</select><//>
        <${Field} label="Id begins with"><input value=${prefix} spellcheck="false"
          onInput=${(event) => setPrefix(event.currentTarget.value)} /><//>
        <${Field} label="Condition"><select value=${condition}
          onChange=${(event) => setCondition(event.currentTarget.value)}>
          ${CONDITIONS.map(([value, text]) => html`
            <option value=${value}>${text}</option>`)}</select><//>
        <button type="submit" class="primary">Search</button>
      </form>
      <form class="filters" onSubmit=${open}>
        <${Field} label="Open an address"><input value=${exact} spellcheck="false"
          placeholder="namespace/name/id"
          onInput=${(event) => setExact(event.currentTarget.value)} /><//>
        <button type="submit">Open</button>
      </form>
    </div>
    ${searches && html`<${Panel} title=${params.function ?? 'All functions'} actions=${html`
      <a href=${link('/addresses')}>All functions</a>`}><${Found} params=${params} /><//>`}
    ${!searches && html`<${Panel} title="Functions">
      <${Problem} error=${error} retry=${reload} />
      ${!functions && !error && html`<${Loading} />`}
      ${functions?.length === 0 && html`<${Empty}>No function has an address yet.<//>`}
      ${functions?.length > 0 && html`<${FunctionsTable} functions=${functions} />`}<//>`}`;
}
