/**
 * Abuse: what each attack does to well-behaved clients. Windows without and beside it take turns on one relay, which is started
 * for it, on a table of a million rows. The relay, the attackers and those who look on are processes of their own.
 *
 * On two cores a process that wants to run waits for others for some milliseconds now and then, whatever the relay does. So a p99 without
 * the attack that is below `FLOOR_MS` counts as that.
 */
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Attack, Noted } from '../test/support/attacks/attack.js';
import { startAttackers } from './abuse/attackers.js';
import { ATTACKS } from '../test/support/attacks/attacks.js';
import { seed } from './abuse/seed.js';
import { startTarget, type Usage } from './abuse/target.js';
import { readUntil } from '../test/support/steady-client.js';
import { startWitness, type Seen } from './abuse/witness.js';
import type { Result } from './result.js';
import { median } from './usage.js';

export interface AbuseOptions {
  readonly rounds: number;
  readonly windowMs: number;
  readonly rows: number;
  /** Only attacks whose name has this in it. Default: all. */
  readonly only?: string | undefined;
}

/** What a p99 may be of that without the attack, and the least that the latter counts as. */
const MOST_TIMES = 3;
const FLOOR_MS = 10;
const LATE_MS = 1000;
const HEALTH_MS = 100;
const SINCE_MS = 10;
/** HISTORY_CONNECTIONS, what listens, what reads what is new, and one that is being ended or begun. */
const MOST_SESSIONS = 4 + 3;
const MIB = 1024 ** 2;
/** An attack is under way before it is measured. */
const LEAD_MS = 300;

export async function measureAbuse(serverUrl: string, options: AbuseOptions): Promise<Result[]> {
  const seeded = await seed(serverUrl, options.rows);
  const results = [await measureSince(seeded.databaseUrl, options.rows)];
  for (const attack of ATTACKS) {
    if (options.only !== undefined && !attack.name.includes(options.only)) continue;
    const began = performance.now();
    const result = await measureAttack(attack, seeded, options).catch((error: unknown) => unmeasured(attack, error));
    results.push(result);
    if (attack.leaves !== undefined) await deleteChannel(seeded.databaseUrl, attack.leaves);
    // The tables come when all is over, which is long in coming.
    const verdict = result.bar.holds === true ? 'holds' : 'DOES NOT HOLD';
    console.error(`${((performance.now() - began) / 1000).toFixed(0).padStart(4)} s  ${attack.name}: ${verdict}`);
  }
  return results;
}

async function measureSince(databaseUrl: string, rows: number): Promise<Result> {
  const target = await startTarget({ databaseUrl, ports: await freePorts(), env: {} });
  const times: number[] = [];
  try {
    for (let n = 0; n < 21; n += 1) {
      const since = Date.now() + (n % 3) * 86_400_000;
      times.push(await readUntil(target.url, `/events/news?since=${since}`, {}, 'stream-open', 10 * LATE_MS));
    }
  } finally {
    await target.stop();
  }
  const took = median(times);
  return {
    part: 'abuse',
    title: `A stream that begins now or later by since=, on ${rows} rows, while nothing else happens (ms)`,
    rows: [{ requests: times.length, median: took, most: Math.max(...times) }],
    ratio: took / SINCE_MS,
    bar: { is: `at most ${SINCE_MS} ms`, holds: took <= SINCE_MS },
  };
}

async function measureAttack(
  attack: Attack,
  { databaseUrl, strangerUrl }: Awaited<ReturnType<typeof seed>>,
  { rounds, windowMs }: AbuseOptions,
): Promise<Result> {
  const attackers = await startAttackers();
  const ends: (() => Promise<void>)[] = [attackers.stop];
  try {
    const env = attack.env?.(attackers.appUrl) ?? {};
    const target = await startTarget({ databaseUrl, ports: await freePorts(), env });
    ends.push(target.stop);
    const { url, metricsUrl } = target;
    const noted = await attackers.prepare(attack.name, { url, metricsUrl, databaseUrl, strangerUrl });
    const witness = await startWitness({ url, databaseUrl, hasUser: attack.hasUser ?? false });
    ends.push(witness.stop);
    await witness.calm();

    const without = createSide();
    const beside = createSide();
    let counts: Readonly<Record<string, number>> = {};
    for (let round = 0; round < rounds; round += 1) {
      target.usage();
      const quiet = await witness.watch(windowMs);
      without.add(quiet, target.usage());
      await attackers.attack();
      await delay(LEAD_MS);
      const loud = await witness.watch(windowMs);
      counts = await attackers.retreat();
      beside.add(loud, target.usage());
      await witness.calm();
    }
    return judge(attack, noted, counts, target.deaths, without, beside);
  } finally {
    for (const end of ends.toReversed()) await end();
  }
}

