/**
 * `npm run bench`: measures against a baseline or a bar in the same run, on a PostgreSQL of its own in a temporary folder.
 *
 *     npm run bench                     all parts
 *     npm run bench -- latency storm    some
 *     npm run bench -- --json FILE      writes the results of the parts that have some there, too
 *     npm run bench -- vacuum           by itself only: it takes minutes, on a server of its own settings
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startEmbedded } from '../src/embedded.js';
import { migrate } from '../src/migrate.js';
import { measureAccess } from './access.js';
import { measureChannels } from './channels.js';
import { measureStalled, measureStorm } from './crowd.js';
import { measureFanout } from './fanout.js';
import { measureGrowth } from './growth.js';
import { measureIdle } from './idle.js';
import { measureLatency } from './latency.js';
import { measureReplay } from './replay.js';
import { measurePublishing } from './publishing.js';
import { resultText, type Result } from './result.js';
import { measureScaling } from './scaling.js';
import { benchVacuum } from './vacuum.js';

const ROUNDS = 40;
const ACCESS_ROUNDS = 15;
/** What a token may add to a connection, in CPU milliseconds of the relay. */
const TOKEN_BAR = 0.2;
const STALLED = { readers: 2000, rows: 1_000_000 };
/** By how much the relay may grow with them, in MiB. */
const STALLED_BAR = 64;
const REPLAYS = [
  { rows: 1_000_000, clients: 1, rounds: 5 },
  { rows: 100_000, clients: 100, rounds: 3 },
];
/** Of what COPY gives away, to one client. */
const REPLAY_BAR = 0.3;
/** Clients come back after a short cut, as of a restart; after a longer one; and one that the window is too small for. */
const STORMS = [
  { clients: 5000, missed: 200, windowMegabytes: 64 },
  { clients: 10_000, missed: 200, windowMegabytes: 64 },
  { clients: 5000, missed: 2000, windowMegabytes: 64 },
  { clients: 5000, missed: 2000, windowMegabytes: 0.1 },
];
/** For the 10,000: seconds until all have caught up, and reads of the table. */
const STORM_BAR = { clients: 10_000, seconds: 5, reads: 20 };
const PUBLISHING = { rounds: 9, seconds: 2 };
const FANOUT = { connections: 2000, rounds: 15 };
const CHANNELS = { idle: 10_000, readers: 50, rounds: 9 };
const IDLE = [1000, 10_000, 20_000];
const SCALING = { connections: 2000, rounds: 7 };
const GROWTH = {
  connections: [1000, 5000, 10_000, 20_000],
  rates: [10, 100, 1000, 10_000],
  picture: fileURLToPath(new URL('../../bench/growth.svg', import.meta.url)),
};

const number = (value: number, digits = 2) => value.toFixed(digits).padStart(8);

/** A part prints what it finds, or returns it. */
type Part = (url: string) => Promise<undefined | Result | readonly Result[]> | Promise<void>;

