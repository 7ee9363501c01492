import assert from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import {
  ChannelError,
  allows,
  channelFilter,
  MAX_CHANNEL_LENGTH,
  matches,
  prefixesOf,
} from '../src/event/channel-filter.js';
import { holds } from './support/property.js';

/** Few letters, so that names meet and prefixes nest. */
const channel = fc
  .array(fc.constantFrom('a', 'b', ':', '::', 'é', '😀', '"', ','), { minLength: 1, maxLength: 5 })
  .map((parts) => parts.join(''));
const pattern = fc.oneof(
  { weight: 4, arbitrary: channel },
  { weight: 3, arbitrary: channel.map((name) => `${name}:*`) },
  { weight: 1, arbitrary: fc.constant('*') },
);
const patterns = fc.array(pattern, { maxLength: 8 });

/** What a requested name stands for, said once more and naively. */
function stands(name: string, forChannel: string): boolean {
  return name.endsWith('*') ? forChannel.startsWith(name.slice(0, -1)) : name === forChannel;
}

test('a filter matches what its names stand for and nothing else', (t) => {
  holds(
    t,
    fc.property(patterns, channel, (names, name) => {
      assert.equal(
        matches(channelFilter(names), name),
        names.some((wanted) => stands(wanted, name)),
      );
    }),
    { numRuns: 2000 },
  );
});

test('a filter never matches a channel twice', (t) => {
  holds(
    t,
    fc.property(patterns, channel, (names, name) => {
      const { channels, prefixes } = channelFilter(names);
      const exact = channels.filter((wanted) => wanted === name).length;
      assert.ok(exact + prefixes.filter((prefix) => name.startsWith(prefix)).length <= 1);
    }),
    { numRuns: 2000 },
  );
});

test('equal sets have equal keys, whatever their order, repetitions and covered names', (t) => {
  holds(
    t,
    fc.property(patterns, fc.infiniteStream(fc.nat()), channel, (names, random, below) => {
      const numbers = [...random.take(names.length * 2)];
      const mixed = [...names, ...names].sort(
        (a, b) => (numbers[names.indexOf(a)] ?? 0) - (numbers[names.indexOf(b)] ?? 0),
      );
      const covered = names.filter((name) => name.endsWith('*')).map((name) => name.slice(0, -1) + below);
      const { key } = channelFilter(names);
      assert.equal(channelFilter(mixed).key, key);
      assert.equal(channelFilter([...covered, ...mixed]).key, key);
    }),
  );
});

test('filters with equal keys are equal', (t) => {
  holds(
    t,
    fc.property(patterns, (names) => {
      const { channels, prefixes, key } = channelFilter(names);
      assert.deepEqual(JSON.parse(key), [channels, prefixes]);
    }),
  );
  t.not(channelFilter(['a","b']).key, channelFilter(['a', 'b']).key);
  t.not(channelFilter(['a']).key, channelFilter(['a:*']).key);
});

test('R8: what is contained in the allowed set matches nothing outside of it, and what is not does', (t) => {
  holds(
    t,
    fc.property(patterns, pattern, fc.array(channel), (names, wanted, endings) => {
      const allowed = channelFilter(names);
      const inside = allows(allowed, wanted);
      const root = wanted.endsWith('*') ? wanted.slice(0, -1) : wanted;
      // `%` is in no name that was made above, so only a prefix can match what has one.
      const reached = wanted.endsWith('*') ? [...endings, '%'].map((ending) => root + ending) : [wanted];
      assert.equal(
        inside,
        reached.every((name) => matches(allowed, name)),
      );
    }),
    { numRuns: 3000 },
  );
});

test('a pattern is allowed by itself, by a wider one and by all, never by its own channels', (t) => {
  t.true(allows(channelFilter(['user:*']), 'user:*'));
  t.true(allows(channelFilter(['user:*']), 'user:1:*'));
  t.true(allows(channelFilter(['user:*']), 'user:'));
  t.true(allows(channelFilter(['*']), '*'));
  t.false(allows(channelFilter(['user:*']), 'user'));
  t.false(allows(channelFilter(['user:*']), '*'));
  t.false(allows(channelFilter(['user:1', 'user:1:*']), 'user:*'));
  t.false(allows(channelFilter([]), 'user'));
});

test('the prefixes of a channel are those under which it can be subscribed to', (t) => {
  t.deepEqual(prefixesOf('a:b:c'), ['', 'a:', 'a:b:']);
  t.deepEqual(prefixesOf('::'), ['', ':', '::']);
  t.deepEqual(prefixesOf('plain'), ['']);
  holds(
    t,
    fc.property(patterns, channel, (names, name) => {
      const { channels, prefixes } = channelFilter(names);
      const found = channels.includes(name) || prefixesOf(name).some((prefix) => prefixes.includes(prefix));
      assert.equal(found, matches(channelFilter(names), name));
    }),
  );
});

test('the widest of nested prefixes stays, and channels are sorted', (t) => {
  const { channels, prefixes } = channelFilter(['z', 'a:b:*', 'a:*', 'a', 'a:x', 'b', 'a:', 'b']);
  t.deepEqual([channels, prefixes], [['a', 'b', 'z'], ['a:']]);
  t.deepEqual(channelFilter(['x', 'a:*', '*']).prefixes, ['']);
  t.deepEqual(channelFilter(['x', 'a:*', '*']).channels, []);
});

const REFUSED: readonly [ChannelError['code'], readonly string[]][] = [
  ['empty', ['']],
  ['too_long', ['x'.repeat(MAX_CHANNEL_LENGTH + 1), '😀'.repeat(MAX_CHANNEL_LENGTH + 1), 'x'.repeat(10_000)]],
  ['control_character', ['\0', 'a\nb', 'a\rb', '\t', '\u007f', '\u0080', '\u009f', 'a\u0085:*']],
  ['asterisk', ['**', 'a*', '*a', 'a:**', 'a:*:b', '*:*', 'a:b*', ' *', 'user*:*']],
];

for (const [code, names] of REFUSED) {
  test(`a name that no channel can have is refused as ${code}, with what to do`, (t) => {
    for (const name of names) {
      for (const list of [[name], ['fine', name]]) {
        const error = t.throws(() => channelFilter(list), { instanceOf: ChannelError, code }, JSON.stringify(name));
        t.regex(error.message, /channel/i);
      }
    }
  });
}

test('the longest name counts characters, not UTF-16 units, as PostgreSQL does', (t) => {
  for (const name of ['x', 'é', '😀'].map((letter) => letter.repeat(MAX_CHANNEL_LENGTH))) {
    t.deepEqual(channelFilter([name]).channels, [name]);
  }
});
