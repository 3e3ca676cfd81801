// Dead letters: messages whose processing failed for good.
import { get, getAll, useLoaded } from '../api.js';
import { count } from '../format.js';
import { Fragment, html, useEffect, useState } from '../html.js';
import {
  Act, addressLink, Badge, Empty, Facts, Field, link, Loading, Panel, parseAddress, Problem,
  Table, Time,
} from '../parts.js';
import { ValueView } from '../values.js';
import { changeChosen, changeMatching, drop, edit, retry, valueOf } from './letter.js';

const PAGE = 50;

const SPANS = [
  ['', 'Any time'], ['15m', 'Last 15 minutes'], ['1h', 'Last hour'], ['24h', 'Last day'],
  ['7d', 'Last 7 days'],
];
const MS = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Beginning of a span that ends now, as RFC 3339. */
function beginning(span) {
  if (!span) return undefined;
  const ms = Number.parseInt(span, 10) * (MS[span.at(-1)] ?? 0);
  return ms ? new Date(Date.now() - ms).toISOString() : undefined;
}

function Details({ letter }) {
  return html`<div class="details">
    <${Facts} facts=${[
      ['Reason', html`<span class="reason whole">${letter.reason}</span>`],
      ['From', html`<code>${letter.source}</code>`],
      ['Failed', html`${letter.failed_at}`],
      ['Attempts', count(letter.attempts)],
      ['Type', html`<code>${letter.typename}</code>`],
      ['Id', html`<code>${letter.id}</code>`],
      ['Story', html`<a href=${link('/traces', { id: letter.id })}>what led here</a>`],
    ]} />
    <${ValueView} ...${valueOf(letter)} />
    <div class="actions">
      <${Act} tone="primary" onClick=${() => retry(letter)}>Retry<//>
      <${Act} disabled=${letter.address === null} onClick=${() => edit(letter)}>Edit and retry<//>
      <${Act} onClick=${() => drop(letter)}>Drop<//>
    </div></div>`;
}

function Row({ letter, isOpen, toggle, isChosen, choose }) {
  const short = letter.address ?? letter.source;
  return html`<${Fragment}><tr class=${isOpen ? 'open' : ''}>
    <td><input type="checkbox" checked=${isChosen} onChange=${choose}
      aria-label="Choose dead letter ${letter.id}" /></td>
    <td><${Time} at=${letter.failed_at} /></td>
    <td>${letter.address ? html`<a href=${addressLink(parseAddress(letter.address))}>
      <code>${short}</code></a>` : html`<code>${short}</code> <${Badge}>no address<//>`}</td>
    <td class="wide"><button type="button" class="plain reason" aria-expanded=${isOpen}
      onClick=${toggle}>${letter.reason}</button></td>
    <td class="number">${count(letter.attempts)}</td>
    <td><code class="dim">${letter.typename}</code></td></tr>
    ${isOpen && html`<tr class="open"><td colspan="6"><${Details} letter=${letter} /></td></tr>`}
  <//>`;
}

function Found({ params }) {
  const [cursors, setCursors] = useState([undefined]);
  const [open, setOpen] = useState(null);
  const [chosen, setChosen] = useState(new Set());
  const after = cursors.at(-1);
  const conditions = () => ({
    function: params.function, reason: params.reason, since: beginning(params.since),
  });
  const wanted = [params.function, params.reason, params.since];
  useEffect(() => {
    setCursors([undefined]);
    setChosen(new Set());
  }, wanted);
  const { data, error, reload } = useLoaded(
    () => get('/dead-letters', { ...conditions(), after, limit: PAGE }),
    [...wanted, after], 10_000);
  if (error && !data) return html`<${Problem} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} />`;
  const { dead_letters: letters, next } = data;
  const forget = (id) => setChosen((before) => new Set([...before].filter((one) => one !== id)));
  const choose = (id) => setChosen((before) => {
    const now = new Set(before);
    if (!now.delete(id)) now.add(id);
    return now;
  });
  const all = letters.length > 0 && letters.every((letter) => chosen.has(letter.id));
  const chooseAll = () => setChosen(all ? new Set() : new Set(letters.map((one) => one.id)));
  const some = chosen.size > 0;
  return html`<${Problem} error=${error} retry=${reload} />
    <div class="bulk">
      <label class="check"><input type="checkbox" checked=${all} onChange=${chooseAll}
        disabled=${letters.length === 0} /> ${some ? `${count(chosen.size)} chosen` : 'Choose page'}
      </label>
      ${some ? html`
        <${Act} onClick=${() => changeChosen('retry', chosen, forget)}>Retry chosen<//>
        <${Act} onClick=${() => changeChosen('drop', chosen, forget)}>Drop chosen<//>` : html`
        <${Act} disabled=${letters.length === 0}
          onClick=${() => changeMatching('retry', conditions())}>Retry all that match<//>
        <${Act} disabled=${letters.length === 0}
          onClick=${() => changeMatching('drop', conditions())}>Drop all that match<//>`}
    </div>
    ${letters.length === 0 ? html`<${Empty}>No dead letter matches.<//>`
      : html`<${Table} label="Dead letters" columns=${['Chosen', 'Failed', 'Address', 'Reason',
        '#Attempts', 'Type']}>${letters.map((letter) => html`<${Row} key=${letter.id}
          letter=${letter} isOpen=${open === letter.id}
          toggle=${() => setOpen(open === letter.id ? null : letter.id)}
          isChosen=${chosen.has(letter.id)} choose=${() => choose(letter.id)} />`)}<//>`}
    <nav class="pager" aria-label="Pages of dead letters">
      <button type="button" disabled=${cursors.length === 1}
        onClick=${() => setCursors(cursors.slice(0, -1))}>Back</button>
      <span class="dim">Page ${cursors.length} · oldest first</span>
      <button type="button" disabled=${!next}
        onClick=${() => setCursors([...cursors, next])}>Next</button>
    </nav>`;
}

export function Letters({ params }) {
  const { data: functions } = useLoaded(() => getAll('/functions', 'functions'), [], 30_000);
  const [draft, setDraft] = useState(params);
  useEffect(() => setDraft(params), [params.function, params.reason, params.since]);
  const set = (name) => (event) => setDraft({ ...draft, [name]: event.currentTarget.value });
  const search = (event) => {
    event.preventDefault();
    const { function: name, reason, since } = draft;
    location.hash = link('/dead-letters', { function: name, reason, since });
  };
  const names = new Set((functions ?? []).map((one) => one.function));
  if (draft.function) names.add(draft.function);
  return html`<div class="title"><h1>Dead letters</h1></div>
    <form class="filters" onSubmit=${search} role="search">
      <${Field} label="Function"><select value=${draft.function ?? ''} onChange=${set('function')}>
        <option value="">All functions</option>
        ${[...names].map((name) => html`<option value=${name}>${name}</option>`)}</select><//>
      <${Field} label="Reason contains"><input value=${draft.reason ?? ''} spellcheck="false"
        onInput=${set('reason')} /><//>
      <${Field} label="Failed"><select value=${draft.since ?? ''} onChange=${set('since')}>
        ${SPANS.map(([span, text]) => html`<option value=${span}>${text}</option>`)}</select><//>
      <button type="submit" class="primary">Filter</button>
    </form>
    <${Panel} label="Dead letters"><${Found} params=${params} /><//>`;
}
