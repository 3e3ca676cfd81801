// Small parts of all pages.
import { token } from './api.js';
import { relative } from './format.js';
import { createContext, html, useContext, useEffect, useState } from './html.js';

/** The process that serves this page, and the way to enter a token. */
export const Process = createContext({});

/** A word with a colour: `ok`, `warn`, `bad` or `dim`. */
export function Badge({ tone = 'dim', children, title }) {
  return html`<span class="badge ${tone}" title=${title}>${children}</span>`;
}

/** A moment, shown by its distance from now. */
export function Time({ at }) {
  const [, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setTick((tick) => tick + 1), 5000);
    return () => clearInterval(timer);
  }, []);
  if (!at) return html`<span class="dim">–</span>`;
  return html`<time datetime=${at} title=${at}>${relative(at)}</time>`;
}

/** A failure of a request, in the words of the coordinator. */
export function Problem({ error, retry }) {
  if (!error) return null;
  const needsToken = error.status === 401;
  return html`<div class="note bad" role="alert">
    <p><strong>${needsToken ? 'A token is needed' : 'This could not be loaded'}</strong>
      ${' '}${error.message}</p>
    ${needsToken && html`<p>${token() ? 'The token that was entered is wrong.' : ''}
      ${' '}Enter it with the button at the top of the page.</p>`}
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

export function Loading() {
  return html`<p class="dim loading" role="status">Loading…</p>`;
}

/** A part of a page with a heading. */
export function Panel({ title, actions, children, label }) {
  return html`<section class="panel" aria-label=${label ?? title}>
    ${(title || actions) && html`<header class="panel-head">
      <h2>${title}</h2><div class="actions">${actions}</div></header>`}
    ${children}
  </section>`;
}

/** A table that scrolls within itself. A column whose text begins with `#` has numbers. */
export function Table({ columns, children, label }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${label}>
    <table><thead><tr>${columns.map((column) => {
      const isNumber = column.startsWith('#');
      const text = isNumber ? column.slice(1) : column;
      return text === ''
        ? html`<th scope="col"><span class="hidden">Actions</span></th>`
        : html`<th scope="col" class=${isNumber ? 'number' : ''}>${text}</th>`;
    })}</tr></thead><tbody>${children}</tbody></table></div>`;
}

/** Names and values below each other. */
export function Facts({ facts }) {
  return html`<dl class="facts">${facts.filter(Boolean).map(([name, value]) => html`
    <div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** A text that appears once there is nothing to show. */
export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** A text field with a label. */
export function Field({ label, hint, children }) {
  return html`<label class="field"><span>${label}${hint && html`
    <small class="dim">${hint}</small>`}</span>${children}</label>`;
}

/** Link to a page of the console. */
export function link(page, params) {
  const given = Object.entries(params ?? {}).filter(([, value]) => value);
  const search = given.length ? `?${new URLSearchParams(given)}` : '';
  return `#${page}${search}`;
}

/** Link to the page of an address. */
export function addressLink({ namespace, name, id }) {
  return `#/address/${[namespace, name, id].map(encodeURIComponent).join('/')}`;
}

/** Parts of an address that is written as one text. The id is the rest. */
export function parseAddress(text) {
  const [namespace, name, ...id] = text.split('/');
  return { namespace, name, id: id.join('/') };
}

/** A button that changes something, for those who may. */
export function Act({ onClick, children, tone = '', disabled, label }) {
  const { process, askForToken } = useContext(Process);
  const never = process?.changes_need === 'impossible';
  const act = process?.may_change ? onClick : () => askForToken(process?.changes_need);
  return html`<button type="button" class=${tone} onClick=${act} aria-label=${label}
    disabled=${disabled || never} title=${never ? 'The process has no token for administration'
      : undefined}>${children}</button>`;
}
