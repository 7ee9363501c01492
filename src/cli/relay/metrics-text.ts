/**
 * Metrics as a relay tells them, read back: Prometheus' text format, version 0.0.4, of which
 * comments are left out.
 */

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** By name. */
export type Metrics = ReadonlyMap<string, readonly Sample[]>;

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const NUMBERS: Readonly<Record<string, number>> = { '+Inf': Infinity, '-Inf': -Infinity, NaN: Number.NaN };

/** A line that is no sample is passed by. */
export function readMetrics(text: string): Metrics {
  const metrics = new Map<string, Sample[]>();
  for (const line of text.split('\n')) {
    const [, name, labels = '', number = ''] = LINE.exec(line) ?? [];
    if (name === undefined || line.startsWith('#')) continue;
    const value = NUMBERS[number] ?? Number(number);
    const entries = [...labels.matchAll(LABEL)].map(([, key = '', quoted = '']) => [key, unescaped(quoted)] as const);
    const samples = metrics.get(name) ?? [];
    samples.push({ labels: Object.fromEntries(entries), value });
    metrics.set(name, samples);
  }
  return metrics;
}

function unescaped(quoted: string): string {
  return quoted.replace(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character));
}

/** The sum of all samples; undefined where there is none. */
export function sumOf(metrics: Metrics, name: string): number | undefined {
  const samples = metrics.get(name);
  return samples?.reduce((sum, { value }) => sum + value, 0);
}

/** Values by the label that a metric has. */
export function byLabel(metrics: Metrics, name: string, label: string): Record<string, number> {
  const samples = metrics.get(name) ?? [];
  return Object.fromEntries(samples.map(({ labels, value }) => [labels[label] ?? '', value]));
}
