/**
 * The publish protocol as a model: how rows get their positions and relays read them, as
 * migrations/1_outbox.sql and src/feed have it, in steps so small that any other step may come between.
 *
 * A model is what the publishers do and one of two views of the relays:
 *
 * | model      | relays                                            | beside them                            |
 * |------------|---------------------------------------------------|----------------------------------------|
 * | `reading`  | read at any time, in small steps, each with a     | who prunes; PostgreSQL crashes         |
 * |            | snapshot of its own                               |                                        |
 * | `waking`   | read when something tells them to, at once: how   | notifications, each as late as it      |
 * |            | a read goes wrong is for the other to find        | likes; the bell; the awake lock; lost  |
 * |            |                                                   | sessions                               |
 *
 * What is abstracted, and why nothing is lost by it:
 * - INSERT and what else comes before COMMIT: nobody sees anything of it. So a publication begins
 *   with its first step in the second round of deferred triggers.
 * - A publication that is aborted before that: it has drawn nothing.
 * - Time. A step comes whenever it likes: every timeout may fire at once, or only after all else.
 *   But for one: a relay takes others for silent only where none has the lock or is about to take it,
 *   which SILENCE_MS is long enough for (`silence`).
 * - What a relay finds when it looks for the last time: it need not stay awake for that.
 * - The sweep and other timers that mend what a lost wake-up has cost. It is to be found. But for the
 *   glance: nothing else covers a publisher that has the bell and is aborted (`glance`).
 * - Names. Publishers are interchangeable, and so are relays: states that differ in them are one.
 * - Rows of one publication after its first: its one marker is below them all.
 * - What was committed survives a crash, as with `synchronous_commit`. Where it does not, relays find
 *   another history, and their clients are reset: test/restart.test.ts.
 *
 * Steps of publishers, of a read, of looking until all is settled, of going to sleep and of pruning
 * are lists: the rules. A test takes one away, or moves it, and sees what breaks.
 */
import type { Model } from './explore.js';
import { publishing } from './order-publishing.js';
import { reading } from './order-reading.js';
import {
  ASLEEP,
  DOINGS,
  highestOf,
  IDLE,
  MODES,
  NONE,
  NOT_PRUNING,
  type Publisher,
  type Relay,
  type Rules,
  type Size,
  type State,
  type View,
} from './order-state.js';
import { isStartled, waking } from './order-waking.js';

/** @param view which of the two models. */
export function createModel(view: View, given: Rules, size: Size): Model<State> {
  // Where relays read at any time, nothing depends on who rings.
  const rules = view === 'reading' ? { ...given, publish: given.publish.filter((step) => step !== 'tryBell') } : given;
  return {
    initial: {
      publishers: Array.from({ length: size.publishers }, () => ({ ...IDLE, left: size.publications })),
      relays: Array.from({ length: size.relays }, () => ASLEEP),
      drawn: 0,
      visible: NONE,
      highest: 0,
      floor: 0,
      pruning: { ...NOT_PRUNING, left: size.prunings },
      crashesLeft: size.crashes,
      lossesLeft: size.losses,
      broken: undefined,
    },
    actions: [...publishing(rules, size), ...(view === 'reading' ? reading : waking)(rules, size)],
    key,
    isRest: (state) => isQuiet(state) && state.publishers.every(({ left }) => left === 0),
    broken(state) {
      if (state.broken !== undefined) return state.broken;
      if (view === 'reading' || !isQuiet(state)) return undefined;
      const unread = state.relays.findIndex(
        (relay) => relay.head < highestOf(state.visible) && !isStartled(rules, state, relay),
      );
      return unread < 0 ? undefined : `all relays are asleep, and relay ${unread + 1} has not read all that is visible`;
    },
  };
}

/** Whether no relay has any reason to look. */
const isQuiet = ({ publishers, relays }: State) =>
  !publishers.some(({ hasBell, rings }) => hasBell && rings) &&
  relays.every(
    ({ doing, mode, inbox, isHeld, settling }) =>
      doing === 'nothing' && mode === 'asleep' && inbox === '' && !isHeld && settling === 0,
  );

/** Numbers below 16, packed into characters. */
function key({ publishers, relays, pruning, ...rest }: State): string {
  return [
    publishers.map(publisherKey).sort().join(''),
    relays.map(relayKey).sort().join(''),
    packed(pruning.at, pruning.through, pruning.last, pruning.left),
    String.fromCharCode(pruning.rows, rest.visible),
    packed(rest.drawn, rest.highest, rest.floor, rest.crashesLeft * 4 + rest.lossesLeft),
    rest.broken ?? '',
  ].join('');
}

const packed = (a: number, b: number, c: number, d: number) => String.fromCharCode((a << 12) | (b << 8) | (c << 4) | d);

const publisherKey = ({ at, after, low, hasMarker, position, rings, hasBell, isVisible, left }: Publisher): string =>
  packed(at, after, low, position) +
  packed(left, Number(hasMarker), Number(rings) | (Number(hasBell) << 1), Number(isVisible));

function relayKey({
  head,
  doing,
  at,
  last,
  marker,
  firstRead,
  isHeld,
  settling,
  asked,
  mode,
  hasLock,
  knowsAwake,
  inbox,
}: Relay): string {
  const flags = Number(isHeld) | (Number(hasLock) << 1) | (Number(knowsAwake) << 2);
  const numbers = packed(head, at, last, marker) + packed(DOINGS.indexOf(doing), MODES.indexOf(mode), flags, settling);
  return `${numbers}${String.fromCharCode(firstRead | (asked << 8))}${inbox};`;
}
