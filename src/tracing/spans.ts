/**
 * Spans: what became of an event, as children of the span that published it.
 *
 * | span               | from                                        | to                              |
 * |--------------------|---------------------------------------------|---------------------------------|
 * | `outbox.placed`    | the transaction began, by the database's    | a read began that found it      |
 * |                    | clock                                       |                                 |
 * | `outbox.read`      | that                                        | the read's answer               |
 * | `outbox.delivered` | the first stream at the head is written to  | the last one is                 |
 *
 * The attributes are those of OpenTelemetry's conventions for messaging, and `outbox.streams`.
 */
import type { Attributes, HrTime, SpanKind } from '@opentelemetry/api';
import type { Delivered } from './deliveries.js';
import type { Exporting } from './exporting.js';

/**
 * @param traceparent as `readTraceparents` has it
 * @returns the trace's id, where spans of it are kept
 */
export function addSpans({ sdk, tracer }: Exporting, event: Delivered, traceparent: string): string | undefined {
  const { SpanKind: kinds, ROOT_CONTEXT, trace } = sdk.api;
  const parent = sdk.parseTraceParent(traceparent);
  if (parent === null) return undefined;
  const context = trace.setSpanContext(ROOT_CONTEXT, { ...parent, isRemote: true });
  const { createdAt, page } = event;

  /** @returns whether it is kept */
  function add(name: string, kind: SpanKind, from: number, to: number, more: Attributes): boolean {
    const attributes = {
      'messaging.system': 'outbox_relay',
      'messaging.destination.name': event.channel,
      'messaging.message.id': event.id,
      ...more,
    };
    const span = tracer.startSpan(name, { kind, startTime: hrTime(from), attributes }, context);
    const isKept = span.isRecording();
    span.end(hrTime(to));
    return isKept;
  }

  // The database's clock may be ahead of ours, and its times may be infinite, or before 1970.
  const beganAt = createdAt >= 0 ? Math.min(createdAt, page.readAt) : page.readAt;
  const placed = add('outbox.placed', kinds.INTERNAL, beganAt, page.readAt, { 'messaging.operation.name': 'place' });
  const read = add('outbox.read', kinds.CONSUMER, page.readAt, page.foundAt, {
    'messaging.operation.name': 'read',
    'messaging.operation.type': 'receive',
    ...(page.events > 1 ? { 'messaging.batch.message_count': page.events } : {}),
  });
  const delivered = add('outbox.delivered', kinds.PRODUCER, page.writtenFrom, page.writtenThrough, {
    'messaging.operation.name': 'deliver',
    'messaging.operation.type': 'send',
    'outbox.streams': event.streams,
  });
  return placed || read || delivered ? parent.traceId : undefined;
}

/** A number alone might be taken for the time since the process began. */
function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
