/**
 * A small chart of the last minutes: an area for one series, lines for more, with its values in
 * words for who does not see it.
 */

export interface Series {
  readonly name: string;
  /** Oldest first; null where there is none. */
  readonly values: readonly (number | null)[];
}

interface ChartProps {
  readonly label: string;
  readonly series: readonly Series[];
  /** How many values fit: newer ones come in from the right. */
  readonly capacity: number;
  readonly format: (value: number) => string;
}

const WIDTH = 300;
const HEIGHT = 72;
const TOP = 6;

/**
 * The least of 1, 2, 5, 10, … that is not below: so that the scale does not jump with each value.
 */
function ceiling(value: number): number {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}

export function Chart({ label, series, capacity, format }: ChartProps) {
  const known = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const most = ceiling(Math.max(0, ...known));
  const step = WIDTH / (capacity - 1);
  const points = (values: Series['values']) =>
    values
      .map((value, index) => [WIDTH - (values.length - 1 - index) * step, value] as const)
      .filter((point): point is readonly [number, number] => point[1] !== null)
      .map(([x, value]) => [x.toFixed(1), (HEIGHT - (value / most) * (HEIGHT - TOP)).toFixed(1)] as const);
  const path = (values: Series['values']) =>
    points(values)
      .map(([x, y], index) => `${index === 0 ? 'M' : 'L'}${x} ${y}`)
      .join('');
  const area = (values: Series['values']) => {
    const all = points(values);
    return all.length < 2 ? '' : `${path(values)}L${all.at(-1)?.[0] ?? ''} ${HEIGHT}L${all[0]?.[0] ?? ''} ${HEIGHT}Z`;
  };
  const words = series
    .map(({ name, values }) => {
      const last = values.findLast((value) => value !== null);
      return `${name} ${typeof last === 'number' ? format(last) : 'unknown'}`;
    })
    .join(', ');
  return (
    <div class="chart">
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${label}: ${words}; the scale ends at ${format(most)}`}
      >
        <line class="chart-grid" x1="0" x2={WIDTH} y1={TOP} y2={TOP} />
        <line class="chart-grid" x1="0" x2={WIDTH} y1={(HEIGHT + TOP) / 2} y2={(HEIGHT + TOP) / 2} />
        <line class="chart-base" x1="0" x2={WIDTH} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} />
        {series.length === 1 && <path class="chart-area" d={area(series[0]?.values ?? [])} />}
        {series.map(({ name, values }, index) => (
          <path key={name} class={`chart-line line-${index}`} d={path(values)} />
        ))}
      </svg>
      <span class="chart-scale" aria-hidden="true">
        {format(most)}
      </span>
    </div>
  );
}
