/**
 * Configuration: what the environment may say, checked as a whole before anything starts.
 *
 * variables.ts describes each variable. What is wrong is reported at once, each with the variable,
 * its value and what is expected; a value that may hold a password is never shown.
 */
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
});

/** The names of all variables. */
export const VARIABLES = Object.keys(variables.shape);

/** Their values are never shown. */
const SECRET = new Set(['DATABASE_URL', 'LISTEN_DATABASE_URL', 'RETENTION_DATABASE_URL', ...KEYS, 'FORWARD_AUTH_URL']);

/**
 * Reads the configuration. A variable that is set but empty counts as not set, as compose files
 * leave them.
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
  return toConfig(result.data);
}

function toConfig(values: z.infer<typeof variables>) {
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
    forwardAuth: forwardAuthOptions(values),
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
