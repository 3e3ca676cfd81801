// Stories of messages: recent traces, and one as a tree with its times.
import { get, getAll, path, useLoaded } from '../api.js';
import { count, plural } from '../format.js';
import { Fragment, html, useEffect, useState } from '../html.js';
import {
  addressLink, Badge, Empty, Facts, Field, link, Loading, Panel, parseAddress, Problem, Table, Time,
} from '../parts.js';

const PAGE = 100;
const WIDTH = 1000;
const DEPTH_MAX = 12;

const TONES = {
  done: 'ok', left: 'ok', replied: 'ok', dead_letter: 'bad', rejected: 'bad', suspended: 'bad',
  failed: 'bad', deferred: 'warn', blocked: 'warn',
};

/** A duration in microseconds. */
function time(us) {
  if (us === null || us === undefined) return '–';
  const ms = Number(us) / 1000;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  const seconds = ms / 1000;
  return seconds < 120 ? `${seconds.toFixed(1)} s` : `${count(Math.round(seconds / 60))} min`;
}

function State({ state }) {
  return html`<${Badge} tone=${TONES[state] ?? 'dim'}>${state.replaceAll('_', ' ')}<//>`;
}

/** The target of a hop, with a link if it is an address. */
function Target({ hop }) {
  if (!hop.target) return html`<span class="dim">unknown</span>`;
  if (hop.kind !== 'message') {
    return html`<code>${hop.target}</code> <span class="dim">${hop.kind}</span>`;
  }
  return html`<a href=${addressLink(parseAddress(hop.target))}><code>${hop.target}</code></a>`;
}

/** Rows of the tree, parents before children, with depths. */
function rows(hops) {
  const children = new Map();
  const spans = new Set(hops.map((hop) => hop.span));
  for (const hop of hops) {
    // A parent outside, or of a process that ended, is not here.
    const parent = spans.has(hop.parent) ? hop.parent : null;
    children.set(parent, [...(children.get(parent) ?? []), hop]);
  }
  const found = [];
  const seen = new Set();
  const add = (parent, depth) => {
    for (const hop of children.get(parent) ?? []) {
      if (!seen.has(hop.span)) {
        seen.add(hop.span);
        found.push({ hop, depth, isDetached: parent === null && hop.parent !== null });
        add(hop.span, depth + 1);
      }
    }
  };
  add(null, 0);
  return found;
}

/** Spans of time of a hop: waiting, with the function, until durable. */
function segments(hop) {
  const first = Number(hop.steps[0]?.at_us ?? 0);
  const found = [];
  let since = first;
  let running = null;
  for (const { step, at_us: at, concluded } of hop.steps) {
    const now = Number(at);
    if (step === 'invoked' && running === null) {
      found.push(['waiting', since, now]);
      running = now;
    } else if (['answered', 'left', 'replied'].includes(step)) {
      found.push([running === null ? 'waiting' : 'running', running ?? since, now]);
      running = null;
      since = now;
    } else if (step === 'committed' && concluded) {
      found.push(['committing', since, now]);
    }
  }
  const last = Number(hop.steps.at(-1)?.at_us ?? first);
  if (running !== null) found.push(['running', running, last]);
  return found.length ? found : [['waiting', first, last]];
}

function Waterfall({ hop, begun, whole }) {
  const x = (at) => ((at - begun) / whole) * WIDTH;
  const bars = segments(hop);
  const text = bars.map(([name, from, to]) => `${name} ${time(to - from)}`).join(', ');
  return html`<svg class="waterfall" viewBox="0 0 ${WIDTH} 14" preserveAspectRatio="none" role="img"
    aria-label=${text}>${bars.map(([name, from, to]) => html`<rect class=${name} x=${x(from)}
      y=${name === 'committing' ? 5 : 1} height=${name === 'committing' ? 4 : 12}
      width=${Math.max(2, x(to) - x(from))} />`)}</svg>`;
}

function Steps({ hop, begun }) {
  const omit = new Set(['at_us', 'partition', 'step', 'target']);
  const details = (step) => Object.entries(step)
    .filter(([name, value]) => !omit.has(name) && value !== null)
    .map(([name, value]) => (name === 'links'
      ? html`<div>from messages of ${value.map((one) => html`<a
          href=${link('/traces', { id: one.trace })}>
          <code class="tag">${one.id}</code></a>`)}</div>`
      : html`<div>${name.replaceAll('_', ' ')}: <code>${String(value)}</code></div>`));
  return html`<div class="details"><${Facts} facts=${[
      ['Id', html`<code>${hop.id}</code>`],
      ['Span', html`<code>${hop.span}</code>`],
      hop.state === 'dead_letter' && ['Dead letter', html`<a href=${link('/dead-letters', {})}>
        list of dead letters</a>`],
      hop.omitted_steps > 0 && ['Left out', plural(hop.omitted_steps, 'event')],
    ]} />
    <${Table} label="Events" columns=${['#After', 'Event', 'Details', '#Partition']}>
      ${hop.steps.map((step) => html`<tr>
        <td class="number">${time(Number(step.at_us) - begun)}</td>
        <td>${step.step.replaceAll('_', ' ')}</td>
        <td class="wide">${details(step)}</td>
        <td class="number">${count(step.partition)}</td></tr>`)}<//></div>`;
}

