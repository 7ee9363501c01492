import assert from 'node:assert/strict';
import test from 'ava';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { COMMENT, encodeControl, encodeCursor, encodeEvent, encodeRetry, encodeStart } from '../src/sse.js';
import { holds } from './support/property.js';

/** What another's parser makes of the bytes, fed in the pieces that they arrive in. */
function decode(...pieces: readonly Buffer[]) {
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

/** The parser shows an id with an event only: gives the frame one, in place of its blank line. */
function decodeId(frame: Buffer): string | undefined {
  return decode(frame.subarray(0, -1), Buffer.from('data:\n\n')).events[0]?.id;
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
    t.deepEqual(decode(encodeCursor(evil)).events, []);
    t.deepEqual(decode(encodeStart(1, evil)).events, []);
    t.is(decode(encodeControl('stream-reset', { lastEventId: evil }, evil)).events.length, 1);
  }
});

test('an id never holds the NUL for which a client would have to ignore it', (t) => {
  t.is(decodeId(encodeCursor('1\0')), '1\ufffd');
  t.is(decodeId(encodeStart(1, '1\0')), '1\ufffd');
  t.deepEqual(
    decode(encodeControl('stream-open', {}, '1\0')).events.map(({ id }) => id),
    ['1\ufffd'],
  );
});

test('a cursor frame moves the id and fires no event', (t) => {
  holds(
    t,
    fc.property(text, (id) => {
      assert.deepEqual(decode(encodeCursor(id)), { events: [], retries: [], comments: [], errors: [] });
      assert.equal(decodeId(encodeCursor(id)), line(id));
    }),
  );
});

test('the first frame gives the retry in whole milliseconds and an id, and fires no event', (t) => {
  holds(
    t,
    fc.property(fc.double({ min: 0, max: 1e7, noNaN: true }), text, (retry, id) => {
      const frame = encodeStart(retry, id);
      assert.deepEqual(decode(frame), { events: [], retries: [Math.round(retry)], comments: [], errors: [] });
      assert.equal(decodeId(frame), line(id));
      assert.deepEqual(decode(encodeRetry(retry)), {
        events: [],
        retries: [Math.round(retry)],
        comments: [],
        errors: [],
      });
    }),
  );
});

test('a control event carries its data as JSON, and an id only where it has one', (t) => {
  const kind = fc.constantFrom('stream-open', 'stream-reset', 'stream-error');
  holds(
    t,
    fc.property(kind, fc.dictionary(text, text), fc.option(text, { nil: undefined }), (event, data, id) => {
      const { events, errors } = decode(encodeControl(event, data, id));
      assert.deepEqual(errors, []);
      assert.deepEqual(
        events.map((decoded) => ({ ...decoded, data: JSON.parse(decoded.data) as unknown })),
        [{ id: id === undefined ? undefined : line(id), event, data: JSON.parse(JSON.stringify(data)) as unknown }],
      );
    }),
  );
});

test('a comment is nothing but a comment', (t) => {
  t.deepEqual(decode(COMMENT), { events: [], retries: [], comments: [''], errors: [] });
});

test('frames mean the same in whatever pieces their bytes arrive', (t) => {
  holds(
    t,
    fc.property(fc.array(wireEvent, { minLength: 1, maxLength: 5 }), fc.array(fc.nat(400)), (published, cuts) => {
      const stream = Buffer.concat([
        encodeStart(2000, '0'),
        ...published.flatMap((event) => [encodeEvent(event), COMMENT, encodeCursor(event.id)]),
      ]);
      const ends = [...cuts.filter((cut) => cut < stream.length).sort((a, b) => a - b), stream.length];
      const pieces = ends.map((end, index) => stream.subarray(ends[index - 1] ?? 0, end));
      const decoded = decode(...pieces);
      assert.deepEqual(decoded.events, published.map(asDecoded));
      assert.deepEqual(decoded, decode(stream));
    }),
    { numRuns: 300 },
  );
});
