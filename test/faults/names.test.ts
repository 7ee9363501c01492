/**
 * Through a pooler in transaction mode, where no setting of a session holds: no name leads to what another role has made.
 */
import test from 'ava';
import { createDatabase, type ServerName } from '../support/database.js';
import { checkNames } from '../support/names.js';
import { startPgbouncer } from '../support/pgbouncer.js';

for (const server of ['newest', 'oldest'] as const satisfies readonly ServerName[]) {
  test(`R8: through a pooler, too, nothing that another role has made is called (${server})`, async (t) => {
    const database = await createDatabase(t, { server, template: false });
    const pooler = await startPgbouncer(t, database.url, { sessions: 2 });
    await checkNames(t, database, pooler.url);
  });
}
