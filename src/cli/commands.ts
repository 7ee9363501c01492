/**
 * What each sub-command does: reads the environment, has the part that knows how do the work, and
 * prints what came of it.
 */
import { mintToken } from '../access/jwt.js';
import { advanceIds } from '../admin/advance-ids.js';
import { examine } from '../admin/doctor/doctor.js';
import { hasErrors, resultsText } from '../admin/doctor/finding.js';
import { prune } from '../admin/prune.js';
import { makeRoles, passwordCommand, rolesSql, type RoleNames } from '../admin/roles.js';
import { readConfig } from '../config/config.js';
import { ChannelError } from '../event/channel-filter.js';
import { OperatorError } from '../operator-error.js';
import { migrate, migrationStatus } from '../postgres/migrate.js';
import { withDatabaseVariable } from './errors.js';

/** A span of time as it was given, for what is printed of it. */
export interface Span {
  readonly text: string;
  readonly seconds: number;
}

/** Interval at which a long pruning reports how far it is. */
const PROGRESS_MS = 10_000;

/** @throws OperatorError `no-database-url`, with the example */
function required(url: string | undefined, lack: string, who: string, example: string): string {
  if (url) return url;
  throw new OperatorError('no-database-url', `${lack}. Run${who}: ${example}`);
}

export async function runMigrate(action: 'up' | 'down' | 'status'): Promise<void> {
  const example = 'DATABASE_URL=postgres://user:password@host:5432/database npx outbox-relay migrate';
  const url = required(readConfig(process.env).databaseUrl, 'DATABASE_URL is not set', '', example);
  if (action === 'status') {
    const { applied, pending, unknown } = await migrationStatus(url);
    for (const name of applied)
      console.log(`applied  ${name}${unknown.includes(name) ? '  (not known to this version)' : ''}`);
    for (const name of pending) console.log(`missing  ${name}`);
    if (pending.length > 0) process.exitCode = 1;
    return;
  }
  const names = await migrate(url, action);
  const done = action === 'up' ? 'applied' : 'removed';
  console.log(
    names.length === 0
      ? 'Nothing to do: the database is as it should be.'
      : names.map((name) => `${done} ${name}`).join('\n'),
  );
}

export async function runRoles({ print, ...names }: RoleNames & { readonly print?: true }): Promise<void> {
  const example =
    'DATABASE_URL=postgres://owner:password@host:5432/database npx outbox-relay roles --relay outbox_relay';
  const { databaseUrl } = readConfig(process.env);
  const url = required(databaseUrl, 'DATABASE_URL is not set', ', as the owner of the outbox', example);
  if (print) {
    console.log(await rolesSql(url, names));
    return;
  }
  const made = await makeRoles(url, names);
  for (const { name, created } of made) console.log(`${created ? 'created' : 'existed'}, and has its rights: ${name}`);
  const created = made.filter((role) => role.created);
  if (created.length > 0) {
    console.log('\nA new role has no password. In psql, as the same user:');
    for (const { name } of created) console.log(`  ${passwordCommand(name)}`);
  }
}

export async function runDoctor({ json }: { readonly json?: true }): Promise<void> {
  const example = 'DATABASE_URL=postgres://user:password@host:5432/database npx outbox-relay doctor';
  const config = readConfig(process.env);
  const databaseUrl = required(
    config.databaseUrl,
    'DATABASE_URL is not set',
    ', with the settings of the relay',
    example,
  );
  const results = await examine({ databaseUrl, listenDatabaseUrl: config.listenDatabaseUrl ?? databaseUrl });
  console.log(json ? JSON.stringify(results, undefined, 2) : resultsText(results));
  if (hasErrors(results)) process.exitCode = 1;
}

export async function runAdvanceIds({ by }: { readonly by: bigint }): Promise<void> {
  const example = 'DATABASE_URL=postgres://owner:password@host:5432/database npx outbox-relay advance-ids';
  const { databaseUrl } = readConfig(process.env);
  const url = required(databaseUrl, 'DATABASE_URL is not set', ', as the owner of the outbox', example);
  for (const { sequence, from, to } of await advanceIds(url, by)) {
    console.log(`${sequence} goes on after ${to}; it was at ${from}`);
  }
  console.log(`
If more than ${by} events can have been published since the copy that you restored, run it once more with --by.
Running relays need no restart. A client with the cursor of an event that was lost gets a stream-reset.`);
}

export async function runPrune({ keep }: { readonly keep?: Span }): Promise<void> {
  if (keep === undefined) {
    throw new OperatorError('usage', 'How long are events to be kept? As in: outbox-relay prune --keep 7d');
  }
  const example =
    'RETENTION_DATABASE_URL=postgres://outbox_retention:password@host:5432/database npx outbox-relay prune --keep 7d';
  const config = readConfig(process.env);
  const lack = 'Neither RETENTION_DATABASE_URL nor DATABASE_URL is set';
  const url = required(config.retentionDatabaseUrl, lack, '', example);
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  let deleted = 0;
  let reportedAt = Date.now();
  const onBatch = (rows: number) => {
    deleted += rows;
    if (Date.now() - reportedAt < PROGRESS_MS) return;
    reportedAt = Date.now();
    console.error(`Deleted ${deleted} so far …`);
  };
  try {
    const work = prune({ url, keepSeconds: keep.seconds, signal: stop.signal, onBatch });
    const outcome = await withDatabaseVariable(config, url, work);
    if (outcome === 'another prunes') console.log('Another process prunes this outbox, so this one leaves it to that.');
    if (outcome === 'stopped') console.log('Stopped: what is left is for the next run.');
    if (outcome === 'done' && deleted === 0) console.log(`Nothing to delete: no event is older than ${keep.text}.`);
  } finally {
    if (deleted > 0) console.log(`Deleted ${deleted} ${deleted === 1 ? 'event' : 'events'} older than ${keep.text}.`);
  }
}

export interface TokenOptions {
  readonly channel?: readonly string[];
  readonly expires: Span;
  readonly sub?: string;
}

export async function runToken({ channel: channels = [], expires, sub: subject }: TokenOptions): Promise<void> {
  if (channels.length === 0) {
    throw new OperatorError(
      'usage',
      "Name what the token is for: outbox-relay token --channel user:42 --channel 'org:7:*'",
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
    console.log(await mintToken(tokens, { channels, subject, expiresInSeconds: expires.seconds }));
  } catch (error) {
    if (error instanceof ChannelError) throw new OperatorError('usage', error.message, { cause: error });
    throw error;
  }
}
