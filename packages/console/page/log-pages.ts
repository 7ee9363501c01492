/**
 * The log as it is read: a page at a time, and what is new after it.
 *
 * To follow, it asks for what comes next after the newest that it has, again and again until there
 * is no more, whenever the relay's head has moved or the relay is back. So nothing is missed
 * however long it was away.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import { request, type ApiError, type LogEvent, type LogPage } from './api.js';
import { live } from './live.js';
import { useLoaded, type Loaded } from './parts.js';
import { useStore } from './store.js';

export const PAGE_EVENTS = 50;
/** While it is followed; older ones make room. */
const MOST_EVENTS = 1000;
const MOST_AT_ONCE = 100;
/** A failed look is tried again after so long, and so is one for which no head has moved. */
const LOOK_AGAIN_MS = 5000;

export interface LogFilter {
  readonly channel: string;
  readonly event: string;
  readonly id: string;
  readonly since: string;
  readonly until: string;
}

export interface LogPages extends Loaded<LogPage> {
  /** Newest first: what was followed, and the page. */
  readonly events: readonly LogEvent[];
  /** Ids of what came while one looked. */
  readonly fresh: number;
  readonly followError: ApiError | undefined;
}

export function logPath(filter: LogFilter, place: { before?: string; after?: string }, limit = PAGE_EVENTS): string {
  const query = new URLSearchParams({ limit: String(limit) });
  for (const [name, value] of Object.entries({ ...filter, ...place })) if (value !== '') query.set(name, value);
  return `log?${query}`;
}

export function useLogPages(filter: LogFilter, before: string, isFollowing: boolean): LogPages {
  const path = logPath(filter, before === '' ? {} : { before });
  const page = useLoaded(path, (signal) => request<LogPage>(path, { signal }));
  const [news, setNews] = useState<readonly LogEvent[]>([]);
  const [followError, setError] = useState<ApiError | undefined>();
  const [tick, setTick] = useState(0);
  const cursor = useRef<string | null>(null);
  const isLooking = useRef(false);
  const head = useStore(live, ({ overview }) => overview?.head.id);
  const isOpen = useStore(live, ({ link }) => link === 'open');

  useEffect(() => {
    setNews([]);
    cursor.current = page.value?.after ?? null;
  }, [page.value]);

  useEffect(() => {
    if (!isFollowing) return;
    const timer = setInterval(() => setTick((n) => n + 1), LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }, [isFollowing]);

  useEffect(() => {
    if (!isFollowing || !page.value || isLooking.current) return;
    isLooking.current = true;
    void look();
    async function look(): Promise<void> {
      const start = page.value;
      try {
        for (let isMore = true; isMore;) {
          const after = cursor.current;
          const next = await request<LogPage>(logPath(filter, after === null ? {} : { after }, MOST_AT_ONCE));
          // Another page was asked for meanwhile.
          if (start !== page.value) return;
          if (next.after !== null) cursor.current = next.after;
          if (next.events.length > 0) setNews((known) => [...next.events, ...known].slice(0, MOST_EVENTS));
          // A search without an index may have stopped before the end.
          isMore = after !== null && (next.events.length === MOST_AT_ONCE || next.scanned !== 'all');
        }
        setError(undefined);
      } catch (error) {
        setError(error as ApiError);
      } finally {
        isLooking.current = false;
      }
    }
  }, [isFollowing, head, isOpen, tick, page.value]);

  const events = [...news, ...(page.value?.events ?? [])];
  return { ...page, events: isFollowing ? events.slice(0, MOST_EVENTS) : events, fresh: news.length, followError };
}
