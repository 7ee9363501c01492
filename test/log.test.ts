import assert from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import { channelFilter, matches } from '../src/event/channel-filter.js';
import { eventFilter, type EventFilter } from '../src/event/event-filter.js';
import { createLog, type Log, type Reader } from '../src/feed/log.js';
import type { Cursor, LogEvent, RestartReason } from '../src/event/event.js';
import { holds } from './support/property.js';

const START = { id: '5', position: 10n };
const LIMIT = 20_000;

const SMALL = 80;
const nameOf = (position: bigint) => ['message', 'x', 'y'][Number(position % 3n)] ?? '';

function eventOf(position: bigint, channel: string, size = SMALL): LogEvent {
  // An id names an event and orders nothing: let it run against the position.
  const id = String(1_000_000n - position);
  const name = nameOf(position);
  const head = `0\r\nid: ${id}\n${name === 'message' ? '' : `event: ${name}\n`}data: ${position} ${channel} `;
  const frame = Buffer.from(size === 0 ? '' : head.padEnd(size, '.'));
  return { position, id, channel, frame, kind: 'json', createdAt: 0 };
}

/** What the log takes events on these channels to cost beside their frames, found out and not assumed. */
function overheadOf(...channels: string[]): number {
  const log = createLog(START, { bytes: LIMIT });
  log.append(channels.map((channel, n) => eventOf(11n + BigInt(n), channel)));
  return log.size.bytes - SMALL * channels.length;
}
const EVENT_OVERHEAD = overheadOf('a', 'a') - overheadOf('a');
const CHANNEL_OVERHEAD = overheadOf('a') - EVENT_OVERHEAD;

const restarted = () => assert.fail('nothing has restarted here');

/** A reader's part that takes all that it is given. */
const taking = (take: (frames: Buffer) => void): Pick<Reader, 'format' | 'sink' | 'full' | 'readOn'> => ({
  format: 'data',
  readOn: () => assert.fail('the log has it all'),
  sink: {
    write(frames) {
      take(frames);
      return true;
    },
  },
  full: () => assert.fail('it takes all'),
});

const channel = fc.constantFrom('a', 'b', 'u:1', 'u:2', 'u:1:x');
const channels = fc.oneof(
  fc.subarray(['a', 'b', 'u:1', 'u:2', 'u:1:x', 'u:*', 'u:1:*', 'none'], { minLength: 1 }).map(channelFilter),
  fc.constant(channelFilter(['*'])),
);
const filter = fc.oneof(
  channels,
  fc.tuple(channels, fc.subarray(['message', 'x', 'none'])).map(([wanted, names]) => eventFilter(wanted, names)),
);
const wants = (wanted: EventFilter, { channel, position }: LogEvent) =>
  matches(wanted, channel) && (wanted.events?.includes(nameOf(position)) ?? true);

type Step =
  | { do: 'append'; events: { channel: string; gap: number; size: number }[] }
  | { do: 'read'; filter: EventFilter; at: number; bytes: number; looks: number }
  | { do: 'park'; filter: EventFilter }
  | { do: 'unpark'; reader: number }
  | { do: 'wait'; ahead: number }
  | { do: 'cancel'; waiter: number }
  | { do: 'restart'; at: number; reason: RestartReason }
  | { do: 'evict'; at: number }
  | { do: 'redact'; at: number[]; through: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('append' as const),
    events: fc.array(
      fc.record({
        channel,
        gap: fc.integer({ min: 1, max: 3 }),
        // 0: can't be delivered.
        size: fc.oneof(
          { weight: 6, arbitrary: fc.constant(SMALL) },
          { weight: 6, arbitrary: fc.integer({ min: SMALL, max: 9_000 }) },
          fc.constant(0),
        ),
      }),
      { maxLength: 12 },
    ),
  }),
  fc.record({
    do: fc.constant('read' as const),
    filter,
    at: fc.double({ min: 0, max: 1.1, noNaN: true }),
    bytes: fc.integer({ min: 1, max: 4000 }),
    looks: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.constant(Infinity)),
  }),
  fc.record({ do: fc.constant('park' as const), filter }),
  fc.record({ do: fc.constant('unpark' as const), reader: fc.nat(5) }),
  fc.record({ do: fc.constant('wait' as const), ahead: fc.integer({ min: -3, max: 20 }) }),
  fc.record({ do: fc.constant('cancel' as const), waiter: fc.nat(5) }),
  fc.record({
    do: fc.constant('restart' as const),
    at: fc.nat(12),
    reason: fc.constantFrom('expired' as const, 'unknown' as const),
  }),
  fc.record({ do: fc.constant('evict' as const), at: fc.double({ min: 0, max: 1.1, noNaN: true }) }),
  fc.record({
    do: fc.constant('redact' as const),
    at: fc.array(fc.double({ min: 0, max: 1.1, noNaN: true }), { maxLength: 4 }),
    through: fc.oneof({ weight: 3, arbitrary: fc.constant(-1) }, fc.double({ min: 0, max: 1.1, noNaN: true })),
  }),
);

