import { createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { channelFilter } from '../src/event/channel-filter.js';
import { readConfig, VARIABLES } from '../src/config/config.js';
import { isOperatorError } from '../src/operator-error.js';

const MEBIBYTE = 1024 * 1024;
const DATABASE_URL = 'postgres://relay:s3cret@db.example:5432/app';

/** Any file does. */
const CREDENTIALS = fileURLToPath(import.meta.url);
const SECRET_TEXT = 'a secret of thirty-two bytes, or more';
/** Keys that may not be used to verify tokens. */
const pem = (key: KeyObject) =>
  key.export({ type: key.type === 'private' ? 'pkcs8' : 'spki', format: 'pem' }).toString();
const WEAK_RSA = pem(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey);
const PRIVATE = pem(generateKeyPairSync('ed25519').privateKey);
const EXCHANGE_ONLY = pem(generateKeyPairSync('x25519').publicKey);

const fileAt = (path: string) => new URL(`../../${path}`, import.meta.url);

function problems(env: Record<string, string>): string[] {
  try {
    readConfig(env);
    return [];
  } catch (error) {
    if (!isOperatorError(error, 'bad-environment')) throw error;
    const [title, ...lines] = error.message.split('\n');
    if (title !== 'The configuration is not valid:') throw error;
    return lines;
  }
}

const PASSWORD_TEXT = 'twelve characters';

test('an empty environment is a valid one, with the defaults that are documented', (t) => {
  t.deepEqual(readConfig({}), {
    databaseUrl: undefined,
    listenDatabaseUrl: undefined,
    retentionDatabaseUrl: undefined,
    archiveDatabaseUrl: undefined,
    nats: undefined,
    retentionSeconds: undefined,
    console: { isOn: undefined, password: undefined, isOpen: false, shows: { data: false, addresses: false } },
    host: '127.0.0.1',
    port: 8001,
    allowedOrigins: [],
    publicChannels: channelFilter([]),
    tokens: undefined,
    forwardAuth: undefined,
    authCookie: 'outbox_token',
    allowQueryToken: false,
    logLevel: 'warn',
    logFormat: undefined,
    heartbeatSeconds: 15,
    compression: 'none',
    retrySeconds: 2,
    sweepSeconds: 5,
    pollSeconds: 0.5,
    listenTimeoutSeconds: 10,
    queryTimeoutSeconds: 30,
    requestTimeoutSeconds: 15,
    shutdownSeconds: 10,
    windowBytes: 64 * MEBIBYTE,
    replayBytes: 16 * MEBIBYTE,
    historyConnections: 4,
    stallSeconds: 60,
    maxConnectionSeconds: 0,
    metricsPort: undefined,
    publicMetrics: false,
    tracing: false,
    workers: 1,
    legacyPaths: false,
    maxChannels: 100,
    maxConnections: 50_000,
    maxConnectionsPerAddress: undefined,
    maxConnectionsPerSubject: 100,
    trustProxy: 0,
    maxHeaderBytes: 64 * 1024,
  });
});

test('every variable reaches the configuration', (t) => {
  const env = {
    DATABASE_URL,
    LISTEN_DATABASE_URL: 'postgresql://direct.example/app',
    RETENTION: '36h',
    RETENTION_DATABASE_URL: 'postgresql://pruner@direct.example/app',
    HOST: '::',
    PORT: '0',
    ALLOWED_ORIGINS: 'https://a.example, http://localhost:8000 ,',
    PUBLIC_CHANNELS: 'news, status:*',
    LOG_LEVEL: 'trace',
    LOG_FORMAT: 'Text',
    HEARTBEAT_SECONDS: '0.5',
    COMPRESSION: 'GZIP',
    RETRY_SECONDS: '0',
    SWEEP_SECONDS: '1',
    LISTEN_TIMEOUT_SECONDS: '2',
    QUERY_TIMEOUT_SECONDS: '3',
    REQUEST_TIMEOUT_SECONDS: '4',
    SHUTDOWN_SECONDS: '5',
    WINDOW_MEGABYTES: '0.5',
    REPLAY_MEGABYTES: '2',
    HISTORY_CONNECTIONS: '8',
    MAX_CHANNELS: '9',
    POLL_SECONDS: '0.3',
    STALL_SECONDS: '14',
    MAX_CONNECTION_SECONDS: '15',
    METRICS_PORT: '16',
    PUBLIC_METRICS: 'false',
    TRACING: 'true',
    WORKERS: '17',
    JWT_SECRET: SECRET_TEXT,
    JWT_REQUIRE_EXP: 'false',
    JWT_ISSUER: 'shop',
    JWT_AUDIENCE: 'relay, other',
    JWT_CLOCK_TOLERANCE_SECONDS: '6',
    JWT_CHANNELS_CLAIM: 'may_read',
    JWT_CONSOLE_CLAIM: 'operator',
    CONSOLE: 'True',
    CONSOLE_PASSWORD: PASSWORD_TEXT,
    CONSOLE_SHOWS: 'data, Addresses',
    AUTH_COOKIE: 'session_token',
    ALLOW_QUERY_TOKEN: 'true',
    FORWARD_AUTH_URL: 'https://app.example/may-listen',
    FORWARD_AUTH_TIMEOUT_SECONDS: '7',
    FORWARD_AUTH_CACHE_SECONDS: '0',
    TRUST_PROXY: '2',
    LEGACY_PATHS: 'true',
    MAX_CONNECTIONS: '10',
    MAX_CONNECTIONS_PER_ADDRESS: '11',
    MAX_CONNECTIONS_PER_SUBJECT: '12',
    MAX_HEADER_KILOBYTES: '13',
    NATS_URL: 'nats://relay:s3cret@a.example:4222, nats://b.example',
    NATS_STREAM: 'shop',
    NATS_CREDENTIALS_FILE: CREDENTIALS,
    NATS_SECRET: SECRET_TEXT,
    ARCHIVE_DATABASE_URL: 'postgres://standby.example/app',
  };
  const otherKeys = ['JWT_PUBLIC_KEY', 'JWKS_URL'];
  t.deepEqual([...Object.keys(env), ...otherKeys].sort(), [...VARIABLES].sort());
  t.deepEqual(readConfig(env), {
    databaseUrl: DATABASE_URL,
    listenDatabaseUrl: 'postgresql://direct.example/app',
    retentionDatabaseUrl: 'postgresql://pruner@direct.example/app',
    archiveDatabaseUrl: 'postgres://standby.example/app',
    nats: {
      servers: ['nats://relay:s3cret@a.example:4222', 'nats://b.example'],
      stream: 'shop',
      secret: createSecretKey(Buffer.from(SECRET_TEXT)),
      credentialsFile: CREDENTIALS,
    },
    retentionSeconds: 36 * 3600,
    console: {
      isOn: true,
      password: createSecretKey(Buffer.from(PASSWORD_TEXT)),
      isOpen: false,
      shows: { data: true, addresses: true },
    },
    host: '::',
    port: 0,
    allowedOrigins: ['https://a.example', 'http://localhost:8000'],
    publicChannels: channelFilter(['news', 'status:*']),
    logLevel: 'trace',
    logFormat: 'text',
    heartbeatSeconds: 0.5,
    compression: 'gzip',
    retrySeconds: 0,
    sweepSeconds: 1,
    pollSeconds: 0.3,
    listenTimeoutSeconds: 2,
    queryTimeoutSeconds: 3,
    requestTimeoutSeconds: 4,
    shutdownSeconds: 5,
    windowBytes: MEBIBYTE / 2,
    replayBytes: 2 * MEBIBYTE,
    historyConnections: 8,
    stallSeconds: 14,
    maxConnectionSeconds: 15,
    metricsPort: 16,
    publicMetrics: false,
    tracing: true,
    workers: 17,
    legacyPaths: true,
    maxChannels: 9,
    tokens: {
      secret: createSecretKey(Buffer.from(SECRET_TEXT)),
      requireExpiry: false,
      issuer: 'shop',
      audience: ['relay', 'other'],
      clockToleranceSeconds: 6,
      channelsClaim: 'may_read',
      consoleClaim: 'operator',
    },
    authCookie: 'session_token',
    allowQueryToken: true,
    forwardAuth: { url: 'https://app.example/may-listen', timeoutSeconds: 7, cacheSeconds: 0 },
    trustProxy: 2,
    maxConnections: 10,
    maxConnectionsPerAddress: 11,
    maxConnectionsPerSubject: 12,
    maxHeaderBytes: 13 * 1024,
  });
});

test('origins are taken as people write them, and become what browsers send', (t) => {
  const { allowedOrigins } = readConfig({
    ALLOWED_ORIGINS:
      'https://App.Example/, HTTP://localhost:80, https://a.example:443,http://[::1]:8000/, https://bücher.example, ' +
      'capacitor://localhost, ionic://localhost/, tauri://localhost, app://obsidian.md, chrome-extension://abcdefghijklmnop',
  });
  t.deepEqual(allowedOrigins, [
    'https://app.example',
    'http://localhost',
    'https://a.example',
    'http://[::1]:8000',
    'https://xn--bcher-kva.example',
    'capacitor://localhost',
    'ionic://localhost',
    'tauri://localhost',
    'app://obsidian.md',
    'chrome-extension://abcdefghijklmnop',
  ]);
  t.regex(problems({ ALLOWED_ORIGINS: 'null' })[0] ?? '', /null, which any sandboxed page .* names nobody$/);
});

test('LOG_LEVEL is taken in any case, and as Python names its levels', (t) => {
  for (const LOG_LEVEL of ['INFO', 'Info', 'info']) t.is(readConfig({ LOG_LEVEL }).logLevel, 'info');
  t.is(readConfig({ LOG_LEVEL: 'WARNING' }).logLevel, 'warn');
  t.is(readConfig({ LOG_LEVEL: 'CRITICAL' }).logLevel, 'fatal');
});

test('words and the scheme of an address are taken in any case', (t) => {
  for (const LEGACY_PATHS of ['true', 'True', 'TRUE']) t.true(readConfig({ LEGACY_PATHS }).legacyPaths);
  for (const JWT_REQUIRE_EXP of ['false', 'False']) {
    t.false(readConfig({ JWT_SECRET: SECRET_TEXT, JWT_REQUIRE_EXP }).tokens?.requireExpiry);
  }
  t.is(readConfig({ JWKS_URL: 'HTTPS://id.example/keys' }).tokens?.keySetUrl, 'HTTPS://id.example/keys');
});

test('only blanks are cut off the items of a list: whatever else is there is part of a name', (t) => {
  t.deepEqual(readConfig({ PUBLIC_CHANNELS: ' a\t,\n\u00a0b ,' }).publicChannels, channelFilter(['a', '\u00a0b']));
  t.deepEqual(readConfig({ JWT_SECRET: SECRET_TEXT, JWT_AUDIENCE: 'x\u00a0, y' }).tokens?.audience, ['x\u00a0', 'y']);
});

test('no span that a variable can have is longer than a timer can wait', (t) => {
  // Node.js manual, timers: what is more than 2^31 - 1 milliseconds comes at once.
  for (const [name, { expected }] of Object.entries(INVALID)) {
    const most = /to (\d+)$/.exec(expected.source.replace('\\.', '.'))?.[1];
    if (name.endsWith('_SECONDS')) t.true(Number(most) * 1000 < 2 ** 31, name);
  }
});

test('a public key is given as PEM, as PEM on one line, or as the path of a file', (t) => {
  const { publicKey } = generateKeyPairSync('ed25519');
  const text = pem(publicKey);
  const path = join(mkdtempSync(join(tmpdir(), 'outbox-relay-')), 'key.pem');
  writeFileSync(path, text);
  for (const JWT_PUBLIC_KEY of [text, text.replaceAll('\n', '\\n'), path]) {
    t.true(readConfig({ JWT_PUBLIC_KEY }).tokens?.publicKey?.equals(publicKey));
  }
  rmSync(dirname(path), { recursive: true });
});

test('a key set is named by its address', (t) => {
  t.is(readConfig({ JWKS_URL: 'https://id.example/keys' }).tokens?.keySetUrl, 'https://id.example/keys');
});

test('there is one key for tokens: a second is refused, by name', (t) => {
  const lines = problems({ JWT_SECRET: SECRET_TEXT, JWKS_URL: 'https://id.example/keys' });
  t.deepEqual(lines, [
    '  JWKS_URL=(not shown): expected only one of JWT_SECRET, JWT_PUBLIC_KEY, JWKS_URL: JWT_SECRET is set too',
  ]);
});

test('metrics on PORT are asked for, and of one process', (t) => {
  t.true(readConfig({ PUBLIC_METRICS: 'true' }).publicMetrics);
  t.deepEqual(problems({ PUBLIC_METRICS: 'true', WORKERS: '2' }), [
    '  PUBLIC_METRICS="true": expected false with WORKERS: the metrics of all of them are on METRICS_PORT',
  ]);
});

test('LISTEN goes to DATABASE_URL where it has no address of its own', (t) => {
  t.is(readConfig({ DATABASE_URL }).listenDatabaseUrl, DATABASE_URL);
});

test('pruning goes where LISTEN does, unless it has an address of its own', (t) => {
  const LISTEN_DATABASE_URL = 'postgres://direct.example/app';
  t.is(readConfig({ DATABASE_URL }).retentionDatabaseUrl, DATABASE_URL);
  t.is(readConfig({ DATABASE_URL, LISTEN_DATABASE_URL }).retentionDatabaseUrl, LISTEN_DATABASE_URL);
});

test('with NATS_URL replays are read from DATABASE_URL, unless they have an address of their own', (t) => {
  const NATS_URL = 'tls://nats.example:4222';
  const ARCHIVE_DATABASE_URL = 'postgres://standby.example/app';
  t.is(readConfig({ DATABASE_URL, NATS_URL }).archiveDatabaseUrl, DATABASE_URL);
  t.is(readConfig({ DATABASE_URL, NATS_URL, ARCHIVE_DATABASE_URL }).archiveDatabaseUrl, ARCHIVE_DATABASE_URL);
  t.is(readConfig({ NATS_URL, ARCHIVE_DATABASE_URL }).databaseUrl, undefined);
  t.deepEqual(readConfig({ NATS_URL }).nats, {
    servers: [NATS_URL],
    stream: 'outbox',
    secret: undefined,
    credentialsFile: undefined,
  });
});

test('a database that replays alone are read from is refused without NATS_URL, and so is one to delete in that is none', (t) => {
  const ARCHIVE_DATABASE_URL = 'postgres://u:s3cret@standby.example/app';
  t.deepEqual(problems({ DATABASE_URL, ARCHIVE_DATABASE_URL }), [
    '  ARCHIVE_DATABASE_URL=(not shown): expected none without NATS_URL: a relay reads all from DATABASE_URL, which must not lead to a standby',
  ]);
  t.deepEqual(problems({ NATS_URL: 'nats://a', ARCHIVE_DATABASE_URL, RETENTION: '7d' }), [
    '  RETENTION="7d": expected RETENTION_DATABASE_URL, too: nothing can be deleted at ARCHIVE_DATABASE_URL, which may be a standby',
  ]);
  t.deepEqual(problems({ NATS_URL: 'nats://a', ARCHIVE_DATABASE_URL, DATABASE_URL, RETENTION: '7d' }), []);
});

test('what is kept is kept for seconds, minutes, hours or days', (t) => {
  const seconds = ['90s', '30m', '12h', '7d'].map((RETENTION) => readConfig({ RETENTION }).retentionSeconds);
  t.deepEqual(seconds, [90, 1800, 43_200, 604_800]);
});

test('with a database the log says what happens; the demo only warns', (t) => {
  t.is(readConfig({ DATABASE_URL }).logLevel, 'info');
  t.is(readConfig({}).logLevel, 'warn');
});

test('R8: with a database nothing is public unless PUBLIC_CHANNELS says so', (t) => {
  t.deepEqual(readConfig({ DATABASE_URL }).publicChannels, channelFilter([]));
});

test('a variable that is set but empty counts as not set', (t) => {
  t.deepEqual(readConfig(Object.fromEntries(VARIABLES.map((name) => [name, '']))), readConfig({}));
});

test('what is no variable of ours is left alone', (t) => {
  t.deepEqual(readConfig({ PATH: '/bin', HEARTBEAT: 'x' }), readConfig({}));
});

/** What is set beside a variable that is refused without it. */
const BESIDE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  ARCHIVE_DATABASE_URL: { NATS_URL: 'nats://nats.example' },
};

