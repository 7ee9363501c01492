/**
 * The variables of the environment: each with its kind, its default and its meaning in words.
 * `npm run docs` writes docs/configuration.md and .env.example from here; a test fails where they
 * differ.
 */
import { z } from 'zod';
import { PASSWORD_CHARACTERS, readPassword } from '../access/password.js';
import { readPublicKey } from '../access/public-key.js';
import { readSecret, SECRET_BYTES } from '../access/secret.js';
import {
  boolean,
  booleanOrNone,
  channels,
  cookieName,
  databaseUrl,
  httpUrl,
  integer,
  integerOrNone,
  key,
  list,
  natsServers,
  number,
  oneOf,
  origins,
  readableFile,
  someOf,
  spanOrNone,
  subjectPart,
} from './values.js';

/** What readers are told of a variable. All text is plain Markdown. */
export interface Description {
  /** The heading under which it stands. */
  readonly group: string;
  /** Whole sentences. */
  readonly meaning: string;
  /** What holds where it is not set, if the schema has no default that says it. */
  readonly unset?: string;
  /** What .env.example shows as its value, if not the default. */
  readonly example?: string;
  /** The page in docs/ that has more. */
  readonly more?: string;
}

const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
/** As Python names its levels: an application and its relay often have one LOG_LEVEL. */
const LEVELS_OF_PYTHON = { warning: 'warn', critical: 'fatal', notset: 'trace' } as const;

/** The schema of one variable with its description. */
const as = <T extends z.ZodType>(schema: T, group: string, meaning: string, others: Partial<Description> = {}): T =>
  schema.meta({ ...others, group, meaning } satisfies Description);

const DATABASE = 'Database';
const RETENTION = 'Retention';
const NATS = 'NATS';
const HTTP = 'HTTP';
const ACCESS = 'Who may read what';
const LIMITS = 'Limits';
const STREAMS = 'Streams';
const MEMORY = 'Memory';
const CONSOLE = 'Console';
const PROCESS = 'Process';

