/**
 * How the command prints a failure: one line for what the operator can fix, a stack only for what
 * nobody foresaw.
 */
import pg from 'pg';
import type { Config } from '../../config/config.js';
import { isOperatorError, OperatorError } from '../../operator-error.js';
import { isCertificateError } from '../../postgres/database-url.js';

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'ECONNRESET',
]);

/**
 * Waits for work with a database, and has its failure name the variable that holds the database's
 * address.
 *
 * @throws OperatorError `database-failed`; what the work throws, where the address is DATABASE_URL
 */
export async function withDatabaseVariable<T>(
  {
    databaseUrl,
    listenDatabaseUrl,
    archiveDatabaseUrl,
  }: Pick<Config, 'databaseUrl' | 'listenDatabaseUrl' | 'archiveDatabaseUrl'>,
  url: string | undefined,
  work: Promise<T>,
): Promise<T> {
  try {
    return await work;
  } catch (error) {
    // By default each address is that of the variable before it.
    if (url === databaseUrl) throw error;
    const listens = url === listenDatabaseUrl ? 'LISTEN_DATABASE_URL' : 'RETENTION_DATABASE_URL';
    const variable = url === archiveDatabaseUrl ? 'ARCHIVE_DATABASE_URL' : listens;
    throw new OperatorError('database-failed', formatError(error, variable), { cause: error });
  }
}

/**
 * @param variable the variable that holds the address of the database
 * @returns text without secrets: no address of a database is in it
 */
export function formatError(error: unknown, variable = 'DATABASE_URL'): string {
  if (isOperatorError(error)) {
    return error.code === 'bad-database-url' ? `${variable}: expected ${error.message}.` : error.message;
  }
  if (error instanceof pg.DatabaseError) {
    const where = variable === 'DATABASE_URL' ? '' : `. Check ${variable}.`;
    return `PostgreSQL refused: ${error.message}${error.detail ? ` (${error.detail})` : ''}${where}`;
  }
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  const message = error instanceof Error ? error.message : String(error);
  if (isCertificateError(error)) {
    return `The certificate of the database is not believed: ${message}. Set sslrootcert in ${variable} to the file of its authority, or sslmode=require to encrypt without asking who answers.`;
  }
  if (message === 'The server does not support SSL connections') {
    return `The database has no TLS, which sslmode in ${variable} asks for. Set ssl = on in postgresql.conf, or sslmode=disable.`;
  }
  if (code === 'EADDRINUSE') return `Port taken: ${message}. Stop the other process, or set PORT.`;
  if (code === 'EACCES' || code === 'EADDRNOTAVAIL') return `Cannot listen there: ${message}. Check HOST and PORT.`;
  if (code !== undefined && UNREACHABLE.has(code)) {
    return `The database is not reachable: ${message || code}. Check ${variable} and that PostgreSQL runs.`;
  }
  if (/timeout/i.test(message)) return `The database does not answer: ${message}. Check ${variable}.`;
  return error instanceof Error ? (error.stack ?? message) : message;
}