const INVALID: Readonly<Record<string, { values: readonly string[]; expected: RegExp }>> = {
  DATABASE_URL: {
    values: ['db.example', 'mysql://u:p@h/d', 'postgres://', 'postgres://h:port/d'],
    expected: /a URL, as in postgres:\/\//,
  },
  LISTEN_DATABASE_URL: { values: ['db.example'], expected: /a URL, as in postgres:\/\// },
  RETENTION_DATABASE_URL: { values: ['db.example'], expected: /a URL, as in postgres:\/\// },
  ARCHIVE_DATABASE_URL: { values: ['db.example'], expected: /a URL, as in postgres:\/\// },
  NATS_URL: {
    values: [
      'nats.example:4222',
      'http://nats.example',
      'nats://a,tls://b',
      'nats://a,',
      'nats://a/path',
      'nats://a:port',
    ],
    expected: /URLs separated by commas, as in nats:\/\//,
  },
  NATS_STREAM: { values: ['a.b', 'a b', '*', 'x'.repeat(33)], expected: /letters, digits, - and _/ },
  NATS_CREDENTIALS_FILE: { values: ['/no/such/file.creds'], expected: /the path of a file that can be read/ },
  NATS_SECRET: { values: ['short'], expected: /a secret of at least 16 bytes/ },
  RETENTION: {
    values: ['7', '0d', '-1d', '1.5h', '7 d', '7D', '2w', 'P7D', '36501d', '1e3s'],
    expected: /a number with a unit, as in 90s, 15m, 1h or 7d/,
  },
  PORT: {
    values: ['65536', '-1', '80.5', 'http', '0x50', '1e3', ' 80', 'Infinity'],
    expected: /number from 0 to 65535/,
  },
  ALLOWED_ORIGINS: {
    values: [
      'app.example',
      'https://app.example/path',
      'https://app.example//',
      'https://app.example?',
      'https://u@app.example',
      'https://*.example',
      'https://app.example:x',
      'capacitor://',
      'capacitor:localhost',
      'capacitor://localhost/index.html',
      '1app://x',
      '*,https://a.example',
      'null',
    ],
    expected: /origins separated by commas.*or \* alone/,
  },
  PUBLIC_CHANNELS: {
    values: ['news,a*', 'x'.repeat(300), 'a\u0001b'],
    expected: /channels separated by commas, as in news,status:\*/,
  },
  LOG_LEVEL: {
    values: ['verbose', 'INFO ', 'ınfo', 'warnings'],
    expected: /one of fatal, error, warn, info, debug, trace, silent/,
  },
  LOG_FORMAT: { values: ['xml', 'pretty', 'json,text'], expected: /one of json, text/ },
  COMPRESSION: { values: ['on', 'zstd', 'gzip,br'], expected: /one of none, gzip/ },
  HEARTBEAT_SECONDS: { values: ['0', '3601', '15s', 'NaN'], expected: /a number from 0\.1 to 3600/ },
  RETRY_SECONDS: { values: ['-1', '3601'], expected: /a number from 0 to 3600/ },
  SWEEP_SECONDS: { values: ['0', '3601'], expected: /a number from 0\.05 to 3600/ },
  POLL_SECONDS: { values: ['0', '3601'], expected: /a number from 0\.05 to 3600/ },
  STALL_SECONDS: { values: ['0', '86401'], expected: /a number from 0\.1 to 86400/ },
  MAX_CONNECTION_SECONDS: { values: ['-1', '604801'], expected: /a number from 0 to 604800/ },
  METRICS_PORT: { values: ['-1', '65536', 'on'], expected: /number from 0 to 65535/ },
  PUBLIC_METRICS: { values: ['yes', '1'], expected: /true or false/ },
  TRACING: { values: ['yes', '1', 'otlp'], expected: /true or false/ },
  WORKERS: { values: ['0', '257', 'auto'], expected: /number from 1 to 256/ },
  LISTEN_TIMEOUT_SECONDS: { values: ['0', '3601'], expected: /a number from 0\.2 to 3600/ },
  QUERY_TIMEOUT_SECONDS: { values: ['0', '3601'], expected: /a number from 0\.2 to 3600/ },
  REQUEST_TIMEOUT_SECONDS: { values: ['0', '3601'], expected: /a number from 0\.1 to 3600/ },
  SHUTDOWN_SECONDS: { values: ['-1', '3601'], expected: /a number from 0 to 3600/ },
  WINDOW_MEGABYTES: { values: ['-1', '65537', '64MB'], expected: /a number from 0 to 65536/ },
  REPLAY_MEGABYTES: { values: ['0', '65537'], expected: /a number from 1 to 65536/ },
  HISTORY_CONNECTIONS: { values: ['0', '1001', '2.5'], expected: /number from 1 to 1000/ },
  MAX_CHANNELS: { values: ['0', '100001', '2.5'], expected: /number from 1 to 100000/ },
  JWT_SECRET: { values: ['short', 'fifteen bytes ..'.slice(0, 15)], expected: /a secret of at least 16 bytes/ },
  JWT_PUBLIC_KEY: {
    values: ['/no/such/file.pem', 'dir', WEAK_RSA, PRIVATE, EXCHANGE_ONLY, '-----BEGIN PUBLIC KEY-----'],
    expected: /a public key in PEM, or the path of a file with one/,
  },
  JWKS_URL: { values: ['id.example/keys', 'https://u:p@id.example/keys', 'file:///keys'], expected: /https:\/\/ URL/ },
  JWT_REQUIRE_EXP: { values: ['no', '0', 'ON'], expected: /true or false/ },
  JWT_CLOCK_TOLERANCE_SECONDS: { values: ['-1', '601'], expected: /a number from 0 to 600/ },
  AUTH_COOKIE: { values: ['a b', 'a=b', 'a;b'], expected: /the name of a cookie/ },
  ALLOW_QUERY_TOKEN: { values: ['yes', '1'], expected: /true or false/ },
  FORWARD_AUTH_URL: { values: ['/may-listen', 'https://u:p@app.example/'], expected: /https:\/\/ URL/ },
  FORWARD_AUTH_TIMEOUT_SECONDS: { values: ['0', '61'], expected: /a number from 0\.1 to 60/ },
  FORWARD_AUTH_CACHE_SECONDS: { values: ['-1', '3601'], expected: /a number from 0 to 3600/ },
  LEGACY_PATHS: { values: ['yes', '1'], expected: /true or false/ },
  TRUST_PROXY: { values: ['-1', '11', 'true'], expected: /number from 0 to 10/ },
  MAX_CONNECTIONS: { values: ['0', '2.5'], expected: /number from 1 to 1000000/ },
  MAX_CONNECTIONS_PER_ADDRESS: { values: ['0', '2.5'], expected: /number from 1 to 1000000/ },
  MAX_CONNECTIONS_PER_SUBJECT: { values: ['0', '2.5'], expected: /number from 1 to 1000000/ },
  MAX_HEADER_KILOBYTES: { values: ['1', '1025'], expected: /number from 2 to 1024/ },
  CONSOLE: { values: ['yes', '1'], expected: /true or false/ },
  CONSOLE_PASSWORD: { values: ['s3cret', 'of 11 chars'], expected: /at least 12 characters, as from openssl/ },
  CONSOLE_SHOWS: { values: ['data,all', 'data addresses'], expected: /some of data, addresses/ },
};

/** Whatever is in these counts as text. */
const FREE = ['HOST', 'JWT_ISSUER', 'JWT_AUDIENCE', 'JWT_CHANNELS_CLAIM', 'JWT_CONSOLE_CLAIM'];

const URLS = ['DATABASE_URL', 'LISTEN_DATABASE_URL', 'RETENTION_DATABASE_URL', 'ARCHIVE_DATABASE_URL', 'NATS_URL'];
const SECRET = new Set([
  ...URLS,
  'NATS_SECRET',
  'JWT_SECRET',
  'JWT_PUBLIC_KEY',
  'JWKS_URL',
  'FORWARD_AUTH_URL',
  'CONSOLE_PASSWORD',
]);

test('what is invalid is reported with the variable, its value and what is expected', (t) => {
  for (const [name, { values, expected }] of Object.entries(INVALID)) {
    for (const value of values) {
      const lines = problems({ ...BESIDE[name], [name]: value });
      t.is(lines.length, 1, `${name}=${value}`);
      t.true(lines[0]?.startsWith(`  ${name}=${SECRET.has(name) ? '(not shown)' : JSON.stringify(value)}: expected `));
      t.regex(lines[0] ?? '', expected);
    }
  }
});

test('every variable that can be invalid is tested to be', (t) => {
  t.deepEqual([...Object.keys(INVALID), ...FREE].sort(), [...VARIABLES].sort());
});

test('all that is invalid is reported at once', (t) => {
  const env = Object.fromEntries(Object.entries(INVALID).map(([name, { values }]) => [name, values[0] ?? '']));
  const names = problems(env).map((line) => line.trim().split('=')[0]);
  t.deepEqual(names.sort(), Object.keys(INVALID).sort());
});

test('a console that nobody could open is no valid one, but in the demo', (t) => {
  const lines = problems({ DATABASE_URL, CONSOLE: 'true' });
  t.regex(lines[0] ?? '', /CONSOLE="true": expected a way in, too: set CONSOLE_PASSWORD, or one of JWT_SECRET/);
  t.is(lines.length, 1);
  for (const way of [{ CONSOLE_PASSWORD: PASSWORD_TEXT }, { JWT_SECRET: SECRET_TEXT }]) {
    t.true(readConfig({ DATABASE_URL, CONSOLE: 'true', ...way }).console.isOn);
  }
  t.true(readConfig({ CONSOLE: 'true' }).console.isOn);
});

test('a password is never shown', (t) => {
  for (const name of SECRET) {
    const lines = problems({ [name]: 'u:s3cret@db', PORT: 'x' }).join('\n');
    t.true(lines.includes(name));
    t.notRegex(lines, /s3cret/);
  }
});

/** The assignments of .env.example, which are all commented out. */
function example(): { name: string; value: string; comment: string }[] {
  const found: { name: string; value: string; comment: string }[] = [];
  let comment = '';
  for (const line of readFileSync(fileAt('.env.example'), 'utf8').split('\n')) {
    const [, name, value] = /^# ?([A-Z][A-Z_]*)=(.*)$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) found.push({ name, value, comment });
    comment = line;
  }
  return found;
}

test('.env.example has every variable once, explained, and sets none', (t) => {
  t.deepEqual(
    example()
      .map(({ name }) => name)
      .sort(),
    [...VARIABLES].sort(),
  );
  for (const { name, comment } of example()) t.regex(comment, /^# .{10,}\.$/, name);
  const lines = readFileSync(fileAt('.env.example'), 'utf8').split('\n');
  t.deepEqual(
    lines.filter((line) => line !== '' && !line.startsWith('#')),
    [],
  );
});

test('.env.example names the defaults', (t) => {
  const env = Object.fromEntries(example().map(({ name, value }) => [name, value]));
  const { DATABASE_URL: url, LISTEN_DATABASE_URL: listen, ...others } = env;
  t.true(url !== undefined && URL.canParse(url));
  t.is(listen, '');
  t.deepEqual(readConfig({ ...others, DATABASE_URL }), readConfig({ DATABASE_URL }));
});
