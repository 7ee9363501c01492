import assert from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import { batchOf } from '../src/batch.js';
import { holds } from './support/property.js';

const events = fc
  .array(fc.record({ gap: fc.integer({ min: 1, max: 3 }), frame: fc.string({ unit: 'binary', minLength: 1 }) }))
  .map((rows) => {
    let position = 0;
    return rows.map(({ gap, frame }, n) => ({ id: String(n + 7), position: String((position += gap)), frame }));
  });

test('the part of a batch that follows a position has each later event, byte for byte', (t) => {
  holds(
    t,
    fc.property(events, fc.nat(60), (all, position) => {
      const later = all.filter((event) => Number(event.position) > position);
      const part = batchOf(all).after(BigInt(position));
      assert.equal(part.length, later.length);
      assert.equal(part.frames.toString(), later.map(({ frame }) => frame).join(''));
    }),
  );
});

test('R5: of a batch those events are kept that begin within the bytes asked for, and the first', (t) => {
  holds(
    t,
    fc.property(events, fc.integer({ min: 1, max: 60 }), (all, bytes) => {
      const frames = all.map(({ frame }) => Buffer.from(frame));
      let begins = 0;
      const kept = frames.filter(({ length }) => (begins += length) - length < bytes);
      const batch = batchOf(all).within(bytes);
      const last = all[kept.length - 1];
      assert.equal(batch.length, kept.length);
      assert.ok(batch.frames.equals(Buffer.concat(kept)));
      assert.deepEqual(batch.last, last && { id: last.id, position: BigInt(last.position) });
    }),
  );
});
