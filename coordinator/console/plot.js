// A small plot of the last minutes.
import { short } from './format.js';
import { html, useState } from './html.js';

const WIDTH = 300;
const HEIGHT = 56;
// Time that a plot shows at least, and at most.
const SPANS_MS = [60_000, 300_000];

/** Makes the lines of a path, interrupted where nothing is known. */
function lines(points, x, y) {
  const parts = [];
  let part = [];
  for (const point of points) {
    if (point.value === null) {
      if (part.length) parts.push(part);
      part = [];
    } else {
      part.push(`${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`);
    }
  }
  if (part.length) parts.push(part);
  return parts;
}

/** Rounds up to 1, 2 or 5 times a power of ten. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/** Plot of `points` with a title, its last value, and the value under the pointer. */
export function Plot({ title, points, unit = '', format = short, tone = '' }) {
  const [pointed, setPointed] = useState(null);
  const known = points.filter((point) => point.value !== null);
  const last = known.at(-1);
  const end = points.at(-1)?.at ?? 0;
  const [least, most] = SPANS_MS;
  const span = Math.min(most, Math.max(least, end - (points[0]?.at ?? end)));
  const max = ceiling(Math.max(0, ...known.map((point) => point.value)));
  const x = (at) => WIDTH - ((end - at) / span) * WIDTH;
  const y = (value) => HEIGHT - 1 - (value / max) * (HEIGHT - 4);
  const parts = lines(points, x, y);
  const shown = pointed ?? last;
  const point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const at = end - (1 - (event.clientX - box.left) / box.width) * span;
    const distance = (one) => Math.abs(one.at - at);
    const nearest = known.reduce(
      (best, one) => (!best || distance(one) < distance(best) ? one : best), null);
    setPointed(nearest && distance(nearest) < span / 30 ? nearest : null);
  };
  const value = shown ? `${format(shown.value)}${unit}` : '–';
  const ago = pointed ? `${Math.round((end - pointed.at) / 1000)} s ago` : `max ${format(max)}`;
  return html`<figure class="plot ${tone}">
    <figcaption><span>${title}</span><span class="dim">${ago}</span></figcaption>
    <strong class="figure">${value}</strong>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
      aria-label="${title}: ${value}" onPointerMove=${point}
      onPointerLeave=${() => setPointed(null)}>
      <line class="base" x1="0" x2=${WIDTH} y1=${HEIGHT - 0.5} y2=${HEIGHT - 0.5} />
      ${parts.map((part) => html`
        <path class="area" d=${`M${part[0].split(' ')[0]} ${HEIGHT} L${part.join(' L')}
          L${part.at(-1).split(' ')[0]} ${HEIGHT} Z`} />
        <path class="line" d=${`M${part.join(' L')}`} />`)}
      ${pointed && html`<line class="cursor" x1=${x(pointed.at)} x2=${x(pointed.at)}
        y1="0" y2=${HEIGHT} />`}
    </svg>
  </figure>`;
}