const PARTS: Readonly<Record<string, Part>> = {
  publish: (url) => measurePublishing(url, PUBLISHING),
  fanout: (url) => measureFanout(url, FANOUT),
  channels: (url) => measureChannels(url, CHANNELS),
  idle: (url) => measureIdle(url, IDLE),
  scaling: (url) => measureScaling(url, SCALING),
  growth: (url) => measureGrowth(url, GROWTH),

  async latency(url) {
    const { bare, relay, rounds } = await measureLatency(url, ROUNDS);
    console.log(`Insert to client, ${rounds} events each, one at a time (ms)`);
    console.log(`                     p50      p99`);
    console.log(`  LISTEN + SELECT ${number(bare.p50)} ${number(bare.p99)}`);
    console.log(`  relay           ${number(relay.p50)} ${number(relay.p99)}`);
    console.log(`  ratio           ${number(relay.p50 / bare.p50)} ${number(relay.p99 / bare.p99)}`);
  },

  async access(url) {
    const { connections, rounds, ...access } = await measureAccess(url, ACCESS_ROUNDS);
    console.log(`CPU of the relay for a connection, ${rounds} rounds of ${connections} each (ms, medians)`);
    console.log(`  public channel  ${number(access.anonymous)}`);
    console.log(`  HS256 token     ${number(access.token)}`);
    console.log(`  ratio           ${number(access.token / access.anonymous)}`);
    console.log(`  difference      ${number(access.difference)}   bar: below ${TOKEN_BAR}`);
  },

  async replay(url) {
    for (const { rows, clients, rounds, ...replay } of await measureReplay(url, REPLAYS)) {
      console.log(
        `Replay of ${rows} rows of 300 bytes to ${clients} at once (rows per second, medians of ${rounds} rounds)`,
      );
      console.log(`  COPY of the rows ${number(replay.copy, 0)}`);
      console.log(`  relay, to all    ${number(replay.relay, 0)}`);
      console.log(`  ratio            ${number(replay.ratio)}   bar: ${clients === 1 ? REPLAY_BAR : 'none'}`);
      console.log(`  CPU of the relay ${number(replay.cpu)} s for a million events`);
    }
  },

  async stalled(url) {
    const { readers, rows, before, most, delivery } = await measureStalled(url, STALLED.readers, STALLED.rows);
    console.log(`${readers} readers of a replay of ${rows} rows that take nothing: resident memory (MiB)`);
    console.log(`  without them    ${number(before, 1)}`);
    console.log(`  with them       ${number(most, 1)}`);
    console.log(`  growth          ${number(most - before, 1)}   bar: below ${STALLED_BAR}`);
    console.log(`  insert to a client that reads, meanwhile (ms, median) ${number(delivery)}`);
  },

  async storm(url) {
    for (const storm of STORMS) {
      const { clients, seconds, median, events, reads, newcomer, cpu, clientsCpu } = await measureStorm(url, storm);
      const isBarred = clients === STORM_BAR.clients;
      const bar = (most: number) => (isBarred ? `   bar: ${most} at the most` : '');
      console.log(
        `${clients} clients back at once, lacking 1 to ${storm.missed} events; window of ${storm.windowMegabytes} MB`,
      );
      console.log(
        `  all caught up after   ${number(seconds)} s, half after ${median.toFixed(2)} s${bar(STORM_BAR.seconds)}`,
      );
      console.log(`  events sent           ${number(events, 0)}`);
      console.log(`  reads of the table    ${number(reads, 0)}${bar(STORM_BAR.reads)}`);
      console.log(`  CPU of the relay      ${number(cpu)} s, and of the clients ${clientsCpu.toFixed(2)} s`);
      console.log(`  a newcomer's stream   ${number(newcomer, 0)} ms at the longest`);
    }
  },
};

const names = process.argv.slice(2);
if (names[0] === 'vacuum') {
  const [rows = 200_000, events = 40_000, repeats = 2] = names.slice(1).map(Number);
  await benchVacuum({ rows, events, repeats });
  process.exit();
}
const at = names.indexOf('--json');
const [, jsonFile] = at < 0 ? [] : names.splice(at, 2);
const results: Result[] = [];
const strangers = names.filter((name) => !(name in PARTS));
if (strangers.length > 0) {
  console.error(`There is no part ${strangers.join(', ')}. Parts: ${Object.keys(PARTS).join(', ')}.`);
  process.exit(1);
}
const folder = await mkdtemp(path.join(os.tmpdir(), 'outbox-bench-'));
const server = await startEmbedded({ dataDirectory: path.join(folder, 'data') });
try {
  await migrate(server.url, 'up');
  for (const [name, measure] of Object.entries(PARTS)) {
    if (names.length > 0 && !names.includes(name)) continue;
    for (const result of [(await measure(server.url)) ?? []].flat()) {
      results.push(result);
      console.log(resultText(result));
    }
    console.log();
  }
  if (jsonFile !== undefined) await writeFile(jsonFile, `${JSON.stringify(results, undefined, 2)}\n`);
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
