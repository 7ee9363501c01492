/**
 * Live: what the console's pages are told as it happens, on streams of the relay's own form.
 *
 * One clock serves all of them, and runs while there is one: at each tick all processes are asked
 * once for all that somebody looks at. It slows down where that takes long.
 *
 * | stream   | meaning                              | left when                                         |
 * |----------|--------------------------------------|---------------------------------------------------|
 * | open     | gets what each tick brings           | it is full; its right or the relay ends; it leaves|
 * | full     | gets nothing, and misses ticks       | it has taken all (open), or takes nothing (gone)  |
 * | gone     | -                                    | never                                             |
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { BREAK_OFF_MS, setEndless } from '../event/chunk.js';
import { controlText, eventText, pauseText, STREAM_HEADERS } from '../event/sse.js';
import { RequestError } from '../http/request-error.js';
import type { Sort } from '../stream/survey.js';
import { withCause } from './causes.js';
import { channelsOf, connectionsOf, overviewOf, refusalsOf, type Overview } from './together.js';
import { CHANNELS_SHOWN, CHANNELS_TOLD, CONNECTIONS_SHOWN } from './limits.js';
import { processOf, stampNow, stampsIn } from './refusals.js';
import type { ConnectionQuestion, NotedRefusal, Peers, Question, Totals } from './question.js';
import type { Viewer } from './viewer.js';

export const VIEWS = ['overview', 'connections', 'channels'] as const;
export type View = (typeof VIEWS)[number];

export interface LiveRequest {
  readonly views: ReadonlySet<View>;
  readonly sort: Sort;
  readonly channel: string | undefined;
  /** Stamp of the last refusal that it knows; undefined: it wants those to come. */
  readonly refusalsAfter: number | undefined;
  readonly viewer: Viewer;
}

export interface Live {
  /** @throws RequestError 503 where there are as many as there may be. */
  open(request: IncomingMessage, response: ServerResponse, wanted: LiveRequest): void;
  readonly count: number;
  /** Ends all. */
  close(): void;
}

export interface LiveOptions {
  readonly peers: Peers;
  readonly heartbeatSeconds: number;
  readonly retrySeconds: number;
  /** One that takes nothing for so long is dropped. */
  readonly stallSeconds: number;
}

const MOST_STREAMS = 8;
const TICK_MS = 1000;
/** Part of the time that looking may take: the next tick waits for the rest. */
const MOST_PART = 1 / 4;
/** How much later than another's a process' refusal may come. */
const LATE_STAMPS = stampsIn(5000);
/** Connections and channels are looked at each so many ticks. */
const TICKS_PER_SURVEY = 2;

interface Page extends LiveRequest {
  readonly response: ServerResponse;
  /** Index of its connections among those that are asked for. */
  selection: number;
  lastStamp: number;
  /** The same of each process: their answers are not of one moment. */
  readonly lastStamps: Map<number, number>;
  readonly firstStamp: number;
  wroteAt: number;
  drop(): void;
}

