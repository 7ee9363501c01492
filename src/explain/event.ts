/**
 * An event's life in words, as far as the database knows it: how far it came, what holds it up, and
 * who can get it.
 */
import type { EventLife, EventRow } from '../admin/event-life.js';
import { commandLine } from '../command-name.js';
import type { Config } from '../config/config.js';
import { allows, prefixesOf } from '../event/channel-filter.js';
import { no, unknown, yes, type Step } from './steps.js';

/** From this size on there are clients that can't take an event. */
const LARGE_BYTES = 64 * 1024;

/** How far an event has come, and what holds it up. */
export function fateOf(id: string, life: EventLife): Step[] {
  const { row } = life;
  if (row === undefined) return missing(id, life);
  const written = yes(
    'written',
    `to channel "${row.channel}" as event "${row.event}", ${row.bytes.toLocaleString('en')} bytes, by a transaction that began ${row.createdAt}`,
  );
  const committed = yes('committed', row.committedAt === null ? 'it is visible to others' : `at ${row.committedAt}`);
  return [written, committed, ...placed(row, life)];
}

function missing(id: string, { newestId, floor, writers }: EventLife): Step[] {
  const wanted = BigInt(id);
  if (wanted > BigInt(newestId)) {
    return [
      no(
        'written',
        `no event was ever given this id here: the newest is ${newestId}`,
        'see that the application and DATABASE_URL have the same database and schema',
      ),
    ];
  }
  const steps = [unknown('written', 'an id that was given out, but there is no such row that is committed')];
  if (writers.length > 0) {
    const whose = writers.map(({ process, since }) => `process ${process}${since === null ? '' : ` since ${since}`}`);
    steps.push(
      no(
        'committed',
        `perhaps not yet: transactions that write to the outbox are open (${whose.join(', ')})`,
        'nothing is published before COMMIT: see pg_stat_activity for what they wait for',
      ),
    );
  }
  const isBelow = wanted <= BigInt(floor.id) || wanted <= BigInt(floor.highestId);
  steps.push(
    no(
      writers.length > 0 ? 'or else' : 'committed',
      isBelow
        ? 'it was rolled back, or it was deleted: the log was deleted up to an id that is as high'
        : 'it was rolled back, as an error after the INSERT does it, or deleted out of the middle',
      isBelow ? 'keep events longer than clients stay away (RETENTION)' : undefined,
    ),
  );
  return steps;
}

function placed({ position }: EventRow, { settled }: EventLife): Step[] {
  if (position === null) {
    return [
      no(
        'placed',
        'it has no position, so no relay ever delivers it: triggers did not fire when it was inserted',
        `${commandLine('doctor')} says why, and what to run`,
      ),
    ];
  }
  if (BigInt(position) <= BigInt(settled.through))
    return [yes('placed', `at position ${position}, and nothing can come before it any more`)];
  const who = settled.waitsFor === 0 ? 'a prepared transaction' : `process ${String(settled.waitsFor)}`;
  return [
    no(
      'placed',
      `at position ${position}, but ${settled.waitsFor === null ? 'the sequence of positions is behind it, as after a restore' : `${who} is committing what may come before it`}`,
      settled.waitsFor === null
        ? `as the owner of the outbox: ${commandLine('advance-ids')}`
        : `${commandLine('doctor')} says what that waits for, and whom to end`,
    ),
  ];
}

/** Who can get it. */
export function readersOf(row: EventRow, { publicChannels }: Pick<Config, 'publicChannels'>): Step[] {
  const { channel, event } = row;
  const patterns = prefixesOf(channel).map((prefix) => `${prefix}*`);
  const who = allows(publicChannels, channel) ? 'anybody: its channel is public' : 'whoever may read its channel';
  const steps = [
    yes('readers', `${who}. Streams of ${[channel, ...patterns].map((name) => `"${name}"`).join(', ')} bring it`),
    yes(
      'in a page',
      event === 'message'
        ? 'to onmessage, and addEventListener("message", …)'
        : `to addEventListener(${JSON.stringify(event)}, …) alone, and never to onmessage`,
    ),
  ];
  if (row.isRedacted)
    steps.push(unknown('redacted', 'its data was changed after it was published: clients of before have the old data'));
  if (row.bytes > LARGE_BYTES) {
    steps.push(
      unknown(
        'size',
        'above 64 KiB: clients whose buffers end there (r3labs/sse, go-sse) never take it',
        'raise their limit',
      ),
    );
  }
  return steps;
}
