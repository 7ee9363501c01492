/** A chart: lines over two logarithmic axes, as an SVG that reads on a light and on a dark page. */

export interface Series {
  readonly title: string;
  /** What the axes have, with units. */
  readonly x: string;
  readonly y: string;
  /** In the order in which they are joined; both numbers above 0. */
  readonly points: readonly (readonly [number, number])[];
}

const WIDTH = 460;
const HEIGHT = 320;
const MARGIN = { left: 64, right: 24, top: 40, bottom: 48 };

/** Side by side, one panel each. */
export function chart(series: readonly Series[]): string {
  const panels = series.map((one, n) => `<g transform="translate(${n * WIDTH} 0)">\n${panel(one)}\n</g>`);
  const size = `width="${series.length * WIDTH}" height="${HEIGHT}" viewBox="0 0 ${series.length * WIDTH} ${HEIGHT}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
${panels.join('\n')}
</svg>
`;
}

function panel({ title, x, y, points }: Series): string {
  const [left, right] = [MARGIN.left, WIDTH - MARGIN.right];
  const [top, bottom] = [MARGIN.top, HEIGHT - MARGIN.bottom];
  const xs = axis(points.map(([value]) => value));
  const ys = axis(points.map(([, value]) => value));
  const atX = (value: number) => place(value, xs, left, right);
  const atY = (value: number) => place(value, ys, bottom, top);
  const at = points.map(([px, py]) => [atX(px), atY(py), py] as const);
  return [
    `<text x="${left}" y="22" font-weight="bold">${title}</text>`,
    ...xs.ticks.map((tick) => line(atX(tick), top, atX(tick), bottom)),
    ...ys.ticks.map((tick) => line(left, atY(tick), right, atY(tick))),
    ...xs.ticks.map((tick) => text(atX(tick), bottom + 16, 'middle', label(tick))),
    ...ys.ticks.map((tick) => text(left - 6, atY(tick) + 4, 'end', label(tick))),
    text((left + right) / 2, HEIGHT - 12, 'middle', x),
    `<text transform="translate(14 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">${y}</text>`,
    `<polyline fill="none" stroke="#1f6feb" stroke-width="2" points="${at.map(([px, py]) => `${px},${py}`).join(' ')}"/>`,
    ...at.map(([px, py]) => `<circle cx="${px}" cy="${py}" r="3.5" fill="#1f6feb"/>`),
    ...at.map(([px, py, value]) => text(px, py - 8, 'middle', label(value))),
  ].join('\n');
}

interface Axis {
  readonly from: number;
  readonly to: number;
  readonly ticks: readonly number[];
}

/** From a round number to another, with those between: 1, 2 and 5 of each decade. */
function axis(values: readonly number[]): Axis {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const rounds: number[] = [];
  for (let decade = Math.floor(Math.log10(least)) - 1; decade <= Math.ceil(Math.log10(most)); decade += 1) {
    for (const step of [1, 2, 5]) rounds.push(step * 10 ** decade);
  }
  const from = rounds.findLast((round) => round <= least * 0.95) ?? least;
  const to = rounds.find((round) => round >= most * 1.2) ?? most;
  return { from, to, ticks: rounds.filter((round) => round >= from && round <= to) };
}

function place(value: number, { from, to }: Axis, low: number, high: number): number {
  const part = (Math.log(value) - Math.log(from)) / (Math.log(to) - Math.log(from));
  return Math.round((low + part * (high - low)) * 10) / 10;
}

function line(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="#ddd"/>`;
}

function text(x: number, y: number, anchor: string, content: string): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}">${content}</text>`;
}

function label(value: number): string {
  return value >= 1000 ? `${Number((value / 1000).toPrecision(3))}k` : String(Number(value.toPrecision(3)));
}
