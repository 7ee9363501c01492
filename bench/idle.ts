/**
 * Idle: the resident memory that a connection takes which waits for its first event, all included: what the relay has grown by since it
 * served nobody yet, divided by their number. Code that is compiled and garbage that is kept when the first ones come counts as theirs, so a
 * second column has what each one added to those before. What the kernel keeps for a socket is not the process's, and not in it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { startObservedRelay } from '../test/support/observed-relay.js';
import { startGenerator, type RemoteGenerator } from './load/child.js';
import type { Result } from './result.js';
import { openFilesLimit, residentBytes } from './usage.js';

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
    await delay(SETTLE_MS);
    const none = residentBytes(relay.pid);
    const rows: Record<string, number>[] = [];
    let [open, before] = [0, none];
    for (const connections of possible) {
      generators.push(await startGenerator({ url: `${relay.url}/events/idle-{n}`, connections: connections - open }));
      await delay(SETTLE_MS);
      const resident = residentBytes(relay.pid);
      rows.push({
        connections,
        'resident MiB': resident / 1024 ** 2,
        'kB each': (resident - none) / connections / 1000,
        'kB for each more': (resident - before) / (connections - open) / 1000,
      });
      [open, before] = [connections, resident];
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
