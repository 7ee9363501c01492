import assert from 'node:assert/strict';
import test from 'ava';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { payloadsOf } from '../src/event/chunk.js';
import { controlText, encodeControl, encodeEvent, encodeInSteps, pauseText } from '../src/event/sse.js';
import { createUnchunker, unchunked } from './support/chunks.js';
import { holds } from './support/property.js';

/** What another's parser makes of whole chunks. */
function decode(...chunks: readonly Buffer[]) {
  return parse(chunks.map((chunk) => Buffer.from(unchunked(chunk))));
}

/** What it makes of a body's bytes, fed in the pieces that they arrive in. */
function parse(pieces: readonly Buffer[]) {
  const events: { id: string | undefined; event: string | undefined; data: string }[] = [];
  const retries: number[] = [];
  const comments: string[] = [];
  const errors: string[] = [];
  const parser = createParser({
    onEvent: ({ id, event, data }) => events.push({ id, event, data }),
    onRetry: (retry) => retries.push(retry),
    onComment: (comment) => comments.push(comment),
    onError: (error) => errors.push(error.message),
  });
  const decoder = new TextDecoder();
  for (const piece of pieces) parser.feed(decoder.decode(piece, { stream: true }));
  return { events, retries, comments, errors };
}

const nasty = [
  ...['\r', '\n', '\r\n', '\n\n', '\r\r', '\0', '\u0085', '\u2028', '\u2029', '\v', '\f', '\ufeff', '\ufffd'],
  ...[' ', ':', '\t', 'data: x', 'id: 9', 'event: evil', 'retry: 1', '\n\nid: 9\ndata: evil\n\n', ':\n\n'],
  ...['é', 'e\u0301', '😀', '👩‍👩‍👧', '\u{10ffff}', 'ﷺ'],
];
const text = fc
  .array(fc.oneof(fc.constantFrom(...nasty), fc.string({ unit: 'binary' })), { maxLength: 8 })
  .map((parts) => parts.join(''));
const wireEvent = fc.record({ id: text, event: text, data: text });

const line = (value: string) => value.replace(/[\r\n\0]/g, '\ufffd');
const lines = (value: string) => value.replace(/\r\n|\r/g, '\n');
const asDecoded = ({ id, event, data }: { id: string; event: string; data: string }) => ({
  id: line(id),
  event: event === 'message' || event === '' ? undefined : line(event),
  data: lines(data),
});

test('an event arrives as it was published, whatever is in its fields; only line breaks become \\n', (t) => {
  holds(
    t,
    fc.property(wireEvent, (event) => {
      const { events, retries, comments, errors } = decode(encodeEvent(event));
      assert.deepEqual(events, [asDecoded(event)]);
      assert.deepEqual([retries, comments, errors], [[], [], []]);
    }),
    { numRuns: 1000 },
  );
});

test('of an event without line breaks nothing at all changes', (t) => {
  const event = { id: '9223372036854775807', event: 'größer 😀', data: '\ufeff{"a": "\u2028 e\u0301"} : ' };
  t.deepEqual(decode(encodeEvent(event)).events, [event]);
});

test('each kind of line break in data is one \\n, and an empty payload is still an event', (t) => {
  const dataOf = (data: string) => decode(encodeEvent({ id: '1', event: 'message', data })).events.map((e) => e.data);
  t.deepEqual(dataOf('a\r\nb\rc\nd'), ['a\nb\nc\nd']);
  t.deepEqual(dataOf('\r\n\r\n'), ['\n\n']);
  t.deepEqual(dataOf('\n\r'), ['\n\n']);
  t.deepEqual(dataOf(''), ['']);
});

test('an event of millions of line breaks is framed at once, each kind as seven bytes', (t) => {
  const COUNT = 1_000_000;
  for (const [unit, breaks] of [
    ['\n', 1],
    ['\r', 1],
    ['\r\n', 1],
    ['\r \n', 2],
    ['é\r\n\r', 2],
  ] as const) {
    const [frame = Buffer.alloc(0)] = payloadsOf(encodeEvent({ id: '1', event: 'message', data: unit.repeat(COUNT) }));
    const text = Buffer.byteLength(unit.replace(/[\r\n]/g, ''));
    t.is(frame.length, 'id: 1\ndata: \n\n'.length + COUNT * (text + 7 * breaks), JSON.stringify(unit));
    t.true(frame.subarray(-9).equals(Buffer.from('\ndata: \n\n')));
  }
});

