/**
 * The question before an outbox is deleted: on a terminal it is asked, elsewhere `--yes` is its
 * answer.
 */
import { createInterface } from 'node:readline';
import { commandLine } from '../../command-name.js';
import { OperatorError } from '../../operator-error.js';
import { readDatabaseUrl } from '../../postgres/database-url.js';
import { outboxContents } from '../../postgres/migrate.js';

/**
 * Says on standard error what is about to be deleted, and has it confirmed.
 *
 * @returns whether to go on; true where there is nothing to delete
 * @throws OperatorError `not-confirmed` where there is nobody to ask
 */
export async function confirmRemoval(url: string, isConfirmed: boolean): Promise<boolean> {
  const contents = await outboxContents(url);
  if (contents === undefined) return true;
  const { database, events, areMore } = contents;
  const { host } = readDatabaseUrl(url).config;
  const place = `database "${database}"${host === undefined ? '' : ` on ${host}`}`;
  const amount =
    events === 0 ? 'no event' : `${areMore ? 'more than ' : ''}${events} ${events === 1 ? 'event' : 'events'}`;
  const what = `This deletes the outbox in ${place}, with ${amount} in it.`;
  if (!isConfirmed && !(process.stdin.isTTY && process.stderr.isTTY)) {
    throw new OperatorError(
      'not-confirmed',
      `${what} Nothing was deleted yet; to do it: ${commandLine('migrate down --yes')}`,
    );
  }
  console.error(what);
  return isConfirmed || (await ask('Delete it? [y/N] '));
}

/** @returns false for any answer but yes, Ctrl-C and the end of input among them */
async function ask(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await new Promise<string>((resolve) => {
    // Without it a closed input would leave the promise open, and the process would end in silence.
    terminal.once('close', () => resolve(''));
    terminal.question(question, resolve);
  });
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}
