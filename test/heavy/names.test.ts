/**
 * No name in a statement of ours is resolved to what another role has made in a schema of the search_path, wherever that leads.
 */
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { checkNames } from '../support/names.js';

test('R8: no function, operator or type of another role is called by relay, commands, migrations or triggers', async (t) => {
  const database = await createDatabase(t, { template: false });
  await checkNames(t, database, database.url);
});
