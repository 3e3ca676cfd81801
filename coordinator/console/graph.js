// Drawing of a graph from left to right: nodes in layers, edges as curves.
import { html } from './html.js';
import { short } from './format.js';

const NODE = { width: 176, height: 44 };
const GAP = { layer: 96, node: 22 };
const MARGIN = 14;
const SWEEPS = 6;

/** Edges without those that close a cycle, by a search from the first nodes on. */
function forward(nodes, edges) {
  const next = new Map(nodes.map((node) => [node.id, []]));
  for (const edge of edges) if (edge.from !== edge.to) next.get(edge.from).push(edge);
  const state = new Map();
  const kept = new Set();
  for (const root of nodes) {
    // A stack of its own: a chain of functions may be longer than that of calls.
    const stack = state.has(root.id) ? [] : [{ id: root.id, at: 0 }];
    if (stack.length) state.set(root.id, 'open');
    while (stack.length) {
      const top = stack.at(-1);
      const edge = next.get(top.id)[top.at];
      top.at += 1;
      if (!edge) {
        state.set(top.id, 'done');
        stack.pop();
      } else if (state.get(edge.to) !== 'open') {
        kept.add(edge);
        if (!state.has(edge.to)) {
          state.set(edge.to, 'open');
          stack.push({ id: edge.to, at: 0 });
        }
      }
    }
  }
  return [...kept];
}

/** Layer of each node: one behind its last predecessor; sources first, sinks last. */
function layersOf(nodes, edges) {
  const layer = new Map(nodes.map((node) => [node.id, 0]));
  // There is no cycle, so no path is longer than the number of nodes.
  for (let round = 0; round < nodes.length; round += 1) {
    let moved = false;
    for (const { from, to } of edges) {
      if (layer.get(to) <= layer.get(from)) {
        layer.set(to, layer.get(from) + 1);
        moved = true;
      }
    }
    if (!moved) break;
  }
  const middle = nodes.filter((node) => node.side === undefined);
  for (const node of middle) if (!layer.get(node.id)) layer.set(node.id, 1);
  const last = 1 + Math.max(0, ...nodes.filter((node) => node.side !== 'last')
    .map((node) => layer.get(node.id)));
  for (const node of nodes) if (node.side === 'last') layer.set(node.id, last);
  return layer;
}

/** Orders the layers so that few edges cross: each node near the middle of its neighbours. */
function order(layers, links) {
  const place = () => {
    const at = new Map();
    for (const layer of layers) layer.forEach((id, index) => at.set(id, index));
    return at;
  };
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const backwards = sweep % 2 === 1;
    const sequence = backwards ? [...layers].reverse() : layers;
    for (const layer of sequence) {
      const at = place();
      const middle = new Map(layer.map((id) => {
        const near = links.filter((link) => (backwards ? link[0] : link[1]) === id)
          .map((link) => at.get(backwards ? link[1] : link[0]));
        const sum = near.reduce((all, one) => all + one, 0);
        return [id, near.length ? sum / near.length : at.get(id)];
      }));
      layer.sort((one, other) => middle.get(one) - middle.get(other));
    }
  }
}

/**
 * Places nodes `{ id, side }` and edges `{ from, to }`. `side` is `first` or `last` for nodes that
 * stay at an edge of the drawing.
 */
export function place(nodes, edges) {
  const kept = forward(nodes, edges);
  const layer = layersOf(nodes, kept);
  const columns = Array.from({ length: 1 + Math.max(0, ...layer.values()) }, () => []);
  for (const node of nodes) columns[layer.get(node.id)].push(node.id);
  const links = [];
  const bends = new Map();
  for (const edge of kept) {
    // An edge over several layers has a place of its own in each between.
    const through = [];
    for (let at = layer.get(edge.from) + 1; at < layer.get(edge.to); at += 1) {
      const id = `${edge.from} > ${edge.to} @ ${at}`;
      columns[at].push(id);
      through.push(id);
    }
    bends.set(edge, through);
    const path = [edge.from, ...through, edge.to];
    for (let at = 1; at < path.length; at += 1) links.push([path[at - 1], path[at]]);
  }
  order(columns, links);
  const real = new Set(nodes.map((node) => node.id));
  const heights = columns.map((column) => column.reduce(
    (sum, id) => sum + (real.has(id) ? NODE.height : 8) + GAP.node, -GAP.node));
  const height = Math.max(NODE.height, ...heights);
  const at = new Map();
  columns.forEach((column, index) => {
    let y = MARGIN + (height - heights[index]) / 2;
    for (const id of column) {
      const tall = real.has(id) ? NODE.height : 8;
      at.set(id, { x: MARGIN + index * (NODE.width + GAP.layer), y: y + tall / 2 });
      y += tall + GAP.node;
    }
  });
  return {
    width: 2 * MARGIN + columns.length * (NODE.width + GAP.layer) - GAP.layer,
    height: height + 2 * MARGIN + 26,
    at,
    bends,
  };
}

