/**
 * Framed rows: new rows of the table as the events that go out.
 */
import type { DataKind, FreshEvent } from '../event/event.js';
import { encodeEvent, encodeInSteps } from '../event/sse.js';
import { cursorIn } from './floor.js';
import type { Row } from './new-rows.js';
import type { Undeliverable } from './undeliverable.js';

const NO_FRAME = Buffer.alloc(0);
/** Data from this length on is framed in steps. */
const LARGE_CHARACTERS = 64 * 1024;

/**
 * Frames events in their order. One that is large is framed in steps, with a turn of the event loop
 * after each.
 *
 * @param undeliverable is told of those that are too large: their frames are empty.
 */
export async function frameRows(
  rows: readonly Row[],
  undeliverable: Pick<Undeliverable, 'reportTooLarge'>,
): Promise<FreshEvent[]> {
  const events: FreshEvent[] = [];
  for (const row of rows) {
    const { data, channel, created } = row;
    const kind = kindOf(row);
    let frame: Buffer = NO_FRAME;
    if (data === null) undeliverable.reportTooLarge(row.id, Number(row.bytes));
    else if (data.length < LARGE_CHARACTERS) frame = encodeEvent({ ...row, data });
    else frame = await inTurns(encodeInSteps({ ...row, data }));
    events.push({ ...cursorIn(row), channel, createdAt: created, kind, frame });
  }
  return events;
}

/** An event in the place of a row that can't be read. */
export function undeliverableOf(row: Pick<Row, 'id' | 'position' | 'channel' | 'created'>): FreshEvent {
  return { ...cursorIn(row), channel: row.channel, createdAt: row.created, kind: 'other', frame: NO_FRAME };
}

function kindOf({ data, isText }: Row): DataKind {
  if (data === null) return 'other';
  if (isText !== true) return 'json';
  return data.includes('\r') ? 'other' : 'text';
}

async function inTurns<T>(steps: Generator<unknown, T, undefined>): Promise<T> {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    await new Promise((next) => setImmediate(next));
  }
}
