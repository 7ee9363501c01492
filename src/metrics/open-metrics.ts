/**
 * OpenMetrics: the form of metrics in which a histogram's buckets may each have an exemplar, here
 * the trace of an event that fell into it.
 *
 * Source: https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md. A
 * registry of prom-client is of this form or of Prometheus' for good, and its aggregation drops
 * exemplars: so what is served is made from reports, and they are put in again.
 */
import { AggregatorRegistry, Registry, type Metric, type OpenMetricsContentType } from 'prom-client';

/** All metrics of a process. */
export type Report = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** What prom-client's types do not tell of a value. */
interface Value {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, unknown>>;
  exemplar?: { readonly timestamp: number } | null | undefined;
}

export const OPEN_METRICS_TYPE = Registry.OPENMETRICS_CONTENT_TYPE;

/**
 * @param reports of one process, as it is; of several, added up, with the newest exemplar of each
 * bucket
 */
export async function openMetricsText(reports: readonly Report[]): Promise<string> {
  const [first = []] = reports;
  const metrics = reports.length === 1 ? first : await aggregated(reports);
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(OPEN_METRICS_TYPE);
  for (const metric of metrics) {
    // The registry names counters as this form has it, and then asks for their values.
    const held = { ...metric, get: () => Promise.resolve(held) } as unknown as Metric;
    registry.registerMetric(held);
  }
  return registry.metrics();
}

async function aggregated(reports: readonly Report[]): Promise<Report> {
  const metrics = await AggregatorRegistry.aggregate([...reports]).getMetricsAsJSON();
  const exemplars = new Map<string, Value['exemplar']>();
  for (const value of reports.flatMap(histogramValues)) {
    const known = exemplars.get(keyOf(value));
    if (value.exemplar && !(known && known.timestamp > value.exemplar.timestamp)) {
      exemplars.set(keyOf(value), value.exemplar);
    }
  }
  for (const value of histogramValues(metrics)) value.exemplar = exemplars.get(keyOf(value));
  return metrics;
}

function histogramValues(report: Report): Value[] {
  // The types say that it is a number, as it is within the package.
  return report.filter(({ type }) => String(type) === 'histogram').flatMap(({ values }) => values as Value[]);
}

function keyOf({ metricName = '', labels }: Value): string {
  return `${metricName} ${JSON.stringify(Object.entries(labels).sort())}`;
}
