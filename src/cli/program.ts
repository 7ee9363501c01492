/**
 * The command's face: its sub-commands, their options, and what `--help` says of each. Commander
 * prints what is wrong with the arguments, with a suggestion for a slip of the fingers, and exits
 * with 1.
 */
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { DEFAULT_STEP } from '../admin/advance-ids.js';

import { secondsIn, SPAN_FORM } from '../config/duration.js';
import { describeVariables } from '../config/variables.js';
import { runAdvanceIds, runDoctor, runMigrate, runPrune, runRoles, runToken, type Span } from './commands.js';
import { completionScript, SHELLS, type Shell } from './completion.js';
import { run } from './run.js';
import { version } from './version.js';

/** Columns of help where the output is no terminal that tells its own. */
const HELP_COLUMNS = 100;

interface About {
  readonly name: string;
  /** A few words, for the list of all commands. */
  readonly summary: string;
  readonly description: string;
  /** Names of the variables that matter; absent: none. */
  readonly environment?: readonly string[];
  readonly example: string;
}

/** @returns the command line, to be given its arguments without `node` and the name of the file */
export function createProgram(): Command {
  const program = new Command('outbox-relay')
    .description('A durable Server-Sent-Events relay with exact replay, backed by an outbox table in PostgreSQL.')
    .showHelpAfterError()
    .version(version(), '-v, --version', 'print the version')
    .addHelpText(
      'after',
      '\nWithout a command it runs the relay, as start does. Settings come from the environment: see .env.example.',
    )
    .configureOutput({ getOutHelpWidth: () => process.stdout.columns || HELP_COLUMNS });

  function add({ name, summary, description, environment = [], example }: About): Command {
    return program
      .command(name)
      .summary(summary)
      .description(description)
      .showHelpAfterError(`\nExample: ${example}\nAll options: outbox-relay ${name} --help`)
      .addHelpText('after', ({ command }) => `${environmentText(command, environment)}\nExample:\n  ${example}`);
  }

  add({
    name: 'start',
    summary: 'run the relay on the outbox in DATABASE_URL (the default)',
    description:
      'Runs the relay until SIGINT or SIGTERM. It needs a database with the outbox, and a key, FORWARD_AUTH_URL or ' +
      'PUBLIC_CHANNELS that lets somebody read. All settings come from the environment; .env.example has them, too.',
    environment: describeVariables().map(({ name }) => name),
    example: 'DATABASE_URL=postgres://outbox_relay:password@host:5432/database PUBLIC_CHANNELS=news outbox-relay start',
  })
    .option('--or-demo', 'run the demo where DATABASE_URL is not set, as npm start does in the repository')
    .action(({ orDemo }: { orDemo?: true }) => run(orDemo ? 'either' : 'relay'));

  add({
    name: 'demo',
    summary: 'run a demo on a PostgreSQL of its own, for this machine only',
    description:
      'Runs a relay with all channels open and a page to try it out, on a PostgreSQL of its own with its data in .data/. ' +
      'It is in the repository, and not in the published package.',
    environment: ['HOST', 'PORT', 'RETENTION', 'ALLOWED_ORIGINS', 'LOG_LEVEL'],
    example: 'PORT=9000 outbox-relay demo',
  }).action(() => run('demo'));

  add({
    name: 'migrate',
    summary: 'create, update or remove the outbox in DATABASE_URL',
    description:
      'Creates or updates the outbox (up), removes all that migrate made, events included (down), or shows what is applied ' +
      'and what is missing, and exits with 1 if anything is (status). Run it as the role that is to own the outbox.',
    environment: ['DATABASE_URL'],
    example: 'DATABASE_URL=postgres://owner:password@host:5432/database outbox-relay migrate',
  })
    .addArgument(new Argument('[action]', 'what to do').choices(['up', 'down', 'status']).default('up'))
    .action((action: 'up' | 'down' | 'status') => runMigrate(action));

  const roles = add({
    name: 'roles',
    summary: 'make database roles with the least rights for each job',
    description:
      'Makes those of the named roles that are missing, and grants each the least rights for its job. Nothing is revoked. ' +
      'Each option may be repeated, and one role may have several jobs. Run it as the owner of the outbox.',
    environment: ['DATABASE_URL'],
    example:
      'DATABASE_URL=postgres://owner:password@host:5432/database outbox-relay roles --app shop --relay outbox_relay',
  });
  const several = (value: string, previous: readonly string[] = []) => [...previous, value];
  roles
    .option('--app <role>', 'publishes events', several)
    .option('--relay <role>', 'reads the outbox, as a relay does', several)
    .option('--retention <role>', 'deletes old events', several)
    .option('--redaction <role>', 'changes the data of events', several)
    .option('--print', 'print the SQL and run nothing')
    .action(runRoles);

  add({
    name: 'doctor',
    summary: 'look for trouble and say what to run against it; changes nothing',
    description:
      'Examines all that a relay relies on in the database, and says of each trouble what it is, why it matters and what to ' +
      'run. It changes nothing, and exits with 1 on errors. Run it with the settings of the relay.',
    environment: ['DATABASE_URL', 'LISTEN_DATABASE_URL'],
    example: 'DATABASE_URL=postgres://outbox_relay:password@host:5432/database outbox-relay doctor',
  })
    .option('--json', 'print the findings as JSON')
    .action(runDoctor);

  add({
    name: 'advance-ids',
    summary: 'see that no id is given out twice, after a restore or a lossy failover',
    description:
      'Moves ids and positions on past all that can have been given out before the database went back in time, so that old ' +
      'cursors name no new events. Run it as the owner of the outbox.',
    environment: ['DATABASE_URL'],
    example: 'DATABASE_URL=postgres://owner:password@host:5432/database outbox-relay advance-ids',
  })
    .addOption(
      new Option('--by <number>', 'how many ids to skip').argParser(step).default(DEFAULT_STEP, String(DEFAULT_STEP)),
    )
    .action(runAdvanceIds);

  add({
    name: 'prune',
    summary: 'delete events that are older than a given age, once',
    description:
      'Deletes old events in small batches, beside publishers and relays. Where RETENTION is set a relay does it by itself.',
    environment: ['RETENTION_DATABASE_URL'],
    example:
      'RETENTION_DATABASE_URL=postgres://outbox_retention:password@host:5432/database outbox-relay prune --keep 7d',
  })
    .addOption(new Option('--keep <age>', `age from which events are deleted: ${SPAN_FORM}`).argParser(span))
    .action(runPrune);

  add({
    name: 'token',
    summary: 'print a token, to try things out',
    description: 'Prints a token for the named channels, signed with JWT_SECRET, and nothing else.',
    environment: ['JWT_SECRET', 'JWT_ISSUER', 'JWT_AUDIENCE', 'JWT_CHANNELS_CLAIM'],
    example: "JWT_SECRET=… outbox-relay token --channel user:42 --channel 'org:7:*' --expires 15m --sub 42",
  })
    .addOption(
      new Option(
        '--channel <channel>',
        'channel, or prefix as in user:*, that the token is for; may be repeated',
      ).argParser(several),
    )
    .addOption(
      new Option('--expires <span>', `time for which it is valid: ${SPAN_FORM}`)
        .argParser(span)
        .default(span('1h'), '1h'),
    )
    .option('--sub <name>', 'the user whom it is for (sub), for MAX_CONNECTIONS_PER_SUBJECT')
    .action(runToken);

  add({
    name: 'completion',
    summary: 'print a script that completes commands and options in a shell',
    description: 'Prints a script for the shell: commands, options and arguments of outbox-relay are completed by TAB.',
    example: 'outbox-relay completion bash > ~/.local/share/bash-completion/completions/outbox-relay',
  })
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .action((shell: Shell) => console.log(completionScript(program, shell)));

  return program;
}

function environmentText(command: Command, names: readonly string[]): string {
  if (names.length === 0) return '';
  const help = command.createHelp();
  help.prepareContext({ helpWidth: process.stdout.columns || HELP_COLUMNS });
  const width = Math.max(...names.map((name) => name.length));
  const items = describeVariables()
    .filter(({ name }) => names.includes(name))
    .map(({ name, default: unset, description }) =>
      help.formatItem(name, width, `${description}${unset === undefined ? '' : ` (default: ${unset})`}`, help),
    );
  return `\nEnvironment:\n${items.join('\n')}\n`;
}

function span(text: string): Span {
  const seconds = secondsIn(text);
  if (seconds === undefined) throw new InvalidArgumentError(`Expected ${SPAN_FORM}.`);
  return { text, seconds };
}

function step(text: string): bigint {
  if (/^[1-9]\d{0,14}$/.test(text)) return BigInt(text);
  throw new InvalidArgumentError('Expected a whole number from 1 to 999999999999999.');
}
