/**
 * Parts of the console's page that need no browser: the judge of two streams, JSON set out in
 * lines, times and sizes, characters that cannot be seen.
 */
import { deepEqual, equal, ok } from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import { loadPageModule } from './support/page-module.js';
import { holds } from './support/property.js';

interface Tally {
  readonly agreed: number;
  readonly owed: number;
  readonly lost: number;
  readonly doubled: number;
  readonly disordered: number;
  readonly isOverrun: boolean;
}
interface TwinCheck {
  subject(id: string): boolean;
  twin(id: string): void;
  tally(): Tally;
}

const { createTwinCheck } = await loadPageModule<{ createTwinCheck: (mostOwed?: number) => TwinCheck }>(
  'twin-check.ts',
);
const { pretty } = await loadPageModule<{ pretty: (json: string) => string }>('json-text.ts');
const { clip, visible } = await loadPageModule<{
  clip: (text: string, most: number) => string;
  visible: (text: string) => string;
}>('visible.tsx');
const format = await loadPageModule<{
  between: (from: string, to: string) => number;
  bytes: (value: number) => string;
  duration: (seconds: number) => string;
  ago: (at: number, now: number) => string;
}>('format.ts');
const { href, parseRoute } = await loadPageModule<{
  href: (view: string, query?: Record<string, string>) => string;
  parseRoute: (hash: string) => { view: string; item: string | undefined; query: URLSearchParams };
}>('route.ts');

/** Feeds both sequences, in turns that `turns` chooses, and then what is left. */
function judge(twin: readonly string[], subject: readonly string[], turns: readonly boolean[]): Tally {
  const check = createTwinCheck();
  const [left, right] = [[...twin], [...subject]];
  for (const isTwin of turns) {
    const id = (isTwin ? left : right).shift();
    if (id === undefined) continue;
    if (isTwin) check.twin(id);
    else check.subject(id);
  }
  left.forEach(check.twin);
  right.forEach(check.subject);
  return check.tally();
}

const idsUpTo = (n: number): string[] => Array.from({ length: n }, (_, index) => String(index + 1));
const turnsOf = fc.array(fc.boolean(), { maxLength: 120 });

test('streams that bring the same agree, whichever is ahead, and what one has yet to bring is owed', (t) => {
  holds(
    t,
    fc.property(fc.nat(60), fc.nat(60), turnsOf, (n, missing, turns) => {
      const ids = idsUpTo(n);
      const seen = ids.slice(0, Math.max(0, n - missing));
      const owed = n - seen.length;
      deepEqual(judge(ids, seen, turns), {
        agreed: seen.length,
        owed,
        lost: 0,
        doubled: 0,
        disordered: 0,
        isOverrun: false,
      });
    }),
  );
});

test('an event that one stream goes past is lost, one that comes twice is doubled, one that comes late is out of order', (t) => {
  holds(
    t,
    fc.property(fc.integer({ min: 3, max: 60 }), fc.nat(), turnsOf, (n, at, turns) => {
      const ids = idsUpTo(n);
      const place = at % (n - 1);
      const id = ids[place] ?? '';
      const without = ids.filter((other) => other !== id);
      equal(judge(ids, without, turns).lost, 1);
      const twice = ids.toSpliced(place + 1, 0, id);
      deepEqual([judge(ids, twice, turns).doubled, judge(ids, twice, turns).lost], [1, 0]);
      const late = without.toSpliced(place + 1, 0, id);
      const { disordered, lost, doubled } = judge(ids, late, turns);
      ok(disordered > 0);
      deepEqual([lost, doubled], [0, 0]);
    }),
  );
});

test('a stream that is ever further behind its twin costs bounded memory, and is then not judged', (t) => {
  const check = createTwinCheck(100);
  for (const id of idsUpTo(101)) check.twin(id);
  t.true(check.tally().isOverrun);
  t.is(check.tally().owed, 0);
});

test('JSON that is set out in lines means the same, to the last digit', (t) => {
  holds(
    t,
    fc.property(fc.json({ noUnicodeString: false }), (json) => deepEqual(JSON.parse(pretty(json)), JSON.parse(json))),
  );
  t.is(
    pretty('{"id":12345678901234567890,"n":1.10,"a":[],"o":{},"s":"a, {b}: \\"c\\""}'),
    '{\n  "id": 12345678901234567890,\n  "n": 1.10,\n  "a": [],\n  "o": {},\n  "s": "a, {b}: \\"c\\""\n}',
  );
});

test('text that is no JSON, or was cut off, is set out without an error and without end', (t) => {
  holds(
    t,
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => ok(pretty(text).length < 2000 * 10)),
  );
  t.is(pretty('}]'), '}]');
  t.true(pretty('['.repeat(10_000)).length < 10_000 * 100);
});

test('what cannot be seen, or turns the direction of text, stands there by its number; what joins letters stays', (t) => {
  t.is(
    visible('a\u202Eb\u0007c\u0000\u2066\u00AD\uFEFF\u{E0041}'),
    'a<U+202E>b<U+0007>c<U+0000><U+2066><U+00AD><U+FEFF><U+E0041>',
  );
  t.is(visible('نص 👩\u200D💻 é <b>'), 'نص 👩\u200D💻 é <b>');
  t.is(visible('\uD83D'), '<U+D83D>');
  t.is(clip('ab👍', 3), 'ab');
});

test('times keep their microseconds, and sizes and durations say their units', (t) => {
  t.is(format.between('2026-01-01T00:00:00.000100Z', '2026-01-01T00:00:00.004456Z').toFixed(3), '4.356');
  t.deepEqual([0, 999, 1000, 999_960, 1_234_567].map(format.bytes), ['0 B', '999 B', '1.0 kB', '1.0 MB', '1.2 MB']);
  t.deepEqual([0.25, 59, 61, 3600, 90_061].map(format.duration), ['0.3 s', '59 s', '1 min 1 s', '1 h', '1 d 1 h']);
  t.deepEqual(
    [0, 12_000, 185_000, -60_000].map((ms) => format.ago(0, ms)),
    ['just now', '12 s ago', '3 min ago', 'in 1 min'],
  );
});

test('an address of the page brings back any channel, and one that cannot be read is harmless', (t) => {
  holds(
    t,
    fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (channel) => {
      const { view, query } = parseRoute(href('log', { channel, event: '' }));
      deepEqual([view, query.get('channel'), query.get('event')], ['log', channel, null]);
    }),
  );
  t.is(parseRoute('').view, 'overview');
  t.is(parseRoute('#/events/%E0%A4%A').item, '%E0%A4%A');
});
