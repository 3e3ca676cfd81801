// The application: its graph as observed, and what was declared of it.
import { get, getAll, useLoaded } from '../api.js';
import { count, plural, short } from '../format.js';
import { Drawing } from '../graph.js';
import { html, useEffect, useRef, useState } from '../html.js';
import { Badge, Empty, Facts, link, Loading, Panel, Problem, Table } from '../parts.js';

const SAMPLES = 4;

/** Node of an end of an edge. Callers are two nodes: where requests come from, and replies go. */
function endId(end, isTarget) {
  if (end.kind === 'callers') return isTarget ? 'replies' : 'requests';
  return `${end.kind} ${end.name}`;
}

function nodeOf(id) {
  if (id === 'requests') {
    return { id, kind: 'callers', side: 'first', above: 'calls and sends', text: 'requests',
      label: 'Requests from outside', href: '#/' };
  }
  if (id === 'replies') {
    return { id, kind: 'callers', side: 'last', above: 'to callers', text: 'replies',
      label: 'Replies to callers', href: '#/' };
  }
  const at = id.indexOf(' ');
  const [kind, name] = [id.slice(0, at), id.slice(at + 1)];
  const slash = name.lastIndexOf('/');
  const side = { ingress: 'first', egress: 'last' }[kind];
  const href = kind === 'function' ? link('/addresses', { function: name }) : link('/connectors');
  return { id, kind, side, href, above: `${kind} ${name.slice(0, slash)}`,
    text: name.slice(slash + 1), label: `${kind} ${name}` };
}

/** Messages a second of each edge, between the first and the last of some samples. */
function useRates(data) {
  const samples = useRef([]);
  const [rates, setRates] = useState(new Map());
  useEffect(() => {
    if (!data) return;
    const now = { at: performance.now(), counts: new Map(
      data.edges.map((edge) => [edge.edge, Number(edge.messages)])) };
    samples.current = [...samples.current, now].slice(-SAMPLES);
    const first = samples.current[0];
    const seconds = (now.at - first.at) / 1000;
    const known = new Map();
    for (const [edge, messages] of now.counts) {
      const grown = messages - (first.counts.get(edge) ?? 0);
      // A smaller count is that of a new owner.
      if (seconds > 0.5 && grown >= 0) known.set(edge, grown / seconds);
    }
    setRates(known);
  }, [data]);
  return rates;
}

