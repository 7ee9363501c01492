/**
 * Failures, as the command tells of them: what the user can mend in words that say how, and the rest with its stack.
 */
import pg from 'pg';
import { AdvanceError } from './advance-ids.js';
import { ConfigError } from './config.js';
import { RetentionError } from './prune.js';
import { RolesError } from './roles.js';
import { WorkerError } from './workers.js';

/** A failure that is the user's to mend: printed as it is, without a stack. */
export class UserError extends Error {
  override readonly name = 'UserError';
}

/** One line for what the user can mend; a stack only for what nobody foresaw. */
export function explain(error: unknown): string {
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
