/**
 * Settings that a command cannot do without, and what to run where they are missing.
 */
import { commandLine } from '../../command-name.js';
import { readConfig } from '../../config/config.js';
import { OperatorError } from '../../operator-error.js';

const URL = 'postgres://user:password@host:5432/database';

/**
 * @param example the command and its arguments
 * @param who as what to run it, from a comma on, as in `, as the owner of the outbox`
 * @throws OperatorError `no-database-url`, with the example; `bad-environment`
 */
export function databaseUrl(example: string, who = ''): string {
  return required(readConfig(process.env).databaseUrl, { example, who });
}

/** @throws OperatorError `no-database-url`, with the example */
export function required(
  url: string | undefined,
  {
    lack = 'DATABASE_URL is not set',
    who = '',
    variable = `DATABASE_URL=${URL}`,
    example,
  }: { readonly lack?: string; readonly who?: string; readonly variable?: string; readonly example: string },
): string {
  if (url) return url;
  throw new OperatorError('no-database-url', `${lack}. Run${who}: ${variable} ${commandLine(example)}`);
}
