/**
 * All that is used of OpenTelemetry's SDK, in one module that is loaded where tracing is on: its
 * packages are optional dependencies.
 */
export * as api from '@opentelemetry/api';
export { ExportResultCode, parseTraceParent } from '@opentelemetry/core';
export { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
export { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
export * as resources from '@opentelemetry/resources';
export { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
