/**
 * What every engine's log keeps to, whatever is behind it. Calls are made again where they fail, as every feeder and relay has to.
 */
import { createHash } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import type { Beat, EngineLog, FeederQuestions, LoggedEntry } from '../../src/engine/engine-log.js';
import type { Begin, Entry, Evict, Origin, Restart, Run } from '../../src/engine/entry.js';
import { patiently } from './feed-conformance.js';

/** A log that is empty, and those who connect to it. */
export interface EngineLogStage {
  /** Connects once more to the same log. */
  open(): Promise<EngineLog>;
  /** Puts bytes at its end that no feeder has made. */
  inject(bytes: Uint8Array): Promise<void>;
}

/** Time to wait for what goes out live, any of which may be lost, before the next is sent. */
const AGAIN_MS = 50;

const ORIGIN: Origin = { epoch: 'e1', system: '7312345678901234567', timeline: 1, wal: 1n, state: '7:9:8' };
const FLOOR = { position: 0n, id: '0' };

export function beginAt(position: bigint, origin: Partial<Origin> = {}): Begin {
  return { ...ORIGIN, ...origin, kind: 'begin', at: { position, id: String(position) } };
}

/** A run with an event at each position of `(prev, last]`, and `bytes` in each frame. */
export function runOf(prev: bigint, last: bigint, bytes = 10, origin: Partial<Origin> = {}): Run {
  const events = Array.from({ length: Number(last - prev) }, (_, index) => {
    const position = prev + BigInt(index) + 1n;
    return {
      position,
      id: String(position),
      channel: `c:ü${index}`,
      createdAt: 1.5e12 + index,
      kind: 'text' as const,
      frame: Buffer.alloc(bytes, 'x'),
    };
  });
  return { ...ORIGIN, ...origin, kind: 'run', prev, last: { position: last, id: String(last) }, floor: FLOOR, events };
}

function restartAt(position: bigint, epoch: string): Restart {
  return { ...ORIGIN, kind: 'restart', epoch, at: { position, id: String(position) }, reason: 'unknown' };
}

function evictAt(position: bigint): Evict {
  const last = { position, id: String(position) };
  return { ...ORIGIN, kind: 'evict', last, redacted: [2n, 1n], redactedThrough: 1n, floor: FLOOR };
}

/** Appends until it is known to be there. No other may append meanwhile, and no two entries may have the same `wal`. */
async function append(log: EngineLog, entry: Entry): Promise<bigint> {
  return patiently(async () => {
    const tip = await log.tip();
    if (tip.unreadable === 0 && tip.entry?.wal === entry.wal) return tip.sequence;
    const sequence = await log.append(entry, tip.sequence);
    if (sequence === undefined) throw new Error('another has appended');
    return sequence;
  });
}

/** Appends one after another; each has a `wal` of its own. */
async function appendAll(log: EngineLog, entries: readonly Entry[]): Promise<LoggedEntry[]> {
  const logged: LoggedEntry[] = [];
  for (const given of entries) {
    const entry = { ...given, wal: BigInt(logged.length + 100) };
    logged.push({ sequence: await append(log, entry), entry });
  }
  return logged;
}

/** Reads until `last` is read: a replica may lag. */
async function readThrough(log: EngineLog, after: bigint, last: bigint): Promise<LoggedEntry[]> {
  const read: LoggedEntry[] = [];
  for (let at = after; at < last;) {
    const page = await patiently(() => log.read(at));
    read.push(...page);
    at = page.at(-1)?.sequence ?? at;
  }
  return read;
}

/** What is compared of entries: frames by their digests, as to show how large ones differ takes minutes. */
function told(entries: readonly LoggedEntry[]): unknown {
  return entries.map(({ sequence, entry }) => {
    if (entry?.kind !== 'run') return { sequence, entry };
    const events = entry.events.map(({ frame, ...event }) => ({
      ...event,
      frame: frame && `${frame.length} ${createHash('sha256').update(frame).digest('hex')}`,
    }));
    return { sequence, entry: { ...entry, events } };
  });
}

