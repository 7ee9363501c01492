/** The engine's log in memory keeps to what feeders and relays rely on, with and without faults; and so do entries as bytes. */
import assert from 'node:assert/strict';
import { createHash, createSecretKey } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { createCodec } from '../src/engine/codec.js';
import type { Entry } from '../src/engine/entry.js';
import { beginAt, declareEngineLogSuite, runOf } from './support/engine-log-conformance.js';
import { createFakeEngine, randomEngineFaults } from './support/fake-engine-log.js';
import { holds } from './support/property.js';
import { randomOf, seedFromEnvironment } from './support/random.js';

declareEngineLogSuite("an engine's log in memory", () => {
  const engine = createFakeEngine();
  return Promise.resolve({
    open: () => Promise.resolve(engine.open()),
    inject: async (bytes) => Promise.resolve(engine.inject(bytes)),
  });
});

declareEngineLogSuite("an engine's log in memory that loses, doubles, delays and fails", (t) => {
  const seed = seedFromEnvironment();
  t.log(`SEED=${seed}`);
  const engine = createFakeEngine(randomEngineFaults(randomOf(seed, t.title).next));
  return Promise.resolve({
    open: () => Promise.resolve(engine.open()),
    inject: async (bytes) => Promise.resolve(engine.inject(bytes)),
  });
});

const SECRET = createSecretKey(Buffer.alloc(32, 's'));

const whole = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
const plain = { noNullPrototype: true } as const;
const cursor = fc.record({ position: whole, id: whole.map(String) }, plain);
const origin = {
  epoch: fc.string(),
  system: fc.string({ unit: 'grapheme' }),
  timeline: fc.nat(),
  wal: whole,
  state: fc.option(fc.string(), { nil: undefined }),
};
const events = fc.uniqueArray(
  fc.record(
    {
      position: fc.bigInt({ min: 1n, max: 2n ** 62n }),
      id: whole.map(String),
      channel: fc.string({ unit: 'grapheme' }),
      createdAt: fc.oneof(
        fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
        fc.constantFrom(Infinity, -Infinity),
      ),
      kind: fc.constantFrom('json' as const, 'text' as const, 'other' as const),
      frame: fc.option(
        fc.uint8Array({ maxLength: 50 }).map((bytes) => Buffer.from(bytes)),
        { nil: undefined },
      ),
    },
    { noNullPrototype: true },
  ),
  { minLength: 1, selector: ({ position }) => position },
);
const entry: fc.Arbitrary<Entry> = fc.oneof(
  fc.record({ ...origin, kind: fc.constant('begin' as const), at: cursor }, plain),
  fc.record(
    {
      ...origin,
      kind: fc.constant('restart' as const),
      at: cursor,
      reason: fc.constantFrom('expired' as const, 'unknown' as const),
    },
    plain,
  ),
  fc.record(
    {
      ...origin,
      kind: fc.constant('evict' as const),
      last: cursor,
      redacted: fc.array(whole),
      redactedThrough: whole,
      floor: cursor,
    },
    plain,
  ),
  fc.record({ ...origin, floor: cursor, events }, plain).map(({ events: given, ...rest }): Entry => {
    const sorted = given.sort((a, b) => (a.position < b.position ? -1 : 1));
    const last = { position: sorted.at(-1)?.position ?? 0n, id: sorted.at(-1)?.id ?? '0' };
    return { ...rest, kind: 'run', prev: 0n, last, events: sorted };
  }),
);

test('an entry is read as it was written', (t) => {
  for (const codec of [createCodec(), createCodec(SECRET)]) {
    holds(
      t,
      fc.property(entry, (given) => assert.deepEqual(codec.decode(codec.encode(given)), given)),
    );
  }
});

test('an entry of which any byte is changed, missing or too much is none', (t) => {
  for (const codec of [createCodec(), createCodec(SECRET)]) {
    holds(
      t,
      fc.property(entry, fc.nat(), fc.integer({ min: 1, max: 255 }), (given, at, change) => {
        const bytes = codec.encode(given);
        assert.equal(codec.decode(bytes.subarray(0, at % bytes.length)), undefined, 'cut');
        assert.equal(codec.decode(Buffer.concat([bytes, Buffer.from([change])])), undefined, 'longer');
        const changed = Buffer.from(bytes);
        changed[at % bytes.length] = (changed[at % bytes.length] ?? 0) ^ change;
        assert.equal(codec.decode(changed), undefined, 'changed');
      }),
    );
  }
});

test('an entry of who has another secret, or none, is none', (t) => {
  const codecs = [createCodec(), createCodec(SECRET), createCodec(createSecretKey(Buffer.alloc(32, 't')))];
  for (const [index, codec] of codecs.entries()) {
    for (const [other, reader] of codecs.entries()) {
      t.is(reader.decode(codec.encode(beginAt(3n))) !== undefined, index === other);
    }
  }
});

test('bytes with a digest that is right, and anything in them, are an entry or none, and never an error', (t) => {
  const codec = createCodec();
  const sealed = (head: string, length: number, rest: Uint8Array): Buffer => {
    const body = Buffer.concat([Buffer.alloc(4), Buffer.from(head), rest]);
    body.writeUInt32BE(length);
    return Buffer.concat([Buffer.from('OBX1'), createHash('sha256').update(body).digest(), body]);
  };
  const valid = JSON.parse(codec.encode(runOf(0n, 2n)).toString('utf8', 40).replace(/x+$/, '')) as Record<
    string,
    unknown
  >;
  const byteHeads = fc.oneof(
    fc.json(),
    fc.string(),
    fc
      .record({ name: fc.constantFrom(...Object.keys(valid)), value: fc.jsonValue() })
      .map(({ name, value }) => JSON.stringify({ ...valid, [name]: value })),
  );
  holds(
    t,
    fc.property(byteHeads, fc.option(fc.nat(2 ** 32 - 1)), fc.uint8Array(), (head, length, rest) => {
      const decoded = codec.decode(sealed(head, length ?? Buffer.byteLength(head), rest));
      assert.ok(decoded === undefined || typeof decoded.kind === 'string');
    }),
    { numRuns: 2000 },
  );
});
