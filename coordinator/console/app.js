// The frame of the page: its parts by the fragment of the URL, the theme, the token.
import { get, setToken, token, useLoaded } from './api.js';
import { Change, Dialogs, openDialog, say } from './dialogs.js';
import { html, render, useEffect, useRef, useState } from './html.js';
import { useLive } from './live.js';
import { Badge, Field, Loading, Problem, Process } from './parts.js';
import { Address } from './pages/address.js';
import { Addresses } from './pages/addresses.js';
import { Application } from './pages/application.js';
import { Connectors } from './pages/connectors.js';
import { Cost } from './pages/cost.js';
import { Letters } from './pages/letters.js';
import { Overview } from './pages/overview.js';
import { Savepoints } from './pages/savepoints.js';
import { Traces } from './pages/traces.js';

const PAGES = [
  { path: '/', title: 'Overview', key: 'o', page: Overview },
  { path: '/addresses', title: 'Addresses', key: 'a', page: Addresses },
  { path: '/dead-letters', title: 'Dead letters', key: 'd', page: Letters },
  { path: '/traces', title: 'Traces', key: 't', page: Traces },
  { path: '/connectors', title: 'Ingresses & egresses', key: 'i', page: Connectors },
  { path: '/application', title: 'Application', key: 'p', page: Application },
  { path: '/savepoints', title: 'Savepoints', key: 's', page: Savepoints },
  { path: '/cost', title: 'Cost', key: 'c', page: Cost },
];

