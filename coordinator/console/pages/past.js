// The state of an address at a moment, beside the present one or that of another moment.
import { addressPath, get, parseJson, useLoaded } from '../api.js';
import { quoted } from '../dialogs.js';
import { html, useEffect, useMemo, useState } from '../html.js';
import { Badge, Empty, Field, Loading, Panel, Problem, Table } from '../parts.js';
import { fromBase64, readable, toText, ValueView } from '../values.js';

const MINUTE = 60_000;
const SPANS = [
  ['10 minutes', 10 * MINUTE], ['1 hour', 60 * MINUTE], ['1 day', 24 * 60 * MINUTE],
  ['7 days', 7 * 24 * 60 * MINUTE], ['30 days', 30 * 24 * 60 * MINUTE],
];
const STEPS = 600;
const CHANGES_MAX = 200;

/** A moment as a field for local times takes it. */
function local(ms) {
  const date = new Date(ms - new Date(ms).getTimezoneOffset() * MINUTE);
  return date.toISOString().slice(0, 19);
}

/** A moment for people. */
function said(ms) {
  return local(ms).replace('T', ' ');
}

/** What tells one value from another: the type and all of its content. */
function content({ typename, value, base64 }) {
  return `${typename} ${base64 ?? toText(value)}`;
}

/** Pairs of the states of two moments, by name, with what became of each. */
export function compare(before, after) {
  const names = new Set([...before, ...after].map((state) => state.name));
  return [...names].sort().map((name) => {
    const one = before.find((state) => state.name === name);
    const other = after.find((state) => state.name === name);
    let change = 'changed';
    if (!one) change = 'new';
    else if (!other) change = 'gone';
    else if (content(one) === content(other)) change = 'same';
    return { name, before: one, after: other, change };
  });
}

/** A state as JSON, if it is: as such, or as text. */
function jsonOf(state) {
  if (!state) return undefined;
  if (state.base64 === undefined) return state.value;
  try {
    return parseJson(readable(fromBase64(state.base64)) ?? '');
  } catch {
    return undefined;
  }
}

function isTree(value) {
  return value !== null && typeof value === 'object'
    && (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype);
}

/** Parts of two JSON values that differ, by their paths. */
export function differences(before, after, path = '', found = []) {
  if (found.length >= CHANGES_MAX) return found;
  if (isTree(before) && isTree(after) && Array.isArray(before) === Array.isArray(after)) {
    for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
      const name = Array.isArray(before) ? `${path}[${key}]` : `${path}${path && '.'}${key}`;
      const [had, has] = [Object.hasOwn(before, key), Object.hasOwn(after, key)];
      if (had && has) differences(before[key], after[key], name, found);
      else found.push({ path: name, before: before[key], after: after[key] });
    }
  } else if (toText(before) !== toText(after)) {
    found.push({ path: path || 'the value', before, after });
  }
  return found;
}

const TONES = { changed: 'warn', new: 'ok', gone: 'bad', same: 'dim' };

function Side({ state, title }) {
  return html`<div class="side"><h4>${title}</h4>${state
    ? html`<${ValueView} value=${state.value} base64=${state.base64} />`
    : html`<p class="dim">no value</p>`}</div>`;
}

function Part({ value }) {
  return value === undefined ? html`<span class="dim">–</span>`
    : html`<code class="part">${toText(value)}</code>`;
}

/** What changed within a value that is JSON at both moments. */
function Changes({ name, before, after }) {
  const [one, other] = [jsonOf(before), jsonOf(after)];
  if (!isTree(one) || !isTree(other)) return null;
  const found = differences(one, other);
  return html`<${Table} label="Changes of ${name}" columns=${['Part', 'Before', 'After']}>
    ${found.map((change) => html`<tr key=${change.path}><td><code>${change.path}</code></td>
      <td><${Part} value=${change.before} /></td><td><${Part} value=${change.after} /></td></tr>`)}
  <//>${found.length >= CHANGES_MAX && html`<p class="dim">Only the first ${CHANGES_MAX}
    changes.</p>`}`;
}

