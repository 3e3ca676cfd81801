// One address: its state, its mailbox, its timers, and what a person can do with it.
import { addressPath, get, getAll, parseJson, path, send, useLoaded } from '../api.js';
import { Change, confirm, openDialog, quoted } from '../dialogs.js';
import { bytes, count, plural } from '../format.js';
import { Fragment, html, useState } from '../html.js';
import {
  Act, addressLink, Badge, Empty, Facts, Field, link, Loading, Panel, parseAddress, Problem,
  Table, Time,
} from '../parts.js';
import { Past } from './past.js';
import { editable, Editor, encode, formsOf, ValueView } from '../values.js';

const MESSAGES = 25;

function vendor(typename) {
  return { 'content-type': `application/vnd.${typename.trim()}` };
}

function fullName({ namespace, name, id }) {
  return `${namespace}/${name}/${id}`;
}

/** URL of a state, for commands. */
function stateUrl(address, state) {
  return `${location.origin}/api${addressPath(address)}/state${path(state.name)}`;
}

/** Opens the editor of a state. `state` has no value yet if it is set for the first time. */
function editState(address, state) {
  const isNew = state.value === undefined && state.base64 === undefined;
  const type = quoted(`Content-Type: application/vnd.${state.typename}`);
  openDialog(function EditState({ close, dialog }) {
    const [draft, setDraft] = useState(isNew ? { form: 'json', text: '' } : editable(state));
    const run = async () => {
      const body = encode(state.typename, draft.form, draft.text);
      const route = `${addressPath(address)}/state${path(state.name)}`;
      await send('PUT', route, { body, headers: vendor(state.typename) });
      return `State ${state.name} was set.`;
    };
    return html`<${Change} title="${isNew ? 'Set' : 'Edit'} state ${state.name}"
      action="Set state" danger=${true} run=${run} close=${close} dialog=${dialog}
      command=${`curl -X PUT -H ${type} --data-binary @FILE `
        + quoted(stateUrl(address, state))}>
      <p>The value replaces the present one, in order with the messages of
        <code> ${fullName(address)}</code>. What the function has stored is lost.</p>
      <p class="dim">Type <code>${state.typename}</code></p>
      <${Editor} typename=${state.typename} draft=${draft} onInput=${setDraft} />
    <//>`;
  });
}

function deleteState(address, state) {
  confirm({
    title: `Delete state ${state.name}`,
    text: html`<p>The function finds no value of <code>${state.name}</code> at
      <code> ${fullName(address)}</code> any more.</p>`,
    action: 'Delete state',
    danger: true,
    command: `curl -X DELETE ${quoted(stateUrl(address, state))}`,
    run: async () => {
      await send('DELETE', `${addressPath(address)}/state${path(state.name)}`);
      return `State ${state.name} was deleted.`;
    },
  });
}

/** Value of the reply to a call, as the lists describe values. */
async function replyOf(response) {
  const data = new Uint8Array(await response.arrayBuffer());
  const typename = response.headers.get('satchel-type') ?? '';
  if (response.headers.get('content-type')?.startsWith('application/json')) {
    return { typename, value: parseJson(new TextDecoder().decode(data)) };
  }
  const chars = Array.from(data, (byte) => String.fromCharCode(byte));
  return { typename, base64: btoa(chars.join('')) };
}

