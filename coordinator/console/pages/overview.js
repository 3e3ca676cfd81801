// What runs where, how it does, and what needs a person.
import { get, getAll, readiness, useLoaded } from '../api.js';
import { bytes, count, duration, plural, short } from '../format.js';
import { html, useContext } from '../html.js';
import { levels, rates } from '../live.js';
import {
  Badge, Empty, link, Loading, Panel, Problem, Process, Table, Time,
} from '../parts.js';
import { Plot } from '../plot.js';
import { warningsOf } from '../warnings.js';

const SECONDS = (value) => duration(value);

/** Loads one list, so that one that fails does not hide the others. */
async function attempt(promise) {
  try {
    return { data: await promise };
  } catch (error) {
    if (error.status === 401) throw error;
    return { error };
  }
}

async function load(spread) {
  const [ready, partitions, endpoints, ingresses, members] = await Promise.all([
    attempt(readiness()),
    attempt(get('/partitions')),
    attempt(getAll('/endpoints', 'endpoints')),
    attempt(getAll('/ingresses', 'ingresses')),
    attempt(spread ? get('/members') : Promise.resolve(null)),
  ]);
  return { ready, partitions, endpoints, ingresses, members };
}

function Warnings({ found }) {
  if (found.length === 0) {
    return html`<p class="calm"><i class="dot ok"></i>Nothing needs a person.</p>`;
  }
  return html`<ul class="warnings">${found.map(({ tone, text, todo, href }) => html`
    <li class=${tone}><i class="dot ${tone}"></i><div><strong>${text}</strong>
      ${todo && html`<span class="dim"> ${todo}</span>`}</div>
      ${href && html`<a href=${href}>Look</a>`}</li>`)}</ul>`;
}

function Plots({ samples }) {
  const rate = (name) => rates(samples, name);
  const level = (name) => levels(samples, name);
  return html`<div class="plots">
    <${Plot} title="Messages processed" points=${rate('processed')} unit=" /s" />
    <${Plot} title="Calls" points=${rate('calls')} unit=" /s" />
    <${Plot} title="Sends" points=${rate('sends')} unit=" /s" />
    <${Plot} title="Commits" points=${rate('commits')} unit=" /s" />
    <${Plot} title="Requests to endpoints" points=${rate('requests')} unit=" /s" />
    <${Plot} title="Timers fired" points=${rate('timers_fired')} unit=" /s" />
    <${Plot} title="New dead letters" points=${rate('dead_letters_made')} unit=" /s" tone="bad" />
    <${Plot} title="Ingress lag" points=${level('lag_seconds')} format=${SECONDS} />
  </div>`;
}

