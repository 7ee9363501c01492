/**
 * `tail`: how it is called.
 */
import { InvalidArgumentError, Option } from 'commander';
import { secondsIn } from '../../config/duration.js';
import { count, lazily, several, type Add } from '../face/command-face.js';
import type { FollowOptions } from '../relay/stream.js';

export function addTail(add: Add): void {
  add({
    name: 'tail',
    summary: "print a relay's events as they come",
    description:
      'Follows channels of a running relay, as a page does: over HTTP, with the rights of a token, and from where it was ' +
      'after a break or a restart, so that nothing is missed and nothing comes twice. The token is that of --token or ' +
      'OUTBOX_TOKEN; where JWT_SECRET is set, one is made for these channels; else it asks without. Ctrl-C ends it.',
    environment: ['HOST', 'PORT', 'JWT_SECRET', 'JWT_ISSUER', 'JWT_AUDIENCE', 'JWT_CHANNELS_CLAIM'],
    example: "outbox-relay tail orders 'user:*' --url https://app.example.com --from 15m --event status",
  })
    .argument('<channel...>', 'channels and prefixes, as in user:*, or * for all')
    .option('--url <address>', 'address of the relay (default: http://HOST:PORT)')
    .option('--token <token>', 'token to read with; as OUTBOX_TOKEN it is in no list of processes')
    .addOption(
      new Option(
        '--from <start>',
        'where to start: now, earliest, an id, a time as in 2026-01-31T12:00:00Z, or 15m ago',
      )
        .argParser(start)
        .default({ cursor: 'now' }, 'now'),
    )
    .option('--event <name>', 'events of this name only; may be repeated', several)
    .option('--limit <number>', 'end after so many events', count)
    .option('--full', 'show large events whole')
    .option('--json', 'print an object for each event, a line each')
    .action(lazily(async () => (await import('../commands/tail.js')).runTail));
}

/** @throws InvalidArgumentError */
function start(text: string): FollowOptions['from'] {
  const seconds = secondsIn(text);
  if (seconds !== undefined) return { since: new Date(Date.now() - seconds * 1000).toISOString() };
  if (/^(now|earliest|\d+(![\d,-]+)?)$/.test(text)) return { cursor: text };
  if (/^\d{4}-\d\d-\d\d/.test(text)) return { since: text };
  throw new InvalidArgumentError(
    'Expected now, earliest, an id, a time as in 2026-01-31T12:00:00Z, or 15m for that long ago.',
  );
}