function message(address) {
  openDialog(function Message({ close, dialog }) {
    const [verb, setVerb] = useState('send');
    const [typename, setTypename] = useState('satchel/json');
    const [draft, setDraft] = useState({ form: 'json', text: '{}' });
    const run = async () => {
      const body = encode(typename, draft.form, draft.text);
      const route = `${addressPath(address)}/${verb}`;
      const response = await send('POST', route, { body, headers: vendor(typename) });
      if (verb === 'send') return 'The message is durable, and will be processed.';
      showReply(address, await replyOf(response));
      return null;
    };
    const command = () => {
      const type = typename === 'satchel/json' ? '' : ` --type ${quoted(typename)}`;
      return `satchel ${verb} ${quoted(fullName(address))} ${quoted(draft.text)}${type}`;
    };
    const choose = (value) => {
      setTypename(value);
      if (!formsOf(value).includes(draft.form)) setDraft({ ...draft, form: 'json' });
    };
    return html`<${Change} title="Message to ${address.name}/${address.id}"
      action=${verb === 'send' ? 'Send message' : 'Call'} run=${run} close=${close}
      dialog=${dialog}
      command=${draft.form === 'json' && command()}>
      <p>The function processes it like any other message: with all effects, once.</p>
      <div class="row">
        <${Field} label="Kind"><select value=${verb}
          onChange=${(event) => setVerb(event.currentTarget.value)}>
          <option value="send">Send: return when the message is durable</option>
          <option value="call">Call: wait for the reply</option></select><//>
        <${Field} label="Typename"><input value=${typename} spellcheck="false" list="typenames"
          onInput=${(event) => choose(event.currentTarget.value)} /><//>
        <datalist id="typenames">${['satchel/json', ...['string', 'int', 'long', 'bool', 'double',
          'float'].map((type) => `io.statefun.types/${type}`)].map((name) => html`
          <option value=${name}></option>`)}</datalist>
      </div>
      <${Editor} typename=${typename} draft=${draft} onInput=${setDraft} label="Message" />
    <//>`;
  });
}

/** Opens a dialog with the reply, after the one of the call has closed. */
function showReply(address, value) {
  setTimeout(() => openDialog(({ close }) => html`<div class="dialog">
    <h2 id="dialog-title">Reply of ${address.name}/${address.id}</h2>
    <div class="dialog-body"><p class="dim">Type <code>${value.typename}</code></p>
      <${ValueView} ...${value} /></div>
    <footer class="dialog-foot"><button type="button" autofocus onClick=${close}>Close</button>
    </footer></div>`), 0);
}

function resume(address) {
  confirm({
    title: `Resume ${address.name}/${address.id}`,
    text: html`<p>The message that suspended the address is tried again, then those behind it.</p>`,
    action: 'Resume',
    command: `satchel address resume ${quoted(fullName(address))}`,
    run: async () => {
      await send('POST', `${addressPath(address)}/resume`);
      return 'The address is resumed.';
    },
  });
}

function skip(address) {
  confirm({
    title: `Skip a message of ${address.name}/${address.id}`,
    text: html`<p>The message that suspended the address becomes a dead letter. Those behind it are
      processed without its effects.</p>`,
    action: 'Skip message',
    danger: true,
    command: `satchel address skip ${quoted(fullName(address))}`,
    run: async () => {
      await send('POST', `${addressPath(address)}/skip`);
      return 'The message is a dead letter, and the address is resumed.';
    },
  });
}

function byName(states) {
  return [...states].sort((one, other) => (one.name < other.name ? -1 : 1));
}

