// The state of an address at a moment, beside the present one.
import { addressPath, get } from '../api.js';
import { quoted } from '../dialogs.js';
import { html, useEffect, useMemo, useState } from '../html.js';
import { Badge, Empty, Field, Loading, Panel, Problem } from '../parts.js';
import { toText, ValueView } from '../values.js';

const MINUTE = 60_000;
const SPANS = [
  ['10 minutes', 10 * MINUTE], ['1 hour', 60 * MINUTE], ['1 day', 24 * 60 * MINUTE],
  ['7 days', 7 * 24 * 60 * MINUTE], ['30 days', 30 * 24 * 60 * MINUTE],
];
const STEPS = 600;

/** A moment as a field for local times takes it. */
function local(ms) {
  const date = new Date(ms - new Date(ms).getTimezoneOffset() * MINUTE);
  return date.toISOString().slice(0, 19);
}

/** What tells one value from another: the type and all of its content. */
function content({ typename, value, base64 }) {
  return `${typename} ${base64 ?? toText(value)}`;
}

/** Pairs of the states of then and now, by name, with what became of each. */
export function compare(then, now) {
  const names = new Set([...then, ...now].map((state) => state.name));
  return [...names].sort().map((name) => {
    const before = then.find((state) => state.name === name);
    const after = now.find((state) => state.name === name);
    let change = 'changed';
    if (!before) change = 'new';
    else if (!after) change = 'gone';
    else if (content(before) === content(after)) change = 'same';
    return { name, before, after, change };
  });
}

const TONES = { changed: 'warn', new: 'ok', gone: 'bad', same: 'dim' };

function Side({ state, title }) {
  return html`<div class="side"><h4>${title}</h4>${state
    ? html`<${ValueView} value=${state.value} base64=${state.base64} />`
    : html`<p class="dim">no value</p>`}</div>`;
}

function Comparison({ then, now, at }) {
  const pairs = useMemo(() => compare(then.state, now), [then, now]);
  const root = then.root ?? 'ROOT';
  const fork = `satchel dev MODULES --data-dir FOLDER --restore ${quoted(`${root}@${then.at}`)}`;
  return html`
    ${pairs.length === 0 && html`<${Empty}>Neither then nor now has a state.<//>`}
    ${pairs.map(({ name, before, after, change }) => html`<article class="state-value" key=${name}
      aria-label="State ${name}, then and now">
      <header><h3><code>${name}</code></h3><${Badge} tone=${TONES[change]}>${change}<//></header>
      ${change === 'same' ? html`<${ValueView} value=${after.value} base64=${after.base64} />`
        : html`<div class="sides"><${Side} state=${before} title=${`Then: ${at}`} />
          <${Side} state=${after} title="Now" /></div>`}
    </article>`)}
    <p class="command padded"><span class="dim">Fork from here</span><code>${fork}</code></p>`;
}

/** Reads a moment once it is chosen. Another one may be read meanwhile, so it asks again. */
function useMoment(address, at) {
  const [state, setState] = useState({});
  useEffect(() => {
    if (at === null) return undefined;
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

/** Panel with the states of an address then and now. `now` are the present ones. */
export function Past({ address, now }) {
  const [span, setSpan] = useState(SPANS[1][1]);
  const [end, setEnd] = useState(0);
  const [at, setAt] = useState(null);
  const { then, error, reading } = useMoment(address, at);
  if (at === null) {
    const begin = () => {
      setEnd(Date.now());
      setAt(Date.now() - MINUTE);
    };
    return html`<${Panel} title="Time" actions=${html`<button type="button" onClick=${begin}>
      Compare with a moment</button>`}><//>`;
  }
  const choose = (ms) => setAt(Math.min(ms, Date.now() - 1000));
  const slide = (event) => choose(end - (1 - event.currentTarget.value / STEPS) * span);
  const widen = (event) => {
    setSpan(Number(event.currentTarget.value));
    setEnd(Date.now());
  };
  const write = (event) => {
    const ms = new Date(event.currentTarget.value).getTime();
    if (!Number.isNaN(ms)) choose(ms);
  };
  const position = Math.round((1 - (end - at) / span) * STEPS);
  return html`<${Panel} title="Time" actions=${html`<button type="button"
      onClick=${() => setAt(null)}>Close</button>`}>
    <div class="moment">
      <${Field} label="Moment"><input type="datetime-local" step="1" value=${local(at)}
        onChange=${write} /><//>
      <label class="field slider"><span>Earlier or later</span><input type="range" min="0"
        max=${STEPS} value=${position} onInput=${slide} /></label>
      <${Field} label="Slider covers the last"><select value=${span} onChange=${widen}>
        ${SPANS.map(([text, ms]) => html`<option value=${ms}>${text}</option>`)}</select><//>
    </div>
    ${reading && html`<${Loading} />`}
    <${Problem} error=${error} />
    ${then && html`<${Comparison} then=${then} now=${now} at=${local(at).replace('T', ' ')} />`}
  <//>`;
}
