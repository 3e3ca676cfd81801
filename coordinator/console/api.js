// Requests to the administration port that served this page.
import { useCallback, useEffect, useRef, useState } from './html.js';

const TOKEN = 'satchel-token';

/** Error of a request, with the code and the text of the coordinator. */
export class Failure extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * Number that JavaScript cannot hold or would print differently, as it was written.
 * Computes and compares like a number.
 */
export class Exact {
  constructor(source) {
    this.source = source;
  }

  valueOf() {
    return Number(this.source);
  }

  toString() {
    return this.source;
  }
}

/** Parses JSON without losing digits of numbers. */
export function parseJson(text) {
  return JSON.parse(text, (_key, value, context) => {
    const source = context?.source;
    const isOther = typeof value === 'number' && source !== undefined && String(value) !== source;
    return isOther ? new Exact(source) : value;
  });
}

let session = null;
try {
  session = sessionStorage.getItem(TOKEN);
} catch {
  // Storage may be forbidden. The token is lost when the page is left then.
}

export function token() {
  return session;
}

/** Keeps the token until the tab is closed; null forgets it. */
export function setToken(value) {
  session = value || null;
  try {
    if (session) sessionStorage.setItem(TOKEN, session);
    else sessionStorage.removeItem(TOKEN);
  } catch {
    // As above.
  }
  dispatchEvent(new CustomEvent('satchel-token'));
}

/**
 * Takes the token out of a link to the console, as `satchel dev` prints it, so that it is neither
 * shown nor in the history of the tab.
 */
function takeToken() {
  const linked = /^#token=([0-9a-f]+)$/.exec(location.hash)?.[1];
  if (!linked) return;
  history.replaceState(null, '', `${location.pathname}#/`);
  setToken(linked);
}

takeToken();
// The link may be opened in a tab that shows the console already.
addEventListener('hashchange', takeToken);

export function authorization() {
  return session ? { authorization: `Bearer ${session}` } : {};
}

/** Makes a path of its parts, each percent-encoded. */
export function path(...parts) {
  return parts.map((part) => {
    if (part === '' || part === '.' || part === '..') {
      throw new Failure(0, 'invalid_address',
        `“${part}” cannot be part of a URL, so no browser can ask for it`);
    }
    return `/${encodeURIComponent(part)}`;
  }).join('');
}

/** Path of an address, below /api. */
export function addressPath({ namespace, name, id }) {
  return `/addresses${path(namespace, name, id)}`;
}

function query(params) {
  const given = Object.entries(params ?? {})
    .filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length ? `?${new URLSearchParams(given)}` : '';
}

/** Sends a request to a route below /api. Returns the answer as it is. */
export async function send(method, route, { params, body, headers, signal, root } = {}) {
  let response;
  try {
    response = await fetch(`${root ? '' : '/api'}${route}${query(params)}`, {
      method, body, signal, cache: 'no-store',
      headers: { ...authorization(), ...headers },
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Failure(0, 'unreachable', 'the process does not answer; it may have stopped');
  }
  if (response.ok) return response;
  const text = await response.text();
  let answer = {};
  try {
    answer = JSON.parse(text);
  } catch {
    // A proxy may have answered.
  }
  const detail = answer.error ?? {};
  const message = detail.message ?? `the answer has status ${response.status}`;
  const failure = new Failure(response.status, detail.code ?? 'unknown', message);
  failure.body = answer;
  throw failure;
}

/** Gets a route below /api as JSON. */
export async function get(route, params, options) {
  const response = await send('GET', route, { ...options, params });
  return parseJson(await response.text());
}

/** Gets all pages of a list, at most `max` entries. */
export async function getAll(route, name, max = 5000) {
  const items = [];
  let after;
  do {
    const page = await get(route, { after, limit: 1000 });
    items.push(...page[name]);
    after = page.next;
  } while (after && items.length < max);
  return items;
}

/**
 * Loads something, and again every `every` ms while the page is visible.
 * A failure keeps what was loaded before.
 */
export function useLoaded(load, deps, every) {
  const [state, setState] = useState({ data: undefined, error: null, of: null });
  const turn = useRef(0);
  const reload = useCallback(async () => {
    turn.current += 1;
    const mine = turn.current;
    try {
      const data = await load();
      if (mine === turn.current) setState({ data, error: null, of: reload });
    } catch (error) {
      if (mine !== turn.current) return;
      setState((before) => ({
        data: before.of === reload ? before.data : undefined, error, of: reload }));
    }
  }, deps);
  useEffect(() => {
    reload();
    const again = () => {
      if (!document.hidden) reload();
    };
    const timer = every ? setInterval(again, every) : null;
    addEventListener('satchel-token', reload);
    addEventListener('satchel-changed', reload);
    document.addEventListener('visibilitychange', again);
    return () => {
      turn.current += 1;
      clearInterval(timer);
      removeEventListener('satchel-token', reload);
      removeEventListener('satchel-changed', reload);
      document.removeEventListener('visibilitychange', again);
    };
  }, [reload, every]);
  // What was loaded for other dependencies is not shown with these.
  const { data, error } = state.of === reload ? state : { data: undefined, error: null };
  return { data, error, reload };
}

/** Lets everything on the page load again after a change. */
export function announceChange() {
  dispatchEvent(new CustomEvent('satchel-changed'));
}

/** What /readyz says, whatever its status. */
export async function readiness() {
  try {
    return await get('/readyz', {}, { root: true });
  } catch (error) {
    if (error.body?.state) return error.body;
    throw error;
  }
}
