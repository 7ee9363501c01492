/**
 * The model's relays where they read when they are told to: src/feed/awake.ts.
 */
import type { Action } from './explore.js';
import {
  ASLEEP,
  at,
  atStep,
  isBellTaken,
  leastMarker,
  look,
  notify,
  QUIET,
  type Relay,
  type Rules,
  SETTLED,
  type Size,
  type State,
  withRelay,
} from './order-state.js';

export function waking(rules: Rules, size: Size): Action<State>[] {
  const isIdle = (mode: Relay['mode']) => (relay: Relay) => relay.doing === 'nothing' && relay.mode === mode;
  const isLockFree = ({ relays }: State) => !relays.some(({ hasLock }) => hasLock);
  const wake = { ...QUIET, ...SETTLED, doing: 'wakingUp' } as const;
  return [
    atStep(
      'relay # hears a notification',
      size,
      ({ inbox }) => inbox !== '',
      (state, who) => hear(rules, state, who),
    ),
    atStep(
      'relay # looks by itself',
      size,
      ({ doing, mode, isHeld }) => (mode !== 'asleep' || isHeld) && doing !== 'starting',
      look,
    ),
    ...settling(rules, size),
    atStep(
      'relay # glances at what is settled, and looks',
      size,
      (relay, state) => isIdle('asleep')(relay) && relay.settling === 0 && isStartled(rules, state, relay),
      (state, who) => beginSettling(rules, state, who),
    ),
    atStep('relay # is rung often and begins to wake up', size, isIdle('asleep'), (state, who) =>
      withRelay(state, who, wake),
    ),
    atStep(
      'relay #, following, hears nothing for a while and begins to wake up',
      size,
      (relay, state) => isIdle('following')(relay) && (rules.silence === 'ever' || isSilent(state, relay)),
      (state, who) => withRelay(state, who, { ...wake, knowsAwake: false }),
    ),
    atStep(
      'relay # says that it is awake',
      size,
      ({ doing, at }) => doing === 'wakingUp' && at === 0,
      (state, who) => notify(withRelay(state, who, { at: 1 }), 'w', who),
    ),
    atStep(
      'relay # takes the lock, or follows who has it',
      size,
      ({ doing, at }) => doing === 'wakingUp' && at === 1,
      (state, who) =>
        withRelay(
          state,
          who,
          isLockFree(state) ? { ...QUIET, mode: 'awake', hasLock: true } : { ...QUIET, mode: 'following' },
        ),
    ),
    atStep(
      'relay # finds a publisher at the lock that asks for it, and follows',
      size,
      ({ doing, at }, { publishers }) =>
        doing === 'wakingUp' && at === 1 && publishers.some(({ at }) => rules.publish[at] === 'ask'),
      (state, who) => withRelay(state, who, { ...QUIET, mode: 'following' }),
    ),
    atStep('relay # says again that it is awake', size, isIdle('awake'), (state, who) => notify(state, 'w', who)),
    ...rules.goToSleep.map((step, index) =>
      atStep(
        SLEEP_WORDS[step],
        size,
        (relay) => (index === 0 ? isIdle('awake')(relay) : relay.doing === 'goingToSleep' && relay.at === index),
        (state, who, { last, knowsAwake }) => {
          const next = withRelay(state, who, { doing: 'goingToSleep', at: index + 1 });
          switch (step) {
            case 'giveBack':
              return withRelay(next, who, { hasLock: false });
            case 'readLast':
              return withRelay(next, who, { last: state.drawn });
            case 'readMarkers':
              return withRelay(next, who, leastMarker(state) <= last ? wake : { last: 0 });
            case 'look':
              return beginSettling(rules, next, who);
            case 'tell':
              return notify(next, 's', who);
            case 'sleep':
              return knowsAwake && rules.sleepsBesideOthers === 'following'
                ? follow(withRelay(next, who, QUIET), who)
                : withRelay(next, who, { ...QUIET, mode: 'asleep' });
          }
        },
      ),
    ),
    ...reconnecting(rules, size, isLockFree),
  ];
}

/** Whether a glance finds that a relay is to look. */
export const isStartled = ({ glance }: Rules, state: State, { head }: Relay) =>
  (glance.includes('last') && state.drawn > head) || (glance.includes('markers') && leastMarker(state) <= state.drawn);

/**
 * Looks, and goes on with the step after that. A relay does not where it is certain to begin anew
 * before it is asleep: what it leaves out it could only find the sooner by.
 */
