/**
 * The model of the publish protocol: its rules, its states, and what its steps have in common.
 */
import type { Action } from './explore.js';

export interface Rules {
  /** The bell is released at any time after what is published is visible: before the marker or after it. */
  readonly publish: readonly (
    'readLow' | 'takeMarker' | 'draw' | 'ask' | 'tryBell' | 'becomeVisible' | 'releaseMarker'
  )[];
  /** After a first read has found a gap. */
  readonly atGap: readonly ('readLast' | 'readMarkers' | 'readAnew' | 'useFirstRead')[];
  readonly headMovesTo: 'rows' | 'settled';
  /** Where a relay is told to look; it begins anew where it finds the bell or a marker held. */
  readonly settle: readonly ('look' | 'readBell' | 'readLast' | 'readMarkers' | 'lookAgain')[];
  /**
   * At what a relay at rest glances once in a while: it looks where that is above its head, or held. It mends what a lost
   * wake-up costs, so it is left out where none is to be lost.
   */
  readonly glance: readonly ('last' | 'markers')[];
  readonly goToSleep: readonly ('giveBack' | 'readLast' | 'readMarkers' | 'look' | 'tell' | 'sleep')[];
  /** Of relays that are told "asleep", those look. */
  readonly asleepWakes: 'all' | 'following';
  /** What a relay becomes that goes to sleep, where another has said that it is awake. */
  readonly sleepsBesideOthers: 'asleep' | 'following';
  /** When a relay that follows may hear nothing for a while: at any time, or where nobody is awake or about to be. */
  readonly silence: 'ever' | 'true';
  readonly prune: readonly ('choose' | 'readLast' | 'readMarkers' | 'raiseFloor')[];
}

export const RULES: Rules = {
  publish: ['readLow', 'takeMarker', 'draw', 'ask', 'tryBell', 'becomeVisible', 'releaseMarker'],
  atGap: ['readLast', 'readMarkers', 'readAnew'],
  headMovesTo: 'rows',
  settle: ['look', 'readBell', 'readLast', 'readMarkers', 'lookAgain'],
  glance: [],
  goToSleep: ['giveBack', 'readLast', 'readMarkers', 'look', 'tell', 'sleep'],
  asleepWakes: 'all',
  sleepsBesideOthers: 'following',
  silence: 'true',
  prune: ['choose', 'readLast', 'readMarkers', 'raiseFloor'],
};

export type View = 'reading' | 'waking';

/** How much happens: all that is not bounded here is bounded by the number of states that it makes. */
export interface Size {
  readonly publishers: number;
  /** Publications of each. */
  readonly publications: number;
  readonly relays: number;
  /** Of PostgreSQL, in `reading`. */
  readonly crashes: number;
  /** In `reading`. */
  readonly prunings: number;
  /** Sessions that are lost: in `reading` with the relay's memory, which so begins anew. */
  readonly losses: number;
  /** Whether a publisher may be aborted that has the bell. */
  readonly mayRingersAbort: boolean;
}

/** Positions are numbers from 1 on; sets of them have bit n - 1 for position n. */
type Positions = number;
export const NONE = 0;

export interface Publisher {
  /** Which step of `publish` comes next; 0: not committing. */
  readonly at: number;
  /** The highest position that had ever been visible when it began. */
  readonly after: number;
  readonly low: number;
  readonly hasMarker: boolean;
  readonly position: number;
  /** Asked, and not been sent away: until it has rung. */
  readonly rings: boolean;
  readonly hasBell: boolean;
  readonly isVisible: boolean;
  readonly left: number;
}

export const DOINGS = ['nothing', 'reading', 'starting', 'goingToSleep', 'wakingUp'] as const;
export const MODES = ['asleep', 'awake', 'following'] as const;

export interface Relay {
  readonly head: number;
  /** What it is at, and which step of it comes next. */
  readonly doing: (typeof DOINGS)[number];
  readonly at: number;
  /** What it has read on the way. */
  readonly last: number;
  readonly marker: number;
  readonly firstRead: Positions;
  /** Rows above its head wait for a commit, and it looks again. */
  readonly isHeld: boolean;
  /** Which step of `settle` comes next, from 1 on; 0: it is at rest; and what it has read on the way. */
  readonly settling: number;
  readonly asked: number;
  readonly mode: (typeof MODES)[number];
  readonly hasLock: boolean;
  /** Another has said that it is awake, and not yet that it is asleep. */
  readonly knowsAwake: boolean;
  /** Notifications under way to it, a letter each: r(ing), w (awake), s (asleep). */
  readonly inbox: string;
}

export interface Pruning {
  readonly at: number;
  readonly through: number;
  readonly last: number;
  readonly marker: number;
  readonly rows: Positions;
  readonly left: number;
}