function States({ address, view, declared }) {
  const missing = declared.filter((one) => !view.state.some((state) => state.name === one.name));
  return html`<${Panel} title="State">
    ${view.state.length === 0 && html`<${Empty}>No state has a value.<//>`}
    ${byName(view.state).map((state) => html`<article class="state-value" key=${state.name}
      aria-label="State ${state.name}">
      <header><h3><code>${state.name}</code></h3><span class="dim"><code>${state.typename}</code>
        ${state.expires_at && html` · expires <${Time} at=${state.expires_at} />`}</span>
        <div class="actions"><${Act} onClick=${() => editState(address, state)}
          label="Edit state ${state.name}">Edit<//>
        <${Act} onClick=${() => deleteState(address, state)}
          label="Delete state ${state.name}">Delete<//></div></header>
      <${ValueView} value=${state.value} base64=${state.base64} />
    </article>`)}
    ${missing.length > 0 && html`<p class="unset"><span class="dim">Without a value:</span>
      ${missing.map((state) => html`<${Act} onClick=${() => editState(address, state)}
        label="Set state ${state.name}"><code>${state.name}</code><//>`)}</p>`}
  <//>`;
}

function Timers({ box }) {
  if (!box) return html`<${Loading} />`;
  const { timers, timers_total: total } = box;
  if (timers.length === 0) return html`<${Empty}>This address has no pending timer.<//>`;
  const note = total > timers.length && html`<p class="dim padded">The next ${timers.length}
    of ${count(total)} timers.</p>`;
  return html`<${Table} label="Timers" columns=${['Due', 'Message', 'To', 'Token']}>
    ${timers.map((timer) => html`<tr><td><${Time} at=${timer.due} />
      <span class="dim"> ${timer.due}</span></td><td><code>${timer.typename}</code></td>
      <td>${timer.target === timer.owner ? html`<span class="dim">itself</span>`
        : html`<a href=${addressLink(parseAddress(timer.target))}><code>${timer.target}</code></a>`}
      </td><td>${timer.token ? html`<code>${timer.token}</code>`
        : html`<span class="dim">–</span>`}</td></tr>`)}<//>${note}`;
}

function condition(view) {
  if (view.suspended !== null) return html`<${Badge} tone="bad">suspended<//>`;
  if (view.function_stopped) return html`<${Badge} tone="warn">function stopped<//>`;
  if (view.failing) return html`<${Badge} tone="warn">failing<//>`;
  if (view.endpoint) return html`<${Badge} tone="bad">endpoint ${view.endpoint.state}<//>`;
  if (view.in_flight) return html`<${Badge} tone="ok">in flight<//>`;
  return view.backlog.messages > 0 ? html`<${Badge}>waits<//>` : html`<${Badge}>idle<//>`;
}

function reason(text) {
  return html`<span class="reason">${text}</span>`;
}

function Message({ message, isOpen, toggle }) {
  const sender = message.caller?.startsWith('satchel/')
    ? html`<span class="dim">a caller outside</span>`
    : message.caller ? html`<a href=${addressLink(parseAddress(message.caller))}>
      <code>${message.caller}</code></a>` : html`<span class="dim">outside</span>`;
  return html`<${Fragment}><tr class=${isOpen ? 'open' : ''}>
    <td><button type="button" class="plain" aria-expanded=${isOpen} onClick=${toggle}
      aria-label="Message ${count(message.number)}">${count(message.number)}</button></td>
    <td><code>${message.typename}</code>${message.corrects && html` <${Badge}>sets
      ${message.corrects}<//>`}</td>
    <td>${sender}</td>
    <td class="number">${bytes(message.bytes)}</td>
    <td>${message.in_flight ? html`<${Badge} tone="ok">in flight<//>` : html`<${Badge}>waits<//>`}
    </td></tr>
    ${isOpen && html`<tr class="open"><td colspan="5"><div class="details">
      <${Facts} facts=${[['Id', html`<code>${message.id}</code>`]]} />
      <${ValueView} value=${message.value} base64=${message.base64} /></div></td></tr>`}<//>`;
}

function Messages({ address, box, reload }) {
  const [open, setOpen] = useState(null);
  const [more, setMore] = useState(null);
  const [error, setError] = useState(null);
  if (!box) return html`<${Loading} />`;
  if (box.messages.length === 0) return html`<${Empty}>No message waits for this address.<//>`;
  // Messages that were loaded further behind stay as long as nothing was processed.
  const first = box.messages[0].number;
  const kept = more && more.first === first ? more : { messages: [], next: box.next };
  const shown = [...box.messages, ...kept.messages];
  const next = kept.messages.length ? kept.next : box.next;
  const load = async () => {
    try {
      const page = await get(`${addressPath(address)}/messages`,
        { after: shown.at(-1).number, limit: 100 });
      setMore({ first, messages: [...kept.messages, ...page.messages], next: page.next });
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<${Table} label="Messages" columns=${['Number', 'Type', 'From', '#Size', 'State']}>
    ${shown.map((message) => html`<${Message} key=${message.number} message=${message}
      isOpen=${open === message.number}
      toggle=${() => setOpen(open === message.number ? null : message.number)} />`)}<//>
    <${Problem} error=${error} retry=${reload} />
    ${next !== null && html`<p class="pager"><span class="dim">${count(shown.length)} shown</span>
      <button type="button" onClick=${load}>More</button></p>`}`;
}

function Mailbox({ view, box }) {
  const { endpoint, failing } = view;
  return html`<${Facts} facts=${[
    ['Condition', condition(view)],
    ['Mailbox', view.backlog.messages === 0 ? 'empty'
      : `${plural(view.backlog.messages, 'message')}, ${bytes(view.backlog.bytes)}`],
    ['In flight', box?.in_flight ? html`a batch of ${plural(box.in_flight.messages, 'message')},
      ${' '}sent <${Time} at=${box.in_flight.since} />` : view.in_flight ? 'one batch' : 'nothing'],
    view.suspended !== null && ['Suspended by', html`${reason(view.suspended)}
      ${box?.suspended_since && html`<div class="dim">the message at the head,
        ${' '}<${Time} at=${box.suspended_since} /></div>`}`],
    view.function_stopped && ['Function', reason(view.function_stopped)],
    failing && ['Last failure', html`${reason(failing.reason)}
      <span class="dim"> ${plural(failing.attempts, 'attempt')}</span>`],
    box?.next_try && ['Next attempt', html`<${Time} at=${box.next_try} />`],
    endpoint && ['Endpoint', html`<code>${endpoint.name}</code> ${endpoint.state}
      ${endpoint.since && html` since <${Time} at=${endpoint.since} />`}
      ${endpoint.last_failure && html`<div>${reason(endpoint.last_failure.message)}</div>`}`],
  ]} />`;
}

export function Address({ address }) {
  const whole = fullName(address);
  const type = `${address.namespace}/${address.name}`;
  const { data: view, error, reload } = useLoaded(
    async () => get(addressPath(address)), [whole], 3000);
  const functions = useLoaded(() => getAll('/functions', 'functions'), [], 60_000);
  const box = useLoaded(
    async () => get(`${addressPath(address)}/messages`, { limit: MESSAGES }), [whole], 3000);
  const isUnknown = error?.status === 404 && error.code === 'not_found';
  const known = (functions.data ?? []).find((one) => one.function === type);
  return html`<div class="title">
      <p class="crumbs"><a href=${link('/addresses')}>Addresses</a>${' / '}
        <a href=${link('/addresses', { function: type })}>${type}</a></p>
      <h1><code>${address.id}</code></h1>
      <div class="actions">
        ${view && view.suspended !== null && html`
          <${Act} tone="primary" onClick=${() => resume(address)}>Resume<//>
          <${Act} onClick=${() => skip(address)}>Skip message<//>`}
        <${Act} onClick=${() => message(address)}>Send or call<//>
      </div></div>
    ${isUnknown ? html`<${Empty}>This address has no state, and no message waits for it.
      It comes into being with its first message.<//>`
      : html`<${Problem} error=${error} retry=${reload} />`}
    ${!view && !error && html`<${Loading} />`}
    ${view && !isUnknown && html`
      <${Panel} label="Mailbox"><${Mailbox} view=${view} box=${box.data} /><//>
      ${view.backlog.messages > 0 && html`<${Panel} title="Messages"><${Messages} address=${address}
        box=${box.data} reload=${box.reload} /><//>`}
      <${States} address=${address} view=${view} declared=${known?.states ?? []} />
      <${Panel} title="Timers"><${Timers} box=${box.data} /><//>
      <${Past} address=${address} now=${view.state} />`}
    ${view && html`<p class="dim"><a href=${link('/traces', { address: whole })}>Traces</a> with a
      message to this address.</p>`}
    ${known?.dead_letters > 0 && html`<p class="dim">${type} has
      ${' '}<a href=${link('/dead-letters', { function: type })}>${
        plural(known.dead_letters, 'dead letter')}</a>.</p>`}`;
}
