/**
 * The command's face: its sub-commands, their options, and what `--help` says of each. Commander
 * prints what is wrong with the arguments, with a suggestion for a slip of the fingers, and exits
 * with 1.
 */
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { PROGRAM } from '../../command-name.js';
import { SPAN_FORM } from '../../config/duration.js';
import { findSlips } from '../../config/slips.js';
import { describeVariables } from '../../config/variables.js';
import { version } from '../../config/version.js';
import { addTo, helpColumns, lazily, several, span } from '../face/command-face.js';
import { isWorker } from '../serve/primary.js';
import { completionScript, SHELLS, type Shell } from './completion.js';
import { addConfig } from './config.js';
import { addExplain } from './explain.js';
import { addPrune } from './prune.js';
import { addPublish } from './publish.js';
import { addStats } from './stats.js';
import { addTail } from './tail.js';
import { addTop } from './top.js';

/** Over a hundred days at 100 events a second. Ids have room for 9 billion such steps. */
export const DEFAULT_STEP = 1_000_000_000n;

/** @returns the command line, to be given its arguments without `node` and the name of the file */
export function createProgram(): Command {
  const program = new Command(PROGRAM)
    .description('A durable Server-Sent-Events relay with exact replay, backed by an outbox table in PostgreSQL.')
    .showHelpAfterError()
    .version(version(), '-v, --version', 'print the version')
    .addHelpText(
      'after',
      '\nWithout a command it runs the relay, as start does. Settings come from the environment: see .env.example.\n' +
        'Exit codes: 0 done; 1 it failed, or what was looked at is not as it should be; 130 broken off before it was done.',
    )
    .configureOutput({ getOutHelpWidth: helpColumns })
    .hook('preAction', warnOfSlips);
  const add = addTo(program);

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
    .action(
      lazily(async () => {
        const { run } = await import('../serve/run.js');
        return ({ orDemo }: { orDemo?: true }) => run(orDemo ? 'either' : 'relay');
      }),
    );

  add({
    name: 'demo',
    summary: 'run a demo on a PostgreSQL of its own, for this machine only',
    description:
      'Runs a relay with all channels open and a page to try it out, on a PostgreSQL of its own with its data in .data/. ' +
      'It is in the repository, and not in the published package.',
    environment: ['HOST', 'PORT', 'RETENTION', 'ALLOWED_ORIGINS', 'LOG_LEVEL', 'LOG_FORMAT'],
    example: 'PORT=9000 outbox-relay demo',
  }).action(
    lazily(async () => {
      const { run } = await import('../serve/run.js');
      return () => run('demo');
    }),
  );

  add({
    name: 'migrate',
    summary: 'create, update or remove the outbox in DATABASE_URL',
    description:
      'Creates or updates the outbox (up), removes all that migrate made, events included (down), or shows what is applied ' +
      'and what is missing, and exits with 1 if anything is (status). Run it as the role that is to own the outbox. ' +
      'down says how many events go, and asks; where nobody can answer it needs --yes.',
    environment: ['DATABASE_URL'],
    example: 'DATABASE_URL=postgres://owner:password@host:5432/database outbox-relay migrate',
  })
    .addArgument(new Argument('[action]', 'what to do').choices(['up', 'down', 'status']).default('up'))
    .option('-y, --yes', 'delete without a question (down)')
    .option('--json', 'print what was done, or is, as JSON')
    .action(lazily(async () => (await import('../commands/migrate.js')).runMigrate));

  const whole = (from: number, to: number) => (text: string) => {
    if (/^\d{1,15}$/.test(text) && Number(text) >= from && Number(text) <= to) return Number(text);
    throw new InvalidArgumentError(`Expected a whole number from ${from} to ${to}.`);
  };
  add({
    name: 'feed',
    summary: 'append the outbox to a stream of NATS, for relays with NATS_URL',
    description:
      'Appends what is new in the outbox to the stream NATS_STREAM in NATS JetStream, until SIGINT or SIGTERM. Run two or more: ' +
      'all feed, and one that dies is not missed. It needs the rights of a relay on the primary. With --setup it makes the stream, ' +
      'or checks one that is there, prints the permissions that feeders and relays need, and ends.',
    environment: [
      ...['DATABASE_URL', 'LISTEN_DATABASE_URL', 'NATS_URL', 'NATS_STREAM', 'NATS_CREDENTIALS_FILE', 'NATS_SECRET'],
      ...['HOST', 'METRICS_PORT', 'SWEEP_SECONDS', 'POLL_SECONDS', 'LISTEN_TIMEOUT_SECONDS', 'LOG_LEVEL', 'LOG_FORMAT'],
    ],
    example:
      'DATABASE_URL=postgres://outbox_relay:password@host:5432/database NATS_URL=nats://feeder:password@host:4222 outbox-relay feed',
  })
    .option('--setup', 'make the stream, or check it, and print permissions')
    .addOption(
      new Option('--replicas <number>', 'with --setup: how many servers have a copy (default: 1)').argParser(
        whole(1, 5),
      ),
    )
    .addOption(
      new Option('--max-bytes <number>', 'with --setup: how many bytes it keeps (default: 1 GiB)').argParser(
        whole(1, Number.MAX_SAFE_INTEGER),
      ),
    )
    .addOption(
      new Option(
        '--max-age <age>',
        `with --setup: how long it keeps what was fed (default: 1h): ${SPAN_FORM}`,
      ).argParser(span),
    )
    .option('--json', 'print each step, and figures while it feeds, as JSON; the log goes to standard error')
    .action(lazily(async () => (await import('../serve/feed.js')).runFeed));

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
  roles
    .option('--app <role>', 'publishes events', several)
    .option('--relay <role>', 'reads the outbox, as a relay does', several)
    .option('--retention <role>', 'deletes old events', several)
    .option('--redaction <role>', 'changes the data of events', several)
    .option('--print', 'print the SQL and run nothing')
    .option('--json', 'print the roles, or the SQL, as JSON')
    .action(lazily(async () => (await import('../commands/roles.js')).runRoles));

  add({
    name: 'doctor',
    summary: 'look for trouble and say what to run against it; changes nothing',
    description:
      'Examines all that a relay relies on in the database, and says of each trouble what it is, why it matters and what to ' +
      'run. It changes nothing, and exits with 1 on errors. Run it with the settings of the relay.',
    environment: [
      'DATABASE_URL',
      'LISTEN_DATABASE_URL',
      'NATS_URL',
      'NATS_STREAM',
      'NATS_CREDENTIALS_FILE',
      'NATS_SECRET',
    ],
    example: 'DATABASE_URL=postgres://outbox_relay:password@host:5432/database outbox-relay doctor',
  })
    .option('--json', 'print the findings as JSON')
    .action(lazily(async () => (await import('../commands/doctor.js')).runDoctor));

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
    .option('--json', 'print the sequences as JSON')
    .action(lazily(async () => (await import('../commands/advance-ids.js')).runAdvanceIds));

  addPrune(add);

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
    .option('--json', 'print it in a JSON object, with what it says')
    .action(lazily(async () => (await import('../commands/token.js')).runToken));

  addPublish(add);
  addTail(add);
  addTop(add);
  addExplain(add);
  addStats(add);
  addConfig(add);

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

/** On standard error, before anything can fail for want of what was meant. Values are never shown. */
function warnOfSlips(): void {
  // A worker has the environment of its primary, which has said it.
  if (isWorker) return;
  for (const { name, meant } of findSlips(process.env)) {
    console.error(`warning: nothing reads the variable ${name}: did you mean ${meant}?`);
  }
}

function step(text: string): bigint {
  if (/^[1-9]\d{0,14}$/.test(text)) return BigInt(text);
  throw new InvalidArgumentError('Expected a whole number from 1 to 999999999999999.');
}
