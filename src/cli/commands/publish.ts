/**
 * `publish`: events from the command line or from standard input, a line each, into the outbox.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { withPublisher, type Publisher } from '../../admin/publishing.js';
import { commandLine } from '../../command-name.js';
import { isTraceparent } from '../../event/traceparent.js';
import { OperatorError } from '../../operator-error.js';
import { formatError } from '../face/errors.js';
import { INTERRUPTED, interruption } from '../face/interruption.js';
import { databaseUrl } from '../face/required.js';
import { linesOf } from '../terminal/lines.js';
import { openOutput, type Output } from '../terminal/output.js';
import { startProgress } from '../terminal/progress.js';
import { oneLine, safeJson } from '../terminal/terminal-text.js';

interface PublishOptions {
  readonly event: string;
  readonly rate?: number;
  readonly text?: true;
  readonly traceparent?: string;
  readonly json?: true;
}

export async function runPublish(channel: string, data: string | undefined, options: PublishOptions): Promise<void> {
  const url = databaseUrl(`publish ${channel}`);
  const output = openOutput();
  await withPublisher(url, async (role) => {
    const publisher = withTrace(role, options);
    if (data === undefined) await publishLines(publisher, channel, options, output);
    else {
      const { event } = options;
      const id = await publisher.publish({ channel, event, data: jsonOf(data, options) });
      const said = id === undefined ? `Published to ${oneLine(channel)}.` : `Published ${id} to ${oneLine(channel)}.`;
      await output.print(`${options.json ? safeJson({ line: 1, id, channel, event }) : said}\n`);
    }
  });
}

type Publish = Pick<Publisher, 'publish'>;

/**
 * Whoever names a span means it; a variable may be left over from anything, and fails nothing.
 *
 * @throws OperatorError `may-not-publish`
 */
function withTrace(role: Publisher, { traceparent: named }: PublishOptions): Publish {
  if (named !== undefined && !role.mayTrace) {
    throw new OperatorError(
      'may-not-publish',
      'The role in DATABASE_URL may publish, and not name a span: it lacks INSERT on the column traceparent. As the owner of the outbox, run: ' +
        commandLine('roles --app shop'),
    );
  }
  const given = process.env['TRACEPARENT'];
  const usable = given !== undefined && isTraceparent(given) && role.mayTrace ? given : undefined;
  return { publish: (publication) => role.publish({ ...publication, traceparent: named ?? usable }) };
}

async function publishLines(
  publisher: Publish,
  channel: string,
  options: PublishOptions,
  output: Output,
): Promise<void> {
  const { event, json } = options;
  if (process.stdin.isTTY) console.error('Each line is an event. Ctrl-D ends.');
  const stop = AbortSignal.any([interruption(), output.left]);
  // What is read next may never come.
  stop.addEventListener('abort', () => process.stdin.destroy());
  const startedAt = performance.now();
  const progress = startProgress('Published', undefined);
  let published = 0;
  let first: string | undefined;
  let last: string | undefined;
  try {
    for await (const { number, text } of linesOf(process.stdin)) {
      if (options.rate !== undefined) {
        const waitMs = startedAt + (published * 1000) / options.rate - performance.now();
        if (waitMs > 0) await delay(waitMs, undefined, { signal: stop }).catch(() => undefined);
      }
      if (stop.aborted) break;
      try {
        last = await publisher.publish({ channel, event, data: jsonOf(text, options) });
      } catch (error) {
        throw atLine(number, error);
      }
      published += 1;
      first ??= last;
      if (json) await output.print(`${safeJson({ line: number, id: last, channel, event })}\n`);
      else if (!process.stdin.isTTY) progress.update(published);
      else await output.print(`${last ?? 'published'}\n`);
    }
  } catch (error) {
    // Of an input that was closed above.
    if (!stop.aborted) throw error;
  } finally {
    progress.end();
    const count = `${published} ${published === 1 ? 'event' : 'events'}`;
    const ids = first === undefined ? '' : published === 1 ? `, id ${first}` : `, ids ${first} to ${last ?? ''}`;
    if (!json) await output.print(`Published ${count} to ${oneLine(channel)}${ids}.\n`);
  }
  if (stop.aborted && !output.left.aborted) process.exitCode = INTERRUPTED;
}

/** The same failure, with the line of the input before it. */
function atLine(number: number, error: unknown): OperatorError {
  const code = error instanceof OperatorError ? error.code : 'database-failed';
  return new OperatorError(code, `Line ${number}: ${formatError(error)}`, { cause: error });
}

/** @throws OperatorError `bad-input` for what begins as JSON does, and is none */
function jsonOf(text: string, { text: isText }: PublishOptions): string {
  if (isText) return JSON.stringify(text);
  try {
    JSON.parse(text);
    // As it is: a number may have more digits than JavaScript keeps.
    return text;
  } catch (error) {
    if (!/^\s*[[{"]/.test(text)) return JSON.stringify(text);
    throw new OperatorError(
      'bad-input',
      `This begins like JSON, and is none: ${oneLine((error as Error).message)}. To publish it as text: ${commandLine('publish --text …')}`,
      { cause: error },
    );
  }
}
