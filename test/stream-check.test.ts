/**
 * The judge of the chaos with NATS: it has to see each way in which a stream can be wrong.
 */
import test from 'ava';
import type { Entry, RunEvent } from '../src/engine/entry.js';
import { findInFiles, judgeStream, TOKEN } from './support/stream-check.js';
import { makeFolder } from './support/folder.js';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Positions 1 to 6, and ids that are no order. */
const TRUTH = [
  ['11', 1n],
  ['10', 2n],
  ['13', 3n],
  ['12', 4n],
  ['15', 5n],
  ['14', 6n],
].map(([id, position]) => ({ id: String(id), position: BigInt(position ?? 0) }));

const ORIGIN = { epoch: 'one', system: '7', timeline: 1, wal: 100n, state: undefined } as const;
const cursorAt = (position: bigint) => ({
  position,
  id: TRUTH.find((event) => event.position === position)?.id ?? '0',
});

function run(prev: bigint, last: bigint, positions?: readonly bigint[], floor = 0n): Entry {
  const all = TRUTH.map(({ position }) => position).filter((position) => position > prev && position <= last);
  const events = (positions ?? all).map((position): RunEvent => ({
    ...cursorAt(position),
    channel: 'orders',
    kind: 'json',
    createdAt: 0,
    frame: Buffer.of(),
  }));
  return { ...ORIGIN, kind: 'run', prev, last: cursorAt(last), floor: cursorAt(floor), events };
}

const begin = (at = 0n): Entry => ({ ...ORIGIN, kind: 'begin', at: cursorAt(at) });
const logged = (...entries: (Entry | undefined)[]) => entries.map((entry, n) => ({ sequence: n + 1, entry }));
const complaints = (...entries: (Entry | undefined)[]) => judgeStream(logged(...entries), TRUTH).complaints;

test('a stream that is the table, however it is cut into runs, is right', (t) => {
  t.deepEqual(complaints(begin(), run(0n, 6n)), []);
  t.deepEqual(complaints(begin(), run(0n, 1n), run(1n, 4n), run(4n, 6n)), []);
  t.deepEqual(complaints(begin(4n), run(4n, 6n)), []);
  t.deepEqual(complaints(run(2n, 6n)), []);
});

test('what retention had deleted by then may be missing', (t) => {
  t.deepEqual(complaints(begin(), run(0n, 6n, [3n, 4n, 5n, 6n], 2n)), []);
  t.is(complaints(begin(), run(0n, 6n, [4n, 5n, 6n], 2n)).length, 1);
});

test('a hole, a run that is there twice, and one out of order are found', (t) => {
  t.regex(complaints(begin(), run(0n, 2n), run(3n, 6n)).join(), /goes on at 3.*led through 2/);
  t.regex(complaints(begin(), run(0n, 4n), run(2n, 6n)).join(), /goes on at 2.*led through 4/);
  t.true(complaints(begin(), run(2n, 4n), run(0n, 2n), run(4n, 6n)).length > 0);
});

test('an event that is missing in a run, is another, or comes in another order is found', (t) => {
  t.regex(complaints(begin(), run(0n, 6n, [1n, 2n, 4n, 5n, 6n])).join(), /1 of 6 events are not in it/);
  t.regex(complaints(begin(), run(0n, 6n, [1n, 3n, 2n, 4n, 5n, 6n])).join(), /not in its order/);
  t.regex(complaints(begin(), run(0n, 5n, [1n, 2n, 3n, 4n, 5n, 6n]), run(5n, 6n)).join(), /not the table's/);
});

test('a stream that ends before the table is found, and so are an empty one and a restart without a reason', (t) => {
  t.regex(complaints(begin(), run(0n, 5n)).join(), /leads through 5, and the table through 6/);
  t.deepEqual(complaints(), ['stream: the stream is empty']);
  const restart: Entry = { ...ORIGIN, epoch: 'two', kind: 'restart', at: cursorAt(4n), reason: 'unknown' };
  t.regex(complaints(begin(), run(0n, 2n), restart, run(4n, 6n)).join(), /nothing had been lost/);
});

test('over an entry that was erased or cannot be read the stream may lead on, and never back', (t) => {
  const [first, second] = [logged(begin(), run(0n, 2n)), { sequence: 4, entry: run(4n, 6n) }];
  t.deepEqual(judgeStream([...first, second], TRUTH).complaints, []);
  t.deepEqual(complaints(begin(), run(0n, 2n), undefined, run(4n, 6n)), []);
  t.true(judgeStream([...first, { sequence: 4, entry: run(1n, 6n) }], TRUTH).complaints.length > 0);
});

test('what was redacted is found wherever it is left in a folder', async (t) => {
  const folder = await makeFolder(t, 'stores');
  const token = TOKEN.exec('ж\n\n0.k3jx81ab2lorem ipsum')?.[0] ?? '';
  t.is(token.length, 10);
  await mkdir(join(folder, 'msgs'));
  await writeFile(join(folder, 'msgs', '1.blk'), `\u0001\u0002{"text": "ж\\n\\n0.k3jx81ab2lorem ipsum"}`);
  t.deepEqual(await findInFiles([folder], new Set([token]), 0), [`${token} in ${join(folder, 'msgs', '1.blk')}`]);
  t.deepEqual(await findInFiles([folder], new Set(['0.00000000']), 0), []);
});
