// Values of states and messages: JSON, text, numbers of StateFun's types, or bytes.
import { Exact, Failure, parseJson } from './api.js';
import { bytes as size, count } from './format.js';
import { html, useMemo, useState } from './html.js';

const BUILT_IN = 'io.statefun.types/';
const TOKENS_MAX = 6000;
const DUMP_MAX = 4096;

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

/** Text of these bytes; null if they are no text that can be read. */
export function readable(data) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(data);
    // Control characters, other than tabs and ends of lines.
    return /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** Calls `token` with the class and text of each part of a value as JSON. */
function walk(value, indent, token) {
  const line = (depth) => `\n${'  '.repeat(depth)}`;
  const list = (open, close, entries, write) => {
    token('', open);
    entries.forEach((entry, at) => {
      token('', `${at ? ',' : ''}${line(indent + 1)}`);
      write(entry);
    });
    token('', `${entries.length ? line(indent) : ''}${close}`);
  };
  if (value instanceof Exact) token('number', value.source);
  else if (Array.isArray(value)) {
    list('[', ']', value, (entry) => walk(entry, indent + 1, token));
  } else if (value !== null && typeof value === 'object') {
    list('{', '}', Object.entries(value), ([key, entry]) => {
      token('key', JSON.stringify(key));
      token('', ': ');
      walk(entry, indent + 1, token);
    });
  } else token(value === null ? 'null' : typeof value, JSON.stringify(value));
}

/** JSON text of a value, with every digit of its numbers. */
export function toText(value) {
  const parts = [];
  walk(value, 0, (_kind, text) => parts.push(text));
  return parts.join('');
}

export function Json({ value }) {
  const tokens = useMemo(() => {
    const all = [];
    walk(value, 0, (kind, text) => all.push([kind, text]));
    return all;
  }, [value]);
  const shown = tokens.length > TOKENS_MAX
    ? tokens.map(([, text]) => text).join('')
    : tokens.map(([kind, text]) => (kind ? html`<span class="j-${kind}">${text}</span>` : text));
  return html`<pre class="value" tabindex="0">${shown}</pre>`;
}

function hex(data, separator = ' ') {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, '0')).join(separator);
}