function Now({ sample }) {
  if (!sample) return null;
  const figures = [
    ['Batches in flight', count(sample.in_flight)],
    ['Waiting messages', bytes(sample.pending_bytes)],
    ['Outbox', plural(sample.outbox ?? 0, 'record')],
    ['Timers', count(sample.timers)],
    ['Dead letters', count(sample.dead_letters)],
    ['State in memory', bytes(sample.state_bytes)],
  ];
  return html`<dl class="now">${figures.map(([name, value]) => html`
    <div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Endpoints({ list }) {
  const { data, error } = list;
  if (error) return html`<${Problem} error=${error} />`;
  if (data.length === 0) return html`<${Empty}>No module file names an endpoint.<//>`;
  return html`<${Table} label="Endpoints" columns=${[
    'Endpoint', 'State', 'Functions', '#In flight', '#Waiting', 'Last success', 'Last failure']}>
    ${data.map((one) => html`<tr>
      <td><code>${one.name}</code> <span class="dim">${one.kind}</span></td>
      <td>${one.state === 'up' ? html`<${Badge} tone="ok">up<//>`
        : html`<${Badge} tone="bad">down<//> <span class="dim">since${' '}
          <${Time} at=${one.since} /></span>`}</td>
      <td>${one.functions.map((name) => html`<code class="tag">${name}</code>`)}</td>
      <td class="number">${count(one.requests_in_flight)}
        <span class="dim"> of ${count(one.requests_max)}</span></td>
      <td class="number">${count(one.batches_waiting)}</td>
      <td><${Time} at=${one.last_success} /></td>
      <td class="wide">${one.last_failure ? html`<${Time} at=${one.last_failure.at} />${' '}
        <span class="dim">${one.last_failure.kind}</span>
        <div class="reason">${one.last_failure.message}</div>`
        : html`<span class="dim">none</span>`}</td></tr>`)}<//>`;
}

function Functions({ list }) {
  if (!list) return html`<${Loading} />`;
  if (list.length === 0) return html`<${Empty}>No function has an address yet.<//>`;
  return html`<${Table} label="Functions" columns=${['Function', 'State', '#Addresses', '#Backlog',
    '#In flight', '#Backing off', '#Suspended', '#Dead letters']}>
    ${list.map((one) => html`<tr>
      <td><a href=${link('/addresses', { function: one.function })}>
        <code>${one.function}</code></a></td>
      <td>${one.stopped ? html`<${Badge} tone="warn" title=${one.stopped}>${one.stopped}<//>`
        : one.endpoint_state === 'down' ? html`<${Badge} tone="bad">endpoint down<//>`
          : one.endpoint ? html`<${Badge} tone="ok">runs<//>` : html`<${Badge}>no endpoint<//>`}
      </td>
      <td class="number">${count(one.addresses)}</td>
      <td class="number" title=${bytes(one.backlog.bytes)}>${count(one.backlog.messages)}</td>
      <td class="number">${count(one.in_flight)}</td>
      <td class="number">${count(one.backing_off)}</td>
      <td class="number ${one.suspended > 0 ? 'alarm' : ''}">${count(one.suspended)}</td>
      <td class="number ${one.dead_letters > 0 ? 'alarm' : ''}">${one.dead_letters > 0
        ? html`<a href=${link('/dead-letters', { function: one.function })}>
          ${count(one.dead_letters)}</a>` : '0'}</td></tr>`)}<//>`;
}

function Partitions({ list, members }) {
  const { data, error } = list;
  if (error) return html`<${Problem} error=${error} />`;
  const places = new Map((members?.partitions ?? []).map((one) => [one.partition, one]));
  const known = new Map(data.partitions.map((one) => [one.partition, one]));
  const numbers = [...new Set([...known.keys(), ...places.keys()])].sort((a, b) => a - b);
  return html`<${Table} label="Partitions" columns=${['Partition', 'Owner', 'Key groups',
    '#Processed', '#Commits', '#In flight', '#Waiting', '#Outbox', '#Timers', '#State']}>
    ${numbers.map((number) => {
      const one = known.get(number);
      const place = places.get(number);
      const owner = place ? place.owner ?? 'none' : 'this process';
      return html`<tr><td>${number}</td>
        <td>${place && !place.owner ? html`<${Badge} tone="bad">none<//>`
          : html`<code>${owner}</code>`}${place?.offered_to && html` <span class="dim">offered to
            ${place.offered_to}</span>`}${place?.pinned_to && html` <${Badge}>pinned<//>`}
          ${place?.frozen && html` <${Badge}>frozen<//>`}</td>
        ${one ? html`<td>${one.key_groups.join(' – ')}</td>
          <td class="number">${count(one.processed)}</td>
          <td class="number">${count(one.durable)}</td>
          <td class="number">${count(one.in_flight)}</td>
          <td class="number">${bytes(one.pending_bytes)}</td>
          <td class="number">${count(one.outbox)}</td>
          <td class="number">${count(one.timers)}</td>
          <td class="number">${bytes(one.state_bytes)}</td>`
          : html`<td colspan="8" class="dim">its owner did not answer</td>`}</tr>`;
    })}<//>`;
}

function Members({ members }) {
  if (!members) return null;
  return html`<${Panel} title="Processes"><${Table} label="Processes" columns=${['Process',
    'Peer address', 'Partitions', '#Weight', '#Silent for']}>
    ${members.members.map((one) => html`<tr>
      <td><code>${one.process}</code> ${one.process === members.process
        && html`<${Badge}>answers here<//>`} ${one.draining && html`<${Badge} tone="warn">draining
        <//>`}</td>
      <td><code>${one.peer}</code></td><td>${one.partitions.join(', ') || '–'}</td>
      <td class="number">${count(one.weight)}</td>
      <td class="number">${one.silent_ms === null ? '–' : duration(one.silent_ms / 1000)}</td>
    </tr>`)}<//><//>`;
}

export function Overview({ live }) {
  const { process } = useContext(Process);
  const { samples } = live;
  const { data, error, reload } = useLoaded(() => load(process.spread), [process.spread], 5000);
  // Visits all addresses in memory, so less often.
  const functions = useLoaded(() => getAll('/functions', 'functions'), [], 15_000);
  const found = data && warningsOf({
    process,
    ready: data.ready.data,
    functions: functions.data,
    ingresses: data.ingresses.data,
    members: data.members.data,
  });
  const rate = samples.length > 1 ? rates(samples.slice(-11), 'processed') : [];
  const recent = rate.filter((point) => point.value !== null).map((point) => point.value);
  const mean = recent.length ? recent.reduce((sum, value) => sum + value, 0) / recent.length : null;
  return html`
    <div class="title"><h1>${process.application}</h1>
      <p class="dim">Satchel ${process.version} · ${process.build} · up
        ${' '}${duration(process.uptime_seconds)} · ${plural(process.partitions, 'partition')}
        ${mean !== null && html` · ${short(mean)} messages a second`}</p></div>
    <${Problem} error=${error} retry=${reload} />
    <section aria-label="Warnings">${found ? html`<${Warnings} found=${found} />`
      : html`<${Loading} />`}</section>
    <section aria-label="Live figures">
      ${process.spread && html`<p class="dim">The plots show the process that serves this page.
        The tables show all processes.</p>`}
      <${Plots} samples=${samples} /><${Now} sample=${samples.at(-1)} /></section>
    <${Panel} title="Endpoints">${data ? html`<${Endpoints} list=${data.endpoints} />`
      : html`<${Loading} />`}<//>
    <${Panel} title="Functions">${functions.error
      ? html`<${Problem} error=${functions.error} retry=${functions.reload} />`
      : html`<${Functions} list=${functions.data} />`}<//>
    <${Panel} title="Partitions">${data ? html`<${Partitions} list=${data.partitions}
      members=${data.members.data} />` : html`<${Loading} />`}<//>
    <${Members} members=${data?.members.data} />`;
}
