/** What a viewer is told of a question that the database did not answer. */
import { RequestError } from '../http/request-error.js';

/** @param advice what to do, as a sentence */
export function databaseAway(cause: unknown, advice = 'Try again.'): RequestError {
  const message = `The database does not answer, or not in time. ${advice}`;
  return new RequestError(503, 'database_away', message, { cause, temporary: true });
}
