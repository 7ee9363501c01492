/**
 * The sub-commands: each reads its arguments and the environment, has the part that knows how do the work, and prints what
 * came of it.
 */
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { advanceIds, DEFAULT_STEP } from '../admin/advance-ids.js';
import { ChannelError } from '../event/channel-filter.js';
import { readConfig } from '../config/config.js';
import { hasErrors, resultsText } from '../admin/doctor/finding.js';
import { examine } from '../admin/doctor/doctor.js';
import { reaching, UserError } from './errors.js';
import { migrate, migrationStatus } from '../postgres/migrate.js';
import { prune } from '../admin/prune.js';
import { makeRoles, passwordCommand, rolesSql } from '../admin/roles.js';
import { secondsIn, SPAN_FORM } from '../config/duration.js';
import { mintToken } from '../access/jwt.js';
import { USAGE } from './usage.js';

/** How often a long pruning says how far it is, in milliseconds. */
const PROGRESS = 10_000;

export async function runMigrate(action: string): Promise<void> {
  const { databaseUrl } = readConfig(process.env);
  if (!databaseUrl) {
    throw new UserError(
      'DATABASE_URL is not set. Run: DATABASE_URL=postgres://user:password@host:5432/database npx outbox-relay migrate',
    );
  }
  if (action === 'up' || action === 'down') {
    const names = await migrate(databaseUrl, action);
    const done = action === 'up' ? 'applied' : 'removed';
    console.log(
      names.length === 0
        ? 'Nothing to do: the database is as it should be.'
        : names.map((name) => `${done} ${name}`).join('\n'),
    );
  } else if (action === 'status') {
    const { applied, pending, unknown } = await migrationStatus(databaseUrl);
    for (const name of applied)
      console.log(`applied  ${name}${unknown.includes(name) ? '  (not known to this version)' : ''}`);
    for (const name of pending) console.log(`missing  ${name}`);
    if (pending.length > 0) process.exitCode = 1;
  } else {
    throw new UserError(`migrate knows up, down and status, not "${action}".`);
  }
}

export async function runRoles(args: readonly string[]): Promise<void> {
  // Several of a kind, as a site and its workers, are fine.
  const role = { type: 'string', multiple: true } as const;
  const options = { app: role, relay: role, retention: role, redaction: role, print: { type: 'boolean' } } as const;
  const { print, ...names } = parseOptions(args, options);
  const { databaseUrl } = readConfig(process.env);
  if (!databaseUrl) {
    throw new UserError(
      'DATABASE_URL is not set. Run, as the owner of the outbox: ' +
        'DATABASE_URL=postgres://owner:password@host:5432/database npx outbox-relay roles --relay outbox_relay',
    );
  }
  if (print) {
    console.log(await rolesSql(databaseUrl, names));
    return;
  }
  const made = await makeRoles(databaseUrl, names);
  for (const { name, created } of made) console.log(`${created ? 'created' : 'existed'}, and has its rights: ${name}`);
  const created = made.filter((role) => role.created);
  if (created.length > 0) {
    console.log('\nA new role has no password. In psql, as the same user:');
    for (const { name } of created) console.log(`  ${passwordCommand(name)}`);
  }
}

export async function runDoctor(args: readonly string[]): Promise<void> {
  const { json } = parseOptions(args, { json: { type: 'boolean' } });
  const { databaseUrl, listenDatabaseUrl } = readConfig(process.env);
  if (!databaseUrl || !listenDatabaseUrl) {
    throw new UserError(
      'DATABASE_URL is not set. Run, with the settings of the relay: ' +
        'DATABASE_URL=postgres://user:password@host:5432/database npx outbox-relay doctor',
    );
  }
  const results = await examine({ databaseUrl, listenDatabaseUrl });
  console.log(json ? JSON.stringify(results, undefined, 2) : resultsText(results));
  if (hasErrors(results)) process.exitCode = 1;
}

