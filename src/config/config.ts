/**
 * Configuration: what the environment may say, checked as a whole before anything starts.
 *
 * variables.ts describes each variable. What is wrong is reported at once, each with the variable, its value and what is
 * expected; a value that may hold a password is never shown.
 */
import type { z } from 'zod';
import type { ForwardAuthOptions } from '../access/forward-auth.js';
import type { TokenOptions } from '../access/jwt.js';
import type { ChannelFilter } from '../event/channel-filter.js';
import { variables } from './variables.js';
import { OperatorError } from '../operator-error.js';

export interface Config {
  /** Undefined: the demo, on an embedded PostgreSQL. */
  readonly databaseUrl: string | undefined;
  /** A direct connection for LISTEN and for the live path; by default `databaseUrl`. */
  readonly listenDatabaseUrl: string | undefined;
  /** For pruning, by a role that may delete; by default `listenDatabaseUrl`. */
  readonly retentionDatabaseUrl: string | undefined;
  /** How long events are kept. Undefined: this relay deletes none. */
  readonly retentionSeconds: number | undefined;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Origins whose pages may read streams; `*` alone stands for all, without credentials. */
  readonly allowedOrigins: readonly string[];
  /** What anybody may subscribe to. */
  readonly publicChannels: ChannelFilter;
  /** Undefined: no key is configured, so no token is looked at. */
  readonly tokens: TokenOptions | undefined;
  /** Undefined: the application is not asked. */
  readonly forwardAuth: ForwardAuthOptions | undefined;
  readonly authCookie: string;
  readonly allowQueryToken: boolean;
  readonly logLevel: string;
  readonly heartbeatSeconds: number;
  /** What clients are told to wait before they reconnect. */
  readonly retrySeconds: number;
  readonly sweepSeconds: number;
  /** The same while no notification arrives. */
  readonly pollSeconds: number;
  readonly listenTimeoutSeconds: number;
  readonly queryTimeoutSeconds: number;
  readonly requestTimeoutSeconds: number;
  readonly shutdownSeconds: number;
  readonly windowBytes: number;
  readonly replayBytes: number;
  readonly historyConnections: number;
  /** A client that takes nothing for so long is dropped. */
  readonly stallSeconds: number;
  /** The longest that a stream stays before its client is sent to connect anew; 0: for ever. */
  readonly maxConnectionSeconds: number;
  /** Where metrics are served alone. */
  readonly metricsPort: number | undefined;
  /** Whether they are served with everything else, to all who reach it. */
  readonly publicMetrics: boolean;
  /** Processes that share the port. */
  readonly workers: number;
  /** Whether streams are at /{channel} too. */
  readonly legacyPaths: boolean;
  readonly maxChannels: number;
  readonly maxConnections: number;
  /** Undefined: a default that spares private addresses. */
  readonly maxConnectionsPerAddress: number | undefined;
  readonly maxConnectionsPerSubject: number;
  /** How many proxies in front of the relay are believed about the address of the client. */
  readonly trustProxy: number;
  /** Largest request line and headers together. */
  readonly maxHeaderBytes: number;
}

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
});

/** The names of all variables. */
export const VARIABLES = Object.keys(variables.shape);

/** Their values are never shown. */
const SECRET = new Set(['DATABASE_URL', 'LISTEN_DATABASE_URL', 'RETENTION_DATABASE_URL', ...KEYS, 'FORWARD_AUTH_URL']);

/**
 * Reads the configuration. A variable that is set but empty counts as not set, as compose files leave them.
 *
 * @throws OperatorError `bad-environment`: all that is wrong, a line for each variable
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
    throw new OperatorError('bad-environment', `The configuration is not valid:\n${lines.join('\n')}`);
  }
  const values = result.data;
  return {
    databaseUrl: values.DATABASE_URL,
    listenDatabaseUrl: values.LISTEN_DATABASE_URL ?? values.DATABASE_URL,
    retentionDatabaseUrl: values.RETENTION_DATABASE_URL ?? values.LISTEN_DATABASE_URL ?? values.DATABASE_URL,
    retentionSeconds: values.RETENTION,
    host: values.HOST,
    port: values.PORT,
    allowedOrigins: values.ALLOWED_ORIGINS,
    publicChannels: values.PUBLIC_CHANNELS,
    tokens: tokenOptions(values),
    forwardAuth:
      values.FORWARD_AUTH_URL === undefined
        ? undefined
        : {
            url: values.FORWARD_AUTH_URL,
            timeoutSeconds: values.FORWARD_AUTH_TIMEOUT_SECONDS,
            cacheSeconds: values.FORWARD_AUTH_CACHE_SECONDS,
          },
    authCookie: values.AUTH_COOKIE,
    allowQueryToken: values.ALLOW_QUERY_TOKEN,
    logLevel: values.LOG_LEVEL ?? (values.DATABASE_URL ? 'info' : 'warn'),
    heartbeatSeconds: values.HEARTBEAT_SECONDS,
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
  };
}
