/**
 * Failures, as the command tells of them: what the user can mend in words that say how, and the rest with its stack.
 */
import pg from 'pg';
import { AdvanceError } from '../admin/advance-ids.js';
import { ConfigError, type Config } from '../config/config.js';
import { DatabaseUrlError, isCertificateError } from '../postgres/database-url.js';
import { MigrateError } from '../postgres/migrate.js';
import { RetentionError } from '../admin/prune.js';
import { RolesError } from '../admin/roles.js';
import { HomeError } from '../postgres/session.js';
import { WorkerError } from './workers.js';

/** A failure that is the user's to mend: printed as it is, without a stack. */
export class UserError extends Error {
  override readonly name = 'UserError';
}

/** Wraps what went wrong with a database, so that it can be said where its address stands. */
class FailureAt extends Error {
  override readonly name = 'FailureAt';

  constructor(
    readonly variable: string,
    cause: unknown,
  ) {
    super(`by ${variable}`, { cause });
  }
}

/**
 * Has a failure of the work name the variable that led to its database.
 *
 * @throws what the work throws, for `explain`
 */
export async function reaching<T>(
  { databaseUrl, listenDatabaseUrl }: Pick<Config, 'databaseUrl' | 'listenDatabaseUrl'>,
  url: string | undefined,
  work: Promise<T>,
): Promise<T> {
  try {
    return await work;
  } catch (error) {
    // By default each is as the one before.
    if (url === databaseUrl) throw error;
    throw new FailureAt(url === listenDatabaseUrl ? 'LISTEN_DATABASE_URL' : 'RETENTION_DATABASE_URL', error);
  }
}

/**
 * One line for what the user can mend; a stack only for what nobody foresaw.
 *
 * @param variable where the address of the database stands
 */
export function explain(error: unknown, variable = 'DATABASE_URL'): string {
  if (error instanceof FailureAt) return explain(error.cause, error.variable);
  if (
    error instanceof UserError ||
    error instanceof WorkerError ||
    error instanceof ConfigError ||
    error instanceof RolesError ||
    error instanceof AdvanceError ||
    error instanceof HomeError ||
    error instanceof MigrateError ||
    error instanceof RetentionError
  )
    return error.message;
  if (error instanceof DatabaseUrlError) return `${variable}: expected ${error.message}.`;
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
  if (
    code &&
    ['ECONNREFUSED', 'ENOTFOUND', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'ECONNRESET'].includes(code)
  ) {
    return `The database is not reachable: ${message || code}. Check ${variable} and that PostgreSQL runs.`;
  }
  if (/timeout/i.test(message)) return `The database does not answer: ${message}. Check ${variable}.`;
  return error instanceof Error ? (error.stack ?? message) : message;
}