interface ModelReader extends Reader {
  readonly got: string[];
  readonly expected: string[];
  readonly restarts: RestartReason[];
}

interface Waiter {
  readonly position: bigint;
  calls: number;
  expected: number;
  cancelled: boolean;
  readonly cancel: () => void;
}

/** The log as anybody would write it who need not be fast: a list. */
function createModel() {
  const all: LogEvent[] = [];
  const redacted = new Set<LogEvent>();
  let changes = 0;
  let deleted = 0n;
  let epoch = 0;
  let head = START;
  let floor = START.position;
  let floorId: string | undefined = START.id;
  const held = () => all.filter((event) => event.position > floor);
  const bytes = () =>
    held().reduce((sum, event) => sum + (redacted.has(event) ? 0 : event.frame.length) + EVENT_OVERHEAD, 0) +
    new Set(held().map(({ channel }) => channel)).size * CHANNEL_OVERHEAD;
  const dropThrough = (position: bigint) => {
    for (let oldest = held()[0]; oldest && oldest.position <= position; oldest = held()[0]) evict(oldest);
  };
  const evict = (oldest: LogEvent) => {
    floor = oldest.position;
    floorId = oldest.id;
  };
  return {
    get head() {
      return head;
    },
    get floor() {
      return floor;
    },
    get size() {
      return { bytes: bytes(), events: held().filter((event) => !redacted.has(event)).length };
    },
    get changes() {
      return changes;
    },
    isUnchanged: (after: bigint, asked: number) => asked === changes && after >= deleted,
    positionOf(id: string) {
      return held().find((event) => event.id === id)?.position ?? (id === floorId ? floor : undefined);
    },
    append(events: readonly LogEvent[]) {
      all.push(...events);
      const last = events.at(-1);
      if (last) head = { id: last.id, position: last.position };
      for (let oldest = held()[0]; oldest && bytes() > LIMIT && held().length > 1; oldest = held()[0]) evict(oldest);
    },
    read(wanted: EventFilter, after: bigint, limit: number, through?: bigint) {
      const matching = held()
        .filter((event) => event.position > after && (through === undefined || event.position <= through))
        // Of what has been redacted the table knows the name, and the log does not.
        .filter((event) => wants(redacted.has(event) ? { ...wanted, events: undefined } : wanted, event));
      const taken: LogEvent[] = [];
      let size = 0;
      let position = after > head.position ? after : head.position;
      let needsTable = false;
      for (const event of matching) {
        if (event.frame.length === 0 && !redacted.has(event)) continue;
        needsTable = redacted.has(event);
        if (needsTable || (size > 0 && size + event.frame.length > limit)) {
          position = taken.at(-1)?.position ?? after;
          break;
        }
        taken.push(event);
        size += event.frame.length;
      }
      return { text: taken.map((event) => event.frame.toString()).join(''), position, needsTable };
    },
    redact(positions: readonly bigint[], through: bigint) {
      changes += 1;
      dropThrough(through);
      for (const event of held()) if (positions.includes(event.position)) redacted.add(event);
    },
    evictThrough(position: bigint) {
      if (position <= deleted) return;
      deleted = position;
      dropThrough(position);
      const through = position < head.position ? position : head.position;
      if (through > floor) floor = through;
      if (position >= floor) floorId = undefined;
    },
    get epoch() {
      return epoch;
    },
    restart(at: Cursor, reason: RestartReason) {
      changes += 1;
      deleted = reason === 'expired' ? at.position : 0n;
      all.length = 0;
      head = at;
      floor = at.position;
      floorId = at.id;
      if (reason === 'unknown') epoch += 1;
    },
  };
}

