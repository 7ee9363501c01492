/**
 * A relay's connection to the database dies in silence while it starts: the start fails and says so, or goes on.
 */
import test, { type ExecutionContext } from 'ava';
import { runCommand } from '../support/command.js';
import { createDatabase } from '../support/database.js';
import { startProxy, type Proxy } from '../support/proxy.js';
import { startRelayProcess } from '../support/relay-process.js';
import { startStopwatch } from '../support/stopwatch.js';

/** Seconds in which a start ends: the timeout of connecting or of a query, and a process's start and end on a busy machine. */
const ENDS_WITHIN = 20;

/** A proxy to a database of the test's own, at which something happens once `sent` is on its way. */
async function setUp(t: ExecutionContext, sent: string, happens: (proxy: Proxy) => void): Promise<Proxy> {
  const database = await createDatabase(t);
  const proxy = await startProxy(t, database.url, {
    onSent(chunk) {
      if (chunk.includes(sent)) happens(proxy);
    },
  });
  return proxy;
}

for (const [what, sent] of [
  ['before it is open', 'application_name'],
  ['amid the check of migrations', 'to_regclass'],
  ['amid the list of migrations', 'SELECT name FROM'],
] as const) {
  test(`a start whose connection dies ${what} fails, and says that the database does not answer`, async (t) => {
    const proxy = await setUp(t, sent, ({ blackhole }) => blackhole());
    const since = startStopwatch();
    const { code, output } = await runCommand([], { DATABASE_URL: proxy.url, PUBLIC_CHANNELS: '*', PORT: '0' });
    t.is(code, 1, output);
    t.regex(output, /^The database does not answer: .*DATABASE_URL.*\n$/);
    t.true(since.seconds() < ENDS_WITHIN, `it took ${since.seconds().toFixed(1)} s`);
  });
}

test('a start goes on though the connection that has checked the migrations died before its farewell', async (t) => {
  const farewell = 'X\0\0\0\x04';
  const proxy = await setUp(t, farewell, ({ strand }) => strand('outbox-relay migrate'));
  const relay = await startRelayProcess(t, proxy.url);
  t.true(proxy.connections > 1, 'it stands on more than the dead connection');
  t.is(await relay.end('SIGTERM'), 0);
});
