#!/usr/bin/env node
/**
 * The command: `outbox-relay` runs the relay, and its sub-commands prepare a database for it and make tokens. Finds what is
 * asked for, prints why it failed, and sets the exit code; everything else is in the parts.
 */
import { runAdvanceIds, runDoctor, runMigrate, runPrune, runRoles, runToken } from './cli/commands.js';
import { explain, UserError } from './cli/errors.js';
import { run } from './cli/run.js';
import { USAGE } from './cli/usage.js';
import { version } from './cli/version.js';
import { hangUp } from './cli/workers.js';

async function main(args: readonly string[]): Promise<void> {
  const [command, ...rest] = args;
  if (command === '--help' || command === '-h' || command === 'help') console.log(USAGE);
  else if (command === '--version' || command === '-v') console.log(version());
  else if (command === undefined || (command === 'start' && rest.length === 0)) await run('relay');
  else if (command === 'demo' && rest.length === 0) await run('demo');
  // For `npm start` in the repository, which shows the demo where there is no database.
  else if (command === 'start' && rest.join() === '--or-demo') await run('either');
  else if (command === 'migrate' && rest.length <= 1) await runMigrate(rest[0] ?? 'up');
  else if (command === 'roles') await runRoles(rest);
  else if (command === 'doctor') await runDoctor(rest);
  else if (command === 'advance-ids') await runAdvanceIds(rest);
  else if (command === 'prune') await runPrune(rest);
  else if (command === 'token') await runToken(rest);
  else throw new UserError(`There is no command "${args.join(' ')}".\n\n${USAGE}`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
  hangUp();
}