export async function runAdvanceIds(args: readonly string[]): Promise<void> {
  const { by } = parseOptions(args, { by: { type: 'string', default: String(DEFAULT_STEP) } });
  if (!/^[1-9]\d{0,14}$/.test(by)) {
    throw new UserError(`--by is how many ids to skip, a whole number from 1 to 999999999999999, not "${by}".`);
  }
  const { databaseUrl } = readConfig(process.env);
  if (!databaseUrl) {
    throw new UserError(
      'DATABASE_URL is not set. Run, as the owner of the outbox: ' +
        'DATABASE_URL=postgres://owner:password@host:5432/database npx outbox-relay advance-ids',
    );
  }
  for (const { sequence, from, to } of await advanceIds(databaseUrl, BigInt(by))) {
    console.log(`${sequence} goes on after ${to}; it was at ${from}`);
  }
  console.log(`
If more than ${by} events can have been published since the copy that you restored, run it once more with --by.
Running relays need no restart. A client with the cursor of an event that was lost gets a stream-reset.`);
}

export async function runPrune(args: readonly string[]): Promise<void> {
  const { keep } = parseOptions(args, { keep: { type: 'string' } });
  if (keep === undefined) {
    throw new UserError('How long are events to be kept? As in: outbox-relay prune --keep 7d');
  }
  const keepSeconds = secondsIn(keep);
  if (keepSeconds === undefined) throw new UserError(`--keep is ${SPAN_FORM}, not "${keep}".`);
  const config = readConfig(process.env);
  const { retentionDatabaseUrl: url } = config;
  if (!url) {
    throw new UserError(
      'Neither RETENTION_DATABASE_URL nor DATABASE_URL is set. Run: ' +
        'RETENTION_DATABASE_URL=postgres://outbox_retention:password@host:5432/database npx outbox-relay prune --keep 7d',
    );
  }
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  let deleted = 0;
  let told = Date.now();
  const onBatch = (rows: number) => {
    deleted += rows;
    if (Date.now() - told < PROGRESS) return;
    told = Date.now();
    console.error(`Deleted ${deleted} so far …`);
  };
  try {
    const outcome = await reaching(config, url, prune({ url, keepSeconds, signal: stop.signal, onBatch }));
    if (outcome === 'another prunes') console.log('Another process prunes this outbox, so this one leaves it to that.');
    if (outcome === 'stopped') console.log('Stopped: what is left is for the next run.');
    if (outcome === 'done' && deleted === 0) console.log(`Nothing to delete: no event is older than ${keep}.`);
  } finally {
    if (deleted > 0) console.log(`Deleted ${deleted} ${deleted === 1 ? 'event' : 'events'} older than ${keep}.`);
  }
}

export async function runToken(args: readonly string[]): Promise<void> {
  const values = parseOptions(args, {
    channel: { type: 'string', multiple: true },
    expires: { type: 'string', default: '1h' },
    sub: { type: 'string' },
  });
  const { channel: channels = [], expires, sub: subject } = values;
  if (channels.length === 0) {
    throw new UserError("Name what the token is for: outbox-relay token --channel user:42 --channel 'org:7:*'");
  }
  const expiresInSeconds = secondsIn(expires);
  if (expiresInSeconds === undefined) {
    throw new UserError(`--expires is ${SPAN_FORM}, not "${expires}".`);
  }
  const { tokens } = readConfig(process.env);
  if (tokens?.secret === undefined) {
    throw new UserError(
      'A token is signed with the JWT_SECRET of the relay, which is not set here. With JWT_PUBLIC_KEY or JWKS_URL only the issuer can make tokens.',
    );
  }
  try {
    console.log(await mintToken(tokens, { channels, subject, expiresInSeconds }));
  } catch (error) {
    if (error instanceof ChannelError) throw new UserError(error.message);
    throw error;
  }
}

function parseOptions<T extends NonNullable<ParseArgsConfig['options']>>(args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new UserError(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
  }
}