function beginSettling({ settle }: Rules, state: State, who: number): State {
  const { mode, doing } = at(state.relays, who);
  const goesOn = settle.length > 1 && (doing === 'goingToSleep' || (mode === 'asleep' && doing === 'nothing'));
  return look(withRelay(state, who, { ...SETTLED, settling: goesOn ? 2 : 0 }), who);
}

const SETTLE_WORDS: Record<Rules['settle'][number], string> = {
  look: 'relay # looks again',
  readBell: 'relay # asks whether somebody has the bell',
  readLast: 'relay #, having looked, reads the last position that was drawn',
  readMarkers: 'relay #, having looked, reads the markers that are held',
  lookAgain: 'relay # looks for the last time',
};

function settling(rules: Rules, size: Size): Action<State>[] {
  return rules.settle.map((step, index) =>
    atStep(
      SETTLE_WORDS[step],
      size,
      (relay) => relay.settling === index + 1,
      (state, who, { asked, head }) => {
        const next = index + 1 < rules.settle.length ? index + 2 : 0;
        switch (step) {
          case 'look':
            return beginSettling(rules, state, who);
          case 'readBell':
            return withRelay(state, who, { settling: isBellTaken(state) ? 1 : next });
          case 'readLast':
            return withRelay(state, who, { settling: next, asked: state.drawn });
          case 'readMarkers':
            if (leastMarker(state) <= asked) return withRelay(state, who, { ...SETTLED, settling: 1 });
            return withRelay(state, who, { ...SETTLED, settling: asked > head ? next : 0 });
          case 'lookAgain':
            return look(withRelay(state, who, { settling: next }), who);
        }
      },
    ),
  );
}

/** Whether nobody else is awake or about to be, and nobody has said so. */
const isSilent = ({ relays }: State, follower: Relay) =>
  follower.inbox === '' &&
  relays.every((relay) => relay === follower || !(relay.hasLock || (relay.doing === 'wakingUp' && relay.at === 1)));

const SLEEP_WORDS: Record<Rules['goToSleep'][number], string> = {
  giveBack: 'relay # gives the lock back',
  readLast: 'relay # reads the last position that was drawn',
  readMarkers: 'relay # reads the markers that are held',
  look: 'relay # looks once more',
  tell: 'relay # says that it is asleep',
  sleep: 'relay # is asleep',
};

function hear(rules: Rules, state: State, who: number): State {
  const { inbox, mode } = at(state.relays, who);
  let after = withRelay(state, who, { inbox: inbox.slice(1) });
  switch (inbox[0]) {
    case 'w':
      after = withRelay(after, who, { knowsAwake: rules.sleepsBesideOthers === 'following' });
      return mode === 'asleep' ? follow(after, who) : after;
    case 's':
      after = withRelay(after, who, { knowsAwake: false });
      if (mode === 'following') return beginSettling(rules, withRelay(after, who, { mode: 'asleep' }), who);
      return rules.asleepWakes === 'all' ? beginSettling(rules, after, who) : after;
    default:
      return beginSettling(rules, after, who);
  }
}

/** Who starts has nothing more to find out. */
const follow = (state: State, who: number) =>
  withRelay(state, who, {
    ...SETTLED,
    mode: 'following',
    ...(at(state.relays, who).doing === 'starting' ? QUIET : {}),
  });

/** A session that is lost, with its lock and all that was under way to it; and another. */
function reconnecting(rules: Rules, size: Size, isLockFree: (state: State) => boolean): Action<State>[] {
  const isAt = (step: number) => (relay: Relay) => relay.doing === 'starting' && relay.at === step;
  return [
    atStep(
      'relay # loses its session',
      size,
      (_, { lossesLeft }) => lossesLeft > 0,
      (state, who, { head }) => ({
        ...withRelay(state, who, { ...ASLEEP, head, doing: 'starting' }),
        lossesLeft: state.lossesLeft - 1,
      }),
    ),
    atStep('relay # listens again', size, isAt(0), (state, who) => withRelay(state, who, { at: 1 })),
    atStep('relay # asks whether somebody has the lock', size, isAt(1), (state, who) =>
      isLockFree(state) ? withRelay(state, who, { at: 2 }) : follow(state, who),
    ),
    atStep('relay # reads the last position that was drawn', size, isAt(2), (state, who) =>
      withRelay(state, who, { at: 3, last: state.drawn }),
    ),
    atStep('relay # reads the markers that are held', size, isAt(3), (state, who, { last }) =>
      withRelay(state, who, leastMarker(state) <= last ? { ...QUIET, doing: 'wakingUp' } : { at: 4, last: 0 }),
    ),
    atStep('relay # looks', size, isAt(4), (state, who) => beginSettling(rules, withRelay(state, who, QUIET), who)),
  ];
}
