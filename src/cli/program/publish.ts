/**
 * `publish`: how it is called.
 */
import { InvalidArgumentError } from 'commander';
import { isTraceparent } from '../../event/traceparent.js';
import { lazily, rate, type Add } from '../face/command-face.js';

export function addPublish(add: Add): void {
  add({
    name: 'publish',
    summary: 'publish events from the command line or from standard input',
    description:
      'Inserts an event, and says its id once it is committed. Without DATA each line of standard input is an event, in its ' +
      'order, in a transaction of its own. What is JSON is published as that (so NDJSON is), and anything else as text. It ' +
      'ends at the first event that is refused, and says which line that was. The role in DATABASE_URL has to be one that ' +
      'may INSERT, as the application has it.',
    environment: ['DATABASE_URL'],
    example: `DATABASE_URL=postgres://shop:password@host:5432/database outbox-relay publish orders '{"order": 7}' --event status`,
  })
    .argument('<channel>', 'the channel')
    .argument('[data]', 'JSON or text; without it, standard input is read')
    .option('--event <name>', 'name of the event', 'message')
    .option('--rate <number>', 'most events a second', rate)
    .option('--text', 'publish everything as text, also what is JSON')
    .option(
      '--traceparent <value>',
      'the span that it is published within (default: the variable TRACEPARENT, if it has one)',
      traceparent,
    )
    .option('--json', 'print an object with line, id, channel and event for each')
    .action(lazily(async () => (await import('../commands/publish.js')).runPublish));
}

/** @throws InvalidArgumentError */
function traceparent(text: string): string {
  if (isTraceparent(text)) return text;
  throw new InvalidArgumentError("Expected W3C's form, as in 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.");
}