function Tree({ trace }) {
  const [open, setOpen] = useState(null);
  const begun = Math.min(...trace.hops.map((hop) => Number(hop.steps[0]?.at_us ?? Infinity)));
  const whole = Math.max(1, Number(trace.duration_us));
  return html`<${Table} label="Hops" columns=${['Hop', 'State', '#Begun', '#Took', 'Times']}>
    ${rows(trace.hops).map(({ hop, depth, isDetached }) => {
    const from = Number(hop.steps[0]?.at_us ?? begun);
    const until = Number(hop.steps.at(-1)?.at_us ?? begun);
    const isOpen = open === hop.id;
    return html`<${Fragment}><tr class=${isOpen ? 'open' : ''}>
      <td class="hop depth-${Math.min(depth, DEPTH_MAX)}">
        ${isDetached && html`<span class="dim" title="Its parent ${hop.parent} is outside, or of a
          process that ended">… </span>`}<${Target} hop=${hop} /></td>
      <td><${State} state=${hop.state} />
        ${hop.attempts > 1
          && html` <span class="dim">${plural(hop.attempts, 'attempt')}</span>`}</td>
      <td class="number">${time(from - begun)}</td>
      <td class="number">${time(until - from)}</td>
      <td class="times"><button type="button" class="plain" aria-expanded=${isOpen}
        aria-label="Events of ${hop.target ?? hop.id}"
        onClick=${() => setOpen(isOpen ? null : hop.id)}>
        <${Waterfall} hop=${hop} begun=${begun} whole=${whole} /></button></td></tr>
      ${isOpen && html`<tr class="open"><td colspan="5">
        <${Steps} hop=${hop} begun=${begun} /></td></tr>`}<//>`;
  })}<//>`;
}

function One({ id }) {
  const { data: trace, error, reload } = useLoaded(() => get(`/traces${path(id)}`), [id], 2000);
  if (error && !trace) return html`<${Problem} error=${error} retry=${reload} />`;
  if (!trace) return html`<${Loading} />`;
  const missing = trace.missing_partitions;
  return html`<${Problem} error=${error} retry=${reload} />
    ${missing && html`<p class="note warn">The owners of partitions ${missing.join(', ')} did not
      answer. Hops may be missing.</p>`}
    <${Panel} title=${`${plural(trace.hops.length, 'hop')}, ${time(trace.duration_us)}`}
      label="Hops" actions=${html`<${Time} at=${trace.begun_at} />`}>
      <${Tree} trace=${trace} />
      ${trace.omitted_hops > 0 && html`<p class="empty">${plural(trace.omitted_hops, 'more hop')}
        were not kept.</p>`}
    <//>
    <p class="legend dim"><i class="waiting"></i> waiting <i class="running"></i> with the function
      <i class="committing"></i> until durable</p>`;
}

function List({ params }) {
  const wanted = { function: params.function, address: params.address, failed: params.failed };
  const { data, error, reload } = useLoaded(
    () => get('/traces', { ...wanted, limit: PAGE }),
    [wanted.function, wanted.address, wanted.failed], 2000);
  if (error && !data) return html`<${Problem} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} />`;
  if (!data.tracing) {
    return html`<${Empty}>No stories of messages are kept. Start the process with
      <code> --trace-messages SHARE</code>.<//>`;
  }
  if (data.traces.length === 0) return html`<${Empty}>No trace matches.<//>`;
  return html`<${Problem} error=${error} retry=${reload} />
    <${Table} label="Traces" columns=${['Begun', 'First message', 'State', '#Took', '#Hops',
      'Functions']}>${data.traces.map((one) => html`<tr key=${one.trace}>
      <td><${Time} at=${one.begun_at} /></td>
      <td><a href=${link('/traces', { id: one.trace })}><code>${one.first ?? one.trace}</code></a>
      </td>
      <td>${one.failed ? html`<${Badge} tone="bad">failed<//>`
        : Number(one.pending) > 0 ? html`<${Badge} tone="warn">${count(one.pending)} pending<//>`
          : html`<${Badge} tone="ok">done<//>`}</td>
      <td class="number">${time(one.duration_us)}</td>
      <td class="number">${count(one.hops)}</td>
      <td>${one.functions.map((name) => html`<code class="tag">${name}</code>`)}</td></tr>`)}<//>`;
}

export function Traces({ params }) {
  const { data: functions } = useLoaded(() => getAll('/functions', 'functions'), [], 30_000);
  const [draft, setDraft] = useState(params);
  useEffect(() => setDraft(params), [params.function, params.failed, params.address, params.id]);
  const set = (name) => (event) => setDraft({ ...draft, [name]: event.currentTarget.value });
  const search = (event) => {
    event.preventDefault();
    const { function: name, failed, address, id } = draft;
    location.hash = id ? link('/traces', { id: id.trim() })
      : link('/traces', { function: name, failed, address });
  };
  const names = new Set((functions ?? []).map((one) => one.function));
  if (draft.function) names.add(draft.function);
  const title = params.id ? html`<h1>Trace</h1><code class="dim">${params.id}</code>`
    : html`<h1>Traces</h1>`;
  return html`<div class="title">
      ${params.id && html`<span class="crumbs"><a href="#/traces">Traces</a></span>`}${title}</div>
    <form class="filters" onSubmit=${search} role="search">
      <${Field} label="Id" hint="of a trace, message, dead letter or request"><input
        value=${draft.id ?? ''} spellcheck="false" onInput=${set('id')} /><//>
      <${Field} label="Function"><select value=${draft.function ?? ''} onChange=${set('function')}>
        <option value="">All functions</option>
        ${[...names].map((name) => html`<option value=${name}>${name}</option>`)}</select><//>
      <${Field} label="State"><select value=${draft.failed ?? ''} onChange=${set('failed')}>
        <option value="">All</option><option value="true">Failed</option></select><//>
      <button type="submit" class="primary">Show</button>
    </form>
    ${params.address && html`<p class="dim">Traces with a message to
      <code> ${params.address}</code>.</p>`}
    ${params.id ? html`<${One} key=${params.id} id=${params.id} />`
      : html`<${Panel} label="Traces"><${List} params=${params} /><//>`}`;
}
