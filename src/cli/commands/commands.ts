/**
 * What each sub-command does: reads the environment, has the part that knows how do the work, and
 * prints what came of it.
 */
import { mintToken } from '../../access/jwt.js';
import { advanceIds } from '../../admin/advance-ids.js';
import { examine } from '../../admin/doctor/doctor.js';
import { hasErrors, resultsText } from '../../admin/doctor/finding.js';
import { examineStream } from '../../admin/doctor/stream.js';
import { examineTracing } from '../../admin/doctor/tracing.js';
import { makeRoles, passwordCommand, rolesSql, type RoleNames } from '../../admin/roles.js';
import { commandLine } from '../../command-name.js';
import { readConfig } from '../../config/config.js';
import { ChannelError } from '../../event/channel-filter.js';
import { OperatorError } from '../../operator-error.js';
import { migrate, migrationStatus } from '../../postgres/migrate.js';
import type { Span } from '../face/command-face.js';
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

export async function runDoctor({ json }: { readonly json?: true }): Promise<void> {
  const url = databaseUrl('doctor', ', with the settings of the relay');
  const { listenDatabaseUrl = url, nats, tracing } = readConfig(process.env);
  const results = await examine({ databaseUrl: url, listenDatabaseUrl });
  if (nats) results.push(await examineStream(nats));
  if (tracing) results.push(await examineTracing(process.env));
  console.log(json ? JSON.stringify(results, undefined, 2) : resultsText(results));
  if (hasErrors(results)) process.exitCode = 1;
}

export async function runAdvanceIds({ by, json }: { readonly by: bigint; readonly json?: true }): Promise<void> {
  const advances = await advanceIds(databaseUrl('advance-ids', ', as the owner of the outbox'), by);
  if (json) {
    console.log(safeJson(advances));
    return;
  }
  for (const { sequence, from, to } of advances) console.log(`${sequence} goes on after ${to}; it was at ${from}`);
  console.log(`
If more than ${by} events can have been published since the copy that you restored, run it once more with --by.
Running relays need no restart. A client with the cursor of an event that was lost gets a stream-reset.`);
}

export interface TokenOptions {
  readonly channel?: readonly string[];
  readonly expires: Span;
  readonly sub?: string;
  readonly json?: true;
}

export async function runToken({ channel: channels = [], expires, sub: subject, json }: TokenOptions): Promise<void> {
  if (channels.length === 0) {
    throw new OperatorError(
      'usage',
      `Name what the token is for: ${commandLine("token --channel user:42 --channel 'org:7:*'")}`,
    );
  }
  const { tokens } = readConfig(process.env);
  if (tokens?.secret === undefined) {
    throw new OperatorError(
      'usage',
      'A token is signed with the JWT_SECRET of the relay, which is not set here. With JWT_PUBLIC_KEY or JWKS_URL only the issuer can make tokens.',
    );
  }
  try {
    const token = await mintToken(tokens, { channels, subject, expiresInSeconds: expires.seconds });
    console.log(json ? safeJson({ token, channels, subject, expiresInSeconds: expires.seconds }) : token);
  } catch (error) {
    if (error instanceof ChannelError) throw new OperatorError('usage', error.message, { cause: error });
    throw error;
  }
}