function dump(data) {
  const lines = [];
  for (let at = 0; at < data.length; at += 16) {
    const row = data.slice(at, at + 16);
    const chars = Array.from(row, (byte) => (
      byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex(row).padEnd(47)}  ${chars}`);
  }
  return lines.join('\n');
}

function Bytes({ data }) {
  const text = useMemo(() => readable(data), [data]);
  const [wanted, setWanted] = useState('text');
  const [whole, setWhole] = useState(false);
  const form = text === null ? 'hex' : wanted;
  const shown = whole ? data : data.slice(0, DUMP_MAX);
  if (data.length === 0) return html`<p class="dim">0 bytes</p>`;
  return html`<div class="bytes">
    <p class="dim">${size(data.length)}
      ${text !== null && html`<button type="button" class="plain"
        onClick=${() => setWanted(form === 'text' ? 'hex' : 'text')}>
        show as ${form === 'text' ? 'bytes' : 'text'}</button>`}</p>
    <pre class="value" tabindex="0">${form === 'text' ? text : dump(shown)}</pre>
    ${form === 'hex' && shown.length < data.length && html`<button type="button" class="plain"
      onClick=${() => setWhole(true)}>show all ${count(data.length)} bytes</button>`}
  </div>`;
}

/** A value as the coordinator describes it: `value` (JSON) or `base64`. */
export function ValueView({ value, base64 }) {
  const data = useMemo(() => (base64 === undefined ? null : fromBase64(base64)), [base64]);
  return data ? html`<${Bytes} data=${data} />` : html`<${Json} value=${value} />`;
}

/** Forms in which a value can be written, by its typename. */
export function formsOf(typename) {
  return typename.startsWith(BUILT_IN) ? ['json'] : ['json', 'text', 'hex'];
}

/** The form in which a value is edited, and its text. */
export function editable({ value, base64 }) {
  if (base64 === undefined) return { form: 'json', text: toText(value) };
  const data = fromBase64(base64);
  const text = readable(data);
  return text === null ? { form: 'hex', text: hex(data) } : { form: 'text', text };
}

function wrong(message) {
  return new Failure(0, 'invalid_value', message);
}

/** Bytes of a protobuf message with one field, number 1, in its wire type. */
function field(tag, data) {
  return data.every((byte) => byte === 0) ? new Uint8Array() : new Uint8Array([tag, ...data]);
}

function fixed(length, write) {
  const data = new Uint8Array(length);
  write(new DataView(data.buffer));
  return data;
}

function whole(text, bits) {
  if (!/^-?\d+$/.test(text)) throw wrong(`${text} is not a whole number`);
  const value = BigInt(text);
  if (BigInt.asIntN(bits, value) !== value) throw wrong(`${text} needs more than ${bits} bits`);
  return value;
}

function decimal(text) {
  const value = Number(text);
  if (text === '' || !Number.isFinite(value)) throw wrong(`${text} is not a number`);
  return value;
}

function varint(value) {
  const data = [];
  let rest = value;
  while (rest > 127) {
    data.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return [...data, rest];
}

const WRITERS = {
  bool(text) {
    if (text !== 'true' && text !== 'false') throw wrong(`${text} is neither true nor false`);
    return field(0x08, [text === 'true' ? 1 : 0]);
  },
  int: (text) => field(0x0d, fixed(4, (to) => to.setInt32(0, Number(whole(text, 32)), true))),
  long: (text) => field(0x09, fixed(8, (to) => to.setBigInt64(0, whole(text, 64), true))),
  float: (text) => field(0x0d, fixed(4, (to) => to.setFloat32(0, decimal(text), true))),
  double: (text) => field(0x09, fixed(8, (to) => to.setFloat64(0, decimal(text), true))),
  string(text) {
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      value = null;
    }
    if (typeof value !== 'string') throw wrong('write the text in double quotes, as in JSON');
    const data = new TextEncoder().encode(value);
    return data.length ? new Uint8Array([0x0a, ...varint(data.length), ...data]) : data;
  },
};

/** Body of a request with a value that was written in a form. */
export function encode(typename, form, text) {
  if (!typename.trim()) throw wrong('the typename is empty');
  if (typename.startsWith(BUILT_IN)) {
    const writer = WRITERS[typename.slice(BUILT_IN.length)];
    if (!writer) throw wrong(`${typename} is not a type of StateFun`);
    return writer(text.trim());
  }
  if (form === 'hex') {
    const digits = text.replace(/\s+/g, '');
    if (!/^([0-9a-f]{2})*$/i.test(digits)) throw wrong('write two hexadecimal digits a byte');
    return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  }
  if (form === 'json') {
    try {
      parseJson(text);
    } catch (error) {
      throw wrong(`this is not JSON: ${error.message}`);
    }
  }
  return new TextEncoder().encode(text);
}

/** Editor of a value. `draft` has `form` and `text`. */
export function Editor({ typename, draft, onInput, label = 'Value' }) {
  const forms = formsOf(typename);
  return html`<div class="editor">
    <div class="row">
      <label for="editor-text">${label}</label>
      ${forms.length > 1 && html`<select aria-label="Form of the value" value=${draft.form}
        onChange=${(event) => onInput({ ...draft, form: event.currentTarget.value })}>
        ${forms.map((form) => html`<option value=${form}>${
          { json: 'JSON', text: 'Text', hex: 'Bytes (hex)' }[form]}</option>`)}
      </select>`}
    </div>
    <textarea id="editor-text" rows="10" spellcheck="false" value=${draft.text}
      onInput=${(event) => onInput({ ...draft, text: event.currentTarget.value })}></textarea>
  </div>`;
}
