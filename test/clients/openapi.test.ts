/**
 * Schemathesis asks a relay for all that its description allows, and for much that it doesn't, and holds the answers against it.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tmpdir } from 'node:os';
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { runPython } from '../support/python.js';
import { startTestRelay } from '../support/relay.js';
import { SECRET } from '../support/token.js';
import { startEndingProxy } from './ending-proxy.js';

const CLIENTS = fileURLToPath(new URL('../../../test/clients/', import.meta.url));
const SCHEMATHESIS = join(CLIENTS, '.venv/bin/schemathesis');
const HOOKS = join(CLIENTS, 'python/openapi_hooks.py');

/** Of an address that is too long it may be said, too. */
const CONFIGURATION = `
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 408, 417, 431]
`;

test('whatever schemathesis asks for, each answer is one that the description has', async (t) => {
  t.timeout(120_000);
  const database = await createDatabase(t);
  await database.query(
    "INSERT INTO outbox (channel, event, data) SELECT 'c' || n % 5, 'e' || n % 3, to_jsonb(n) FROM generate_series(1, 500) AS n",
  );
  const env = { PUBLIC_CHANNELS: '*', JWT_SECRET: SECRET, ALLOW_QUERY_TOKEN: 'true', PUBLIC_METRICS: 'true' };
  const relay = await startTestRelay(t, database.url, env);
  const url = await startEndingProxy(t, relay.url);
  const folder = mkdtempSync(join(tmpdir(), 'openapi-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'schemathesis.toml'), CONFIGURATION);
  const { code, output } = await runPython(
    SCHEMATHESIS,
    [
      ...['run', `${url}/openapi.json`, '--workers', '2', '--max-examples', '10', '--seed', '1', '--no-color'],
      ...['--checks', 'all', '--request-timeout', '30', '--generation-database', 'none'],
    ],
    { cwd: folder, env: { SCHEMATHESIS_HOOKS: HOOKS } },
  );
  t.is(code, 0, output);
});
