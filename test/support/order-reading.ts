/**
 * The model's relays where they read in small steps, and who prunes, and crashes.
 */
import type { Action } from './explore.js';
import { end } from './order-publishing.js';
import {
  ASLEEP,
  at,
  atStep,
  deliver,
  has,
  highestOf,
  leastMarker,
  NONE,
  NOT_PRUNING,
  type Pruning,
  QUIET,
  read,
  type Relay,
  type Rules,
  type Size,
  type State,
  upTo,
  wholeThrough,
  withRelay,
} from './order-state.js';

export function reading(rules: Rules, size: Size): Action<State>[] {
  const first = atStep(
    'relay # reads what follows its head',
    size,
    ({ doing }) => doing === 'nothing',
    (state, who) => {
      const after = read(state, who, 0);
      if (!at(after.relays, who).isHeld) return after;
      const firstRead = rules.atGap.includes('useFirstRead') ? state.visible : NONE;
      return withRelay(after, who, { doing: 'reading', at: 0, firstRead, isHeld: false });
    },
  );
  return [
    first,
    ...rules.atGap.map((step, index) =>
      atStep(
        AT_GAP_WORDS[step],
        size,
        (relay) => relay.doing === 'reading' && relay.at === index,
        (state, who, relay) => {
          switch (step) {
            case 'readLast':
              return withRelay(state, who, { at: index + 1, last: state.drawn });
            case 'readMarkers':
              return withRelay(state, who, { at: index + 1, marker: leastMarker(state) });
            default:
              return finishReading(rules, state, who, relay);
          }
        },
      ),
    ),
    ...starting(size),
    ...pruning(rules),
    crash(size),
  ];
}

const AT_GAP_WORDS: Record<Rules['atGap'][number], string> = {
  readLast: 'relay #, at a gap, reads the last position that was drawn',
  readMarkers: 'relay # reads the markers that are held',
  readAnew: 'relay # reads anew what follows its head',
  useFirstRead: 'relay # takes what it has read at first',
};

function finishReading(rules: Rules, state: State, who: number, { last, marker, firstRead, head }: Relay): State {
  const settled = Math.min(last, marker);
  const after = rules.atGap.includes('useFirstRead')
    ? deliver(state, who, firstRead, wholeThrough(firstRead, head, settled))
    : read(state, who, settled);
  const moved = at(after.relays, who).head;
  return withRelay(after, who, {
    ...QUIET,
    isHeld: false,
    head: rules.headMovesTo === 'settled' ? Math.max(moved, settled) : moved,
  });
}

/** A relay that dies, and one that starts: its head is the newest event that is settled. */
function starting(size: Size): Action<State>[] {
  const isAt = (step: number) => (relay: Relay) => relay.doing === 'starting' && relay.at === step;
  return [
    atStep(
      'relay # dies, and another starts in its place',
      size,
      (_, { lossesLeft }) => lossesLeft > 0,
      (state, who) => ({
        ...withRelay(state, who, { ...ASLEEP, doing: 'starting' }),
        lossesLeft: state.lossesLeft - 1,
      }),
    ),
    atStep('relay #, starting, reads the last position that was drawn', size, isAt(0), (state, who) =>
      withRelay(state, who, { at: 1, last: state.drawn }),
    ),
    atStep('relay # reads the markers that are held', size, isAt(1), (state, who) =>
      withRelay(state, who, { at: 2, marker: leastMarker(state) }),
    ),
    atStep('relay # begins after the newest event that is settled', size, isAt(2), (state, who, { last, marker }) =>
      withRelay(state, who, {
        ...QUIET,
        head: Math.max(state.floor, highestOf(state.visible & upTo(Math.min(last, marker)))),
      }),
    ),
  ];
}

const PRUNE_WORDS: Record<Rules['prune'][number], string> = {
  choose: 'somebody begins to delete the events of a snapshot up to one of them',
  readLast: 'who deletes reads the last position that was drawn',
  readMarkers: 'who deletes reads the markers that are held',
  raiseFloor: 'the events are deleted and the floor is raised',
};

export function pruning(rules: Rules): Action<State>[] {
  return rules.prune.map((step, index) => ({
    words: PRUNE_WORDS[step],
    actors: 1,
    next(state) {
      const { pruning } = state;
      if (pruning.at !== index || pruning.left === 0) return [];
      const go = (change: Partial<Pruning>): State => ({ ...state, pruning: { ...pruning, at: index + 1, ...change } });
      switch (step) {
        case 'choose': {
          const targets = Array.from({ length: highestOf(state.visible) }, (_, n) => n + 1);
          return targets
            .filter((through) => has(state.visible, through))
            .map((through) => go({ through, rows: state.visible & upTo(through) }));
        }
        case 'readLast':
          return [go({ last: state.drawn })];
        case 'readMarkers': {
          const isSettled = Math.min(pruning.last, leastMarker(state)) >= pruning.through;
          return [go(isSettled ? { last: 0 } : { at: rules.prune.indexOf('readLast'), last: 0 })];
        }
        case 'raiseFloor':
          return [
            {
              ...go({ ...NOT_PRUNING, left: pruning.left - 1 }),
              visible: state.visible & ~pruning.rows,
              floor: pruning.through,
            },
          ];
      }
    },
  }));
}

/** What is not visible is gone, and the sequence may have fallen back to what is. Relays find their history as it was. */
function crash({ relays }: Size): Action<State> {
  return {
    words: 'PostgreSQL crashes, and starts again',
    actors: 1,
    next(state) {
      if (state.crashesLeft === 0) return [];
      let after: State = {
        ...state,
        crashesLeft: state.crashesLeft - 1,
        pruning: { ...state.pruning, ...NOT_PRUNING },
      };
      state.publishers.forEach(({ at }, who) => {
        if (at > 0) after = end(after, who);
      });
      for (let who = 0; who < relays; who += 1) {
        const { doing } = at(after.relays, who);
        after = withRelay(after, who, doing === 'starting' ? { ...QUIET, doing } : QUIET);
      }
      const lasts = Array.from({ length: state.drawn - state.highest + 1 }, (_, n) => state.highest + n);
      return lasts.map((drawn) => ({ ...after, drawn }));
    },
  };
}