/** Declares the suite. */
export function declareEngineLogSuite(name: string, make: (t: ExecutionContext) => Promise<EngineLogStage>): void {
  const ending = (entries: readonly LoggedEntry[]) => entries.at(-1)?.sequence ?? 0n;

  test(`${name}: an empty log has no tip and nothing to read`, async (t) => {
    const log = await (await make(t)).open();
    t.deepEqual(await patiently(() => log.tip()), { sequence: 0n, entry: undefined, unreadable: 0 });
    t.deepEqual(await patiently(() => log.read(0n)), []);
    t.is(await patiently(() => log.find(5n)), 0n);
  });

  test(`${name}: entries of every kind are read as they were appended, in order, from anywhere`, async (t) => {
    const stage = await make(t);
    const log = await stage.open();
    const [first, ...rest] = runOf(5n, 8n).events;
    const odd: Run = {
      ...runOf(5n, 8n),
      events: [{ ...first, frame: undefined }, { ...rest[0], frame: Buffer.alloc(0) }, rest[1]] as Run['events'],
    };
    const large = Array.from({ length: 12 }, (_, index) => {
      const prev = 8n + BigInt(index) * 4n;
      return runOf(prev, prev + 4n, 100_000);
    });
    const all = [beginAt(0n), runOf(0n, 5n), odd, ...large, evictAt(56n), restartAt(3n, 'e2')];
    const logged = await appendAll(log, all);
    t.true(logged.every(({ sequence }, index) => index === 0 || sequence > (logged[index - 1]?.sequence ?? 0n)));
    const other = await stage.open();
    for (const from of [0, 1, 2, all.length - 1]) {
      const after = logged[from - 1]?.sequence ?? 0n;
      t.deepEqual(told(await readThrough(other, after, ending(logged))), told(logged.slice(from)));
    }
    t.deepEqual(await patiently(() => other.read(ending(logged))), []);
    const tip = await patiently(() => other.tip());
    t.deepEqual(tip, { ...logged.at(-1), unreadable: 0 } as typeof tip);
  });

  test(`${name}: an append that expects another sequence than the newest appends nothing`, async (t) => {
    const stage = await make(t);
    const log = await stage.open();
    const logged = await appendAll(log, [beginAt(0n), runOf(0n, 2n)]);
    for (const wrong of [0n, ...logged.slice(0, -1).map(({ sequence }) => sequence), ending(logged) + 1n]) {
      t.is(await patiently(() => log.append(runOf(2n, 3n), wrong)), undefined, String(wrong));
    }
    t.deepEqual(await readThrough(log, 0n, ending(logged)), logged);
    t.is((await patiently(() => log.tip())).sequence, ending(logged));
  });

  test(`${name}: of several who expect the same sequence one appends`, async (t) => {
    const stage = await make(t);
    const logs = await Promise.all(Array.from({ length: 4 }, () => stage.open()));
    const [log] = logs as [EngineLog];
    let at = ending(await appendAll(log, [beginAt(0n)]));
    for (let round = 0n; round < 10n; round += 1n) {
      const appended = await Promise.allSettled(
        logs.map((one, index) => one.append(runOf(round, round + 1n, index + 1), at)),
      );
      const sequences = appended.flatMap((one) => (one.status === 'fulfilled' && one.value ? [one.value] : []));
      t.true(sequences.length <= 1, sequences.join());
      const tip = await patiently(() => log.tip());
      // None, where each call was lost on its way.
      if (tip.sequence === at) {
        round -= 1n;
        continue;
      }
      for (const sequence of sequences) t.is(sequence, tip.sequence);
      t.is((await readThrough(log, at, tip.sequence)).length, 1);
      at = tip.sequence;
    }
  });

  test(`${name}: whoever looks for a position reads all that follows it`, async (t) => {
    const log = await (await make(t)).open();
    const runs = Array.from({ length: 9 }, (_, index) => runOf(BigInt(index) * 3n, BigInt(index) * 3n + 3n));
    const later = [restartAt(10n, 'e2'), runOf(10n, 14n, 10, { epoch: 'e2' }), runOf(14n, 15n, 10, { epoch: 'e2' })];
    const logged = await appendAll(log, [beginAt(0n), ...runs, ...later]);
    const newest = logged.slice(-later.length);
    for (let position = 10n; position <= 16n; position += 1n) {
      const found = await patiently(() => log.find(position));
      const passed = newest.filter(({ sequence }) => sequence <= found);
      t.true(
        passed.every(({ entry }) => entry?.kind !== 'run' || entry.last.position <= position),
        `${position}`,
      );
      const next = newest.find(({ sequence }) => sequence > found)?.entry;
      t.true(
        next === undefined || next.kind !== 'run' || next.last.position > position,
        `from not too far: ${position}`,
      );
    }
    t.true((await patiently(() => log.find(3n))) < (newest[0]?.sequence ?? 0n), 'what came before the newest history');
  });

  test(`${name}: what is erased is gone, and nothing else is`, async (t) => {
    const stage = await make(t);
    const log = await stage.open();
    const runs = Array.from({ length: 8 }, (_, index) => runOf(BigInt(index), BigInt(index) + 1n));
    const logged = await appendAll(log, [beginAt(0n), ...runs]);
    const [second, fifth] = [logged[2]?.sequence ?? 0n, logged[5]?.sequence ?? 0n];
    await patiently(() => log.erase([second, fifth]));
    await patiently(() => log.erase([second, fifth, ending(logged) + 100n]));
    const kept = logged.filter(({ sequence }) => sequence !== second && sequence !== fifth);
    t.deepEqual(await readThrough(log, 0n, ending(logged)), kept);
    for (let position = 0n; position < 8n; position += 1n) {
      const found = await patiently(() => log.find(position));
      const owed = kept.filter(({ entry }) => entry?.kind === 'run' && entry.prev >= position);
      const rest = await readThrough(log, found, ending(logged));
      t.true(
        owed.every(({ sequence }) => rest.some((one) => one.sequence === sequence)),
        `${position}`,
      );
    }
    await patiently(() => log.purge(fifth));
    t.deepEqual(
      await readThrough(log, 0n, ending(logged)),
      kept.filter(({ sequence }) => sequence > fifth),
    );
    await patiently(() => log.purge(ending(logged)));
    t.deepEqual(await patiently(() => log.tip()), { sequence: ending(logged), entry: undefined, unreadable: 0 });
    const next = await append(log, beginAt(8n, { wal: 1000n }));
    t.true(next > ending(logged), 'sequences go on');
  });

  test(`${name}: bytes that no feeder has made are no entry, and hide none`, async (t) => {
    const stage = await make(t);
    const log = await stage.open();
    const logged = await appendAll(log, [beginAt(0n), runOf(0n, 3n)]);
    await stage.inject(Buffer.from('{"kind":"run"}'));
    await stage.inject(Buffer.alloc(0));
    const tip = await patiently(() => log.tip());
    t.deepEqual(tip.entry, logged.at(-1)?.entry);
    t.is(tip.unreadable, 2);
    const last = await append(log, { ...runOf(3n, 4n), wal: 500n });
    const read = await readThrough(log, 0n, last);
    t.deepEqual(
      read.map(({ entry }) => entry?.kind),
      ['begin', 'run', undefined, undefined, 'run'],
    );
    t.true(
      (await readThrough(log, await patiently(() => log.find(3n)), last)).some(({ sequence }) => sequence === last),
    );
  });

  test(`${name}: entries go out live to whoever listens, until he stops`, async (t) => {
    const stage = await make(t);
    const [log, other] = [await stage.open(), await stage.open()];
    const heard: LoggedEntry[] = [];
    const stop = other.live((entry) => heard.push(entry));
    const logged = await appendAll(log, [beginAt(0n)]);
    // Any may be lost, and so not all.
    while (heard.length === 0) {
      const [prev, wal] = [BigInt(logged.length), BigInt(logged.length + 100)];
      const entry = { ...runOf(prev, prev + 1n), wal };
      logged.push({ sequence: await append(log, entry), entry });
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
    for (const one of heard) t.deepEqual(one, logged.find(({ sequence }) => sequence === one.sequence) ?? one);
    t.true(heard.every(({ sequence }) => logged.some((one) => one.sequence === sequence)));
    stop();
    const before = heard.length;
    await append(log, beginAt(1000n, { wal: 5000n }));
    await patiently(() => log.tip());
    t.is(heard.length, before, 'after it has been stopped');
  });

  test(`${name}: a beat is heard by all`, async (t) => {
    const stage = await make(t);
    const [log, other] = [await stage.open(), await stage.open()];
    const beat: Beat = { feeder: 'f1', position: 5n, sequence: 3n, wal: 2n ** 40n, isListening: true };
    let heard: (beat: Beat) => void = () => undefined;
    const first = new Promise<Beat>((resolve) => (heard = resolve));
    other.beats((one) => heard(one));
    const again = setInterval(() => void log.beat(beat).catch(() => undefined), AGAIN_MS);
    t.deepEqual(await first, beat);
    clearInterval(again);
  });

  test(`${name}: whoever asks is answered by a feeder, or told that none is there`, async (t) => {
    const stage = await make(t);
    const [log, other, relay] = [await stage.open(), await stage.open(), await stage.open()];
    const read = { position: 7n, id: '9', createdAt: 1.5e12 };
    const refusal = await t.throwsAsync(() => relay.feeders.isSameHistory(read));
    t.true(refusal instanceof Error);
    const answerer = { system: '7312345678901234567', timeline: 3, wal: 2n ** 41n };
    const changes = {
      state: '5:5:',
      redacted: [9n, 2n],
      redactedThrough: 1n,
      hasRedacted: true,
      floor: { position: 1n, id: '1' },
      isFloorMissing: false,
      ...answerer,
      sequence: 8n,
    };
    const asked: unknown[] = [];
    const questions: FeederQuestions = {
      changesSince: (state, above) => {
        asked.push([state, above]);
        return Promise.resolve(changes);
      },
      isSameHistory: (last) => {
        asked.push(last);
        return Promise.resolve({ ...answerer, isSame: last.position === 7n });
      },
    };
    const stops = [log.answer(questions), other.answer(questions)];
    t.deepEqual(await patiently(() => relay.feeders.changesSince(undefined, 3n)), changes);
    t.deepEqual(await patiently(() => relay.feeders.changesSince('4:4:', 3n)), changes);
    t.deepEqual(await patiently(() => relay.feeders.isSameHistory(read)), { ...answerer, isSame: true });
    const unread = { position: 6n, id: '9', createdAt: undefined };
    t.false((await patiently(() => relay.feeders.isSameHistory(unread))).isSame);
    for (const expected of [[undefined, 3n], ['4:4:', 3n], read, unread]) {
      t.true(
        asked.some((one) => isEqual(one, expected)),
        JSON.stringify(expected, (_, value: unknown) => String(value)),
      );
    }
    for (const stop of stops) stop();
    await t.throwsAsync(() => relay.feeders.changesSince(undefined, 3n));
    const failing: FeederQuestions = {
      changesSince: () => Promise.reject(new Error('no database')),
      isSameHistory: () => Promise.reject(new Error('no database')),
    };
    log.answer(failing);
    await t.throwsAsync(() => relay.feeders.changesSince(undefined, 3n));
  });

  test(`${name}: a connection that is closed twice does nothing any more`, async (t) => {
    const stage = await make(t);
    const [log, other] = [await stage.open(), await stage.open()];
    await log.close();
    await log.close();
    await t.throwsAsync(() => log.tip());
    await t.throwsAsync(() => log.append(beginAt(0n), 0n));
    t.is((await patiently(() => other.tip())).sequence, 0n);
    await append(other, beginAt(0n));
  });
}

function isEqual(one: unknown, other: unknown): boolean {
  const text = (value: unknown) =>
    JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? `${part}n` : (part ?? null)));
  return text(one) === text(other);
}
