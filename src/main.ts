#!/usr/bin/env node
/**
 * The command `outbox-relay`: runs what is asked for, prints why it failed, and sets the exit code.
 */
import { formatError } from './cli/errors.js';
import { createProgram } from './cli/program.js';
import { disconnectFromPrimary } from './cli/workers.js';

const args = process.argv.slice(2);

try {
  await createProgram().parseAsync(args.length === 0 ? ['start'] : args, { from: 'user' });
} catch (error) {
  console.error(formatError(error));
  process.exitCode = 1;
  disconnectFromPrimary();
}
