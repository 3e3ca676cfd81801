// What the application costs: so far, in a month, and with other settings.
import { get, useLoaded } from '../api.js';
import { count, duration, dollars, plural, short } from '../format.js';
import { html, useState } from '../html.js';
import { Badge, Empty, Facts, Field, Loading, Panel, Problem, Table, Time } from '../parts.js';

const SPANS = [['today', 'Today (UTC), or since the start'], ['recent', 'The last 5 minutes']];

function quantity({ quantity: value, unit }) {
  const number = Number(value);
  const digits = number < 0.01 ? number.toPrecision(2) : short(number);
  return `${digits} ${unit}`;
}

function Positions({ positions, sum, label, by }) {
  if (positions.length === 0) return html`<${Empty}>Nothing was counted yet.<//>`;
  const columns = ['Position', '#Quantity', '#US dollars', ...(by ? ['By'] : [])];
  return html`<${Table} label=${label} columns=${columns}>
    ${positions.map((one) => html`<tr><td>${one.name}</td>
      <td class="number">${quantity(one)}</td><td class="number">${dollars(one.dollars)}</td>
      ${by && html`<td class="kind">
        <${Badge} tone=${one.by === 'count' ? 'ok' : 'dim'}>${one.by}<//></td>`}
    </tr>`)}
    <tr class="sum"><td>Sum</td><td></td><td class="number">${dollars(sum)}</td>
      ${by && html`<td></td>`}</tr><//>`;
}

function Dial({ dial, month }) {
  const text = (value) => `${Number(value)} ${dial.unit}`;
  return html`<${Panel} title=${dial.dial}><${Table} label="Bills by ${dial.dial}"
    columns=${['Value', '#A month', '#Change', '#Commit takes']}>
    ${dial.options.map((option) => {
      const change = option.dollars - month;
      return html`<tr class=${option.present ? 'open' : ''}><td class="kind">${text(option.value)}
        ${option.present && html` <${Badge} tone="ok">now<//>`}</td>
        <td class="number">${dollars(option.dollars)}</td>
        <td class="number">${Math.abs(change) < 0.005 ? '–'
          : `${change > 0 ? '+' : '−'}${dollars(Math.abs(change))}`}</td>
        <td class="number">${option.commit_ms > 0
          ? `${Math.round(option.commit_ms)} ms` : '–'}</td>
      </tr>`;
    })}<//><//>`;
}

function Load({ load }) {
  return html`<${Facts} facts=${[
    ['Calls, sends', `${short(load.calls)} a second`],
    ['Records read', `${short(load.records_in)} a second`],
    ['Delivered', `${short(load.records_out)} records a second`],
    ['Requests', `${short(load.requests)} to endpoints a second,
      ${load.function_ms > 0 ? `${load.function_ms.toFixed(1)} ms each` : 'none yet'}`],
    ['Commits', `${Math.round(load.message_bytes)} bytes a message`],
  ]} />`;
}

function Processes({ processes }) {
  return html`<${Table} label="Processes" columns=${['Process', 'Started', 'Counts since',
    '#For', '#Calls, sends', '#Requests', '#S3 requests', '#Files']}>
    ${processes.map((one) => html`<tr><td><code>${one.process}</code></td>
      <td><${Time} at=${one.started} /></td><td><${Time} at=${one.since} /></td>
      <td class="number">${duration(one.seconds)}</td>
      <td class="number">${count(one.counted.calls)}</td>
      <td class="number">${count(one.counted.requests)}</td>
      <td class="number">${count(
        one.counted.s3_puts + one.counted.s3_gets + one.counted.s3_lists)}</td>
      <td class="number">${count(one.counted.files)}</td></tr>`)}<//>`;
}

function Bill({ bill }) {
  const { so_far: soFar, month } = bill;
  return html`
    ${!bill.paid && html`<p class="note"><span><strong>Nothing of this is paid.</strong> The state
      is on this machine. The page shows what the same would cost on AWS, by list prices and by the
      model of <code>satchel cost</code>.</span></p>`}
    <dl class="now bill">
      <div><dt>${bill.paid ? 'Counted requests so far' : 'They would have cost so far'}</dt>
        <dd>${dollars(soFar.dollars)}</dd></div>
      <div><dt>${bill.paid ? 'A month like this' : 'A month like this would cost'}</dt>
        <dd>${dollars(month.dollars)}</dd></div>
      <div><dt>${plural(bill.processes.length, 'process', 'processes')} counted for</dt>
        <dd>${duration(Math.max(...bill.processes.map((one) => one.seconds)))}</dd></div></dl>
    <div class="columns">
      <${Panel} title="So far, counted"><${Positions} label="Positions so far"
        positions=${soFar.positions} sum=${soFar.dollars} /><//>
      <${Panel} title="A month like this"><${Positions} label="Positions of a month"
        positions=${month.positions} sum=${month.dollars} by=${true} /><//></div>
    <h2 class="heading">What a setting would change</h2>
    <div class="columns three">${bill.dials.map((dial) => html`
      <${Dial} key=${dial.dial} dial=${dial} month=${month.dollars} />`)}</div>
    <p class="dim">By the model, with the load below. A commit that takes longer lets answers wait
      longer; <code>satchel run --help</code> explains the flags, the module file has
      ${' '}<code>maxLinger</code>.</p>
    <${Panel} title="Observed load"><${Load} load=${bill.load} /><//>
    <${Panel} title="Processes"><${Processes} processes=${bill.processes} /><//>
    <${Panel} title="What the figures rest on"><ul class="list">
      ${bill.assumptions.map((text) => html`<li>${text}</li>`)}</ul><//>`;
}

export function Cost() {
  const [over, setOver] = useState('today');
  const [memory, setMemory] = useState('256');
  const [tasks, setTasks] = useState('2');
  const { data, error, reload } = useLoaded(
    () => get('/cost', { over, function_memory: memory, tasks }), [over, memory, tasks], 10_000);
  const [kept, setKept] = useState(null);
  // While other figures are loaded, the former ones stay.
  if (data && data !== kept) setKept(data);
  const bill = data ?? kept;
  const set = (change) => (event) => {
    if (event.currentTarget.value !== '') change(event.currentTarget.value);
  };
  return html`<div class="title"><h1>Cost</h1></div>
    <form class="filters" onSubmit=${(event) => event.preventDefault()}>
      <${Field} label="Counts"><select value=${over}
        onChange=${(event) => setOver(event.currentTarget.value)}>
        ${SPANS.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select><//>
      <${Field} label="Memory of Lambda functions (MB)"><input type="number" min="128" max="10240"
        value=${memory} onChange=${set(setMemory)} /><//>
      <${Field} label="Tasks on Fargate"><input type="number" min="0" max="1000" value=${tasks}
        onChange=${set(setTasks)} /><//>
    </form>
    <${Problem} error=${error} retry=${reload} />
    ${!bill && !error && html`<${Loading} />`}
    ${bill && (bill.month ? html`<${Bill} bill=${bill} />`
      : html`<${Empty}>Nothing was counted yet: the state is not open.<//>`)}`;
}