function Graph({ data, functions, connectors }) {
  const rates = useRates(data);
  const known = data.edges.filter((edge) => edge.from && edge.to);
  const other = data.edges.find((edge) => !edge.from);
  const edges = known.map((edge) => {
    const [from, to] = [endId(edge.from, false), endId(edge.to, true)];
    const rate = rates.get(edge.edge) ?? null;
    const label = `${from} to ${to}: ${count(edge.messages)} messages`
      + `${rate === null ? '' : `, ${short(rate)} a second`}`;
    return { from, to, rate, label, messages: edge.messages, key: edge.edge };
  });
  const declared = [
    ...(connectors?.ingresses ?? []).map((one) => `ingress ${one.id}`),
    ...(functions ?? []).map((one) => `function ${one.function}`),
    ...(connectors?.egresses ?? []).map((one) => `egress ${one.id}`),
  ];
  const ids = [...new Set([...declared, ...edges.flatMap((edge) => [edge.from, edge.to])])];
  const nodes = ids.map(nodeOf)
    .sort((one, next) => Number(next.side === 'first') - Number(one.side === 'first'));
  if (nodes.length === 0) return html`<${Empty}>Nothing was declared, and no message came.<//>`;
  return html`<${Drawing} nodes=${nodes} edges=${edges}
      label="Drawing of the graph; the table below has the same" />
    ${edges.length === 0 ? html`<${Empty}>No message was observed yet. Edges appear with the first
      ones.<//>` : html`<${Table} label="Edges of the graph" columns=${['From', 'To', '#Messages',
      '#A second']}>${edges.map((edge) => html`<tr key=${edge.key}>
        <td><${End} id=${edge.from} /></td><td><${End} id=${edge.to} /></td>
        <td class="number">${count(edge.messages)}</td>
        <td class="number">${edge.rate === null ? '–' : short(edge.rate)}</td></tr>`)}<//>`}
    ${other && html`<p class="dim padded">${plural(other.messages, 'message')} went over further
      edges, which are not told apart.</p>`}`;
}

function End({ id }) {
  const { kind, href, text, label } = nodeOf(id);
  return html`<a href=${href}><span class="dim">${kind === 'callers' ? '' : `${kind} `}</span>
    <code>${kind === 'callers' ? text : label.slice(kind.length + 1)}</code></a>`;
}

function Versions({ data, functions }) {
  const states = new Map((functions ?? []).map((one) => [one.function, one]));
  return html`<${Facts} facts=${[
    ['Satchel', `${data.version} (${data.build}), satchel ${data.command}`]]} />
    <${Table} label="Endpoints and versions" columns=${['Endpoint', 'Version', 'Functions']}>
    ${data.endpoints.map((one) => html`<tr>
      <td><code>${one.name}</code> <span class="dim">${one.kind}</span></td>
      <td>${one.version ? html`<code>${one.version}</code>`
        : html`<span class="dim">${one.kind === 'lambda' ? '$LATEST' : 'not named'}</span>`}</td>
      <td>${one.functions.map((name) => html`<code class="tag">${name}</code>`)}</td></tr>`)}<//>
    ${states.size > 0 && html`<${Table} label="Declared states" columns=${['Function',
      'States, as its deployed version has declared them']}>
      ${[...states.values()].map((one) => html`<tr>
        <td><a href=${link('/addresses', { function: one.function })}>
          <code>${one.function}</code></a></td>
        <td>${one.states.length === 0 ? html`<span class="dim">none yet</span>`
          : one.states.map((state) => html`<code class="tag">${state.name}
            <span class="dim"> ${state.typename}</span></code>`)}</td></tr>`)}<//>`}`;
}

function Settings({ settings }) {
  const [all, setAll] = useState(false);
  const shown = settings.filter((one) => all || one.origin !== 'default');
  return html`<${Panel} title="Settings" actions=${html`<button type="button"
      aria-pressed=${all} onClick=${() => setAll(!all)}>
      ${all ? 'Only those that were set' : 'With defaults'}</button>`}>
    ${shown.length === 0 ? html`<${Empty}>All settings have their defaults.<//>`
      : html`<${Table} label="Settings" columns=${['Flag', 'Value', 'From']}>
        ${shown.map((one) => html`<tr><td><code>${one.flag}</code></td>
          <td><code>${one.value}</code></td>
          <td><${Badge} tone=${one.origin === 'default' ? 'dim' : 'ok'}>${one.origin}<//></td>
        </tr>`)}<//>`}<//>`;
}

async function loadConnectors() {
  const [ingresses, egresses] = await Promise.all([
    getAll('/ingresses', 'ingresses'), getAll('/egresses', 'egresses')]);
  return { ingresses, egresses };
}

export function Application() {
  const graph = useLoaded(() => get('/graph'), [], 3000);
  const functions = useLoaded(() => getAll('/functions', 'functions'), [], 30_000);
  const connectors = useLoaded(loadConnectors, [], 60_000);
  const declared = useLoaded(() => get('/application'), []);
  return html`<div class="title"><h1>Application</h1></div>
    <${Panel} title="Graph, as observed">
      <${Problem} error=${graph.error} retry=${graph.reload} />
      ${graph.data ? html`<${Graph} data=${graph.data} functions=${functions.data}
        connectors=${connectors.data} />` : !graph.error && html`<${Loading} />`}<//>
    <p class="dim">Messages count since the partitions started at their present owners.</p>
    <${Panel} title="Versions">
      <${Problem} error=${declared.error} retry=${declared.reload} />
      ${declared.data && html`
        <${Versions} data=${declared.data} functions=${functions.data} />`}<//>
    ${declared.data?.modules.map((module) => html`<${Panel} title="Module file ${module.file}"
      key=${module.file}><div class="framed"><pre class="value" tabindex="0">${module.text}</pre>
      </div><//>`)}
    ${declared.data && html`<p class="dim">Module files are shown without comments, without values
      of placeholders, and without what may be a secret.</p>
      <${Settings} settings=${declared.data.settings} />`}`;
}
