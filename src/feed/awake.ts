/**
 * Awake: where so many publish that each is rung for while others commit, a relay promises to look
 * by itself, and they stop ringing.
 *
 * | state     | who looks                                 | leaves when                                  |
 * |-----------|-------------------------------------------|----------------------------------------------|
 * | asleep    | nobody: publishers ring, or the tail      | publishers ring often, several at a time     |
 * |           | polls where notifications do not arrive   | (awake); another says that it is awake, or   |
 * |           |                                           | has the lock without a word (following)      |
 * | awake     | this relay, which has the lock            | little is published, or by one after another |
 * |           |                                           | (asleep); notifications do not arrive        |
 * |           |                                           | (asleep)                                     |
 * | following | this relay: another has the lock          | the other says that it is asleep (asleep),   |
 * |           |                                           | or nothing for a while, and the lock is free |
 * |           |                                           | (awake); notifications do not arrive (asleep)|
 * | stopped   | nobody                                    | never                                        |
 *
 * No wake-up is lost. A publisher takes its marker before it asks whether to ring, so one that was
 * sent away is either still committing when the lock has been given back, or what it published can
 * be read: whoever gives the lock back asks for the first, then reads, and takes it again where
 * either finds anything. Other relays are told "awake" before the lock is taken, and look by themselves
 * until they have heard "asleep" and looked once more: also those that are awake themselves, or were
 * when they heard it. Where a relay that is awake dies, its lock goes with it, and the others hear
 * nothing any more.
 */
import type { AwakeLock, FeedReader } from '../outbox/feed.js';
import type { Tail } from './tail.js';

export interface Awake {
  readonly state: 'asleep' | 'awake' | 'following' | 'stopped';
  /** A publisher has rung. */
  rung(): void;
  /** Another relay is awake, or about to be. @param relay its name. */
  othersAwake(relay: string): void;
  /** That relay is asleep now. */
  othersAsleep(relay: string): void;
  /** Whether anything is heard: called at each change, and the first time that it is known. */
  notificationsWork(work: boolean): void;
  /** Resolves when it looks no more and has given the lock back. Safe to call twice. */
  stop(): Promise<void>;
}

export interface AwakeParts {
  readonly lock: AwakeLock;
  readonly feed: Pick<FeedReader, 'settled'>;
  readonly tail: Pick<Tail, 'look' | 'wake'>;
}

/** Rings are counted for so long. */
const COUNT_MS = 250;
/** So many in that time, and publishers who commit together, make a relay awake. */
const OFTEN = 25;
/**
 * So many do by themselves: reading for each costs about 0.4 ms of CPU time, and less for some
 * together.
 */
const VERY_OFTEN = 250;

/** Between looks. The shortest is in the order of a commit; the longest bounds the delay. */
const SHORTEST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 20;
/** Following relays are there to deliver the same events, not to be the first. */
const SHORTEST_FOLLOWING_PAUSE_MS = 4;
/** After a look that failed. */
const FAILURE_PAUSE_MS = 200;

/** How long it looks before it judges whether to go on. */
const JUDGED_MS = 500;
/** With fewer events in that time it goes to sleep. */
const LITTLE = 50;
/** With so many it stays, also where they are published by one after another. */
const MUCH = 500;
/** Between the samples of how many commit at a time. */
const SAMPLE_MS = 50;

/** "Awake" is said again after so long, and where it is not heard for so long, nobody is. */
const TELL_MS = 250;
const SILENCE_MS = 750;

/** Anybody may notify: so many relays are told apart. */
const MOST_OTHERS = 100;

/** Somebody may have taken the lock without a word: so often it is asked whether. */
const CHECK_MS = 5000;