export function createLive({ peers, heartbeatSeconds, retrySeconds, stallSeconds }: LiveOptions): Live {
  const pages = new Set<Page>();
  const retry = Math.round(retrySeconds * 1000);
  let clock: NodeJS.Timeout | undefined;
  let ticks = 0;
  let isTicking = false;
  let before: { totals: Totals; at: number } | undefined;

  function put(page: Page, text: string): void {
    if (page.response.writableNeedDrain || page.response.destroyed) return;
    page.wroteAt = performance.now();
    page.response.write(text);
  }

  function end(page: Page, text: string): void {
    if (!pages.delete(page)) return;
    page.response.write(text);
    page.drop();
    if (pages.size === 0) rest();
  }

  function rest(): void {
    clearTimeout(clock);
    clock = undefined;
    before = undefined;
    ticks = 0;
  }

  async function tick(): Promise<void> {
    isTicking = true;
    const began = performance.now();
    try {
      await look();
    } catch {
      // Nobody has answered: there is nothing to tell, and the next tick asks again.
    }
    isTicking = false;
    if (pages.size === 0) return rest();
    const tookMs = performance.now() - began;
    clock = setTimeout(() => void tick(), Math.max(TICK_MS - tookMs, tookMs / MOST_PART));
  }

  async function look(): Promise<void> {
    for (const page of pages) if (page.viewer.expiresAt <= Date.now()) end(page, expiredText(retry));
    // Who comes while it is asked was not asked for: the next tick is theirs.
    const present = [...pages];
    if (present.length === 0) return;
    const isSurvey = ticks % TICKS_PER_SURVEY === 0;
    ticks += 1;
    const selections = isSurvey ? select(present) : [];
    const isCounting = isSurvey && present.some(({ views }) => views.has('channels'));
    const stamps = present.map(({ lastStamp, firstStamp }) => Math.max(firstStamp, lastStamp - LATE_STAMPS));
    const question: Question = {
      overview: true,
      refusalsAfter: Math.min(...stamps),
      connections: selections,
      channels: isCounting ? [{ prefix: '', limit: peers.count > 1 ? CHANNELS_TOLD : CHANNELS_SHOWN }] : [],
    };
    const gathered = await peers.ask(question);
    const { answers } = gathered;
    const overview = overviewOf(gathered, before);
    if (overview) before = { totals: overview.totals, at: performance.now() };
    const texts = {
      overview: overview && eventText('overview', overview satisfies Overview),
      channels: isCounting ? eventText('channels', channelsOf(answers, 0, CHANNELS_SHOWN)) : undefined,
      connections: selections.map((selection, n) => eventText('connections', connectionsOf(answers, n, selection))),
    };
    const refusals = refusalsOf(answers).reverse();
    for (const page of present) {
      if (!pages.has(page)) continue;
      if (page.viewer.expiresAt <= Date.now()) {
        end(page, expiredText(retry));
        continue;
      }
      tell(page, refusals);
      if (page.views.has('overview') && texts.overview) put(page, texts.overview);
      const connections = page.views.has('connections') ? texts.connections[page.selection] : undefined;
      if (connections) put(page, connections);
      if (page.views.has('channels') && texts.channels) put(page, texts.channels);
      if (performance.now() - page.wroteAt > heartbeatSeconds * 1000) put(page, HEARTBEAT);
    }
  }

  function tell(page: Page, refusals: readonly NotedRefusal[]): void {
    for (const refusal of refusals) {
      // Of a page that takes no more the rest waits in the ring.
      if (page.response.writableNeedDrain) return;
      const from = processOf(refusal.stamp);
      if (refusal.stamp <= (page.lastStamps.get(from) ?? page.firstStamp)) continue;
      page.lastStamps.set(from, refusal.stamp);
      page.lastStamp = Math.max(page.lastStamp, refusal.stamp);
      put(page, eventText('refusal', withCause(refusal), { id: String(page.lastStamp) }));
    }
  }

  return {
    get count() {
      return pages.size;
    },
    open(request, response, wanted) {
      if (pages.size >= MOST_STREAMS) {
        throw new RequestError(
          503,
          'console_busy',
          `The console is open on ${MOST_STREAMS} pages. Close one of them.`,
          {
            temporary: true,
          },
        );
      }
      response.statusCode = 200;
      for (const [name, value] of Object.entries(STREAM_HEADERS)) response.setHeader(name, value);
      setEndless(request, response);
      const firstStamp = wanted.refusalsAfter ?? stampNow();
      const page: Page = {
        ...wanted,
        response,
        selection: 0,
        firstStamp,
        lastStamp: firstStamp,
        lastStamps: new Map(),
        wroteAt: performance.now(),
        // A stream breaks off: its client is to come back.
        drop: () => setTimeout(() => request.socket.destroySoon(), BREAK_OFF_MS).unref(),
      };
      response.once('close', () => {
        pages.delete(page);
        if (pages.size === 0 && !isTicking) rest();
      });
      response.on('error', () => undefined);
      pages.add(page);
      // It is told all at the next tick.
      ticks = 0;
      response.write(controlText('stream-open', { heartbeatSeconds, retryMs: retry }, { retry }));
      watchStall(page, stallSeconds);
      if (clock === undefined && !isTicking) void tick();
    },
    close() {
      clearTimeout(clock);
      for (const page of [...pages]) end(page, pauseText('shutdown', retry * (1 + Math.random())));
    },
  };
}

const HEARTBEAT = controlText('stream-cursor', { lastEventId: null });

/** Gives up a page that takes nothing of what waits for it. */
function watchStall({ response }: Page, seconds: number): void {
  let fullSince: number | undefined;
  const timer = setInterval(() => {
    if (!response.writableNeedDrain) fullSince = undefined;
    else fullSince ??= performance.now();
    if (fullSince !== undefined && performance.now() - fullSince > seconds * 1000) response.destroy();
  }, TICK_MS);
  timer.unref();
  response.once('close', () => clearInterval(timer));
}

function expiredText(retry: number): string {
  const text = 'The right to the console has ended. Sign in again.';
  return controlText('stream-error', { condition: 'expired', text, retryMs: retry }, { retry });
}

/** What all pages together want of connections: each selection once. */
function select(pages: Iterable<Page>): ConnectionQuestion[] {
  const selections: ConnectionQuestion[] = [];
  for (const page of pages) {
    if (!page.views.has('connections')) continue;
    const { sort, channel } = page;
    const known = selections.findIndex((one) => one.sort === sort && one.channel === channel);
    page.selection = known === -1 ? selections.push({ sort, channel, limit: CONNECTIONS_SHOWN }) - 1 : known;
  }
  return selections;
}
