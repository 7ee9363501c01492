/**
 * `npm run bench`: measures against a baseline or a bar in the same run, on a PostgreSQL of its own in a temporary folder.
 *
 *     npm run bench                     all parts
 *     npm run bench -- latency storm    some
 *     npm run bench -- --json FILE      writes the results there, too
 *     npm run bench -- abuse --quick    in short; `--attack TEXT`: only attacks with that in their names
 *     npm run bench -- publish --rounds 3 --seconds 2 --workload TEXT --postgres FOLDER: see README.md
 *     npm run bench -- vacuum           by itself only: it takes minutes, on a server of its own settings
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startEmbedded } from '../packages/embedded-postgres/embedded.js';
import { migrate } from '../src/postgres/migrate.js';
import { measureAbuse } from './abuse.js';
import { measureAccess } from './access.js';
import { measureChannels } from './channels.js';
import { measurePaint } from './console-paint.js';
import { measureConsole } from './console.js';
import { measureStalled, measureStorm } from './crowd.js';
import { measureFanout } from './fanout.js';
import { measureGrowth } from './growth.js';
import { measureIdle } from './idle.js';
import { measureLatency } from './latency.js';
import { measureNats } from './nats.js';
import { measureReplay } from './replay.js';
import { measurePublishing } from './publishing.js';
import { resultText, type Result } from './result.js';
import { measureScaling } from './scaling.js';
import { benchVacuum } from './vacuum.js';

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
const NO_BAR = { is: 'none', holds: true };
const PUBLISHING = { rounds: '5', seconds: '1' };
const FANOUT = { connections: 2000, rounds: 15 };
const CONSOLE = { connections: 2000, rounds: 15 };
const CHANNELS = { idle: 10_000, readers: 50, rounds: 9 };
const IDLE = [1000, 10_000, 20_000];
const SCALING = { connections: 2000, rounds: 7 };
const GROWTH = {
  connections: [1000, 5000, 10_000, 20_000],
  rates: [10, 100, 1000, 10_000],
  picture: fileURLToPath(new URL('../../bench/growth.svg', import.meta.url)),
};
const NATS = { relays: 20, rounds: 5, seconds: 3, backlog: 200_000 };

const PAINT = { rows: 1_000_000, connections: 10_000, rounds: 9 };

const ABUSE = { rounds: 3, windowMs: 5000, rows: 1_000_000 };
const QUICK_ABUSE = { rounds: 1, windowMs: 4000, rows: 1_000_000 };

const names = process.argv.slice(2);
const [, jsonFile] = takeOption('--json', 2);
const [quick] = takeOption('--quick', 1);
const [, only] = takeOption('--attack', 2);
const [, rounds = PUBLISHING.rounds] = takeOption('--rounds', 2);
const [, seconds = PUBLISHING.seconds] = takeOption('--seconds', 2);
const [, workload] = takeOption('--workload', 2);
const [, postgres] = takeOption('--postgres', 2);

type Measured = AsyncIterable<Result> | Promise<Result | readonly Result[]>;

const PARTS: Readonly<Record<string, (url: string) => Measured>> = {
  publish: () => measurePublishing({ rounds: Number(rounds), seconds: Number(seconds), only: workload, postgres }),
  latency: (url) => measureLatency(url),
  fanout: (url) => measureFanout(url, FANOUT),
  console: (url) => measureConsole(url, CONSOLE),
  channels: (url) => measureChannels(url, CHANNELS),
  idle: (url) => measureIdle(url, IDLE),
  scaling: (url) => measureScaling(url, SCALING),
  growth: (url) => measureGrowth(url, GROWTH),

  async access(url) {
    const { connections, rounds, anonymous, token, difference } = await measureAccess(url, ACCESS_ROUNDS);
    return {
      part: 'access',
      title: `CPU of the relay for a connection, ${rounds} rounds of ${connections} each (ms, medians)`,
      rows: [
        { channel: 'public', cpu: anonymous },
        { channel: 'HS256 token', cpu: token },
        { channel: 'difference', cpu: difference },
      ],
      ratio: token / anonymous,
      bar: { is: `a difference below ${TOKEN_BAR} ms`, holds: difference < TOKEN_BAR },
    };
  },

  async replay(url) {
    const replays = await measureReplay(url, REPLAYS);
    return replays.map(({ rows, clients, rounds, copy, relay, ratio, cpu }) => ({
      part: 'replay',
      title: `Replay of ${rows} rows of 300 bytes to ${clients} at once (medians of ${rounds} rounds)`,
      rows: [
        { party: 'COPY of the rows', 'rows/s': copy, 'CPU s for a million': '' },
        { party: 'relay, to all', 'rows/s': relay, 'CPU s for a million': cpu },
      ],
      ratio,
      bar: clients > 1 ? NO_BAR : { is: `at least ${REPLAY_BAR}`, holds: ratio >= REPLAY_BAR },
    }));
  },

  async stalled(url) {
    const { readers, rows, before, most, delivery } = await measureStalled(url, STALLED.readers, STALLED.rows);
    return {
      part: 'stalled',
      title: `${readers} readers of a replay of ${rows} rows that take nothing: resident memory (MiB), and insert to one that reads (ms)`,
      rows: [
        { relay: 'without them', memory: before, delivery: '' },
        { relay: 'with them', memory: most, delivery },
        { relay: 'growth', memory: most - before, delivery: '' },
      ],
      ratio: (most - before) / STALLED_BAR,
      bar: { is: `a growth below ${STALLED_BAR} MiB`, holds: most - before < STALLED_BAR },
    };
  },

  async storm(url) {
    const results: Result[] = [];
    for (const storm of STORMS) {
      const { clients, seconds, median, events, reads, newcomer, cpu, clientsCpu } = await measureStorm(url, storm);
      results.push({
        part: 'storm',
        title: `${clients} clients back at once, lacking 1 to ${storm.missed} events; window of ${storm.windowMegabytes} MB`,
        rows: [
          {
            'all caught up (s)': seconds,
            'half (s)': median,
            events,
            'reads of the table': reads,
            'CPU of the relay (s)': cpu,
            'and of the clients': clientsCpu,
            'a newcomer waits (ms)': newcomer,
          },
        ],
        ratio: seconds / STORM_BAR.seconds,
        bar:
          clients === STORM_BAR.clients
            ? {
                is: `all after ${STORM_BAR.seconds} s, with ${STORM_BAR.reads} reads at the most`,
                holds: seconds <= STORM_BAR.seconds && reads <= STORM_BAR.reads,
              }
            : NO_BAR,
      });
    }
    return results;
  },

  nats: (url) => measureNats(url, NATS),

  'console-paint': (url) => measurePaint(url, PAINT),

  abuse: (url) => measureAbuse(url, { ...(quick === undefined ? ABUSE : QUICK_ABUSE), only }),
};

if (names[0] === 'vacuum') {
  const [rows = 200_000, events = 40_000, repeats = 2] = names.slice(1).map(Number);
  await benchVacuum({ rows, events, repeats });
  process.exit();
}
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
    const measured = measure(server.url);
    for await (const result of 'then' in measured ? [await measured].flat() : measured) {
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

/** Takes an option, and what belongs to it, out of the names. */
function takeOption(option: string, length: number): string[] {
  const at = names.indexOf(option);
  return at < 0 ? [] : names.splice(at, length);
}