test('what is framed in steps is what is framed at once, wherever a step ends, and no step is long', (t) => {
  const STEPS_OF = 128 * 1024;
  for (const unit of ['\n', '\r', '\r\n', '\r \n', 'é\r\n\r', 'x', '😀', `${'x'.repeat(99)}\r\n`]) {
    const data = unit.repeat(Math.ceil((3 * STEPS_OF) / unit.length) + 1);
    const event = { id: '1', event: 'order', data };
    const steps = encodeInSteps(event);
    let count = 0;
    let step = steps.next();
    for (; step.done !== true; step = steps.next()) count += 1;
    const expected = `id: 1\nevent: order\n${data
      .split(/\r\n|\r|\n/)
      .map((one) => `data: ${one}\n`)
      .join('')}\n`;
    t.is(unchunked(step.value), expected, JSON.stringify(unit));
    if (unit !== 'x' && unit !== '😀') t.true(count >= Math.floor(data.length / STEPS_OF), `${count} steps`);
  }
});

test('no id, event name or payload can add an event, an id, a retry or a comment', (t) => {
  const frame = '\n\nid: 666\nevent: evil\nretry: 0\ndata: evil\n\n';
  for (const separator of ['\n', '\r', '\r\n', '\0\n']) {
    const evil = frame.replaceAll('\n', separator);
    for (const field of ['id', 'event', 'data'] as const) {
      const wire = { id: '7', event: 'order', data: 'fine', [field]: evil };
      const decoded = decode(encodeEvent(wire), encodeEvent({ id: '8', event: 'message', data: 'next' }));
      t.deepEqual(decoded.events, [asDecoded(wire), { id: '8', event: undefined, data: 'next' }], field);
      t.deepEqual([decoded.retries, decoded.comments, decoded.errors], [[], [], []]);
    }
    const reset = decode(encodeControl('stream-reset', { lastEventId: evil }, { id: evil }));
    t.is(reset.events.length, 1);
    t.deepEqual(reset.retries, []);
  }
});

test('an id never holds the NUL for which a client would have to ignore it', (t) => {
  t.deepEqual(
    decode(encodeControl('stream-open', {}, { id: '1\0' })).events.map(({ id }) => id),
    ['1\ufffd'],
  );
});

test('a control event carries its data as JSON, and an id and a retry only where it has one', (t) => {
  const kind = fc.constantFrom('stream-open', 'stream-cursor', 'stream-pause', 'stream-reset', 'stream-error');
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
  const pause = maybe(fc.double({ min: 0, max: 1e7, noNaN: true }));
  holds(
    t,
    fc.property(kind, fc.dictionary(text, text), maybe(text), pause, (event, data, id, retry) => {
      const { events, retries, comments, errors } = decode(encodeControl(event, data, { id, retry }));
      assert.deepEqual([comments, errors], [[], []]);
      assert.deepEqual(retries, retry === undefined ? [] : [Math.round(retry)]);
      assert.deepEqual(
        events.map((decoded) => ({ ...decoded, data: JSON.parse(decoded.data) as unknown })),
        [{ id: id === undefined ? undefined : line(id), event, data: JSON.parse(JSON.stringify(data)) as unknown }],
      );
    }),
  );
});

test('a pause says when to come back to whoever reads `retry`, and to whoever reads JSON', (t) => {
  const { events, retries } = parse([Buffer.from(pauseText('busy', 6543.21, { error: 'too_many_connections' }))]);
  t.deepEqual(retries, [6543]);
  t.is(events.length, 1);
  t.like(events[0], { event: 'stream-pause', id: undefined });
  t.deepEqual(JSON.parse(events[0]?.data ?? ''), { reason: 'busy', retryMs: 6543, error: 'too_many_connections' });
});

test('a row of frames is a body in chunks, and means the same in whatever pieces its bytes arrive', (t) => {
  holds(
    t,
    fc.property(fc.array(wireEvent, { minLength: 1, maxLength: 5 }), fc.array(fc.nat(600)), (published, cuts) => {
      const frames = published.flatMap((event) => [
        encodeEvent(event),
        encodeControl('stream-cursor', { lastEventId: event.id }, { id: event.id, retry: 2000 }),
      ]);
      const body = Buffer.concat(frames);
      const ends = [...cuts.filter((cut) => cut < body.length).sort((a, b) => a - b), body.length];
      const pieces = ends.map((end, index) => body.subarray(ends[index - 1] ?? 0, end));
      const unchunker = createUnchunker();
      const texts = pieces.map((piece) => Buffer.from(unchunker.take(piece.toString('latin1')), 'latin1'));
      assert.ok(unchunker.isBetween);
      const decoded = parse(texts);
      assert.deepEqual(
        decoded.events.filter(({ event }) => event !== 'stream-cursor'),
        published.map(asDecoded),
      );
      assert.deepEqual(decoded, decode(body));
      const payloads = payloadsOf(body).map(String);
      assert.deepEqual(payloads, frames.map(unchunked));
      for (const payload of payloads) assert.match(payload, /[^]\n\n$/);
    }),
    { numRuns: 300 },
  );
});

test('a frame of text is what is in its chunk', (t) => {
  const control = ['stream-reset', { reason: 'unknown', lastEventId: 'é😀' }, { id: '7' }] as const;
  t.is(unchunked(encodeControl(...control)), controlText(...control));
});
