/**
 * Exporting: where finished spans go, by OpenTelemetry's SDK and as its variables say. Of a
 * collector that is away the log tells once; spans that are too many by then are dropped, and
 * nothing waits.
 */
import type { Tracer } from '@opentelemetry/api';
import type { SpanExporter } from '@opentelemetry/sdk-trace-base';
import type { Logger } from 'pino';
import { OperatorError } from '../operator-error.js';
import { createRetry } from '../postgres/retry.js';
import type * as Sdk from './sdk.js';
import type { TracingSettings } from './settings.js';

export type { Sdk };

export interface Exporting {
  readonly sdk: typeof Sdk;
  readonly tracer: Tracer;
  /** Sends what there is, and sends no more. @throws what the SDK throws */
  close(): Promise<void>;
}

const NAME = 'outbox-relay';
const PACKAGES = [
  'api',
  'core',
  'exporter-trace-otlp-http',
  'exporter-trace-otlp-proto',
  'resources',
  'sdk-trace-base',
];

/** @throws OperatorError `tracing-client-missing` */
export async function startExporting({ protocol, endpoint }: TracingSettings, logger: Logger): Promise<Exporting> {
  const sdk = await loadSdk();
  const { detectResources, envDetector, resourceFromAttributes, serviceInstanceIdDetector } = sdk.resources;
  const exporter = protocol === 'http/json' ? new sdk.JsonExporter() : new sdk.ProtobufExporter();
  const provider = new sdk.BasicTracerProvider({
    resource: sdk.resources
      .defaultResource()
      .merge(resourceFromAttributes({ 'service.name': NAME }))
      .merge(detectResources({ detectors: [serviceInstanceIdDetector, envDetector] })),
    spanProcessors: [new sdk.BatchSpanProcessor(tellingOfFailures(exporter, sdk, logger))],
  });
  logger.info({ endpoint, protocol }, 'tracing');
  return { sdk, tracer: provider.getTracer(NAME), close: () => provider.shutdown() };
}

async function loadSdk(): Promise<typeof Sdk> {
  try {
    return await import('./sdk.js');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    const packages = PACKAGES.map((name) => `@opentelemetry/${name}`).join(' ');
    const message = `TRACING is on, and OpenTelemetry's packages are not installed. Run: npm install ${packages}`;
    throw new OperatorError('tracing-client-missing', message, { cause: error });
  }
}

function tellingOfFailures(exporter: SpanExporter, sdk: typeof Sdk, logger: Logger): SpanExporter {
  const retry = createRetry({
    firstPauseMs: 0,
    longestPauseMs: 0,
    log: {
      logger,
      onFailure: 'spans cannot be sent to the collector: they are dropped; events are delivered as ever',
      onRecovery: 'spans are sent to the collector again',
    },
  });
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        if (result.code === sdk.ExportResultCode.SUCCESS) retry.succeeded();
        // Its other fields have what was sent, and what came back.
        else retry.failed(new Error(result.error?.message ?? 'no reason was given'));
        done(result);
      });
    },
    forceFlush: async () => exporter.forceFlush?.(),
    shutdown: () => exporter.shutdown(),
  };
}
