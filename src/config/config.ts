/**
 * Configuration: what the environment may say, checked as a whole before anything starts.
 *
 * variables.ts describes each variable. What is wrong is reported at once, each with the variable,
 * its value and what is expected; a value that may hold a password is never shown.
 */
import type { KeyObject } from 'node:crypto';
import type { z } from 'zod';
import type { ForwardAuthOptions } from '../access/forward-auth.js';
import type { TokenOptions } from '../access/jwt.js';
import { OperatorError } from '../operator-error.js';
import { variables } from './variables.js';

/** What the variables say, in the units of their names; variables.ts has what each means. */
export type Config = Readonly<ReturnType<typeof toConfig>>;

const MEBIBYTE = 1024 * 1024;

const KEYS = ['JWT_SECRET', 'JWT_PUBLIC_KEY', 'JWKS_URL'] as const;

const environment = variables.superRefine((values, context) => {
  const set = KEYS.filter((name) => values[name] !== undefined);
  for (const name of set.slice(1)) {
    context.addIssue({
      code: 'custom',
      path: [name],
      message: `only one of ${KEYS.join(', ')}: ${set[0] ?? ''} is set too`,
    });
  }
  // Each worker would answer for itself alone.
  if (values.PUBLIC_METRICS && values.WORKERS > 1) {
    context.addIssue({
      code: 'custom',
      path: ['PUBLIC_METRICS'],
      message: 'false with WORKERS: the metrics of all of them are on METRICS_PORT',
    });
  }
  // The demo, which has a database of its own, opens it to all who reach it.
  const hasDatabase = values.DATABASE_URL !== undefined || values.ARCHIVE_DATABASE_URL !== undefined;
  if (values.CONSOLE && hasDatabase && values.CONSOLE_PASSWORD === undefined && set.length === 0) {
    context.addIssue({
      code: 'custom',
      path: ['CONSOLE'],
      message: `a way in, too: set CONSOLE_PASSWORD, or one of ${KEYS.join(', ')} for tokens that have the claim ${values.JWT_CONSOLE_CLAIM}`,
    });
  }
  if (values.ARCHIVE_DATABASE_URL !== undefined && values.NATS_URL === undefined) {
    context.addIssue({
      code: 'custom',
      path: ['ARCHIVE_DATABASE_URL'],
      message: 'none without NATS_URL: a relay reads all from DATABASE_URL, which must not lead to a standby',
    });
  }
  if (
    values.RETENTION !== undefined &&
    values.ARCHIVE_DATABASE_URL !== undefined &&
    retentionUrl(values) === undefined
  ) {
    context.addIssue({
      code: 'custom',
      path: ['RETENTION'],
      message: 'RETENTION_DATABASE_URL, too: nothing can be deleted at ARCHIVE_DATABASE_URL, which may be a standby',
    });
  }
});

/** The names of all variables. */
export const VARIABLES = Object.keys(variables.shape);

/** Their values are never shown. */
export const SECRET: ReadonlySet<string> = new Set([
  'DATABASE_URL',
  'LISTEN_DATABASE_URL',
  'RETENTION_DATABASE_URL',
  'ARCHIVE_DATABASE_URL',
  'NATS_URL',
  'NATS_SECRET',
  ...KEYS,
  'FORWARD_AUTH_URL',
  'CONSOLE_PASSWORD',
]);

/** What is wrong with a variable. */
export interface Problem {
  readonly name: string;
  /** What follows the word "expected". */
  readonly expected: string;
}

/** What of an environment is ours, without variables that are empty, as compose files leave them. */
export function givenIn(env: Environment): Readonly<Record<string, string>> {
  const given: Record<string, string> = {};
  for (const name of VARIABLES) if (env[name]) given[name] = env[name];
  return given;
}

