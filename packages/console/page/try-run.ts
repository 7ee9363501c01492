/**
 * A trial: a stream that is cut and resumed, and its twin that is not. The twin opens first, and
 * the other begins at the cursor that it was given: so both owe the same.
 *
 * | state     | the stream                          | and then                                            |
 * |-----------|-------------------------------------|-----------------------------------------------------|
 * | opening   | waits for the twin's first frame    | live; refused, which ends the trial                 |
 * | live      | brings events                       | cut, by hand or at random; away, if it breaks       |
 * | cut       | has no connection                   | resuming, by hand or at random                      |
 * | resuming  | asks from its last id               | live                                                |
 * | away      | comes back by itself                | live                                                |
 * | refused, ended | nothing                        |                                                     |
 */
import type { EventSourceMessage } from 'eventsource-parser';
import { type ApiError, EVENTS, authorization } from './api.js';
import { openSource, type Source } from './event-source.js';
import { createStore, type Store } from './store.js';
import { createTwinCheck, type Tally } from './twin-check.js';
import { clip } from './visible.js';

export interface Arrival {
  readonly key: number;
  readonly id: string;
  readonly event: string;
  readonly data: string;
  readonly at: number;
  /** Whether it came after a cut, and was published before the stream was back. */
  readonly isReplayed: boolean;
  /** False for what came twice, or at another place than with the twin. */
  readonly isRight: boolean;
}

export interface Trial {
  readonly state: 'opening' | 'live' | 'cut' | 'resuming' | 'away' | 'refused' | 'ended';
  readonly error?: ApiError | undefined;
  readonly cursor: string | undefined;
  readonly cuts: number;
  readonly received: number;
  readonly replayed: number;
  readonly tally: Tally;
  /** The newest first. */
  readonly arrivals: readonly Arrival[];
  /** What the relay could not honour: the comparison began anew there. */
  readonly resets: number;
  /** How often the twin was cut, by others: it comes back as the stream does. */
  readonly twinBreaks: number;
  readonly isRandom: boolean;
}

export interface Run {
  readonly store: Store<Trial>;
  cut(): void;
  resume(): void;
  setRandom(isRandom: boolean): void;
  end(): void;
}

const MOST_ARRIVALS = 100;
const MOST_DATA = 200;
/** The page shows what came not more often. */
const SHOWS_EVERY_MS = 100;
const RANDOM_LIFE_MS = [400, 3000] as const;
const RANDOM_GAP_MS = [200, 2000] as const;
const within = ([least, most]: readonly [number, number]): number => least + Math.random() * (most - least);

export function startRun(channels: readonly string[], token: string | undefined): Run {
  let check = createTwinCheck();
  let arrivals: readonly Arrival[] = [];
  let [key, received, replayed] = [0, 0, 0];
  /** The newest event when the stream came back: up to there it is a replay. */
  let replayHead: string | undefined;
  let subject: Source | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let showTimer: ReturnType<typeof setTimeout> | undefined;
  const store = createStore<Trial>({
    state: 'opening',
    cursor: undefined,
    cuts: 0,
    received,
    replayed,
    tally: check.tally(),
    arrivals,
    resets: 0,
    twinBreaks: 0,
    isRandom: false,
  });

  function url(): URL {
    const address = new URL(EVENTS);
    for (const channel of channels) address.searchParams.append('channel', channel);
    return address;
  }
  const headers = () => authorization(token);

  function show(): void {
    showTimer ??= setTimeout(() => {
      showTimer = undefined;
      store.set({ tally: check.tally(), arrivals, received, replayed, cursor: subject?.cursor });
    }, SHOWS_EVERY_MS);
  }

  function refuse(error: ApiError): false {
    end();
    store.set({ state: 'refused', error });
    return false;
  }
  /** What no repetition helps against. */
  const isFinal = ({ status }: ApiError) => status >= 400 && status < 500 && status !== 429;

  const twin = openSource({
    url,
    headers,
    onEvent({ event, id = '' }) {
      if (event === 'stream-open') {
        if (subject) return;
        startSubject(id);
      } else if (event === 'stream-reset') begin();
      else if (event?.startsWith('stream-') !== true) {
        check.twin(id);
        show();
      }
    },
    onLost(error) {
      if (isFinal(error)) return refuse(error);
      if (subject) store.set({ twinBreaks: store.get().twinBreaks + 1 });
      return true;
    },
  });

  function startSubject(lastEventId: string): void {
    subject = openSource({
      url,
      headers,
      lastEventId,
      onEvent: takeSubject,
      onLost(error) {
        if (isFinal(error)) return refuse(error);
        store.set({ state: 'away', error });
        return true;
      },
    });
  }

  function takeSubject({ event = 'message', id = '', data }: EventSourceMessage): void {
    if (event === 'stream-open') {
      const { head, lastEventId } = JSON.parse(data) as { head: string; lastEventId: string };
      replayHead = head === lastEventId ? undefined : head;
      store.set({ state: 'live', error: undefined });
    } else if (event === 'stream-reset') begin();
    else if (!event.startsWith('stream-')) {
      received += 1;
      const isReplayed = replayHead !== undefined;
      if (isReplayed) replayed += 1;
      if (id === replayHead) replayHead = undefined;
      const isRight = check.subject(id);
      const arrival = { key: key++, id, event, data: clip(data, MOST_DATA), at: Date.now(), isReplayed, isRight };
      arrivals = [arrival, ...arrivals].slice(0, MOST_ARRIVALS);
    }
    show();
  }

  /**
   * After a reset both go on from now, each from a moment of its own: they are opened anew
   * together.
   */
  function begin(): void {
    subject?.cut();
    subject = undefined;
    check = createTwinCheck();
    replayHead = undefined;
    store.set({ resets: store.get().resets + 1, state: 'opening' });
    twin.restart();
  }

  function cut(): void {
    if (!subject || store.get().state === 'cut') return;
    subject.cut();
    store.set({ state: 'cut', cuts: store.get().cuts + 1 });
    show();
  }

  function resume(): void {
    if (store.get().state !== 'cut') return;
    store.set({ state: 'resuming' });
    subject?.restart();
  }

  function turn(): void {
    const isCut = store.get().state === 'cut';
    timer = setTimeout(
      () => {
        if (isCut) resume();
        else cut();
        turn();
      },
      within(isCut ? RANDOM_GAP_MS : RANDOM_LIFE_MS),
    );
  }

  function end(): void {
    clearTimeout(timer);
    twin.cut();
    subject?.cut();
    store.set({ state: 'ended', isRandom: false });
    show();
  }

  return {
    store,
    cut,
    resume,
    setRandom(isRandom) {
      clearTimeout(timer);
      store.set({ isRandom });
      if (isRandom) turn();
      else resume();
    },
    end,
  };
}