/** A position at a share of the way from `from` to `to`; a share above 1 is beyond it. */
const between = (from: bigint, to: bigint, share: number) => from + BigInt(Math.round(Number(to - from) * share));

test('the log behaves as a plain list would, whatever is done to it', (t) => {
  holds(
    t,
    fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
      const log = createLog(START, { bytes: LIMIT });
      const model = createModel();
      const readers: ModelReader[] = [];
      const waiters: Waiter[] = [];
      for (const action of steps) {
        if (action.do === 'append') {
          let position = model.head.position;
          const events = action.events.map((event) => {
            position += BigInt(event.gap);
            return eventOf(position, event.channel, event.size);
          });
          for (const reader of readers) {
            const fresh = events.filter((event) => wants(reader.filter, event) && event.frame.length > 0);
            if (fresh.length > 0) reader.expected.push(fresh.map((event) => event.frame.toString()).join(''));
          }
          for (const event of events) {
            const wanting = readers.filter((reader) => wants(reader.filter, event) && event.frame.length > 0);
            assert.equal(log.readersOf(event), wanting.length);
          }
          for (const waiter of waiters) {
            if (!waiter.cancelled && waiter.position <= position) waiter.expected = 1;
          }
          log.append(events);
          model.append(events);
        } else if (action.do === 'read') {
          const after = between(model.floor, model.head.position, action.at);
          const page = log.read(action.filter, after, action.bytes, action.looks);
          const expected = model.read(action.filter, after, action.bytes);
          const text = page.frames?.toString() ?? '';
          if (action.looks === Infinity) {
            assert.equal(text, expected.text);
            assert.equal(page.position, expected.position);
            assert.equal(page.needsTable, expected.needsTable);
          }
          // A slice is a part of that, with all that matches up to where it ends, and moves on.
          assert.ok(expected.text.startsWith(text));
          assert.equal(text, model.read(action.filter, after, Infinity, page.position).text);
          assert.ok(page.position > after || page.needsTable || after >= model.head.position);
          assert.ok(page.looked <= action.looks + action.filter.channels.length);
        } else if (action.do === 'park') {
          const got: string[] = [];
          const restarts: RestartReason[] = [];
          const reader: ModelReader = {
            filter: action.filter,
            got,
            expected: [],
            restarts,
            ...taking((frames) => void got.push(frames.toString())),
            restarted: (reason, passed) => {
              restarts.push(reason);
              assert.deepEqual(passed, model.head);
            },
          };
          readers.push(reader);
          log.park(reader);
        } else if (action.do === 'unpark') {
          const [reader] = readers.splice(action.reader, 1);
          if (reader) {
            log.unpark(reader);
            log.unpark(reader);
            assert.deepEqual(reader.got, reader.expected);
          }
        } else if (action.do === 'wait') {
          const position = model.head.position + BigInt(action.ahead);
          const waiter: Waiter = {
            position,
            calls: 0,
            expected: action.ahead <= 0 ? 1 : 0,
            cancelled: false,
            cancel: () => cancel(),
          };
          const cancel = log.whenReached(position, () => (waiter.calls += 1));
          waiters.push(waiter);
        } else if (action.do === 'cancel') {
          const waiter = waiters[action.waiter];
          if (waiter) {
            waiter.cancel();
            waiter.cancelled = true;
          }
        } else if (action.do === 'restart') {
          // Where rows have expired, ahead of what was read; in another table, anywhere.
          const from = action.reason === 'expired' ? model.head.position + 1n : START.position;
          const position = from + BigInt(action.at);
          const at = { position, id: String(1_000_000n - position) };
          for (const waiter of waiters) {
            if (!waiter.cancelled && (action.reason === 'unknown' || waiter.position <= position)) waiter.expected = 1;
          }
          log.restart(at, action.reason);
          model.restart(at, action.reason);
          for (const reader of readers.splice(0)) {
            assert.deepEqual(reader.restarts, [action.reason]);
            assert.deepEqual(reader.got, reader.expected);
          }
        } else if (action.do === 'evict') {
          const position = between(START.position, model.head.position, action.at);
          log.evictThrough(position);
          model.evictThrough(position);
        } else {
          const at = (share: number) => between(START.position, model.head.position, share);
          const positions = action.at.map(at);
          const through = action.through < 0 ? 0n : at(action.through);
          log.redact(positions, through);
          model.redact(positions, through);
        }
        agree(log, model);
        for (const reader of readers) assert.deepEqual(reader.got, reader.expected);
        for (const waiter of waiters) assert.equal(waiter.calls, waiter.expected);
      }
    }),
    { numRuns: 300 },
  );

  function agree(log: Log, model: ReturnType<typeof createModel>): void {
    assert.deepEqual(log.head, model.head);
    assert.equal(log.epoch, model.epoch);
    assert.equal(log.floor, model.floor);
    assert.deepEqual(log.size, model.size);
    assert.equal(log.changes, model.changes);
    for (const after of [model.floor, model.head.position]) {
      for (const asked of [model.changes, model.changes - 1]) {
        assert.equal(log.isUnchanged(after, asked), model.isUnchanged(after, asked));
      }
    }
    assert.equal(log.positionOf(START.id), model.positionOf(START.id));
    for (let position = START.position; position <= model.head.position; position += 1n) {
      const id = String(1_000_000n - position);
      assert.equal(log.positionOf(id), model.positionOf(id));
    }
  }
});