function parseFragment() {
  const [path, search] = location.hash.replace(/^#/, '').split('?');
  return { path: path || '/', params: Object.fromEntries(new URLSearchParams(search)) };
}

function usePlace() {
  const [place, setPlace] = useState(parseFragment);
  useEffect(() => {
    const moved = () => setPlace(parseFragment());
    addEventListener('hashchange', moved);
    return () => removeEventListener('hashchange', moved);
  }, []);
  return place;
}

/** Page of an address, whose parts are in the path. */
function addressOf(path) {
  const parts = path.split('/');
  if (parts.length !== 5 || parts[1] !== 'address') return null;
  try {
    const [namespace, name, id] = parts.slice(2).map(decodeURIComponent);
    return { namespace, name, id };
  } catch {
    return null;
  }
}

/** The token in a text: a link to the console, or the token itself. */
function tokenIn(text) {
  return text.trim().replace(/^.*#token=/, '');
}

export function askForToken(need) {
  openDialog(function Token({ close, dialog }) {
    const [value, setValue] = useState('');
    const run = async () => {
      const before = token();
      setToken(tokenIn(value));
      try {
        const process = await get('/process');
        if (process.changes_need !== 'nothing' && !process.may_change) {
          throw new Error('The token is wrong.');
        }
      } catch (error) {
        setToken(before);
        throw error.status === 401 ? new Error('The token is wrong.') : error;
      }
      return 'The token was accepted. It is kept until this tab is closed.';
    };
    return html`<${Change} title="Token for administration" action="Use this token" run=${run}
      ready=${value.trim() !== ''} close=${close} dialog=${dialog}>
      <p>${need === 'link'
        ? html`<code>satchel dev</code> printed a link to the console that has it. Open that link,
          or enter it here.`
        : html`The file of <code>--admin-token-file</code> has it.`}
        ${' '}It is sent with each request of this tab, and forgotten when the tab is closed.</p>
      <${Field} label="Token"><input type="password" autocomplete="off" autofocus value=${value}
        onInput=${(event) => setValue(event.currentTarget.value)} /><//>
    <//>`;
  });
}

function Access({ process }) {
  // That of a former start of `satchel dev` is of no use.
  const isWrong = process && process.changes_need !== 'nothing' && !process.may_change;
  if (token() && !isWrong) {
    const forget = () => {
      setToken(null);
      say('The token was forgotten.');
    };
    return html`<button type="button" onClick=${forget}>Forget token</button>`;
  }
  if (process?.changes_need === 'nothing') return null;
  if (process?.changes_need === 'impossible') {
    return html`<${Badge} title="The process has no token (--admin-token-file)">read-only<//>`;
  }
  return html`<button type="button" class="primary"
    onClick=${() => askForToken(process?.changes_need)}>Enter token</button>`;
}

const THEMES = { system: 'System theme', light: 'Light theme', dark: 'Dark theme' };

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? 'system');
  const choose = (event) => {
    const chosen = event.currentTarget.value;
    setTheme(chosen);
    if (chosen === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    try {
      localStorage.setItem('satchel-theme', chosen);
    } catch {
      // Storage may be forbidden. The choice holds for this page.
    }
  };
  return html`<select aria-label="Theme" value=${theme} onChange=${choose}>
    ${Object.entries(THEMES).map(([name, text]) => html`<option value=${name}>${text}</option>`)}
  </select>`;
}

function Help({ close }) {
  return html`<div class="dialog"><h2 id="dialog-title">Keys</h2>
    <div class="dialog-body"><dl class="facts">
      ${PAGES.map(({ key, title }) => html`<div><dt><kbd>g</kbd> <kbd>${key}</kbd></dt>
        <dd>${title}</dd></div>`)}
      <div><dt><kbd>/</kbd></dt><dd>First field of the page</dd></div>
      <div><dt><kbd>Esc</kbd></dt><dd>Close a dialog</dd></div>
      <div><dt><kbd>?</kbd></dt><dd>These keys</dd></div>
    </dl></div>
    <footer class="dialog-foot"><button type="button" autofocus onClick=${close}>Close</button>
    </footer></div>`;
}

function useKeys() {
  const prefix = useRef(0);
  useEffect(() => {
    const press = (event) => {
      const isText = event.target.closest('input, textarea, select, dialog');
      if (isText || event.ctrlKey || event.metaKey || event.altKey) return;
      const page = PAGES.find(({ key }) => key === event.key);
      if (event.key === 'g') prefix.current = Date.now();
      else if (page && Date.now() - prefix.current < 1500) location.hash = page.path;
      else if (event.key === '/') {
        document.querySelector('main input')?.focus();
        event.preventDefault();
      } else if (event.key === '?') openDialog(Help);
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);
}

function App() {
  const { path, params } = usePlace();
  const live = useLive();
  const { data: process, error, reload } = useLoaded(() => get('/process'), [], 5000);
  const main = useRef(null);
  useKeys();
  const address = addressOf(path);
  const current = PAGES.find((page) => page.path === path);
  const title = address ? `${address.name}/${address.id}` : current?.title ?? 'Not found';
  useEffect(() => {
    document.title = `${title} · ${process?.application ?? 'Satchel'}`;
  }, [title, process?.application]);
  const section = address ? '/addresses' : path;
  const state = live.samples.at(-1)?.state ?? process?.state;
  const dot = { serving: 'ok', standby: 'dim', starting: 'warn', stopping: 'warn' }[state];
  const lost = error && error.status === 0;
  let content = html`<p class="empty">There is no such page.</p>`;
  if (error && !process) content = html`<${Problem} error=${error} retry=${reload} />`;
  else if (!process) content = html`<${Loading} />`;
  else if (address) content = html`<${Address} key=${path} address=${address} />`;
  else if (current) content = html`<${current.page} params=${params} live=${live} />`;
  return html`<${Process.Provider} value=${{ process, askForToken }}>
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      main.current.focus();
    }}>Skip to the content</a>
    <header class="bar">
      <a class="brand" href="#/"><img src="/console/icon.svg" alt="" width="20" height="20" />
        <span>Satchel</span></a>
      <nav aria-label="Pages">${PAGES.map((page) => html`<a href="#${page.path}"
        aria-current=${page.path === section ? 'page' : undefined}>${page.title}</a>`)}</nav>
      <div class="tools">
        ${lost ? html`<${Badge} tone="bad">not connected<//>`
          : state && html`<span class="state"><i class="dot ${dot}"></i>
            <span>${state}</span></span>`}
        <${Access} process=${process} />
        <${Theme} />
      </div>
    </header>
    <main id="main" ref=${main} tabindex="-1">${content}</main>
    <${Dialogs} />
  <//>`;
}

const root = document.getElementById('app');
root.replaceChildren();
render(html`<${App} />`, root);
