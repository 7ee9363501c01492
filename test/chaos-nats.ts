/**
 * The storm with NATS: `npm run chaos:nats`.
 *
 * Three servers of NATS in a cluster, two feeders, three relays that read from it and one that reads PostgreSQL, and clients that
 * go from any to any. It ends once they have got CHAOS_DELIVERIES events (default 1,000,000) and there were CHAOS_FAULTS faults
 * (default 100), each kind at least once. Then clients are judged as ever, the stream is held against the table, and the
 * servers' disks are searched for what was redacted, all but the log of their replication. See support/trial.ts.
 */
import { createSecretKey } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createCodec } from '../src/engine/codec.js';
import { useDatabase } from './support/database.js';
import { startExposedFeeder } from './support/exposed-feeder.js';
import { createNatsFaults } from './support/nats-faults.js';
import { startNats } from './support/nats.js';
import { startPostgres } from './support/postgres.js';
import { createPulse } from './support/pulse.js';
import { createRedactor } from './support/redactor.js';
import { createRetention } from './support/retention.js';
import { SERVER_SETTINGS } from './support/server-settings.js';
import { checkStream, findInFiles, TOKEN } from './support/stream-check.js';
import { numberFromEnvironment, runTrial, type Setting } from './support/trial.js';

const MAIN = fileURLToPath(new URL('../src/main.js', import.meta.url));

const wanted = {
  CHAOS_DELIVERIES: numberFromEnvironment('CHAOS_DELIVERIES', 1_000_000),
  CHAOS_FAULTS: numberFromEnvironment('CHAOS_FAULTS', 100),
};

const HABITS = {
  stays: [20, 200, 1_000, 5_000, 30_000],
  absences: [0, 0, 5, 30, 100, 1_500, 10_000],
} as const;

/** How old an event gets, in seconds: mostly older than whatever is away stays away. */
const AGES = [15, 60, 120] as const;

const SECRET = 'x'.repeat(48);
/** So small that it drops what is old, amid the run. */
const STREAM = ['--replicas', '3', '--max-bytes', '256000000', '--max-age', '1h'];
/** In that time feeders have erased what they still have to. */
const ERASED_MS = 20_000;

async function storm(t: Setting) {
  const server = await startPostgres(t, { settings: SERVER_SETTINGS, log: (line) => t.log(`server: ${line}`) });
  const database = useDatabase(server.url);
  t.teardown(() => database.pool.end());
  const nats = await startNats(t, { servers: 3, networks: true, log: t.log });
  const env = { DATABASE_URL: server.url, NATS_URL: nats.url, NATS_SECRET: SECRET };
  const setUp = () => setUpStream(env);
  await setUp();
  const codec = createCodec(createSecretKey(Buffer.from(SECRET)));
  /** What is wrong with it. While things fail it may not be possible to read it: that is nothing against it. */
  async function inspectStream(isWhole: boolean): Promise<readonly string[]> {
    for (let attempts = isWhole ? 1 : 5; ; attempts -= 1) {
      try {
        const check = await checkStream({ url: nats.url, subject: 'outbox.outbox.log', codec, database, isWhole });
        console.log(`  stream: ${check.figures.map(([what, count]) => `${what}: ${count}`).join(', ')}`);
        return check.complaints;
      } catch (error) {
        if (isWhole) throw error;
        if (attempts <= 1) return [];
        await delay(1_000);
      }
    }
  }
  const redacted = new Set<string>();
  const onNats = { NATS_URL: nats.url, NATS_SECRET: SECRET };
  return {
    database,
    server,
    relays: [{ ...onNats, RETENTION: '2m' }, { ...onNats, MAX_CONNECTION_SECONDS: '10' }, onNats, {}],
    writers: Array.from({ length: 4 }, () => ['on', 'local'] as const),
    clients: 40,
    habits: HABITS,
    actors: [
      createRetention(AGES),
      createRedactor((text) => {
        const [token] = TOKEN.exec(text) ?? [];
        if (token !== undefined) redacted.add(token);
      }),
      // One feeder is enough. The last relay has no part in NATS.
      createPulse({
        isHarmed: (relay, had) => relay < 3 && (had('NATS') || (had('feeder 1') && had('feeder 2'))),
      }),
    ],
    others: [
      (exposure) => createNatsFaults(t, { nats, setUp, inspect: () => inspectStream(false) }, exposure),
      (exposure) => startExposedFeeder(t, 'feeder 1', env, exposure),
      (exposure) => startExposedFeeder(t, 'feeder 2', env, exposure),
    ],
    // Each takes seconds to get over: were there more of them nothing would ever be fed.
    fates: [
      { of: ['sessions', 'table', 'restarts', 'crashes'], pause: [8_000, 20_000] },
      { of: ['processes'], pause: [10_000, 30_000] },
      { of: ['networks'], pause: [4_000, 12_000] },
      { of: ['feeders'], pause: [6_000, 20_000] },
      { of: ['networks of feeders'], pause: [4_000, 15_000] },
      { of: ['engine'], pause: [6_000, 20_000] },
      { of: ['stores'], pause: [10_000, 30_000] },
    ],
    stuckMs: 60_000,
    isEnough: ({ deliveries, faults }) =>
      deliveries >= wanted.CHAOS_DELIVERIES && faults.total >= wanted.CHAOS_FAULTS && faults.missing.length === 0,
    inspect: async () => {
      const complaints = await inspectStream(true);
      const stores = (account: string) => nats.servers.map(({ store }) => join(store, 'jetstream', account));
      const left = await findInFiles(stores('$G'), redacted, ERASED_MS);
      // What servers hand to one another they keep until they compact it, as docs/scale.md says.
      const handed = await findInFiles(stores('$SYS'), redacted, 0);
      console.log(
        `  ${redacted.size} texts redacted, of which ${left.length} are left in the stream on the disks of NATS, and ` +
          `${handed.length} in the log of its replication`,
      );
      return [...complaints, ...left.slice(0, 5).map((text) => `redacted, and still there: ${text}`)];
    },
  } satisfies Awaited<ReturnType<Parameters<typeof runTrial>[0]['worlds'][number]>>;
}

/** As an operator does, when the stream is not there. */
async function setUpStream(env: Readonly<Record<string, string>>, attempts = 30): Promise<void> {
  const child = spawn(process.execPath, [MAIN, 'feed', '--setup', ...STREAM], {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (output += String(text)));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === 0) return;
  // The cluster has just come up, or is parted: an operator tries again.
  if (attempts <= 1) throw new Error(`feed --setup ended with ${String(code)}:\n${output}`);
  await delay(1_000);
  await setUpStream(env, attempts - 1);
}

process.exitCode = await runTrial({ name: 'chaos:nats', wanted, worlds: [storm] });