/** Path of an edge, and the place of its text. */
function curve(edge, { at, bends, height }) {
  const from = at.get(edge.from);
  const to = at.get(edge.to);
  const through = bends.get(edge);
  if (edge.from === edge.to) {
    const x = from.x + NODE.width / 2;
    const y = from.y + NODE.height / 2;
    return {
      d: `M${x - 26} ${y} C${x - 34} ${y + 24} ${x + 34} ${y + 24} ${x + 26} ${y}`,
      x, y: y + 26,
    };
  }
  if (!through) {
    // It leads back, below everything, and through the gaps between layers.
    const lane = height - 10;
    const [x1, y1, x2, y2] = [from.x + NODE.width, from.y + 9, to.x, to.y + 9];
    return {
      d: `M${x1} ${y1} C${x1 + 40} ${y1} ${x1 + 40} ${lane} ${x1} ${lane} L${x2} ${lane}`
        + ` C${x2 - 40} ${lane} ${x2 - 40} ${y2} ${x2 - 5} ${y2}`,
      x: (x1 + x2) / 2, y: lane - 4,
    };
  }
  const points = [{ x: from.x + NODE.width, y: from.y }];
  for (const id of through) {
    const { x, y } = at.get(id);
    points.push({ x, y }, { x: x + NODE.width, y });
  }
  points.push({ x: to.x - 5, y: to.y });
  let d = `M${points[0].x} ${points[0].y}`;
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    const middle = (a.x + b.x) / 2;
    d += ` C${middle} ${a.y} ${middle} ${b.y} ${b.x} ${b.y}`;
  }
  const [a, b] = [points[0], points[1]];
  return { d, x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 - 5 };
}

function cut(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

function Node({ node, at }) {
  const { x, y } = at.get(node.id);
  return html`<a href=${node.href} class="node ${node.kind}">
    <title>${node.label}</title>
    <rect x=${x} y=${y - NODE.height / 2} width=${NODE.width} height=${NODE.height} rx="7" />
    <text class="above" x=${x + 12} y=${y - 5}>${cut(node.above, 26)}</text>
    <text x=${x + 12} y=${y + 12}>${cut(node.text, 22)}</text></a>`;
}

/**
 * Drawing of nodes `{ id, side, kind, href, label, above, text }` and edges
 * `{ from, to, rate, label }`. The caller shows the same as a table.
 */
export function Drawing({ nodes, edges, label }) {
  const placed = place(nodes, edges);
  return html`<div class="scroll drawing" tabindex="0" role="group" aria-label=${label}>
    <svg width=${placed.width} height=${placed.height}
      viewBox="0 0 ${placed.width} ${placed.height}">
      <defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7"
        orient="auto-start-reverse"><path class="tip" d="M0 0.5 L7 4 L0 7.5 Z" /></marker></defs>
      ${edges.map((edge) => {
        const { d, x, y } = curve(edge, placed);
        const weight = edge.rate > 0 ? Math.min(5, 1.3 + Math.log10(1 + edge.rate)) : 1.1;
        return html`<g class="edge ${edge.rate > 0 ? 'busy' : ''}"><title>${edge.label}</title>
          <path d=${d} stroke-width=${weight.toFixed(2)} marker-end="url(#tip)" />
          ${edge.rate > 0 && html`<text x=${x} y=${y} text-anchor="middle">
            ${short(edge.rate)} /s</text>`}</g>`;
      })}
      ${nodes.map((node) => html`<${Node} key=${node.id} node=${node} at=${placed.at} />`)}
    </svg></div>`;
}