export function startAwake({ lock, feed, tail }: AwakeParts): Awake {
  let state: Awake['state'] = 'asleep';
  /** How often the state was set: what began before that must not set it any more. */
  let turns = 0;
  let works = false;
  let rings = 0;
  let ringsSince = 0;
  let isDeciding = false;
  let deciding: Promise<void> = Promise.resolve();
  /** Relays that have said that they are awake, and not yet that they are asleep. */
  const others = new Set<string>();
  /** When another was last heard, or this relay tried to take the lock. */
  let heardAt = 0;
  let toldAt = 0;
  let sampledAt = 0;
  /** What was found since then. */
  let judgedAt = 0;
  let events = 0;
  let overlap = false;
  let looking: Promise<void> = Promise.resolve();
  let endPause = (): void => undefined;
  const checking = setInterval(() => consider(check), CHECK_MS).unref();

  function set(next: 'asleep' | 'awake' | 'following'): void {
    if (state === 'stopped') return;
    const wasAsleep = state === 'asleep';
    state = next;
    turns += 1;
    rings = 0;
    beginJudging();
    if (wasAsleep && next !== 'asleep') looking = looking.then(keepLooking);
  }

  function beginJudging(): void {
    judgedAt = Date.now();
    events = 0;
    overlap = false;
  }

  function follow(): void {
    heardAt = Date.now();
    set('following');
  }

  /** One decision after the other. The tail and the listener tell of their troubles themselves. */
  function attempt(decide: () => Promise<void>): void {
    isDeciding = true;
    const decided = deciding.then(async () => {
      if (state === 'asleep' && works) await decide().catch(() => undefined);
      if (deciding === decided) isDeciding = false;
    });
    deciding = decided;
  }

  /** The same, unless another decision is being made. */
  function consider(decide: () => Promise<void>): void {
    if (!isDeciding && state === 'asleep' && works) attempt(decide);
  }

  async function check(): Promise<void> {
    if (await lock.isTaken()) follow();
  }

  /** Who commits now may have been sent away by a lock that is gone. */
  async function checkAnew(): Promise<void> {
    await check();
    if (state !== 'asleep') return;
    if (!(await feed.settled()).isQuiet) await wakeUp();
    else tail.wake();
  }

  /** Others are told first: what nobody rings for from here on they look for. */
  async function wakeUp(): Promise<void> {
    const turn = turns;
    const isCurrent = () => works && turn === turns;
    await tell();
    if (!isCurrent()) return;
    const isOurs = await lock.take();
    if (!isCurrent()) {
      if (isOurs && state !== 'awake') await lock.giveBack();
    } else if (!isOurs) follow();
    // By now the others may think that nobody is awake after all.
    else if (Date.now() - toldAt > SILENCE_MS / 2) await goToSleep();
    else set('awake');
  }

  async function tell(): Promise<void> {
    toldAt = Date.now();
    await lock.tell('awake');
  }

  async function keepLooking(): Promise<void> {
    let pauseMs = 0;
    while (state === 'awake' || state === 'following') {
      const started = performance.now();
      try {
        const found = await tail.look();
        events += found.events;
        const shortest = state === 'awake' ? SHORTEST_PAUSE_MS : SHORTEST_FOLLOWING_PAUSE_MS;
        const isQuiet = found.events === 0 && !found.isHeld;
        pauseMs = isQuiet ? Math.min(Math.max(pauseMs * 2, shortest), LONGEST_PAUSE_MS) : shortest;
        if (state === 'awake') await stayAwake();
        else if (Date.now() - heardAt > SILENCE_MS) {
          others.clear();
          await wakeUp();
        }
      } catch {
        pauseMs = FAILURE_PAUSE_MS;
      }
      // Half of the time is for others, as long as that does not put off much.
      await rest(Math.max(pauseMs, Math.min(performance.now() - started, LONGEST_PAUSE_MS)));
    }
  }

  function rest(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async function stayAwake(): Promise<void> {
    const now = Date.now();
    // Whoever hears nothing finds the lock taken.
    if (now - toldAt > TELL_MS) await tell().catch(() => undefined);
    if (!overlap && now - sampledAt > SAMPLE_MS) {
      sampledAt = now;
      overlap = await lock.publishersOverlap();
    }
    if (now - judgedAt < JUDGED_MS) return;
    if (events >= MUCH || (events >= LITTLE && overlap)) beginJudging();
    else await goToSleep();
  }

  async function goToSleep(): Promise<void> {
    const turn = turns;
    await lock.giveBack();
    const { isQuiet } = await feed.settled();
    const found = await tail.look();
    if (turn !== turns) return;
    if (!isQuiet || found.events > 0) return wakeUp();
    await lock.tell('asleep');
    if (turn !== turns) return;
    if (others.size > 0) return follow();
    set('asleep');
    tail.wake();
  }

  return {
    get state() {
      return state;
    },
    rung() {
      if (state !== 'asleep') return;
      const now = Date.now();
      if (now - ringsSince > COUNT_MS) {
        ringsSince = now;
        rings = 0;
      }
      rings += 1;
      if (rings === VERY_OFTEN) consider(wakeUp);
      else if (rings % OFTEN === 0) {
        consider(async () => {
          if (await lock.publishersOverlap()) await wakeUp();
        });
      }
    },
    othersAwake(relay) {
      heardAt = Date.now();
      if (others.size < MOST_OTHERS) others.add(relay);
      if (state === 'asleep' && works) follow();
    },
    othersAsleep(relay) {
      others.delete(relay);
      if (state === 'following' && others.size === 0) set('asleep');
      if (state !== 'stopped') tail.wake();
    },
    notificationsWork(work) {
      works = work;
      if (work) attempt(checkAnew);
      else if (state === 'awake' || state === 'following') {
        set('asleep');
        void lock.giveBack().catch(() => undefined);
      }
    },
    async stop() {
      const wasAwake = state === 'awake';
      state = 'stopped';
      clearInterval(checking);
      endPause();
      await Promise.all([looking, deciding]);
      if (wasAwake) await lock.giveBack().catch(() => undefined);
    },
  };
}
