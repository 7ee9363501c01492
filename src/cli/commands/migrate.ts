/**
 * `migrate`: the outbox is created, updated, removed, or looked at.
 */
import { migrate, migrationStatus } from '../../postgres/migrate.js';
import { databaseUrl } from '../face/required.js';
import { startProgress } from '../terminal/progress.js';
import { safeJson } from '../terminal/terminal-text.js';
import { confirmRemoval } from './confirm-removal.js';

export async function runMigrate(
  action: 'up' | 'down' | 'status',
  { yes = false, json = false }: { readonly yes?: boolean; readonly json?: boolean } = {},
): Promise<void> {
  const url = databaseUrl('migrate');
  if (action === 'status') {
    const status = await migrationStatus(url);
    const { applied, pending, unknown } = status;
    if (pending.length > 0) process.exitCode = 1;
    if (json) return console.log(safeJson(status));
    for (const name of applied)
      console.log(`applied  ${name}${unknown.includes(name) ? '  (not known to this version)' : ''}`);
    for (const name of pending) console.log(`missing  ${name}`);
    return;
  }
  if (action === 'down' && !(await confirmRemoval(url, yes))) {
    console.log('Nothing was deleted.');
    process.exitCode = 1;
    return;
  }
  const done = action === 'up' ? 'applied' : 'removed';
  const progress = startProgress('Migrations', undefined);
  let names: string[];
  try {
    names = await migrate(url, action, (number) => progress.update(number));
  } finally {
    progress.end();
  }
  if (json) console.log(safeJson({ [done]: names }));
  else if (names.length === 0) console.log('Nothing to do: the database is as it should be.');
  else console.log(names.map((name) => `${done} ${name}`).join('\n'));
}
