/**
 * A collector of spans: an OTLP receiver over HTTP, in JSON, in this process.
 *
 * Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
 */
import { once } from 'node:events';
import type { ExecutionContext } from 'ava';
import { json, startServer } from './http-server.js';

export interface Span {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly kind: number;
  /** Decimal nanoseconds since 1970. */
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  /** By name; integers as strings. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Of what sent it. */
  readonly resource: Readonly<Record<string, string>>;
}

export interface Collector {
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  readonly url: string;
  /** What has come. */
  readonly spans: readonly Span[];
  /** Bodies as they came, and their content types. */
  readonly bodies: readonly { readonly type: string | undefined; readonly bytes: Buffer }[];
  /** Resolves when so many spans have come. */
  received(count: number): Promise<readonly Span[]>;
  close(): Promise<void>;
}

/** What a relay is given so that its spans come here, soon. */
export function tracingTo(collector: Pick<Collector, 'url'>): Readonly<Record<string, string>> {
  return {
    TRACING: 'true',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_BSP_SCHEDULE_DELAY: '50',
  };
}

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface Batch {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly (Omit<Span, 'attributes' | 'resource'> & {
        readonly attributes: readonly Attribute[];
      })[];
    }[];
  }[];
}

/** @param status of its answers. Default: 200 */
export async function startCollector(
  t: Pick<ExecutionContext, 'teardown'>,
  { status = 200, port }: { readonly status?: number; readonly port?: number } = {},
): Promise<Collector> {
  const spans: Span[] = [];
  const bodies: { type: string | undefined; bytes: Buffer }[] = [];
  let wake: () => void = () => undefined;
  const server = await startServer(
    t,
    (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      void once(request, 'end').then(() => {
        const bytes = Buffer.concat(chunks);
        const type = request.headers['content-type'];
        bodies.push({ type, bytes });
        if (type === 'application/json' && request.url === '/v1/traces') spans.push(...spansIn(bytes));
        json(response, status, {});
        wake();
      });
    },
    port,
  );
  return {
    url: server.url,
    spans,
    bodies,
    async received(count) {
      while (spans.length < count) await new Promise<void>((resolve) => (wake = resolve));
      return spans;
    },
    close: server.close,
  };
}

function spansIn(body: Buffer): Span[] {
  const { resourceSpans } = JSON.parse(body.toString()) as Batch;
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        ...span,
        attributes: valuesOf(span.attributes),
        resource: valuesOf(resource.attributes),
      })),
    ),
  );
}

function valuesOf(attributes: readonly Attribute[]): Record<string, string> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, String(Object.values(value)[0])]));
}