test('R5: the window never outgrows its bytes, but for an event that is larger by itself', (t) => {
  const log = createLog(START, { bytes: LIMIT });
  for (let position = 11n; position < 2000n; position += 1n) {
    log.append([eventOf(position, 'a', Number(position % 50n) * 50)]);
    t.true(log.size.bytes <= LIMIT);
  }
  log.append([eventOf(2000n, 'a', LIMIT * 2)]);
  t.is(log.size.events, 1);
  t.is(log.floor, 1999n);
  log.append([eventOf(2001n, 'a')]);
  t.is(log.size.events, 1);
});

test('a read from before the floor is an error, since it would skip what was evicted', (t) => {
  const log = createLog(START, { bytes: 1 });
  log.append([eventOf(11n, 'a'), eventOf(12n, 'a')]);
  t.throws(() => log.read(channelFilter(['a']), 10n, 1000), { instanceOf: RangeError });
  t.is(log.read(channelFilter(['a']), 11n, 1000).position, 12n);
});

test('readers with one filter are given one buffer', (t) => {
  const log = createLog(START, { bytes: LIMIT });
  const got: Buffer[] = [];
  const reading = taking((frames) => void got.push(frames));
  for (const names of [
    ['a', 'b'],
    ['b', 'a', 'a'],
  ])
    log.park({ filter: channelFilter(names), ...reading, restarted });
  log.append([eventOf(11n, 'a'), eventOf(12n, 'b')]);
  t.is(got.length, 2);
  t.is(got[0], got[1]);
});

test('an append wakes exactly the readers of its channels', (t) => {
  const log = createLog(START, { bytes: LIMIT });
  const woken: string[] = [];
  for (const name of ['a', 'b', 'u:*', 'u:1', '*', 'u:1:*']) {
    log.park({ filter: channelFilter([name]), ...taking(() => void woken.push(name)), restarted });
  }
  log.append([eventOf(11n, 'u:1')]);
  t.deepEqual(woken.sort(), ['*', 'u:*', 'u:1']);
});

test('a reader whose sink is full is told so at once, with the head where its last event is', (t) => {
  const log = createLog(START, { bytes: LIMIT });
  const told: string[] = [];
  const reader: Reader = {
    filter: channelFilter(['a']),
    format: 'data',
    sink: { write: (_, events) => told.push(`${events}`) === 0 },
    readOn: restarted,
    full() {
      told.push(`full at ${log.head.position}`);
      log.unpark(reader);
    },
    restarted,
  };
  log.park(reader);
  log.append([eventOf(11n, 'a'), eventOf(12n, 'a'), eventOf(13n, 'b')]);
  log.append([eventOf(14n, 'a')]);
  t.deepEqual(told, ['2', 'full at 13']);
});

test('a reader that leaves while events are delivered to it takes nothing from the others', (t) => {
  const log = createLog(START, { bytes: LIMIT });
  const got: string[] = [];
  const filter = channelFilter(['a']);
  for (const name of ['first', 'second', 'third']) {
    const reader: Reader = {
      filter,
      ...taking(() => {
        got.push(name);
        if (name !== 'third') log.unpark(reader);
      }),
      restarted,
    };
    log.park(reader);
  }
  log.append([eventOf(11n, 'a')]);
  log.append([eventOf(12n, 'a')]);
  t.deepEqual(got, ['first', 'second', 'third', 'third']);
});
