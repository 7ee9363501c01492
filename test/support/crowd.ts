/**
 * The crowd: all clients of a run, what they have got together, and waiting for them all.
 *
 * It never waits for a time to pass to know that a client is done: one last event per channel ends a run, and a client is done
 * when the last of those that it asked for arrives.
 */
import {
  startDroppingClient,
  type DroppingClient,
  type DroppingClientOptions,
  type Habits,
} from './dropping-client.js';
import { randomInterest } from './random-interest.js';
import { randomOf } from './random.js';
import type { Shift } from './shift.js';
import type { Truth } from './truth.js';

export interface CrowdOptions {
  readonly seed: number;
  readonly size: number;
  readonly relays: () => readonly string[];
  readonly shift: Shift;
  readonly habits?: Habits | undefined;
  /** See `DroppingClientOptions`. */
  readonly onEvent?: DroppingClientOptions['onEvent'];
  /** Clients are stuck when none of them gets anything new for so long after the end. */
  readonly stuckMs: number;
}

export interface CrowdProgress {
  /** Events that clients have got. */
  readonly deliveries: number;
  readonly reconnects: number;
  /** Connections that ended amid a frame. */
  readonly cutFrames: number;
  readonly resets: number;
  /** Clients that have yet to get the last that they are owed. */
  readonly behind: number;
}

export interface Crowd {
  readonly clients: readonly DroppingClient[];
  progress(): CrowdProgress;
  /** Resolves when each has been given a cursor: who has none could not be told from one that lost everything. */
  started(): Promise<void>;
  /** Resolves when each has got the last that it is owed. A client that is stuck is for the judge to tell of. */
  catchUp(truth: Truth): Promise<void>;
  /** Sends all away, and ends what waits for them; resolves when they have gone. */
  abandon(): Promise<void>;
}

export function startCrowd({ seed, size, relays, shift, habits, onEvent, stuckMs }: CrowdOptions): Crowd {
  const clients = Array.from({ length: size }, (_, n) => {
    const random = randomOf(seed, `client ${n}`);
    return startDroppingClient({ random, names: randomInterest(random), relays, shift, onEvent, habits });
  });
  let leave: () => void = () => undefined;
  const left = new Promise<void>((resolve) => (leave = resolve));
  const sum = (value: (client: DroppingClient) => number) => clients.reduce((all, client) => all + value(client), 0);

  async function unlessStuck(until: (client: DroppingClient) => Promise<void>): Promise<void> {
    const all = Promise.race([Promise.all(clients.map(until)), left]).then(() => 'all' as const);
    // Different events: one that comes over and over is no progress.
    const arrived = () => sum(({ received, isDone }) => new Set(received).size + (isDone ? 1 : 0));
    for (let before = -1; arrived() > before;) {
      before = arrived();
      let timer: NodeJS.Timeout | undefined;
      const stuck = new Promise<void>((resolve) => (timer = setTimeout(resolve, stuckMs)));
      const outcome = await Promise.race([all, stuck]);
      clearTimeout(timer);
      if (outcome === 'all') return;
    }
  }

  return {
    clients,
    progress: () => ({
      deliveries: sum(({ received }) => received.length),
      reconnects: sum(({ tries }) => Math.max(0, tries - 1)),
      cutFrames: sum(({ cutFrames }) => cutFrames),
      resets: sum(({ resets }) => resets.length),
      behind: sum(({ isDone }) => (isDone ? 0 : 1)),
    }),
    started: () => unlessStuck((client) => client.started),
    catchUp(truth) {
      const head = truth.events.at(-1)?.id ?? '';
      for (const client of clients) client.readUntil(truth.wanted(client.names).at(-1)?.id ?? '', head);
      return unlessStuck((client) => client.done);
    },
    async abandon() {
      leave();
      for (const client of clients) client.abandon();
      await Promise.all(clients.map((client) => client.done));
    },
  };
}
