#!/usr/bin/env node
/**
 * The command `outbox-relay`: runs what is asked for, prints why it failed, and sets the exit code.
 */
import { formatError } from './cli/face/errors.js';
import { createProgram } from './cli/program.js';
import { disconnectFromPrimary } from './cli/serve/workers.js';

// Whoever reads what is printed may stop reading, as `head` does. That is no failure, and no reason
// for a relay to end.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

const args = process.argv.slice(2);

try {
  await createProgram().parseAsync(args.length === 0 ? ['start'] : args, { from: 'user' });
} catch (error) {
  console.error(formatError(error));
  process.exitCode = 1;
  disconnectFromPrimary();
}