export interface State {
  readonly publishers: readonly Publisher[];
  readonly relays: readonly Relay[];
  /** The sequence's last value. */
  readonly drawn: number;
  readonly visible: Positions;
  /** The highest position that was ever visible. */
  readonly highest: number;
  readonly floor: number;
  readonly pruning: Pruning;
  readonly crashesLeft: number;
  readonly lossesLeft: number;
  readonly broken: string | undefined;
}

export const IDLE: Publisher = {
  at: 0,
  after: 0,
  low: 0,
  hasMarker: false,
  position: 0,
  rings: false,
  hasBell: false,
  isVisible: false,
  left: 0,
};

export const QUIET = { doing: 'nothing', at: 0, last: 0, marker: 0, firstRead: NONE } as const;
export const ASLEEP: Relay = {
  ...QUIET,
  head: 0,
  isHeld: false,
  settling: 0,
  asked: 0,
  mode: 'asleep',
  hasLock: false,
  knowsAwake: false,
  inbox: '',
};
export const SETTLED = { settling: 0, asked: 0 } as const;
export const NOT_PRUNING = { at: 0, through: 0, last: 0, marker: 0, rows: NONE } as const;

/** Notifications of which no more are under way to one relay, but for repeated ones. */
const MOST_NOTIFICATIONS = 3;

export const bit = (position: number): Positions => 1 << (position - 1);
export const has = (set: Positions, position: number) => (set & bit(position)) !== 0;
export const upTo = (position: number): Positions => (1 << position) - 1;
export const highestOf = (set: Positions) => 32 - Math.clz32(set);

function replace<T>(list: readonly T[], index: number, change: Partial<T>): T[] {
  return list.map((item, n) => (n === index ? { ...item, ...change } : item));
}

export const withPublisher = (state: State, who: number, change: Partial<Publisher>): State => ({
  ...state,
  publishers: replace(state.publishers, who, change),
});

export const withRelay = (state: State, who: number, change: Partial<Relay>): State => ({
  ...state,
  relays: replace(state.relays, who, change),
});

export const at = <T>(list: readonly T[], index: number): T => {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item ${index}`);
  return item;
};

/** No marker is held. */
const ALL = 15;

/** The least of the markers that are held. */
export const leastMarker = ({ publishers }: State) =>
  publishers.reduce((least, { hasMarker, low }) => (hasMarker ? Math.min(least, low) : least), ALL);

export const isBellTaken = ({ publishers }: State) => publishers.some(({ hasBell }) => hasBell);

/** How far `rows` are whole from `head` on, given what is settled. */
export function wholeThrough(rows: Positions, head: number, settled: number): number {
  let through = head;
  for (let position = head + 1; position <= highestOf(rows); position += 1) {
    if (has(rows, position)) through = position;
    else if (position > settled) break;
  }
  return through;
}

/** Moves a relay's head over the rows that it has read; whoever moves it over others breaks the promise. */
export function deliver(state: State, who: number, rows: Positions, to: number): State {
  const { head } = at(state.relays, who);
  const passed = state.visible & ~rows & upTo(to) & ~upTo(head);
  const next = withRelay(state, who, { head: to, isHeld: highestOf(rows) > to });
  return passed === NONE ? next : { ...next, broken: `relay ${who + 1} passed by position ${highestOf(passed)}` };
}

/** A snapshot of its own: its relay's clients are reset where rows were deleted before it read them. */
export function read(state: State, who: number, settled: number): State {
  const { head } = at(state.relays, who);
  if (state.floor > head) return read(withRelay(state, who, { head: state.floor }), who, settled);
  return deliver(state, who, state.visible, wholeThrough(state.visible, head, settled));
}

/** Reads in one step what there is to be read. */
export const look = (state: State, who: number) => read(state, who, Math.min(state.drawn, leastMarker(state)));

/** To all relays that LISTEN but `sender`; undefined: more are under way than the model takes. */
export function notify(state: State, letter: 'r' | 'w' | 's', sender?: number): State | undefined {
  const relays = state.relays.map((relay, who) => {
    const { inbox } = relay;
    // Two of a kind in a row do what one does: all that they tell of has happened.
    if (who === sender || isCutOff(relay) || inbox.endsWith(letter)) return relay;
    return { ...relay, inbox: inbox + letter };
  });
  return relays.some(({ inbox }) => inbox.length > MOST_NOTIFICATIONS) ? undefined : { ...state, relays };
}

const isCutOff = ({ doing, at }: Relay) => doing === 'starting' && at === 0;

export const some = <T>(item: T | undefined): T[] => (item === undefined ? [] : [item]);

/** An action of relays that are at a step of what they do. */
export function atStep(
  words: string,
  { relays }: Size,
  when: (relay: Relay, state: State) => boolean,
  next: (state: State, who: number, relay: Relay) => State | undefined,
): Action<State> {
  return {
    words,
    actors: relays,
    next(state, who) {
      const relay = at(state.relays, who);
      return when(relay, state) ? some(next(state, who, relay)) : [];
    },
  };
}
