/**
 * The address of a database: a URL as libpq has it (PostgreSQL manual, 34.1.1), and what it says
 * about TLS.
 *
 * node-postgres reads `sslmode=require` as `verify-full`. Here each mode means what it means to
 * psql: PostgreSQL manual, 34.19.
 */
import tls from 'node:tls';
import pg from 'pg';
import { OperatorError } from '../operator-error.js';
import { parse, toClientConfig } from 'pg-connection-string';

type Tls = NonNullable<pg.ClientConfig['ssl']>;

export interface DatabaseAddress {
  /** For a client or a pool, but for `ssl`. */
  readonly config: pg.ClientConfig;
  /** TLS for the next connection. */
  readonly ssl: Tls;
  /**
   * Whether to connect again, with what `ssl` is then, as `sslmode` allows it after this error of a
   * connection with `used`.
   */
  fallsBack(error: unknown, used: Tls): boolean;
}

const FORM = 'a URL, as in postgres://user:password@host:5432/database';
const ENCODING = `${FORM}; in user, password and database @ is written %40, / %2F, : %3A, # %23, ? %3F and % %25`;
const MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'] as const;
type Mode = (typeof MODES)[number];
const FILES = ['sslrootcert', 'sslcert', 'sslkey'] as const;

/**
 * @param env PGSSLMODE, PGSSLROOTCERT, PGSSLCERT and PGSSLKEY count where the URL says nothing.
 * @throws OperatorError `bad-database-url`
 */
export function readDatabaseUrl(
  text: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): DatabaseAddress {
  if (!/^postgres(ql)?:\/\/./.test(text)) throw badUrl(formOf(text));
  const mark = text.indexOf('?');
  const base = mark < 0 ? text : text.slice(0, mark);
  const params = new URLSearchParams(mark < 0 ? '' : text.slice(mark + 1));
  refuseUnsupported(base, params);
  const modes = tlsModes(params, env);
  const isSystem = params.get('sslrootcert') === 'system';
  if (isSystem) params.delete('sslrootcert');
  const query = params.toString();
  let config: pg.ClientConfig;
  try {
    config = toClientConfig(parse(query === '' ? base : `${base}?${query}`, { useLibpqCompat: modes !== undefined }));
  } catch (error) {
    throw unusable(error, params);
  }
  const { ssl: own = false, ...rest } = config;
  const ssl = isSystem && typeof own === 'object' ? { ...own, ca: systemAuthorities() } : own;
  const database = params.get('dbname') ?? databaseIn(base);
  const attempts = config.host?.startsWith('/') ? [false] : (modes?.map((isTls) => isTls && ssl) ?? [ssl]);
  return withAttempts({ ...rest, ...(database ? { database } : {}) }, attempts);
}

/**
 * Why an address can't be used: what follows the word "expected", with nothing of the address in
 * it.
 */
const badUrl = (expected: string) => new OperatorError('bad-database-url', expected);

function withAttempts(config: pg.ClientConfig, attempts: readonly Tls[]): DatabaseAddress {
  let current = 0;
  return {
    config,
    get ssl() {
      return attempts[current] ?? false;
    },
    fallsBack(error, used) {
      if (attempts.length === 1 || !isTlsRefusal(error)) return false;
      if (attempts[current] !== used) return true; // another connection has found out meanwhile
      if (current === attempts.length - 1) return false;
      current += 1;
      return true;
    },
  };
}

/**
 * The parser leaves some of it encoded. Empty: the same as the user. @throws OperatorError
 * `bad-database-url`
 */
function databaseIn(base: string): string {
  const [, ...path] = base.slice(base.indexOf('//') + 2).split('/');
  try {
    return decodeURIComponent(path.join('/'));
  } catch {
    throw badUrl(ENCODING);
  }
}

/** Those of the operating system where Node can tell (22.15), else Node's own. */
function systemAuthorities(): string[] | undefined {
  const { getCACertificates } = tls as { getCACertificates?: (type: 'system') => string[] };
  return getCACertificates?.('system');
}

