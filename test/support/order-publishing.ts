/**
 * The model's publishers: migrations/1_outbox.sql.
 */
import type { Action } from './explore.js';
import {
  at,
  bit,
  IDLE,
  isBellTaken,
  notify,
  type Publisher,
  type Rules,
  type Size,
  some,
  type State,
  withPublisher,
} from './order-state.js';

function publish(rules: Rules, state: State, who: number): State | undefined {
  const publisher = at(state.publishers, who);
  if (publisher.left === 0) return undefined;
  const next: Publisher = { ...publisher, at: publisher.at + 1 };
  const step = at(rules.publish, publisher.at);
  const begun = publisher.at === 0 ? { ...next, after: state.highest } : next;
  const skipping = { ...begun, at: rules.publish[next.at] === 'tryBell' ? next.at + 1 : next.at };
  const after = ((): State | undefined => {
    switch (step) {
      case 'readLow':
        return withPublisher(state, who, { ...begun, low: state.drawn });
      case 'takeMarker':
        return withPublisher(state, who, { ...begun, hasMarker: true });
      case 'draw':
        return { ...withPublisher(state, who, { ...begun, position: state.drawn + 1 }), drawn: state.drawn + 1 };
      case 'ask':
        return state.relays.some(({ hasLock }) => hasLock)
          ? withPublisher(state, who, skipping)
          : withPublisher(state, who, { ...begun, rings: true });
      case 'tryBell':
        return withPublisher(state, who, { ...begun, rings: !isBellTaken(state), hasBell: !isBellTaken(state) });
      case 'becomeVisible':
        return becomeVisible(withPublisher(state, who, { ...begun, ...PUBLISHED }), begun);
      case 'releaseMarker':
        return withPublisher(state, who, { ...begun, hasMarker: false, low: 0 });
    }
  })();
  return after && endIfOver(rules, after, who);
}

/** What matters no more of a publisher is forgotten. */
const PUBLISHED = { isVisible: true, rings: false, position: 0, after: 0 } as const;

function endIfOver(rules: Rules, state: State, who: number): State {
  const publisher = at(state.publishers, who);
  return publisher.at === rules.publish.length && !publisher.hasBell ? end(state, who) : state;
}

function becomeVisible(state: State, { position, after, rings }: Publisher): State | undefined {
  const next = {
    ...state,
    visible: state.visible | bit(position),
    highest: Math.max(state.highest, position),
    broken: state.broken ?? whatBreaks(state, position, after),
  };
  return rings ? notify(next, 'r') : next;
}

/** What is broken by an event that becomes visible at a position. */
function whatBreaks({ relays, floor }: State, position: number, after: number): string | undefined {
  const late = relays.findIndex(({ head }) => head >= position);
  if (late >= 0) return `position ${position} became visible after relay ${late + 1} had read past it`;
  if (floor >= position) return `position ${position} became visible below the floor, ${floor}`;
  if (after >= position) return `position ${position} was given to an event that began after ${after} was visible`;
  return undefined;
}

/** Ends a publication: nothing of it is remembered. */
export const end = (state: State, who: number) =>
  withPublisher(state, who, { ...IDLE, left: at(state.publishers, who).left - 1 });

export function publishing(rules: Rules, { publishers, mayRingersAbort }: Size): Action<State>[] {
  const words: Record<Rules['publish'][number], string> = {
    readLow: 'publisher # reads the last position that was drawn',
    takeMarker: 'publisher # takes its marker',
    draw: 'publisher # draws a position',
    ask: 'publisher # asks whether somebody is awake',
    tryBell: 'publisher # tries to take the bell',
    becomeVisible: 'what publisher # has published becomes visible',
    releaseMarker: "publisher #'s marker is released",
  };
  const steps = rules.publish.map((step, index) => ({
    words: words[step],
    actors: publishers,
    next(state: State, who: number) {
      return at(state.publishers, who).at === index ? some(publish(rules, state, who)) : [];
    },
  }));
  const releaseBell = {
    words: "publisher #'s bell is released",
    actors: publishers,
    next(state: State, who: number) {
      const { isVisible, hasBell } = at(state.publishers, who);
      return isVisible && hasBell ? [endIfOver(rules, withPublisher(state, who, { hasBell: false }), who)] : [];
    },
  };
  const abort = {
    words: 'publisher # is aborted',
    actors: publishers,
    next(state: State, who: number) {
      const publisher = at(state.publishers, who);
      return publisher.at > 0 && !publisher.isVisible && (mayRingersAbort || !publisher.hasBell)
        ? [end(state, who)]
        : [];
    },
  };
  return [...steps, releaseBell, abort];
}
