/**
 * Idle: the resident memory that a connection takes which waits for its first event, all included: what the relay has grown by,
 * divided by their number. Some have come and gone before the first look, so that what they leave behind is not counted as theirs.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { startObservedRelay } from '../test/support/observed-relay.js';
import { startGenerator, type RemoteGenerator } from './load/child.js';
import type { Result } from './result.js';
import { openFilesLimit, residentBytes } from './usage.js';

const WARM_UP = 200;
/** Files that the relay has open beside its clients' sockets, and to spare. */
const OTHER_FILES = 100;
const SETTLE_MS = 5000;
/** From which number the bar counts, and what it is. */
const JUDGED = 10_000;
const MOST_KILOBYTES = 10;

export async function measureIdle(databaseUrl: string, sizes: readonly number[]): Promise<Result> {
  const most = openFilesLimit() - OTHER_FILES;
  const possible = [...new Set(sizes.map((size) => Math.min(size, most)))];
  const relay = await startObservedRelay(
    { DATABASE_URL: databaseUrl, PUBLIC_CHANNELS: '*', LOG_LEVEL: 'info' },
    { collects: false },
  );
  const generators: RemoteGenerator[] = [];
  try {
    const warmUp = await startGenerator({ url: `${relay.url}/events/idle`, connections: WARM_UP });
    await warmUp.close();
    await delay(SETTLE_MS);
    const none = residentBytes(relay.pid);
    const rows: Record<string, number>[] = [];
    let open = 0;
    for (const connections of possible) {
      // One after the other: the generator has the same limit of open files, and keeps none of its own.
      generators.push(await startGenerator({ url: `${relay.url}/events/idle-{n}`, connections: connections - open }));
      open = connections;
      await delay(SETTLE_MS);
      const resident = residentBytes(relay.pid);
      rows.push({
        connections,
        'resident MiB': resident / 1024 ** 2,
        'kB each': (resident - none) / connections / 1000,
      });
    }
    const judged = rows.find((row) => row['connections'] === Math.min(JUDGED, most))?.['kB each'] ?? Number.NaN;
    const cut = sizes.some((size) => size > most);
    return {
      part: 'idle',
      title: `Resident memory by idle connections, each on a channel of its own; ${(none / 1024 ** 2).toFixed(1)} MiB with none${
        cut ? `. Only ${most} are possible here: ulimit -n is ${openFilesLimit()}` : ''
      }`,
      rows,
      ratio: judged / MOST_KILOBYTES,
      bar: { is: `at most ${MOST_KILOBYTES} kB each at ${JUDGED}`, holds: judged <= MOST_KILOBYTES },
    };
  } finally {
    for (const generator of generators) await generator.close();
    await relay.stop();
  }
}
