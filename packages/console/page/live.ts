/**
 * The live figures: one stream for the page, whatever it shows. It says what it wants of the relay,
 * keeps the last minutes for the charts, and all refusals that it was told of.
 *
 * A tab that nobody has looked at for a while lets go of its stream, and takes it up again when it
 * is looked at.
 */
import type { EventSourceMessage } from 'eventsource-parser';
import { apiUrl, authorization, request, type Channels, type Connections, type Overview, type Refusal } from './api.js';
import { openSource, type Source } from './event-source.js';
import { askSession, endSession } from './session.js';
import { createStore } from './store.js';

export interface LiveState {
  readonly link: 'connecting' | 'open' | 'lost' | 'resting';
  /** Since when it is lost, in milliseconds since 1970, and why. */
  readonly lostAt?: number | undefined;
  readonly lostWhy?: string | undefined;
  readonly overview?: Overview;
  /** A second apart, the newest last. */
  readonly samples: readonly Overview[];
  readonly connections?: Connections | undefined;
  readonly channels?: Channels | undefined;
  /** The newest first. */
  readonly refusals: readonly Refusal[];
  /** Whether those that the relay had are there. */
  readonly hasRefusals: boolean;
}

/** What a view wants beside the overview. */
export interface Wanted {
  readonly views: readonly ('connections' | 'channels')[];
  readonly sort?: string;
  readonly channel?: string | undefined;
}

const MOST_SAMPLES = 180;
const MOST_REFUSALS = 500;
const RESTS_AFTER_MS = 120_000;

export const live = createStore<LiveState>({ link: 'connecting', samples: [], refusals: [], hasRefusals: false });

let source: Source | undefined;
let wanted: Wanted = { views: [] };
let restTimer: ReturnType<typeof setTimeout> | undefined;

function liveUrl(): URL {
  const url = apiUrl('live');
  url.searchParams.set('views', ['overview', ...wanted.views].join(','));
  if (wanted.sort !== undefined) url.searchParams.set('sort', wanted.sort);
  if (wanted.channel) url.searchParams.set('channel', wanted.channel);
  return url;
}

function take({ event, data }: EventSourceMessage): void {
  if (event === 'overview') takeOverview(JSON.parse(data) as Overview);
  else if (event === 'connections') live.set({ connections: JSON.parse(data) as Connections });
  else if (event === 'channels') live.set({ channels: JSON.parse(data) as Channels });
  else if (event === 'refusal') merge([JSON.parse(data) as Refusal]);
}

function takeOverview(overview: Overview): void {
  live.set({ overview, samples: [...live.get().samples, overview].slice(-MOST_SAMPLES) });
}

/** One that is there is replaced: its count may have grown. */
function merge(news: readonly Refusal[]): void {
  const known = new Set(news.map(({ n }) => n));
  const others = live.get().refusals.filter(({ n }) => !known.has(n));
  const refusals = [...news, ...others].sort((a, b) => Date.parse(b.at) - Date.parse(a.at) || b.n - a.n);
  live.set({ refusals: refusals.slice(0, MOST_REFUSALS) });
}

async function fetchRefusals(): Promise<void> {
  try {
    const { refusals } = await request<{ refusals: readonly Refusal[] }>('refusals');
    merge(refusals);
    live.set({ hasRefusals: true });
  } catch {
    // The stream is lost then, too, and this is asked again when it is back.
  }
}

export function startLive(): void {
  if (source) return;
  live.set({ link: 'connecting', lostAt: undefined });
  source = openSource({
    url: liveUrl,
    headers: authorization,
    onEvent: take,
    onOpen() {
      live.set({ link: 'open', lostAt: undefined, lostWhy: undefined });
      void fetchRefusals();
    },
    onLost(error) {
      if (error.status === 401) {
        endSession(error);
        return false;
      }
      if (error.status === 404) {
        void askSession();
        return false;
      }
      live.set({ link: 'lost', lostAt: live.get().lostAt ?? Date.now(), lostWhy: error.message });
      return true;
    },
  });
  document.addEventListener('visibilitychange', restOrWake);
}

/** When one is signed out: nothing of what was shown stays. */
export function stopLive(): void {
  source?.cut();
  source = undefined;
  clearTimeout(restTimer);
  document.removeEventListener('visibilitychange', restOrWake);
  live.set({
    samples: [],
    refusals: [],
    hasRefusals: false,
    connections: undefined,
    channels: undefined,
    lostAt: undefined,
  });
}

function restOrWake(): void {
  clearTimeout(restTimer);
  if (document.hidden) {
    restTimer = setTimeout(() => {
      source?.cut();
      live.set({ link: 'resting' });
    }, RESTS_AFTER_MS);
  } else if (live.get().link === 'resting') {
    live.set({ link: 'connecting' });
    source?.restart();
  }
}

/** Says what the view that is shown needs. What came for another is forgotten. */
export function want(next: Wanted): void {
  if (JSON.stringify(next) === JSON.stringify(wanted)) return;
  wanted = next;
  live.set({ connections: undefined, channels: undefined });
  if (live.get().link !== 'resting') source?.restart();
}
