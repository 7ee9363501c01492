#!/usr/bin/env node
/**
 * The command: `outbox-relay` runs the relay, and its sub-commands prepare a database for it and make tokens. Owns the
 * process: arguments, signals, exit codes and what is printed. Everything else is in the parts.
 */
import cluster from 'node:cluster';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import v8 from 'node:v8';
import pg from 'pg';
import { pino, type Logger } from 'pino';
import { AdvanceError, advanceIds, DEFAULT_STEP } from './advance-ids.js';
import { ChannelError, interestIn } from './channels.js';
import { ConfigError, readConfig, type Config } from './config.js';
import { createDemo } from './demo.js';
import { hasErrors, resultsText } from './doctor-finding.js';
import { examine } from './doctor.js';
import { migrate, migrationStatus } from './migrate.js';
import { startRelay, type Relay } from './relay.js';
import { prune, RetentionError } from './prune.js';
import { startRetention } from './retention.js';
import { makeRoles, passwordCommand, RolesError, rolesSql } from './roles.js';
import { secondsIn, SPAN_FORM } from './span.js';
import { mintToken } from './token.js';
import { hangUp, startWorkers, tellServing, toldToStop, WorkerError } from './workers.js';

const USAGE = `Usage:
  outbox-relay                   run the relay (with DATABASE_URL; without it, a demo on a PostgreSQL of its own)
  outbox-relay migrate [up]      create or update the outbox in DATABASE_URL
  outbox-relay migrate down      remove all that migrate made, events included
  outbox-relay migrate status    show what is applied and what is missing
  outbox-relay roles --app NAME --relay NAME --retention NAME --redaction NAME [--print]
                                 make those roles, or some of them, with the least rights; --print shows the SQL instead
  outbox-relay doctor [--json]   look for trouble, and say what to run against it; changes nothing. Exit 1 on errors
  outbox-relay advance-ids [--by NUMBER]
                                 after a restore or a failover that lost commits: see that no id is given out twice
  outbox-relay prune --keep 7d   delete events that are older; with RETENTION=7d the relay does it by itself
  outbox-relay token --channel CHANNEL [--channel CHANNEL …] [--expires 1h] [--sub NAME]
                                 print a token for these channels, signed with JWT_SECRET, to try things out
  outbox-relay --help | --version

Settings come from the environment: see .env.example.`;

/** How often a long pruning says how far it is, in milliseconds. */
const PROGRESS = 10_000;

/** A failure that is the user's to mend: printed as it is, without a stack. */
class UserError extends Error {
  override readonly name = 'UserError';
}

async function main(args: readonly string[]): Promise<void> {
  const [command, ...rest] = args;
  if (command === '--help' || command === '-h' || command === 'help') console.log(USAGE);
  else if (command === '--version' || command === '-v') console.log(version());
  else if (command === undefined || (command === 'start' && rest.length === 0)) await run();
  else if (command === 'migrate' && rest.length <= 1) await runMigrate(rest[0] ?? 'up');
  else if (command === 'roles') await runRoles(rest);
  else if (command === 'doctor') await runDoctor(rest);
  else if (command === 'advance-ids') await runAdvanceIds(rest);
  else if (command === 'prune') await runPrune(rest);
  else if (command === 'token') await runToken(rest);
  else throw new UserError(`There is no command "${args.join(' ')}".\n\n${USAGE}`);
}

