// What stands still or fails, in plain words, with what to do. `satchel top` shows the same:
// the cases in tests/console/warnings.json hold for both.
import { count, duration } from './format.js';
import { link } from './parts.js';
import texts from './warning-texts.js';

const { problems: PROBLEMS, warnings: WARNINGS } = texts;
const PAUSES = ['pending_limit', 'memory_limit', 'dead_letter_limit', 'congestion'];

function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function ofReadiness(ready, add) {
  if (['starting', 'standby', 'stopping'].includes(ready.state)) add(ready.state);
  if (ready.held) add('held');
  for (const name of ready.unhealthy_endpoints ?? []) add('endpoint_down', { name });
  for (const { function: name, reason } of ready.suspended_functions ?? []) {
    add('function_suspended', { name, reason });
  }
  const because = (reason) => (reason ? `: ${reason}` : '.');
  for (const { function: name, reason } of ready.paused_functions ?? []) {
    add('function_paused', { name, reason: because(reason) });
  }
  for (const { ingress: name, reason } of ready.paused_ingresses ?? []) {
    add('ingress_paused', { name, reason: because(reason) });
  }
  for (const { id: name, source, problem } of ready.stopped_ingresses ?? []) {
    add('ingress_stopped', { name, source, problem: PROBLEMS[problem] ?? problem });
  }
  for (const { id: name, problem } of ready.stopped_egresses ?? []) {
    add('egress_stopped', { name, problem: PROBLEMS[problem] ?? problem });
  }
  const { partition_time_ahead_seconds: ahead, clock_jump_seconds: jump } = ready;
  if (ahead) add('time_ahead', { duration: duration(Math.abs(ahead)) });
  if (jump) add('clock_jump', { duration: duration(Math.abs(jump)) });
}

/** Warnings about an application. What was not loaded gives none. */
export function warningsOf({ ready, process, functions, ingresses, members }) {
  const found = [];
  const add = (kind, values, params) => {
    const { tone, text, todo, page } = WARNINGS[kind];
    const href = page && link(`/${page}`, params);
    found.push({ tone, text: fill(text, values), todo, href });
  };
  if (ready) ofReadiness(ready, add);
  const paused = new Set((ingresses ?? []).map((ingress) => ingress.paused));
  for (const cause of PAUSES) {
    if (paused.has(cause)) add(cause);
  }
  for (const { id: name, lag_seconds: lag } of ingresses ?? []) {
    if (lag > 60) add('lag', { name, duration: duration(lag) });
  }
  for (const { function: name, suspended } of functions ?? []) {
    if (Number(suspended) > 0) {
      const kind = Number(suspended) === 1 ? 'address_suspended' : 'addresses_suspended';
      add(kind, { name, count: count(suspended) }, { function: name, condition: 'suspended' });
    }
  }
  const letters = (functions ?? []).reduce((sum, one) => sum + Number(one.dead_letters), 0);
  if (letters > 0) {
    add(letters === 1 ? 'dead_letter' : 'dead_letters', { count: count(letters) });
  }
  for (const { partition: name, owner } of members?.partitions ?? []) {
    if (!owner) add('partition_unowned', { name });
  }
  if (process?.changes_need === 'link' && !process.may_change) add('opened_without_token');
  if (process?.changes_need === 'impossible') add('read_only');
  return found;
}
