/**
 * `roles`: roles are made, or the SQL for it printed, with what is left to be done by hand.
 */
import { makeRoles, passwordCommand, rolesSql, type RoleNames } from '../../admin/roles.js';
import { databaseUrl } from '../face/required.js';
import { safeJson } from '../terminal/terminal-text.js';

type RolesOptions = RoleNames & { readonly print?: true; readonly json?: true };

export async function runRoles({ print, json, ...names }: RolesOptions): Promise<void> {
  const url = databaseUrl('roles --relay outbox_relay', ', as the owner of the outbox');
  if (print) {
    const sql = await rolesSql(url, names);
    console.log(json ? safeJson({ sql }) : sql);
    return;
  }
  const made = await makeRoles(url, names);
  if (json) {
    const commands = made.filter(({ created }) => created).map(({ name }) => passwordCommand(name));
    console.log(safeJson({ roles: made, inPsql: commands }));
    return;
  }
  for (const { name, created } of made) console.log(`${created ? 'created' : 'existed'}, and has its rights: ${name}`);
  const created = made.filter((role) => role.created);
  if (created.length > 0) {
    console.log('\nA new role has no password. In psql, as the same user:');
    for (const { name } of created) console.log(`  ${passwordCommand(name)}`);
  }
}
