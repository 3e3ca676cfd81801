// What stands still or fails, in plain words, with what to do.
import { count, duration, plural } from './format.js';
import { link } from './parts.js';

const PAUSES = {
  pending_limit: ['messages wait than --pending-limit allows',
    'Ingress continues by itself once functions have caught up. Look for a failing endpoint.'],
  memory_limit: ['state is needed in memory than --memory-limit allows',
    'Ingress continues by itself. Raise the limit if this lasts.'],
  dead_letter_limit: ['dead letters are kept than --dead-letter-limit allows',
    'Retry or drop dead letters.'],
  congestion: ['messages wait for other partitions than allowed',
    'Ingress continues by itself. Look for a partition that is slow or has no owner.'],
};

const PROBLEMS = {
  missing: 'it does not exist',
  forbidden: 'access was denied',
  lost: 'records that were not read are gone',
  damaged: 'its data is damaged',
  unreadable: 'it cannot be read',
};

function ofReadiness(ready, add) {
  if (ready.state === 'starting') {
    add('warn', 'This process is starting.', 'It serves once the durable state was read.');
  }
  if (ready.state === 'standby') {
    add('warn', 'This process is on standby: another one serves the application.',
      'Open the console of the owner, or give the processes peer ports (--peer).');
  }
  if (ready.state === 'stopping') add('warn', 'This process is stopping.', '');
  if (ready.held) {
    add('warn', 'This is a fork that is held: no ingress is read, no timer fires, nothing leaves.',
      'Start it with --resume-io once the origin has stopped.');
  }
  for (const name of ready.unhealthy_endpoints ?? []) {
    add('bad', `Endpoint ${name} is down. Messages for its functions wait.`,
      'See its last failure below. Deliveries continue by themselves once it answers.');
  }
  for (const { function: name, reason } of ready.suspended_functions ?? []) {
    add('bad', `Function ${name} is suspended as a whole: ${reason}`,
      'Deploy a version that fits the stored state. It continues by itself then.');
  }
  for (const { function: name, reason } of ready.paused_functions ?? []) {
    add('warn', `Function ${name} was paused by a person${reason ? `: ${reason}` : '.'}`,
      'Resume it when its messages should be processed.', link('/addresses'));
  }
  for (const { ingress, reason } of ready.paused_ingresses ?? []) {
    add('warn', `Ingress ${ingress} was paused by a person${reason ? `: ${reason}` : '.'}`,
      'Resume it when it should be read.', link('/connectors'));
  }
  for (const { id, source, problem } of ready.stopped_ingresses ?? []) {
    add('bad', `${source} of ingress ${id} is not read: ${PROBLEMS[problem] ?? problem}.`,
      'Remove the cause, then resume the ingress. The log has the whole reason.',
      link('/connectors'));
  }
  for (const { id, problem } of ready.stopped_egresses ?? []) {
    add('bad', `Egress ${id} delivers nothing: ${PROBLEMS[problem] ?? problem}.`,
      'Remove the cause. The log has the whole reason.', link('/connectors'));
  }
  if (ready.partition_time_ahead_seconds) {
    const ahead = duration(Math.abs(ready.partition_time_ahead_seconds));
    add('warn', `Partition time differs from the calendar by ${ahead}.`,
      'Check the clock of the machine. Timers follow partition time.');
  }
  if (ready.clock_jump_seconds) {
    add('bad', `The calendar jumped by ${duration(Math.abs(ready.clock_jump_seconds))}, `
      + 'which is not followed.', 'Correct the clock, or raise --clock-jump-max.');
  }
}

/** Warnings about an application. What was not loaded gives none. */
export function warningsOf({ ready, process, functions, ingresses, members }) {
  const found = [];
  const add = (tone, text, todo, href) => found.push({ tone, text, todo, href });
  if (ready) ofReadiness(ready, add);
  const paused = new Set((ingresses ?? []).map((ingress) => ingress.paused));
  for (const [cause, [more, todo]] of Object.entries(PAUSES)) {
    const href = cause === 'dead_letter_limit' ? link('/dead-letters') : undefined;
    if (paused.has(cause)) add('bad', `All ingress is paused: more ${more}.`, todo, href);
  }
  for (const { id, lag_seconds: lag } of ingresses ?? []) {
    if (lag > 60) {
      add('warn', `Ingress ${id} is ${duration(lag)} behind.`,
        'If this grows, raise the concurrency of its endpoint or split the stream.',
        link('/connectors'));
    }
  }
  for (const one of functions ?? []) {
    if (Number(one.suspended) > 0) {
      add('bad', `${plural(one.suspended, 'address', 'addresses')} of ${one.function} `
        + `${Number(one.suspended) === 1 ? 'is' : 'are'} suspended after a message failed.`,
      'Look at the message, then resume or skip it.',
      link('/addresses', { function: one.function, condition: 'suspended' }));
    }
  }
  const letters = (functions ?? []).reduce((sum, one) => sum + Number(one.dead_letters), 0);
  if (letters > 0) {
    add('warn', `${count(letters)} dead ${letters === 1 ? 'letter is' : 'letters are'} kept.`,
      'Correct the cause, then retry them; or drop them.', link('/dead-letters'));
  }
  for (const { partition, owner } of members?.partitions ?? []) {
    if (!owner) {
      add('bad', `Partition ${partition} has no owner.`,
        'Start another process, or see the log of the processes.');
    }
  }
  if (process?.changes_need === 'link' && !process.may_change) {
    add('dim', 'This console is read-only, because it was opened without the token of its link.',
      'Open the link that satchel dev printed to change something from here.');
  }
  if (process?.changes_need === 'impossible') {
    add('dim', 'This console is read-only, because the process has no token for administration.',
      'Start it with --admin-token-file to change something from here.');
  }
  return found;
}