/** All that is wrong with the environment; nothing where `readConfig` reads it. */
export function problemsIn(env: Environment): Problem[] {
  const { error } = environment.safeParse(givenIn(env));
  return (error?.issues ?? []).map(({ path, message }) => ({ name: String(path[0]), expected: message }));
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration.
 *
 * @throws OperatorError `bad-environment`: all that is wrong, a line for each variable
 */
export function readConfig(env: Environment): Config {
  const given = givenIn(env);
  const result = environment.safeParse(given);
  if (result.success) return toConfig(result.data);
  const lines = problemsIn(env).map(({ name, expected }) => {
    const value = SECRET.has(name) ? '(not shown)' : JSON.stringify(given[name]);
    return `  ${name}=${value}: expected ${expected}`;
  });
  throw new OperatorError('bad-environment', `The configuration is not valid:\n${lines.join('\n')}`);
}

function toConfig(values: z.infer<typeof variables>) {
  return {
    databaseUrl: values.DATABASE_URL,
    listenDatabaseUrl: values.LISTEN_DATABASE_URL ?? values.DATABASE_URL,
    retentionDatabaseUrl: retentionUrl(values),
    /** Where a relay with NATS_URL reads what the stream does not have. */
    archiveDatabaseUrl: values.ARCHIVE_DATABASE_URL ?? values.DATABASE_URL,
    nats: natsOptions(values),
    retentionSeconds: values.RETENTION,
    console: consoleOptions(values),
    host: values.HOST,
    port: values.PORT,
    allowedOrigins: values.ALLOWED_ORIGINS,
    publicChannels: values.PUBLIC_CHANNELS,
    tokens: tokenOptions(values),
    forwardAuth: forwardAuthOptions(values),
    authCookie: values.AUTH_COOKIE,
    allowQueryToken: values.ALLOW_QUERY_TOKEN,
    logLevel: values.LOG_LEVEL ?? (values.DATABASE_URL || values.ARCHIVE_DATABASE_URL ? 'info' : 'warn'),
    logFormat: values.LOG_FORMAT,
    heartbeatSeconds: values.HEARTBEAT_SECONDS,
    compression: values.COMPRESSION,
    retrySeconds: values.RETRY_SECONDS,
    sweepSeconds: values.SWEEP_SECONDS,
    pollSeconds: values.POLL_SECONDS,
    listenTimeoutSeconds: values.LISTEN_TIMEOUT_SECONDS,
    queryTimeoutSeconds: values.QUERY_TIMEOUT_SECONDS,
    requestTimeoutSeconds: values.REQUEST_TIMEOUT_SECONDS,
    shutdownSeconds: values.SHUTDOWN_SECONDS,
    windowBytes: Math.round(values.WINDOW_MEGABYTES * MEBIBYTE),
    replayBytes: Math.round(values.REPLAY_MEGABYTES * MEBIBYTE),
    historyConnections: values.HISTORY_CONNECTIONS,
    stallSeconds: values.STALL_SECONDS,
    maxConnectionSeconds: values.MAX_CONNECTION_SECONDS,
    metricsPort: values.METRICS_PORT,
    publicMetrics: values.PUBLIC_METRICS,
    tracing: values.TRACING,
    workers: values.WORKERS,
    legacyPaths: values.LEGACY_PATHS,
    maxChannels: values.MAX_CHANNELS,
    maxConnections: values.MAX_CONNECTIONS,
    maxConnectionsPerAddress: values.MAX_CONNECTIONS_PER_ADDRESS,
    maxConnectionsPerSubject: values.MAX_CONNECTIONS_PER_SUBJECT,
    trustProxy: values.TRUST_PROXY,
    maxHeaderBytes: values.MAX_HEADER_KILOBYTES * 1024,
  };
}

function retentionUrl(values: z.infer<typeof variables>): string | undefined {
  return values.RETENTION_DATABASE_URL ?? values.LISTEN_DATABASE_URL ?? values.DATABASE_URL;
}

/** Who opens the console, and what it shows. */
export interface ConsoleOptions {
  /** Undefined: neither on nor off was said. */
  readonly isOn: boolean | undefined;
  readonly password: KeyObject | undefined;
  /** Everybody who reaches it opens it: the demo alone has that. */
  readonly isOpen: boolean;
  /** Data of events that the viewer could not read otherwise; addresses, and who is there. */
  readonly shows: { readonly data: boolean; readonly addresses: boolean };
}

function consoleOptions(values: z.infer<typeof variables>): ConsoleOptions {
  return {
    isOn: values.CONSOLE,
    password: values.CONSOLE_PASSWORD,
    isOpen: false,
    shows: { data: values.CONSOLE_SHOWS.includes('data'), addresses: values.CONSOLE_SHOWS.includes('addresses') },
  };
}

/** How feeders and relays reach the stream. */
export interface NatsOptions {
  readonly servers: readonly string[];
  readonly stream: string;
  /** Undefined: what is in the stream is believed. */
  readonly secret: KeyObject | undefined;
  readonly credentialsFile: string | undefined;
}

/** Undefined: new events come from PostgreSQL. */
function natsOptions(values: z.infer<typeof variables>): NatsOptions | undefined {
  if (values.NATS_URL === undefined) return undefined;
  return {
    servers: values.NATS_URL,
    stream: values.NATS_STREAM,
    secret: values.NATS_SECRET,
    credentialsFile: values.NATS_CREDENTIALS_FILE,
  };
}

/** Undefined: no key is configured, so tokens are ignored. */
function tokenOptions(values: z.infer<typeof variables>): TokenOptions | undefined {
  const { JWT_SECRET: secret, JWT_PUBLIC_KEY: publicKey, JWKS_URL: keySetUrl } = values;
  if (secret === undefined && publicKey === undefined && keySetUrl === undefined) return undefined;
  return {
    ...(secret ? { secret } : {}),
    ...(publicKey ? { publicKey } : {}),
    ...(keySetUrl === undefined ? {} : { keySetUrl }),
    requireExpiry: values.JWT_REQUIRE_EXP,
    issuer: values.JWT_ISSUER,
    audience: values.JWT_AUDIENCE,
    clockToleranceSeconds: values.JWT_CLOCK_TOLERANCE_SECONDS,
    channelsClaim: values.JWT_CHANNELS_CLAIM,
    consoleClaim: values.JWT_CONSOLE_CLAIM,
  };
}

/** Undefined: the application is not asked. */
function forwardAuthOptions(values: z.infer<typeof variables>): ForwardAuthOptions | undefined {
  if (values.FORWARD_AUTH_URL === undefined) return undefined;
  return {
    url: values.FORWARD_AUTH_URL,
    timeoutSeconds: values.FORWARD_AUTH_TIMEOUT_SECONDS,
    cacheSeconds: values.FORWARD_AUTH_CACHE_SECONDS,
  };
}
