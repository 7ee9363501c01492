/**
 * Metrics of a feeder, in the form that Prometheus scrapes: what the parts counted for themselves.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { Feeding } from '../engine/feeding.js';
import type { Metrics } from './metrics.js';

export function createFeederMetrics(feeding: Feeding): Pick<Metrics, 'text' | 'contentType'> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const { feeder, tail } = feeding;
  const { totals } = feeder;

  function gauge(name: string, help: string, value: () => number): void {
    new Gauge({
      name: `outbox_relay_feeder_${name}`,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  }

  function counter(name: string, help: string, value: () => number): void {
    new Counter({
      name: `outbox_relay_feeder_${name}_total`,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }

  counter('events', 'Events that this feeder has appended to the stream.', () => totals.events);
  counter(
    'entries',
    'Entries that it has appended: runs of events, and what became of the outbox.',
    () => totals.entries,
  );
  counter('refused', 'Appends that were refused because another feeder was faster.', () => totals.refused);
  counter('unreadable', 'Entries at the end of the stream that could not be read.', () => totals.unreadable);
  counter('erased', 'Erasures of entries, for what was redacted or deleted.', () => totals.erased);
  gauge('position', 'Position through which the stream is fed, as far as this feeder knows.', () =>
    Number(feeder.fedThrough.position),
  );
  gauge('sequence', 'Sequence of the newest entry that it knows.', () => Number(feeder.fedThrough.sequence));
  gauge('lag_seconds', 'For how long it has not fed all there is, or not known whether it has.', () =>
    tail.behindSince ? (Date.now() - tail.behindSince.getTime()) / 1000 : 0,
  );
  gauge('held_seconds', 'For how long a commit under way has held back events that come after it; 0: none does.', () =>
    tail.held ? (Date.now() - tail.held.since.getTime()) / 1000 : 0,
  );
  gauge('fenced', '1 while another PostgreSQL, or another outbox, is the one to feed the stream from.', () =>
    feeder.fence ? 1 : 0,
  );
  gauge('ready', '1 while it feeds all that there is.', () => (feeding.readiness().ready ? 1 : 0));

  return { contentType: registry.contentType, text: () => registry.metrics() };
}
