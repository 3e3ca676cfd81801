// Live figures of the process, while the page is visible.
import { authorization, parseJson } from './api.js';
import { useEffect, useState } from './html.js';

const SAMPLES_MAX = 300;
const PAUSE_MS = 2000;

/** Reads the events of a response, and hands the data of each to `take`. */
async function read(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events) {
      const data = event.split('\n').find((line) => line.startsWith('data: '));
      if (data) take(parseJson(data.slice('data: '.length)));
    }
  }
}

/** Samples of the last minutes, oldest first, and whether they still come. */
export function useLive() {
  const [state, setState] = useState({ samples: [], connected: null });
  useEffect(() => {
    let samples = [];
    let connection = null;
    let timer = null;
    let painting = null;
    const show = (connected) => {
      // Events that come together, as at the beginning, are painted together.
      cancelAnimationFrame(painting);
      painting = requestAnimationFrame(() => setState({ samples, connected }));
    };
    const take = (sample) => {
      const last = samples.at(-1);
      if (last && last.at_ms >= sample.at_ms) return;
      samples = [...samples, sample].slice(-SAMPLES_MAX);
      show(true);
    };
    const connect = async () => {
      clearTimeout(timer);
      connection?.abort();
      if (document.hidden) return;
      const mine = new AbortController();
      connection = mine;
      try {
        const response = await fetch('/api/live', {
          headers: authorization(), signal: mine.signal, cache: 'no-store',
        });
        if (response.ok) await read(response, take);
      } catch {
        // The process has ended, or the page is being left.
      }
      if (mine.signal.aborted) return;
      show(false);
      timer = setTimeout(connect, PAUSE_MS);
    };
    connect();
    document.addEventListener('visibilitychange', connect);
    addEventListener('satchel-token', connect);
    return () => {
      document.removeEventListener('visibilitychange', connect);
      removeEventListener('satchel-token', connect);
      clearTimeout(timer);
      cancelAnimationFrame(painting);
      connection?.abort();
    };
  }, []);
  return state;
}

/** Rates of a counter: for each sample but the first its time and the growth in a second. */
export function rates(samples, name) {
  const points = [];
  for (let at = 1; at < samples.length; at += 1) {
    const [before, now] = [samples[at - 1], samples[at]];
    const seconds = (now.at_ms - before.at_ms) / 1000;
    const [from, to] = [before[name], now[name]];
    // A smaller count is that of a new owner. After a gap nothing is known of each second.
    const isKnown = from !== undefined && to !== undefined && to >= from && seconds < 5;
    points.push({ at: now.at_ms, value: isKnown ? (to - from) / seconds : null });
  }
  return points;
}

/** Values of a gauge, with their times. */
export function levels(samples, name) {
  return samples.map((sample) => {
    const value = sample[name];
    return { at: sample.at_ms, value: value === undefined || value === null ? null : +value };
  });
}