/** Of one that is none. */
function formOf(text: string): string {
  return /^\s*\w+\s*=/.test(text) ? `${FORM}; a list of key=value words is not read` : FORM;
}

/** @throws OperatorError `bad-database-url` */
function refuseUnsupported(base: string, params: URLSearchParams): void {
  const authority = base.slice(base.indexOf('//') + 2).split('/', 1)[0] ?? '';
  const hosts = [authority.slice(authority.lastIndexOf('@') + 1), params.get('host') ?? '', params.get('port') ?? ''];
  if (hosts.some((part) => part.includes(','))) {
    throw badUrl(
      'one host: of several, none is chosen here. Name a virtual address, a proxy or a pooler that leads to the primary',
    );
  }
  if (params.has('service')) {
    throw badUrl(`${FORM}, without service=: pg_service.conf is not read, so write out what it says`);
  }
  if (params.has('hostaddr')) throw badUrl(`${FORM}, without hostaddr=: write the address as the host`);
  const target = params.get('target_session_attrs') ?? 'any';
  if (!['any', 'read-write', 'primary'].includes(target)) {
    throw badUrl('target_session_attrs to be read-write or left out: a relay reads from the primary');
  }
}

/**
 * Leaves in `params` what the parser is to know. With `prefer` and `allow` there are two attempts.
 * Where nothing is said it is `allow`, and not `prefer` as for psql: that would open each
 * connection to a server without TLS twice.
 *
 * @returns of each attempt whether it is by TLS; undefined where node-postgres' own `ssl=` says it
 * @throws OperatorError `bad-database-url`
 */
function tlsModes(
  params: URLSearchParams,
  env: Readonly<Record<string, string | undefined>>,
): readonly boolean[] | undefined {
  params.delete('uselibpqcompat');
  if (params.has('ssl') && !params.has('sslmode')) return undefined;
  for (const name of ['sslmode', ...FILES]) {
    const given = env[`PG${name.toUpperCase()}`];
    if (!params.get(name) && given) params.set(name, given);
  }
  let mode = params.get('sslmode') ?? 'allow';
  if (params.get('sslrootcert') === 'system') mode = 'verify-full';
  if (!isMode(mode)) throw badUrl(`sslmode to be one of ${MODES.join(', ')}`);
  if (mode === 'verify-ca' && !params.get('sslrootcert')) {
    throw badUrl('sslrootcert with sslmode=verify-ca: the file with the certificate of the authority');
  }
  const isOptional = mode === 'prefer' || mode === 'allow';
  params.set('sslmode', isOptional ? 'prefer' : mode === 'no-verify' ? 'require' : mode);
  if (isOptional) params.delete('sslrootcert');
  if (mode === 'disable') {
    for (const name of FILES) params.delete(name);
    return [false];
  }
  return mode === 'prefer' ? [true, false] : mode === 'allow' ? [false, true] : [true];
}

function isMode(text: string): text is Mode {
  return (MODES as readonly string[]).includes(text);
}

/** What the parser says of an address may have parts of it. */
function unusable(error: unknown, params: URLSearchParams): OperatorError {
  const { code, path } = error as NodeJS.ErrnoException;
  const file = FILES.find((name) => path !== undefined && params.get(name) === path);
  if (file !== undefined) return badUrl(`${file} to be a file that can be read (${code ?? ''})`);
  return badUrl(ENCODING);
}

/**
 * That there is no TLS, or none without it: pg_hba.conf's answer is
 * `invalid_authorization_specification`.
 */
function isTlsRefusal(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return error.code === '28000';
  return error instanceof Error && error.message === 'The server does not support SSL connections';
}

/**
 * OpenSSL's and Node's codes for certificates that are not believed; see the manual of Node, "X509
 * certificate error codes".
 */
export function isCertificateError(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? '';
  return /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_)/.test(code) || /(CERT|SIGNATURE|ISSUER|CRL)/.test(code);
}
