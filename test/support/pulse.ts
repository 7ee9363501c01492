/**
 * The pulse: an event several times a second, and well-behaved clients that stay, by which is seen how long events take while everything
 * else happens. What a fault delays is excused while it lasts, and for the time that a relay takes to find out.
 */
import { lastingSession } from './lasting-session.js';
import { openClient } from './steady-client.js';
import { startStopwatch, type Stopwatch } from './stopwatch.js';
import type { Actor, Stage } from './actor.js';

const PULSE_CHANNEL = 'news';
const PAUSE_MS = 100;
/** The machine is shared, with this run's own publishers and clients first of all. */
const LATE_SECONDS = 10;
/** A relay that has lost its database in silence notices within LISTEN_TIMEOUT_SECONDS, and needs as long again to be back. */
const AFTERMATH_MS = 8_000;

export interface PulseOptions {
  /**
   * Whether faults elsewhere than at the server and at a relay itself delay its events.
   *
   * @param had whether there was one at that place while the event was under way.
   */
  readonly isHarmed?: (relay: number, had: (where: string) => boolean) => boolean;
}

export function createPulse({ isHarmed = () => false }: PulseOptions = {}): Actor {
  const sent = new Map<number, { readonly at: number; readonly watch: Stopwatch }>();
  const complaints: string[] = [];
  let [beats, longest, judged] = [0, 0, 0];
  let clients: { close(): void }[] = [];

  /** By a way that no fault of the network is on. */
  function listen({ relays, faults }: Stage): void {
    clients = relays.map(({ urls: [url] }, relay) => {
      const seen = new Set<number>();
      return openClient(url, `/events/${PULSE_CHANNEL}`, (beat) => {
        const pulse = sent.get(beat);
        if (pulse === undefined || seen.has(beat)) return;
        seen.add(beat);
        const had = (test: (kind: string, where: string) => boolean) =>
          faults.between(pulse.at - AFTERMATH_MS, performance.now(), test);
        const harms = (kind: string, where: string) =>
          where === 'server' || (where === `relay ${relay}` && !/^(?:clients|replays) /.test(kind));
        if (had(harms) || isHarmed(relay, (place) => had((_kind, where) => where === place))) return;
        judged += 1;
        const took = pulse.watch.seconds();
        longest = Math.max(longest, took);
        if (took > LATE_SECONDS) {
          const around = ['', ...faults.around(pulse.at)].join('\n    ');
          complaints.push(`relay ${relay} took ${took.toFixed(1)} s for an event, without a fault of its own${around}`);
        }
      });
    });
  }

  return {
    async run(stage) {
      const { shift } = stage;
      listen(stage);
      await lastingSession(
        { ...stage, onFailure: (text) => complaints.push(`the pulse failed: ${text}`) },
        async (client, isOpen) => {
          while (shift.isOn && isOpen()) {
            const beat = (beats += 1);
            await client.query(`INSERT INTO outbox (channel, data) VALUES ($1, jsonb_build_object('beat', $2::int))`, [
              PULSE_CHANNEL,
              beat,
            ]);
            sent.set(beat, { at: performance.now(), watch: startStopwatch() });
            await shift.pause(PAUSE_MS);
          }
        },
      );
    },
    complaints,
    figures: () => [
      ['deliveries that no fault excuses', judged],
      ['the longest of them, in milliseconds', Math.round(longest * 1000)],
    ],
    end() {
      for (const client of clients) client.close();
    },
  };
}