async function runMigrate(action: string): Promise<void> {
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

async function runRoles(args: readonly string[]): Promise<void> {
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

async function runDoctor(args: readonly string[]): Promise<void> {
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

async function runAdvanceIds(args: readonly string[]): Promise<void> {
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

async function runPrune(args: readonly string[]): Promise<void> {
  const { keep } = parseOptions(args, { keep: { type: 'string' } });
  if (keep === undefined) {
    throw new UserError('How long are events to be kept? As in: outbox-relay prune --keep 7d');
  }
  const keepSeconds = secondsIn(keep);
  if (keepSeconds === undefined) throw new UserError(`--keep is ${SPAN_FORM}, not "${keep}".`);
  const { retentionDatabaseUrl: url } = readConfig(process.env);
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
    const outcome = await prune({ url, keepSeconds, signal: stop.signal, onBatch });
    if (outcome === 'another prunes') console.log('Another process prunes this outbox, so this one leaves it to that.');
    if (outcome === 'stopped') console.log('Stopped: what is left is for the next run.');
    if (outcome === 'done' && deleted === 0) console.log(`Nothing to delete: no event is older than ${keep}.`);
  } finally {
    if (deleted > 0) console.log(`Deleted ${deleted} ${deleted === 1 ? 'event' : 'events'} older than ${keep}.`);
  }
}

async function runToken(args: readonly string[]): Promise<void> {
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

/**
 * By how much the heap may grow, in percent of what is live, before V8 collects the old part of it. By itself V8 lets it become
 * several times as large: then a crowd that comes and goes leaves tens of MiB of garbage resident, much more than it needs itself.
 */
const HEAP_GROWING_PERCENT = 30;

async function run(): Promise<void> {
  v8.setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`);
  const config = readConfig(process.env);
  const logger = pino({ level: config.logLevel });
  // Heard from the first moment: a signal during start-up must not leave a database server behind.
  const stopped = cluster.isWorker ? toldToStop() : stopSignal(logger);
  const stops: (() => Promise<void>)[] = [];
  let streams: (() => number) | undefined;
  try {
    if (config.databaseUrl) {
      requireReaders(config);
      await requireMigrated(config.databaseUrl);
      // One process prunes, and not each of its workers.
      if (cluster.isPrimary) await keepPruned(config, config.retentionDatabaseUrl, logger, stops);
    }
    if (config.databaseUrl && config.workers > 1 && cluster.isPrimary) {
      stops.push((await startWorkers({ ...config, count: config.workers, logger })).stop);
    } else {
      const relay = config.databaseUrl ? await startRelay({ config, logger }) : await runDemo(config, logger, stops);
      stops.push(relay.stop);
      streams = () => relay.streams;
      tellServing();
    }
    const signal = await stopped;
    logger.info({ signal, ...(streams ? { streams: streams() } : {}) }, 'stopping');
  } finally {
    const deadline = setTimeout(() => process.exit(1), (config.shutdownSeconds + 5) * 1000);
    deadline.unref();
    for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
  }
  logger.info('stopped');
  hangUp();
}

/** Where `RETENTION` asks for it. */
async function keepPruned(
  { retentionSeconds: keepSeconds }: Config,
  url: string | undefined,
  logger: Logger,
  stops: (() => Promise<void>)[],
): Promise<void> {
  if (keepSeconds === undefined || url === undefined) return;
  stops.push((await startRetention({ url, keepSeconds, logger })).stop);
}

/** Nobody could read anything: that is not what somebody who starts a relay wants. */
function requireReaders({ tokens, forwardAuth, publicChannels }: Config): void {
  if (tokens || forwardAuth || publicChannels.key !== interestIn([]).key) return;
  throw new UserError(`Nobody may listen yet, so there is nothing to run. Set at least one of these:
  JWT_SECRET, JWT_PUBLIC_KEY or JWKS_URL   clients bring tokens signed with that key, which name their channels
  FORWARD_AUTH_URL                         your application is asked who may read what
  PUBLIC_CHANNELS                          what anybody may read, as in PUBLIC_CHANNELS=news,status:*`);
}

async function requireMigrated(databaseUrl: string): Promise<void> {
  const { applied, pending, unknown } = await migrationStatus(databaseUrl);
  if (pending.length > 0) {
    const what = applied.length === 0 ? 'has no outbox yet' : `lacks ${pending.join(', ')}`;
    throw new UserError(`The database ${what}. As its owner, run: npx outbox-relay migrate`);
  }
  if (unknown.length > 0) {
    throw new UserError(
      `The database is newer than this relay (${unknown.join(', ')}). Install the newest outbox-relay.`,
    );
  }
}

async function runDemo(config: Config, logger: Logger, stops: (() => Promise<void>)[]): Promise<Relay> {
  if (!isLoopback(config.host)) {
    throw new UserError(
      `The demo is open to all who reach it, so it stays on loopback; HOST=${config.host} needs DATABASE_URL.`,
    );
  }
  if (config.workers > 1) throw new UserError('The demo is one process; WORKERS needs DATABASE_URL.');
  const { startEmbedded } = await import('./embedded.js');
  console.log('Starting a PostgreSQL of its own, with its data in .data/ …');
  const server = await startEmbedded({ dataDirectory: path.resolve('.data') });
  stops.push(() => server.stop());
  await migrate(server.url, 'up');
  await keepPruned(config, server.url, logger, stops);
  const demo = createDemo({ databaseUrl: server.url, version: version() });
  stops.push(demo.stop);
  const relay = await startRelay({
    config: { ...config, databaseUrl: server.url, listenDatabaseUrl: server.url, publicChannels: interestIn(['*']) },
    logger,
    extend: demo.extend,
    ownDatabase: true,
  });
  console.log(`
  outbox-relay ${version()}, demo: all channels are open, on loopback only.

    Page      ${relay.url}/
    Stream    curl -N '${relay.url}/events?channel=orders'
    Publish   psql '${server.url}' \\
                -c "INSERT INTO outbox (channel, data) VALUES ('orders', '{\\"order\\": 1}')"

  For your own database set DATABASE_URL. Ctrl-C stops it.
`);
  return relay;
}

/** Resolves at the first SIGINT or SIGTERM; the second ends the process at once. */
function stopSignal(logger: Logger): Promise<string> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (asked) {
          logger.warn('asked twice: stopping without waiting');
          process.exit(1);
        }
        asked = true;
        resolve(signal);
      });
    }
  });
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function version(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

/** One line for what the user can mend; a stack only for what nobody foresaw. */
function explain(error: unknown): string {
  if (
    error instanceof UserError ||
    error instanceof WorkerError ||
    error instanceof ConfigError ||
    error instanceof RolesError ||
    error instanceof AdvanceError ||
    error instanceof RetentionError
  )
    return error.message;
  if (error instanceof pg.DatabaseError)
    return `PostgreSQL refused: ${error.message}${error.detail ? ` (${error.detail})` : ''}`;
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  const message = error instanceof Error ? error.message : String(error);
  if (code === 'EADDRINUSE') return `Port taken: ${message}. Stop the other process, or set PORT.`;
  if (code === 'EACCES' || code === 'EADDRNOTAVAIL') return `Cannot listen there: ${message}. Check HOST and PORT.`;
  if (
    code &&
    ['ECONNREFUSED', 'ENOTFOUND', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'ECONNRESET'].includes(code)
  ) {
    return `The database is not reachable: ${message || code}. Check DATABASE_URL and that PostgreSQL runs.`;
  }
  if (/timeout/i.test(message)) return `The database does not answer: ${message}. Check DATABASE_URL.`;
  return error instanceof Error ? (error.stack ?? message) : message;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
  hangUp();
}
