#!/usr/bin/env node
/**
 * The command `outbox-relay`: runs what is asked for, prints why it failed, and sets the exit code.
 */
import { createProgram } from './cli/program/program.js';
import { disconnectFromPrimary } from './cli/serve/primary.js';

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
  const { formatError } = await import('./cli/face/errors.js');
  console.error(formatError(error));
  process.exitCode = 1;
  disconnectFromPrimary();
}