function Comparison({ then, later, titles, root }) {
  const pairs = useMemo(() => compare(then.state, later), [then, later]);
  const changed = pairs.filter(({ change }) => change !== 'same').length;
  const fork = `satchel dev MODULES --data-dir FOLDER --restore ${
    quoted(`${then.root ?? root ?? 'ROOT'}@${then.at}`)}`;
  return html`
    ${pairs.length === 0 ? html`<${Empty}>At neither moment there was a state.<//>`
      : html`<p class="padded dim" role="status">${changed === 0
        ? 'Nothing changed between the two.'
        : `${changed} of ${pairs.length} states changed between the two.`}</p>`}
    ${pairs.map(({ name, before, after, change }) => html`<article class="state-value" key=${name}
      aria-label="State ${name}, then and now">
      <header><h3><code>${name}</code></h3><${Badge} tone=${TONES[change]}>${change}<//></header>
      ${change === 'same' ? html`<${ValueView} value=${after.value} base64=${after.base64} />`
        : html`<div class="sides"><${Side} state=${before} title=${titles[0]} />
          <${Side} state=${after} title=${titles[1]} /></div>
          ${change === 'changed' && html`<${Changes} name=${name} before=${before}
            after=${after} />`}`}
    </article>`)}
    <p class="command padded"><span class="dim">Fork from here</span><code>${fork}</code></p>`;
}

/** Reads a moment once it is chosen. Another one may be read meanwhile, so it asks again. */
function useMoment(address, at) {
  const [state, setState] = useState({});
  useEffect(() => {
    if (at === null) {
      setState({});
      return undefined;
    }
    const reading = new AbortController();
    let timer = null;
    const read = async () => {
      const route = `${addressPath(address)}/states`;
      try {
        const then = await get(route, { at: new Date(at).toISOString() }, reading);
        setState({ then });
      } catch (error) {
        if (reading.signal.aborted) return;
        if (error.code === 'busy') timer = setTimeout(read, 500);
        else setState({ error });
      }
    };
    setState({ reading: true });
    // The slider may move on.
    timer = setTimeout(read, 150);
    return () => {
      clearTimeout(timer);
      reading.abort();
    };
  }, [at, address.namespace, address.name, address.id]);
  return state;
}

/** How far back moments can be read. Another request may hold the turn, so it asks again. */
async function loadReach() {
  for (;;) {
    try {
      return await get('/history');
    } catch (error) {
      if (error.code !== 'busy') throw error;
      await new Promise((resolve) => { setTimeout(resolve, 500); });
    }
  }
}

/** A field and a slider for a moment. */
function Moment({ label, at, choose, from, span, end }) {
  const start = Math.max(end - span, from ?? 0);
  const slide = (event) => choose(start + (event.currentTarget.value / STEPS) * (end - start));
  const write = (event) => {
    const ms = new Date(event.currentTarget.value).getTime();
    if (!Number.isNaN(ms)) choose(ms);
  };
  const position = Math.round(((at - start) / (end - start)) * STEPS);
  return html`<${Field} label=${label}><input type="datetime-local" step="1" value=${local(at)}
      onChange=${write} /><//>
    <label class="field slider"><span>Earlier or later: ${label.toLowerCase()}
      <small class="dim">from ${said(start)}</small></span><input type="range" min="0"
      max=${STEPS} value=${position} onInput=${slide} /></label>`;
}

/** Panel with the states of an address at a moment and now, or at two moments. */
export function Past({ address, now }) {
  const [span, setSpan] = useState(null);
  const [end, setEnd] = useState(0);
  const [at, setAt] = useState(null);
  const [other, setOther] = useState(null);
  const isOpen = at !== null;
  const reach = useLoaded(() => (isOpen ? loadReach() : Promise.resolve(null)), [isOpen]);
  const one = useMoment(address, at);
  const two = useMoment(address, other);
  if (!isOpen) {
    const begin = () => {
      setEnd(Date.now());
      setAt(Date.now() - MINUTE);
    };
    return html`<${Panel} title="Time" actions=${html`<button type="button" onClick=${begin}>
      Compare with a moment</button>`}><//>`;
  }
  const from = reach.data?.from ? Date.parse(reach.data.from) : null;
  // Spans that begin before the history are all the same.
  const kept = from === null ? Infinity : end - from;
  const spans = SPANS.filter(([, ms], index) => index === 0 || SPANS[index - 1][1] < kept);
  const usual = spans[Math.min(1, spans.length - 1)][1];
  const covered = span !== null && spans.some(([, ms]) => ms === span) ? span : usual;
  const limited = (set) => (ms) => set(Math.min(ms, Date.now() - 1000));
  const widen = (event) => {
    setSpan(Number(event.currentTarget.value));
    setEnd(Date.now());
  };
  const withOther = (event) => setOther(event.currentTarget.value === 'now' ? null
    : Math.min(at + MINUTE, Date.now() - 1000));
  const later = other === null ? now : two.then?.state;
  const titles = [`Then: ${said(at)}`, other === null ? 'Now' : `Then: ${said(other)}`];
  const range = { from, span: covered, end };
  return html`<${Panel} title="Time" actions=${html`<button type="button"
      onClick=${() => { setAt(null); setOther(null); }}>Close</button>`}>
    <div class="moment">
      <${Moment} label="Moment" at=${at} choose=${limited(setAt)} ...${range} />
      <${Field} label="Slider covers the last"><select value=${covered} onChange=${widen}>
        ${spans.map(([text, ms]) => html`<option value=${ms}>${ms > kept
          ? 'all that is kept' : text}</option>`)}</select><//>
      <${Field} label="Compare with"><select value=${other === null ? 'now' : 'moment'}
        onChange=${withOther}><option value="now">Now</option>
        <option value="moment">Another moment</option></select><//>
    </div>
    ${other !== null && html`<div class="moment"><${Moment} label="Other moment" at=${other}
      choose=${limited(setOther)} ...${range} /></div>`}
    ${reach.data && !reach.data.readable && html`<p class="dim padded">No moment can be read yet:
      without <code>--retention</code> only the present is kept.</p>`}
    ${from !== null && html`<p class="dim padded">The history reaches back to ${said(from)}.</p>`}
    ${(one.reading || two.reading) && html`<${Loading} />`}
    <${Problem} error=${one.error ?? two.error} />
    ${one.then && later && html`<${Comparison} then=${one.then} later=${later} titles=${titles}
      root=${reach.data?.root} />`}
  <//>`;
}
