/**
 * The judge of the stream itself: read whole, it must be a part of the table's order without a
 * hole, whoever fed it and whatever happened meanwhile; and nothing that was redacted may be left
 * on the servers' disks.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { jetstream, JetStreamError, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import type { createCodec } from '../../src/engine/codec.js';
import { through, type Entry } from '../../src/engine/entry.js';
import type { TestDatabase } from './database.js';
import type { Figure } from './actor.js';
import { KEPT_ASIDE } from './retention.js';

export interface StreamCheck {
  /** In words; empty when all is well. */
  readonly complaints: readonly string[];
  readonly figures: readonly Figure[];
}

export interface StreamCheckOptions {
  readonly url: string;
  readonly subject: string;
  readonly codec: ReturnType<typeof createCodec>;
  readonly database: Pick<TestDatabase, 'query'>;
  /** Whether all that is in the table has been fed. */
  readonly isWhole: boolean;
}

/** An entry with its sequence; undefined: a feeder did not write it, or it is cut. */
interface Read {
  readonly sequence: number;
  readonly entry: Entry | undefined;
}

const READ_MS = 30_000;
const PAUSE_MS = 500;
const PAGE = 500;
const MOST_TOLD = 5;

export async function checkStream({
  url,
  subject,
  codec,
  database,
  isWhole,
}: StreamCheckOptions): Promise<StreamCheck> {
  const entries = await readPatiently(() => readStream(url, subject, codec));
  const { rows } = await database.query<{ id: string; position: string }>(
    `SELECT id, position FROM outbox WHERE position IS NOT NULL
     UNION ALL SELECT id, position FROM ${KEPT_ASIDE} WHERE position IS NOT NULL ORDER BY position`,
  );
  const truth = rows.map(({ id, position }) => ({ id, position: BigInt(position) }));
  return judgeStream(entries, truth, isWhole);
}

/**
 * After faults a stream may have no leader yet, and then nobody answers: it is read anew, from its
 * first entry.
 */
async function readPatiently(read: () => Promise<Read[]>): Promise<Read[]> {
  for (const end = performance.now() + READ_MS; ; await delay(PAUSE_MS)) {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof JetStreamError) || performance.now() > end) throw error;
    }
  }
}

async function readStream(url: string, subject: string, codec: StreamCheckOptions['codec']): Promise<Read[]> {
  const connection = await connect({ servers: url.split(',') });
  try {
    const manager = await jetstreamManager(connection);
    const name = await manager.streams.find(subject);
    const { state } = await manager.streams.info(name);
    const entries: Read[] = [];
    if (state.messages === 0) return entries;
    const consumer = await jetstream(connection).consumers.get(name);
    for (const end = performance.now() + READ_MS; entries.at(-1)?.sequence !== state.last_seq;) {
      if (performance.now() > end) break;
      for await (const message of await consumer.fetch({ max_messages: PAGE, expires: 2_000 })) {
        // Its bytes are the client's own, which it may use again.
        entries.push({ sequence: message.seq, entry: codec.decode(Buffer.from(message.data)) });
      }
      if (entries.length >= state.messages) break;
    }
    return entries;
  } finally {
    await connection.close();
  }
}

/** @param truth all events that there ever were, by position. */
export function judgeStream(
  entries: readonly Read[],
  truth: readonly { readonly id: string; readonly position: bigint }[],
  isWhole = true,
): StreamCheck {
  const complaints: string[] = [];
  let at: bigint | undefined;
  let next = entries[0]?.sequence ?? 0;
  let [events, erased, unreadable, epochs] = [0, 0, 0, 0];
  let epoch = '';
  for (const { sequence, entry } of entries) {
    const isGap = sequence !== next;
    erased += sequence - next;
    next = sequence + 1;
    if (entry === undefined) {
      unreadable += 1;
      continue;
    }
    if (entry.epoch !== epoch) epochs += 1;
    epoch = entry.epoch;
    const where = `entry ${sequence}, a ${entry.kind}`;
    if (entry.kind === 'restart' && entry.reason === 'unknown') complaints.push(`${where}: nothing had been lost`);
    if (entry.kind === 'run') {
      // What was erased may have led on.
      const follows = at === undefined || (isGap || unreadable > 0 ? entry.prev >= at : entry.prev === at);
      if (!follows) complaints.push(`${where}: goes on at ${entry.prev}, and the one before led through ${String(at)}`);
      const owed = truth.slice(firstAbove(truth, entry.prev), firstAbove(truth, entry.last.position));
      const kept = owed.filter(({ position }) => position > entry.floor.position);
      const got = new Set(entry.events.map(({ id }) => id));
      const lost = kept.filter(({ id }) => !got.has(id));
      const strange = entry.events.filter((event, n) => {
        const before = entry.events[n - 1];
        return (
          (before !== undefined && before.position >= event.position) ||
          !owed.some(({ id, position }) => id === event.id && position === event.position)
        );
      });
      if (lost.length > 0) complaints.push(`${where}: ${lost.length} of ${owed.length} events are not in it`);
      if (strange.length > 0)
        complaints.push(`${where}: ${strange.length} events are not the table's, or not in its order`);
      events += got.size;
    }
    at = through(entry).position;
  }
  const last = truth.at(-1)?.position ?? 0n;
  if (!isWhole) return result();
  if (entries.length === 0) complaints.push('the stream is empty');
  else if (at !== last) complaints.push(`the stream leads through ${String(at)}, and the table through ${last}`);
  return result();

  function result(): StreamCheck {
    return {
      complaints: complaints.slice(0, MOST_TOLD).map((text) => `stream: ${text}`),
      figures: [
        ['entries of the stream', entries.length],
        ['events in them, held against the table', events],
        ['entries erased', erased],
        ['entries that cannot be read', unreadable],
        ['histories in the stream', epochs],
      ],
    };
  }
}

function firstAbove(truth: readonly { readonly position: bigint }[], position: bigint): number {
  let [low, high] = [0, truth.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((truth[middle]?.position ?? 0n) <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What an event of the random writers says that no other does. */
export const TOKEN = /0\.[0-9a-z]{8}/;

/**
 * Looks for them in all files of these folders, until none is left or the time is over; resolves
 * with what is left, and where.
 */
export async function findInFiles(
  folders: readonly string[],
  tokens: ReadonlySet<string>,
  milliseconds: number,
): Promise<string[]> {
  for (const end = performance.now() + milliseconds; ; await delay(1_000)) {
    const found: string[] = [];
    for (const folder of folders) {
      for (const file of await readdir(folder, { recursive: true, withFileTypes: true })) {
        if (!file.isFile()) continue;
        const path = join(file.parentPath, file.name);
        // It may be gone by now.
        const text = await readFile(path, 'latin1').catch(() => '');
        for (const [token] of text.matchAll(new RegExp(TOKEN, 'g')))
          if (tokens.has(token)) found.push(`${token} in ${path}`);
      }
    }
    if (found.length === 0 || performance.now() > end) return found;
  }
}
