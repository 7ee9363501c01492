/**
 * Configuration: what the environment may say, checked as a whole before anything starts.
 *
 * Every variable is described here once. What is wrong is reported at once, each with the variable, its value and what is
 * expected; a value that may hold a password is never shown.
 */
import { z } from 'zod';
import { ChannelError, interestIn, type Interest } from './channels.js';

export interface Config {
  /** Undefined: the demo, on an embedded PostgreSQL. */
  readonly databaseUrl: string | undefined;
  /** A direct connection for LISTEN and for the live path; by default `databaseUrl`. */
  readonly listenDatabaseUrl: string | undefined;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Origins whose pages may read streams; `*` alone stands for all, without credentials. */
  readonly allowedOrigins: readonly string[];
  /** What anybody may subscribe to. */
  readonly publicChannels: Interest;
  readonly logLevel: string;
  readonly heartbeatSeconds: number;
  /** What clients are told to wait before they reconnect. */
  readonly retrySeconds: number;
  readonly sweepSeconds: number;
  readonly listenTimeoutSeconds: number;
  readonly queryTimeoutSeconds: number;
  readonly requestTimeoutSeconds: number;
  readonly shutdownSeconds: number;
  readonly windowBytes: number;
  readonly replayBytes: number;
  readonly historyConnections: number;
  readonly maxChannels: number;
}

/** All that is wrong with the environment; the message has a line for each variable. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const MEBIBYTE = 1024 * 1024;

const databaseUrl = z
  .string()
  .refine(
    (text) => /^postgres(ql)?:\/\/./.test(text) && URL.canParse(text),
    'a URL, as in postgres://user:password@host:5432/database',
  )
  .optional();

const number = (fallback: number, from: number, to: number) =>
  z
    .string()
    .default(String(fallback))
    .refine(
      (text) => /^\d+(\.\d+)?$/.test(text) && Number(text) >= from && Number(text) <= to,
      `a number from ${from} to ${to}`,
    )
    .transform(Number);

const integer = (fallback: number, from: number, to: number) =>
  number(fallback, from, to).refine(Number.isInteger, `a whole number from ${from} to ${to}`);

const list = z
  .string()
  .default('')
  .transform((text) =>
    text
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== ''),
  );

const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

const environment = z.object({
  DATABASE_URL: databaseUrl,
  LISTEN_DATABASE_URL: databaseUrl,
  HOST: z.string().default('127.0.0.1'),
  PORT: integer(8001, 0, 65535),
  ALLOWED_ORIGINS: list.refine(
    (origins) =>
      origins.every((origin) => origin === '*' || isOrigin(origin)) && (!origins.includes('*') || origins.length === 1),
    'origins separated by commas, as in https://app.example.com, with no path; or * alone',
  ),
  PUBLIC_CHANNELS: list.transform((names, context) => {
    try {
      return interestIn(names);
    } catch (error) {
      if (!(error instanceof ChannelError)) throw error;
      context.addIssue({
        code: 'custom',
        message: `channels separated by commas, as in news,status:*. ${error.message}`,
      });
      return z.NEVER;
    }
  }),
  LOG_LEVEL: z.enum(LEVELS, `one of ${LEVELS.join(', ')}`).optional(),
  HEARTBEAT_SECONDS: number(15, 0.1, 3600),
  RETRY_SECONDS: number(2, 0, 3600),
  SWEEP_SECONDS: number(5, 0.05, 3600),
  LISTEN_TIMEOUT_SECONDS: number(10, 0.2, 3600),
  QUERY_TIMEOUT_SECONDS: number(30, 0.2, 3600),
  REQUEST_TIMEOUT_SECONDS: number(15, 0.1, 3600),
  SHUTDOWN_SECONDS: number(10, 0, 3600),
  WINDOW_MEGABYTES: number(64, 0, 65536),
  REPLAY_MEGABYTES: number(16, 1, 65536),
  HISTORY_CONNECTIONS: integer(4, 1, 1000),
  MAX_CHANNELS: integer(100, 1, 100000),
});

/** The names of all variables; `.env.example` and README are held against it by a test. */
export const VARIABLES = Object.keys(environment.shape);

/** Their values are never shown. */
const SECRET = new Set(['DATABASE_URL', 'LISTEN_DATABASE_URL']);

/**
 * Reads the configuration. A variable that is set but empty counts as not set, as compose files leave them.
 *
 * @throws ConfigError
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const given: Record<string, string> = {};
  for (const name of VARIABLES) if (env[name]) given[name] = env[name];
  const result = environment.safeParse(given);
  if (!result.success) {
    const lines = result.error.issues.map((issue) => {
      const name = String(issue.path[0]);
      const value = SECRET.has(name) ? '(not shown)' : JSON.stringify(given[name]);
      return `  ${name}=${value}: expected ${issue.message}`;
    });
    throw new ConfigError(`The configuration is not valid:\n${lines.join('\n')}`);
  }
  const values = result.data;
  return {
    databaseUrl: values.DATABASE_URL,
    listenDatabaseUrl: values.LISTEN_DATABASE_URL ?? values.DATABASE_URL,
    host: values.HOST,
    port: values.PORT,
    allowedOrigins: values.ALLOWED_ORIGINS,
    publicChannels: values.PUBLIC_CHANNELS,
    logLevel: values.LOG_LEVEL ?? (values.DATABASE_URL ? 'info' : 'warn'),
    heartbeatSeconds: values.HEARTBEAT_SECONDS,
    retrySeconds: values.RETRY_SECONDS,
    sweepSeconds: values.SWEEP_SECONDS,
    listenTimeoutSeconds: values.LISTEN_TIMEOUT_SECONDS,
    queryTimeoutSeconds: values.QUERY_TIMEOUT_SECONDS,
    requestTimeoutSeconds: values.REQUEST_TIMEOUT_SECONDS,
    shutdownSeconds: values.SHUTDOWN_SECONDS,
    windowBytes: values.WINDOW_MEGABYTES * MEBIBYTE,
    replayBytes: values.REPLAY_MEGABYTES * MEBIBYTE,
    historyConnections: values.HISTORY_CONNECTIONS,
    maxChannels: values.MAX_CHANNELS,
  };
}

function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text;
}