/** In the order in which they are documented. */
export const variables = z.object({
  DATABASE_URL: as(
    databaseUrl,
    DATABASE,
    'The database with the outbox. It may lead to a pooler, and must not lead to a standby. It names one host. To encrypt: `?sslmode=require`, or `?sslmode=verify-full&sslrootcert=/path/root.crt`, as in psql; without `sslmode` TLS is used only where PostgreSQL insists on it.',
    {
      unset: 'none: an error (`npm start` in the repository runs the demo)',
      example: 'postgres://outbox_relay:password@localhost:5432/app',
      more: 'databases.md',
    },
  ),
  LISTEN_DATABASE_URL: as(
    databaseUrl,
    DATABASE,
    'A direct connection, for LISTEN and for new events, where `DATABASE_URL` leads to a pooler such as PgBouncer.',
    { unset: '`DATABASE_URL`', more: 'databases.md#poolers' },
  ),
  HISTORY_CONNECTIONS: as(
    integer(4, 1, 1000),
    DATABASE,
    'Most database connections for replays. Each relay process has two more: one that listens, one that reads new events; and one while somebody looks at the console.',
  ),
  SWEEP_SECONDS: as(
    number(5, 0.05, 3600),
    DATABASE,
    'How often the relay looks for what is new, redacted or deleted without being notified. Whether anything new was published it also asks every second.',
  ),
  POLL_SECONDS: as(
    number(0.5, 0.05, 3600),
    DATABASE,
    'The same while notifications do not arrive, as through a pooler.',
  ),
  LISTEN_TIMEOUT_SECONDS: as(
    number(10, 0.2, 3600),
    DATABASE,
    'How long the listening connection, or a read of new events, may go without an answer before it is replaced.',
  ),
  QUERY_TIMEOUT_SECONDS: as(
    number(30, 0.2, 3600),
    DATABASE,
    'How long a read for a replay may take before it is cancelled and tried again.',
  ),
  RETENTION: as(
    spanOrNone,
    RETENTION,
    'How long events are kept, as in `90s`, `30m`, `12h` or `7d`. Older events are deleted.',
    { unset: 'none: nothing is deleted', more: 'retention.md' },
  ),
  RETENTION_DATABASE_URL: as(
    databaseUrl,
    RETENTION,
    'Where events are deleted, by a role that may delete (`outbox-relay roles --retention`).',
    { unset: '`LISTEN_DATABASE_URL`', more: 'operations.md#roles' },
  ),
  NATS_URL: as(
    natsServers,
    NATS,
    'The NATS servers, separated by commas, from whose JetStream the relay reads new events in place of PostgreSQL: `nats://user:password@host:4222`, or `tls://` to encrypt. `outbox-relay feed` fills it. Replays are still read from `ARCHIVE_DATABASE_URL` or `DATABASE_URL`.',
    { unset: 'none: new events are read from PostgreSQL' },
  ),
  NATS_STREAM: as(
    subjectPart.default('outbox'),
    NATS,
    'Which outbox it is of those in these servers: what feeders and relays share has this name.',
  ),
  NATS_CREDENTIALS_FILE: as(
    readableFile,
    NATS,
    'A file of credentials (`.creds`) for these servers, in place of user and password in `NATS_URL`.',
    { unset: 'none' },
  ),
  NATS_SECRET: as(
    key(readSecret, `a secret of at least ${SECRET_BYTES.least} bytes, and better ${SECRET_BYTES.recommended}`),
    NATS,
    'A secret that all feeders and relays share, as from `openssl rand -base64 48`: events that others put into the stream are told by it, and passed by.',
    { unset: 'none: whoever may write to the stream is believed' },
  ),
  ARCHIVE_DATABASE_URL: as(
    databaseUrl,
    NATS,
    'With `NATS_URL`, the database that replays are read from. It may lead to a standby: what that has not replayed yet is waited for.',
    { unset: '`DATABASE_URL`' },
  ),
  HOST: as(
    z.string().default('127.0.0.1'),
    HTTP,
    'The address to listen on; `0.0.0.0` or `::` for all, as in a container.',
  ),
  PORT: as(integer(8001, 0, 65535), HTTP, 'The port to listen on; `0` for any free port.'),
  ALLOWED_ORIGINS: as(
    origins,
    HTTP,
    'Origins of other sites whose pages may read streams with credentials, separated by commas: `https://app.example.com`, `capacitor://localhost`. `*` alone allows any origin, without credentials.',
    { unset: 'none', more: 'proxies.md#on-a-sub-domain-cookies-and-cors' },
  ),
  TRUST_PROXY: as(
    integer(0, 0, 10),
    HTTP,
    "How many proxies in front are believed about the client's address: that many entries from the end of `X-Forwarded-For`. Each proxy has to add to it, or set it.",
    { more: 'proxies.md' },
  ),
  LEGACY_PATHS: as(
    boolean(false),
    HTTP,
    'Whether a stream of one channel is also at `/{channel}`, as relays over NOTIFY have it.',
    { more: 'http.md#paths-of-a-relay-over-notify' },
  ),
  REQUEST_TIMEOUT_SECONDS: as(
    number(15, 0.1, 3600),
    HTTP,
    'How long a client may take to send its request, and how long it may take nothing of an answer that is no stream.',
  ),
  PUBLIC_CHANNELS: as(
    channels,
    ACCESS,
    'What anybody may read: channels and prefixes, separated by commas, as in `news,status:*`; `*` for all. The demo opens all.',
    { unset: 'none', more: 'access.md#public-channels' },
  ),
  JWT_SECRET: as(
    key(readSecret, `a secret of at least ${SECRET_BYTES.least} bytes, and better ${SECRET_BYTES.recommended}`),
    ACCESS,
    `The secret that tokens (JWT) are signed with, HS256 to HS512: at least ${SECRET_BYTES.least} bytes, better ${SECRET_BYTES.recommended} or more, as from \`openssl rand -base64 48\`.`,
    { unset: 'none', more: 'access.md#tokens' },
  ),
  JWT_PUBLIC_KEY: as(
    key(
      readPublicKey,
      'a public key in PEM, or the path of a file with one: RSA of 2048 bits or more, EC on P-256, P-384 or P-521, or Ed25519',
    ),
    ACCESS,
    "Instead of the secret, the issuer's public key: a PEM (its lines may be joined by `\\n`), or the path of a file with one.",
    { unset: 'none', more: 'access.md#tokens' },
  ),
  JWKS_URL: as(httpUrl, ACCESS, 'Instead of either, the address where the issuer publishes its keys as a JWK set.', {
    unset: 'none',
    more: 'access.md#tokens',
  }),
  JWT_REQUIRE_EXP: as(
    boolean(true),
    ACCESS,
    'Whether a token must have an end (`exp`). A token without one gives a right that nothing ends.',
  ),
  JWT_ISSUER: as(z.string().optional(), ACCESS, "What a token's `iss` must be.", { unset: 'anything' }),
  JWT_AUDIENCE: as(list, ACCESS, "What a token's `aud` must be: one of these, separated by commas.", {
    unset: 'anything',
  }),
  JWT_CLOCK_TOLERANCE_SECONDS: as(
    number(0, 0, 600),
    ACCESS,
    'By how much the clocks of the issuer and the relay may differ.',
  ),
  JWT_CHANNELS_CLAIM: as(
    z.string().default('channels'),
    ACCESS,
    'The claim that lists the channels, as in `["user:42", "org:7:*"]`.',
  ),
  AUTH_COOKIE: as(
    cookieName.default('outbox_token'),
    ACCESS,
    'The cookie that carries a token: `EventSource` cannot send headers.',
  ),
  ALLOW_QUERY_TOKEN: as(
    boolean(false),
    ACCESS,
    "Whether a token may stand in the address, as `?token=`. Addresses end up in proxies' logs.",
  ),
  FORWARD_AUTH_URL: as(
    httpUrl,
    ACCESS,
    "Your application's address that is asked, with the client's cookies and `Authorization`, what a client without a token may read.",
    { unset: 'none', more: 'access.md#ask-the-application' },
  ),
  FORWARD_AUTH_TIMEOUT_SECONDS: as(number(5, 0.1, 60), ACCESS, 'How long it may take to answer.'),
  FORWARD_AUTH_CACHE_SECONDS: as(number(5, 0, 3600), ACCESS, 'How long its answers are kept; `0` for not at all.'),
  MAX_CONNECTIONS: as(integer(50_000, 1, 1_000_000), LIMITS, 'Most connections of a relay process.'),
  MAX_CONNECTIONS_PER_ADDRESS: as(
    integerOrNone(1, 1_000_000),
    LIMITS,
    'Most connections from one address, or from one /64 in IPv6. Once set, it counts for private addresses too. Behind a proxy set `TRUST_PROXY` as well.',
    { unset: '2000 from each public address, no limit for private ones' },
  ),
  MAX_CONNECTIONS_PER_SUBJECT: as(
    integer(100, 1, 1_000_000),
    LIMITS,
    'Most connections of one user: of one `sub` in tokens, or in the answers of `FORWARD_AUTH_URL`.',
  ),
  MAX_CHANNELS: as(integer(100, 1, 100_000), LIMITS, 'Most channels that one stream may name.'),
  MAX_HEADER_KILOBYTES: as(integer(64, 2, 1024), LIMITS, 'Largest address and headers of a request, together, in KiB.'),
  HEARTBEAT_SECONDS: as(
    number(15, 0.1, 3600),
    STREAMS,
    'After how long a silence a stream gets a heartbeat. Keep it below the idle timeout of every proxy on the way.',
    { more: 'proxies.md' },
  ),
  COMPRESSION: as(
    oneOf(['none', 'gzip']).default('none'),
    STREAMS,
    'Whether streams are compressed for clients that take it. A compressed stream takes some 120 kB of memory more, and each of its events some 17 µs of CPU time; JSON becomes a fourth.',
    { more: 'http.md#compression' },
  ),
  RETRY_SECONDS: as(
    number(2, 0, 3600),
    STREAMS,
    'How long clients are told to wait before they reconnect. On shutdown each client is told one to three times that.',
  ),
  STALL_SECONDS: as(
    number(60, 0.1, 86_400),
    STREAMS,
    'A client that takes nothing of what it was sent for this long is dropped. It resumes when it comes back.',
  ),
  MAX_CONNECTION_SECONDS: as(
    number(0, 0, 604_800),
    STREAMS,
    'The longest that a stream stays open, less up to a fifth, before its client is told to connect again; `0` for ever.',
    { more: 'operations.md#several-relays' },
  ),
  WINDOW_MEGABYTES: as(
    number(64, 0, 65536),
    MEMORY,
    'Memory for the newest events, shared by all streams, in MiB. Older events are read from the table.',
  ),
  REPLAY_MEGABYTES: as(
    number(16, 1, 65536),
    MEMORY,
    'Memory for pages that wait on slow clients, all together, in MiB. An event that is larger than its page waits for room, and an event that is larger than all of it is sent alone.',
  ),
  CONSOLE: as(
    booleanOrNone,
    CONSOLE,
    "Whether the operator's console is at `/console`. It needs `CONSOLE_PASSWORD`, or a key for tokens. In the demo it is on, and open.",
    { unset: '`false`; demo: `true`', more: 'console.md' },
  ),
  CONSOLE_PASSWORD: as(
    key(readPassword, `a password of at least ${PASSWORD_CHARACTERS} characters, as from openssl rand -base64 18`),
    CONSOLE,
    `Who has it may open the console, where \`CONSOLE\` is \`true\`: at least ${PASSWORD_CHARACTERS} characters, as from \`openssl rand -base64 18\`.`,
    { unset: 'none', more: 'console.md#who-may-open-it' },
  ),
  JWT_CONSOLE_CLAIM: as(
    z.string().default('console'),
    CONSOLE,
    'A token in which this claim is `true` opens the console, where that is on.',
    { more: 'console.md#who-may-open-it' },
  ),
  CONSOLE_SHOWS: as(
    someOf(['data', 'addresses']),
    CONSOLE,
    'What the console shows that it hides otherwise, separated by commas: `data` of events that its viewer could not read, `addresses` of clients and whose they are.',
    { unset: 'none', more: 'console.md#what-it-hides' },
  ),
  WORKERS: as(
    integer(1, 1, 256),
    PROCESS,
    'Processes that share the port, to use several cores. Each has its own memory, limits and database connections.',
    { more: 'operations.md#several-relays' },
  ),
  METRICS_PORT: as(
    integerOrNone(0, 65535),
    PROCESS,
    'A port for `/metrics`, with the metrics of all `WORKERS`, and for who is connected. Keep it from strangers.',
    { unset: 'none', more: 'operations.md#metrics' },
  ),
  PUBLIC_METRICS: as(
    boolean(false),
    PROCESS,
    'Whether `/metrics` is on `PORT` too, for everybody who reaches that. Not with `WORKERS`.',
  ),
  TRACING: as(
    boolean(false),
    PROCESS,
    "Whether spans are made of what becomes of events that were published within one, and sent where OpenTelemetry's variables say, as `OTEL_EXPORTER_OTLP_ENDPOINT`.",
    { more: 'tracing.md' },
  ),
  LOG_LEVEL: as(oneOf(LEVELS, LEVELS_OF_PYTHON).optional(), PROCESS, 'How much is logged.', {
    unset: '`info`; demo: `warn`',
    example: 'info',
  }),
  LOG_FORMAT: as(
    oneOf(['json', 'text']).optional(),
    PROCESS,
    'How log entries are written: each as JSON on a line of its own, or as text to be read by people, with colours on a terminal unless `NO_COLOR` is set.',
    { unset: '`text` on a terminal, else `json`' },
  ),
  SHUTDOWN_SECONDS: as(
    number(10, 0, 3600),
    PROCESS,
    'How long streams have to end after SIGTERM before they are cut.',
    { more: 'operations.md#stop-and-restart' },
  ),
});

/** @throws Error where a variable was added without one */
export function descriptionOf(name: keyof typeof variables.shape): Description {
  const description = variables.shape[name].meta();
  if (description === undefined) throw new Error(`${name} has no description: see variables.ts.`);
  return description as unknown as Description;
}

export interface DescribedVariable {
  readonly name: string;
  /** What holds where it is not set, as it would be written, or in words; undefined: nothing. */
  readonly default: string | undefined;
  readonly description: string;
}

/** All variables, as plain text for `--help`. */
export function describeVariables(): DescribedVariable[] {
  return (Object.keys(variables.shape) as (keyof typeof variables.shape)[]).map((name) => {
    const { meaning, unset } = descriptionOf(name);
    const value: unknown = variables.shape[name].safeParse(undefined).data;
    const text = unset ?? (['string', 'number', 'boolean'].includes(typeof value) ? String(value) : undefined);
    const standard = text?.replace(/^none(: )?/, '').replaceAll('`', '');
    return { name, default: standard || undefined, description: meaning.replaceAll('`', '') };
  });
}
