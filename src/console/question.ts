/**
 * What the console asks of each process of a relay, and what one answers, as JSON. With WORKERS it
 * is asked of all, and the answers are put together by whoever asked.
 */
import type { Obstacle } from '../feed/readiness.js';
import type { ChannelSelection, Sort, SurveyAnswer } from '../stream/survey.js';
import type { StreamStates } from '../stream/streams.js';

export interface ConnectionQuestion {
  readonly sort: Sort;
  /** A channel or a pattern; undefined: all connections. */
  readonly channel?: string | undefined;
  readonly limit: number;
}

export interface Question {
  readonly overview?: true;
  /** Refusals that are newer than this stamp. */
  readonly refusalsAfter?: number;
  readonly connections?: readonly ConnectionQuestion[];
  readonly channels?: readonly ChannelSelection[];
  /** How far its readers are with the event of that id. */
  readonly delivered?: string;
}

export interface OverviewAnswer {
  readonly uptimeSeconds: number;
  readonly ready: boolean;
  readonly reasons: readonly (Pick<Obstacle, 'code' | 'process'> & { readonly since: string })[];
  readonly head: { readonly id: string; readonly position: string };
  readonly states: StreamStates;
  readonly totals: Totals;
  /** Of events in the last second, from the smallest, in ms; a sample where there were many. */
  readonly latenciesMs: readonly number[];
  readonly memory: {
    readonly heapBytes: number;
    readonly rssBytes: number;
    readonly windowBytes: number;
    readonly replayBytes: number;
  };
  readonly eventLoopDelayMs: number | null;
}

/** Sums since the start. */
export interface Totals {
  readonly events: number;
  readonly deliveries: number;
  readonly bytes: number;
  readonly refusals: number;
}

export interface NotedRefusal {
  /** Which it is, for ever. */
  readonly n: number;
  /** Grows with each refusal: where an entry has counted one more, it has a new one. */
  readonly stamp: number;
  /** When it came last. */
  readonly at: string;
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly method: string;
  readonly path: string;
  readonly address: string;
  readonly origin: string | null;
  readonly count: number;
}

export interface Answer extends Partial<SurveyAnswer> {
  readonly overview?: OverviewAnswer;
  readonly refusals?: readonly NotedRefusal[];
  /** False: the event whose readers were asked for is not known. */
  readonly isKnown?: boolean;
}

/** All processes of a relay. */
export interface Peers {
  readonly count: number;
  ask(question: Question): Promise<Gathered>;
}

export interface Gathered {
  readonly answers: readonly Answer[];
  /** How many have not answered in time. */
  readonly missing: number;
}

/** Answers for one process. */
export type Answerer = (question: Question) => Promise<Answer>;

/** A relay of one process. */
export function alone(answer: Answerer): Peers {
  return { count: 1, ask: async (question) => ({ answers: [await answer(question)], missing: 0 }) };
}
