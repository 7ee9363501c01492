/**
 * What feeders and relays say to each other beside the log: beats, questions and answers, as JSON
 * with a seal.
 */
import type { Beat, KnownChanges, FeederQuestions } from '../engine/engine-log.js';
import {
  count,
  cursor,
  flag,
  list,
  pair,
  readJson,
  record,
  text,
  time,
  whole,
  writtenTime,
} from '../engine/hostile-json.js';
import type { Seal } from '../engine/seal.js';
import type { LastRead } from '../outbox/feed.js';
import type { Question } from './subjects.js';

type SameHistory = Awaited<ReturnType<FeederQuestions['isSameHistory']>>;

/** A question as it is asked. */
export interface Asked {
  readonly state: string | undefined;
  readonly above: bigint;
}

export interface Messages {
  writeBeat(beat: Beat): Buffer;
  /** Undefined: it is none. */
  readBeat(bytes: Uint8Array): Beat | undefined;
  writeChangesQuestion(asked: Asked): Buffer;
  readChangesQuestion(bytes: Uint8Array): Asked | undefined;
  writeHistoryQuestion(read: LastRead): Buffer;
  readHistoryQuestion(bytes: Uint8Array): LastRead | undefined;
  /** @param to where the question wants its answer: no other question opens it. */
  writeChanges(changes: KnownChanges, to: string): Buffer;
  writeHistory(answer: SameHistory, to: string): Buffer;
  writeRefusal(reason: string, to: string): Buffer;
  /** @throws Error with the reason, where it is a refusal, or nothing that a feeder has written. */
  readChanges(bytes: Uint8Array, to: string): KnownChanges;
  readHistory(bytes: Uint8Array, to: string): SameHistory;
}

/** What each kind of message is sealed about, so that none is taken for another. */
const ABOUT_BEAT = Buffer.from('beat');
const aboutQuestion = (question: Question) => Buffer.from(`ask ${question}`);
const aboutAnswer = (to: string) => Buffer.from(`answer ${to}`);

export function createMessages(seal: Seal): Messages {
  const write = (value: unknown, about: Buffer) =>
    seal.close(
      [Buffer.from(JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part)))],
      about,
    );

  function read<T>(bytes: Uint8Array, about: Buffer, from: (value: unknown) => T): T | undefined {
    const body = seal.open(bytes, about);
    return body && readJson(body, from);
  }

  function readAnswer<T>(bytes: Uint8Array, to: string, from: (value: unknown) => T): T {
    const answer = read(bytes, aboutAnswer(to), (value) => {
      const { refusal } = record(value);
      return refusal === undefined ? { value: from(value) } : { refusal: text(refusal) };
    });
    if (answer === undefined) throw new Error('an answer that no feeder with this NATS_SECRET and version has written');
    if ('refusal' in answer) throw new Error(`a feeder cannot answer: ${answer.refusal}`);
    return answer.value;
  }

  return {
    writeBeat: (beat) => write(beat, ABOUT_BEAT),
    readBeat: (bytes) => read(bytes, ABOUT_BEAT, beatIn),
    writeChangesQuestion: (asked) => write(asked, aboutQuestion('changes')),
    readChangesQuestion: (bytes) =>
      read(bytes, aboutQuestion('changes'), (value) => {
        const { state, above } = record(value);
        return { state: state === undefined ? undefined : text(state), above: whole(above) };
      }),
    writeHistoryQuestion: ({ position, id, createdAt }) =>
      write(
        { at: pair({ position, id }), createdAt: createdAt === undefined ? undefined : writtenTime(createdAt) },
        aboutQuestion('history'),
      ),
    readHistoryQuestion: (bytes) =>
      read(bytes, aboutQuestion('history'), (value): LastRead => {
        const { at, createdAt } = record(value);
        return { ...cursor(at), createdAt: createdAt === undefined ? undefined : time(createdAt) };
      }),
    writeChanges: (changes, to) => write({ ...changes, floor: pair(changes.floor) }, aboutAnswer(to)),
    writeHistory: (answer, to) => write(answer, aboutAnswer(to)),
    writeRefusal: (refusal, to) => write({ refusal }, aboutAnswer(to)),
    readChanges: (bytes, to) => readAnswer(bytes, to, changesIn),
    readHistory: (bytes, to) =>
      readAnswer(bytes, to, (value) => ({ ...answererIn(value), isSame: flag(record(value)['isSame']) })),
  };
}

function beatIn(value: unknown): Beat {
  const { feeder, position, sequence, wal, isListening } = record(value);
  return {
    feeder: text(feeder),
    position: whole(position),
    sequence: whole(sequence),
    wal: whole(wal),
    isListening: flag(isListening),
  };
}

function answererIn(value: unknown) {
  const { system, timeline, wal } = record(value);
  return { system: text(system), timeline: count(timeline), wal: whole(wal) };
}

function changesIn(value: unknown): KnownChanges {
  const { state, redacted, redactedThrough, hasRedacted, floor, isFloorMissing, sequence } = record(value);
  return {
    ...answererIn(value),
    state: text(state),
    redacted: list(redacted).map(whole),
    redactedThrough: whole(redactedThrough),
    hasRedacted: flag(hasRedacted),
    floor: cursor(floor),
    isFloorMissing: flag(isFloorMissing),
    sequence: whole(sequence),
  };
}