/** An attack after which nothing could be measured any more. */
function unmeasured(attack: Attack, error: unknown): Result {
  return {
    part: 'abuse',
    title: attack.name,
    rows: [{ error: String(error) }],
    ratio: Number.NaN,
    bar: { is: 'that it can be measured', holds: false },
  };
}

async function deleteChannel(databaseUrl: string, channel: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'bench' });
  await client.connect();
  await client.query('DELETE FROM outbox WHERE channel = $1', [channel]);
  await client.end();
}

interface Side {
  readonly seen: Record<keyof Seen, number[]>;
  readonly usage: Record<keyof Usage, number>;
  add(seen: Seen, usage: Usage): void;
}

function createSide(): Side {
  const seen: Side['seen'] = { one: [], twenty: [], commit: [], resume: [], health: [], user: [] };
  const usage = { residentBytes: 0, externalBytes: 0, sessions: 0 };
  return {
    seen,
    usage,
    add(more, used) {
      for (const key of Object.keys(seen) as (keyof Seen)[]) seen[key].push(...more[key]);
      for (const key of Object.keys(usage) as (keyof Usage)[]) usage[key] = Math.max(usage[key], used[key]);
    },
  };
}

function judge(
  attack: Attack,
  noted: Noted,
  counts: Readonly<Record<string, number>>,
  deaths: number,
  without: Side,
  beside: Side,
): Result {
  const lateMs = LATE_MS + (attack.locksMs ?? 0);
  const burdenMs = attack.burdensServer ? percentile(beside.seen.commit, 0.99) : 0;
  const compared = (['one', 'twenty', ...(attack.hasUser ? (['user'] as const) : [])] as const).map(
    (key) => percentile(beside.seen[key], 0.99) / Math.max(FLOOR_MS, burdenMs, percentile(without.seen[key], 0.99)),
  );
  const ratio = Math.max(...compared);
  const late = [...beside.seen.twenty, ...beside.seen.resume, ...beside.seen.user].filter((took) => took > lateMs);
  const checks: [is: string, holds: boolean][] = [
    // What a locked table takes is not the relay's to give back.
    ...(attack.locksMs === undefined
      ? ([
          [`p99 at most ${MOST_TIMES} times${attack.burdensServer ? ' that of commits' : ''}`, ratio <= MOST_TIMES],
        ] as [string, boolean][])
      : []),
    [`nothing later than ${lateMs / 1000} s`, late.length === 0],
    ...(attack.judgesHealth === true
      ? ([[`/healthz within ${HEALTH_MS} ms`, percentile(beside.seen.health, 0.99) <= HEALTH_MS]] as [
          string,
          boolean,
        ][])
      : []),
    [`at most ${MOST_SESSIONS} sessions`, beside.usage.sessions <= MOST_SESSIONS],
    ['no death', deaths === 0],
  ];
  if (attack.memory) {
    const { of, is, bytes } = attack.memory;
    const key = `${of}Bytes` as const;
    checks.push([
      `${of} memory grows by ${is} at most (${(bytes(noted) / MIB).toFixed(0)} MiB)`,
      beside.usage[key] - without.usage[key] <= bytes(noted),
    ]);
  }
  const broken = checks.flatMap(([is, holds]) => (holds ? [] : [is]));
  const outcomes = Object.entries(counts).map(([outcome, count]) => `${outcome}: ${count}`);
  return {
    part: 'abuse',
    title:
      `${attack.name} (ms, MiB)\n  ${[...outcomes, ...(deaths > 0 ? [`THE RELAY DIED: ${deaths}`] : [])].join(', ')}` +
      (broken.length > 0 ? `\n  broken: ${broken.join('; ')}` : ''),
    rows: [row('without', without, lateMs, attack), row('beside it', beside, lateMs, attack)],
    ratio,
    bar: { is: checks.map(([is]) => is).join('; '), holds: broken.length === 0 },
  };
}

function row(name: string, { seen, usage }: Side, lateMs: number, attack: Attack): Record<string, string | number> {
  const { one, twenty, commit, resume, health, user } = seen;
  return {
    '': name,
    p50: percentile(one, 0.5),
    p99: percentile(one, 0.99),
    max: Math.max(...one),
    'p99 of 20': percentile(twenty, 0.99),
    late: twenty.filter((took) => took > lateMs).length,
    'commit p99': percentile(commit, 0.99),
    'resume p99': percentile(resume, 0.99),
    'resume max': Math.max(...resume),
    'healthz p99': percentile(health, 0.99),
    'healthz max': Math.max(...health),
    ...(attack.hasUser && { 'user p99': percentile(user, 0.99), 'user max': Math.max(...user) }),
    resident: usage.residentBytes / MIB,
    external: usage.externalBytes / MIB,
    sessions: usage.sessions,
  };
}

function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
}

/** Known before the relay starts, so that it comes back at the same place when it dies. */
async function freePorts(): Promise<{ events: number; metrics: number }> {
  const [events, metrics] = await Promise.all([freePort(), freePort()]);
  return { events, metrics };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
