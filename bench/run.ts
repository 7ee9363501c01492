/**
 * `npm run bench`: measures against a baseline in the same run, on a PostgreSQL of its own in a temporary folder.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { startEmbedded } from '../src/embedded.js';
import { migrate } from '../src/migrate.js';
import { measureAccess } from './access.js';
import { measureLatency } from './latency.js';

const ROUNDS = 40;
const ACCESS_ROUNDS = 15;
/** What a token may add to a connection, in CPU milliseconds of the relay. */
const TOKEN_BAR = 0.2;

const folder = await mkdtemp(path.join(os.tmpdir(), 'outbox-bench-'));
const server = await startEmbedded({ dataDirectory: path.join(folder, 'data') });
try {
  await migrate(server.url, 'up');
  const { bare, relay, rounds } = await measureLatency(server.url, ROUNDS);
  const ms = (value: number) => value.toFixed(2).padStart(8);
  console.log(`Insert to client, ${rounds} events each, one at a time (ms)`);
  console.log(`                     p50      p99`);
  console.log(`  LISTEN + SELECT ${ms(bare.p50)} ${ms(bare.p99)}`);
  console.log(`  relay           ${ms(relay.p50)} ${ms(relay.p99)}`);
  console.log(`  ratio           ${ms(relay.p50 / bare.p50)} ${ms(relay.p99 / bare.p99)}`);

  const access = await measureAccess(server.url, ACCESS_ROUNDS);
  console.log(
    `\nCPU of the relay for a connection, ${access.rounds} rounds of ${access.connections} each (ms, medians)`,
  );
  console.log(`  public channel  ${ms(access.anonymous)}`);
  console.log(`  HS256 token     ${ms(access.token)}`);
  console.log(`  ratio           ${ms(access.token / access.anonymous)}`);
  console.log(`  difference      ${ms(access.difference)}   bar: below ${TOKEN_BAR}`);
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
