/**
 * Several relays on one database behind an nginx with the recipe of docs/proxies.md, and browsers' EventSource in front, which gives
 * up for good at whatever it does not like.
 */
import test, { type ExecutionContext } from 'ava';
import { EventSource } from 'eventsource';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { judge } from '../support/judge.js';
import { startNginx } from '../support/nginx.js';
import { freePort } from '../support/port.js';
import { startRelayProcess, type RelayProcess } from '../support/relay-process.js';
import { openStream, parseFrame } from '../support/stream.js';
import { readTruth } from '../support/truth.js';
import { startWriters, type Writers } from '../support/writers.js';

interface Browser {
  readonly names: readonly string[];
  readonly received: readonly string[];
  /** How often it was connected. */
  readonly visits: number;
  readonly opened: Promise<void>;
  /** Resolves when it has connected so many times more. */
  returns(count: number): Promise<void>;
  /** Resolves when the event has come, be it in the past. Rejects when the source has given up. */
  until(id: string): Promise<void>;
}

const FILTERS = [['*'], ['a'], ['b:*'], ['c', 'b:1'], ['*'], ['a', 'b:2']] as const;

/** Streams last a second or less, so that everybody is sent from one relay to another all the time. */
const ENV = { MAX_CONNECTION_SECONDS: '1', RETRY_SECONDS: '0.1', WINDOW_MEGABYTES: '1' };

function openBrowser(t: ExecutionContext, url: string, names: readonly string[]): Browser {
  const channels = names.map((name) => `channel=${encodeURIComponent(name)}`).join('&');
  const source = new EventSource(`${url}/events?${channels}&last_event_id=earliest`);
  t.teardown(() => source.close());
  const received: string[] = [];
  const checks = new Set<() => void>();
  const wake = () => {
    for (const check of [...checks]) check();
  };
  let visits = 0;
  let isGone = false;
  source.addEventListener('open', () => {
    visits += 1;
    wake();
  });
  source.addEventListener('message', ({ lastEventId }) => {
    received.push(lastEventId);
    wake();
  });
  for (const name of ['stream-reset', 'stream-error']) source.addEventListener(name, () => t.fail(name));
  source.addEventListener('error', () => {
    isGone = source.readyState === EventSource.CLOSED;
    wake();
  });
  const wait = (isTrue: () => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      const check = () => {
        if (!isTrue() && !isGone) return;
        checks.delete(check);
        if (isTrue()) resolve();
        else reject(new Error(`the EventSource of ${names.join(', ')} has given up`));
      };
      checks.add(check);
      check();
    });
  return {
    names,
    received,
    get visits() {
      return visits;
    },
    opened: wait(() => visits > 0),
    returns(count) {
      const goal = visits + count;
      return wait(() => visits >= goal);
    },
    until: (id) => wait(() => received.includes(id)),
  };
}

async function setUp(t: ExecutionContext, envs: readonly Readonly<Record<string, string>>[]) {
  const database = await createDatabase(t);
  const relays: RelayProcess[] = [];
  for (const env of envs) {
    relays.push(await startRelayProcess(t, database.url, { ...ENV, ...env, PORT: String(await freePort()) }));
  }
  const url = await startNginx(
    t,
    relays.map((relay) => relay.url),
  );
  const writers = startWriters(t, database.url);
  const browsers = FILTERS.map((names) => openBrowser(t, url, names));
  await Promise.all(browsers.map(({ opened }) => opened));
  const allReturn = (times: number) => Promise.all(browsers.map((browser) => browser.returns(times)));
  return { database, relays, url, writers, browsers, allReturn };
}

/** Holds what every browser got against the table. */
async function settle(
  t: ExecutionContext,
  database: TestDatabase,
  writers: Writers,
  browsers: readonly Browser[],
): Promise<void> {
  await writers.stop();
  t.deepEqual(writers.failures, []);
  const truth = await readTruth(database);
  for (const { names, received, until } of browsers) {
    await until(truth.wanted(names).at(-1)?.id ?? '');
    t.deepEqual(judge({ names, startId: '0', received }, truth).violations, []);
  }
  t.log(`${truth.events.length} events, ${browsers.reduce((sum, { visits }) => sum + visits, 0)} connections`);
}

test('R3, R6: clients go from relay to relay, while one is killed and one rolled, and get every event once', async (t) => {
  const { database, relays, writers, browsers, allReturn } = await setUp(t, [{}, {}]);
  const [first, second] = relays;
  await allReturn(2);
  t.is(await first?.end('SIGKILL'), 'SIGKILL');
  await allReturn(2);
  await first?.start();
  await allReturn(1);
  t.is(await second?.end('SIGTERM'), 0);
  await allReturn(2);
  await second?.start();
  await allReturn(2);
  await settle(t, database, writers, browsers);
});

test('R3, R6: while no relay is there nginx answers, and every EventSource comes back and resumes', async (t) => {
  const { database, relays, url, writers, browsers, allReturn } = await setUp(t, [{}, {}]);
  await allReturn(1);
  // On either relay.
  const cut = [await openStream(t, `${url}/events/a`), await openStream(t, `${url}/events/a`)];
  await Promise.all([relays[0]?.end('SIGKILL'), relays[1]?.end('SIGTERM')]);
  for (const stream of cut) {
    await stream.ended;
    t.false(stream.isComplete, 'nginx made it look like a complete answer');
  }
  // Each has been told by nginx to come back later, and has done so.
  await allReturn(2);
  const response = await fetch(`${url}/events/a`, { headers: { Accept: 'text/event-stream' } });
  t.is(response.status, 200);
  t.is(response.headers.get('content-type'), 'text/event-stream');
  t.deepEqual(parseFrame((await response.text()).trimEnd()), {
    event: 'stream-pause',
    retry: 2000,
    data: '{"reason":"away","retryMs":2000}',
  });
  await writers.more(20);
  await Promise.all(relays.map((relay) => relay.start()));
  // However often nginx was refused, it asks them again at once.
  const newcomer = await openStream(t, `${url}/events/a`);
  await newcomer.until(({ event }) => event === 'stream-open');
  await allReturn(2);
  await settle(t, database, writers, browsers);
});

test('R3, R6: workers behind it are killed, and every EventSource resumes', async (t) => {
  const { database, relays, writers, browsers, allReturn } = await setUp(t, [{ WORKERS: '2' }, {}]);
  const [workers] = relays;
  await allReturn(1);
  for (let n = 0; n < 2; n += 1) {
    const pids = (await workers?.workers()) ?? [];
    process.kill(pids[0] ?? 0, 'SIGKILL');
    await allReturn(2);
    await writers.more(20);
  }
  t.is(await workers?.end('SIGTERM'), 0);
  await allReturn(1);
  await settle(t, database, writers, browsers);
});
