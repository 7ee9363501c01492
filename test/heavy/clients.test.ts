/**
 * Clients that others have made, against a relay in a process of its own. Each is set up as its own documentation says.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import test, { type ExecutionContext } from 'ava';
import { EventSource } from 'eventsource';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startRelayProcess } from '../support/relay-process.js';

interface Received {
  readonly id: string;
  readonly data: string;
}

/** What a client hands to its page. */
interface Inbox {
  readonly events: readonly Received[];
  /** Resolves at the first `stream-open`. */
  readonly opened: Promise<void>;
  /** Resolves when the event has come, be it in the past. */
  until(id: string): Promise<void>;
  readonly onOpen: () => void;
  readonly onEvent: (event: Received) => void;
}

type Connect = (t: ExecutionContext, url: string, inbox: Inbox) => void;

function createInbox(): Inbox {
  const events: Received[] = [];
  const waiters = new Map<string, () => void>();
  let onOpen: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (onOpen = resolve));
  return {
    events,
    opened,
    onOpen,
    onEvent(event) {
      events.push(event);
      waiters.get(event.id)?.();
    },
    until: (id) =>
      new Promise((resolve) => {
        if (events.some((event) => event.id === id)) resolve();
        else waiters.set(id, resolve);
      }),
  };
}

function connectEventSource(t: ExecutionContext, url: string, inbox: Inbox): void {
  const source = new EventSource(url);
  t.teardown(() => source.close());
  source.addEventListener('stream-open', inbox.onOpen);
  source.addEventListener('message', ({ lastEventId, data }) => inbox.onEvent({ id: lastEventId, data: String(data) }));
}

function connectFetchEventSource(t: ExecutionContext, url: string, inbox: Inbox): void {
  const leaving = new AbortController();
  t.teardown(() => leaving.abort());
  const finished = fetchEventSource(url, {
    signal: leaving.signal,
    onmessage({ event, id, data }) {
      if (event === 'stream-open') inbox.onOpen();
      else if (event === '' && data !== '') inbox.onEvent({ id, data });
    },
  });
  let isLeaving = false;
  t.teardown(() => (isLeaving = true));
  finished.then(
    () => {
      if (!isLeaving) t.fail('it took the end of a stream for the end of its subscription');
    },
    (error: unknown) => t.fail(String(error)),
  );
}

/** The browser's globals that the package reaches for. */
function pretendToBeABrowser(t: ExecutionContext): void {
  const globals = {
    document: { hidden: false, addEventListener: () => undefined, removeEventListener: () => undefined },
    window: { fetch, setTimeout, clearTimeout },
  };
  Object.assign(globalThis, globals);
  t.teardown(() => {
    for (const name of Object.keys(globals)) Reflect.deleteProperty(globalThis, name);
  });
}

/** The loop that a shell script would have: curl itself does not reconnect. */
function connectCurl(t: ExecutionContext, url: string, inbox: Inbox): void {
  let lastEventId: string | undefined;
  let isOver = false;
  let curl: ChildProcess | undefined;
  t.teardown(() => {
    isOver = true;
    curl?.kill();
  });

  function run(): void {
    const cursor = lastEventId === undefined ? [] : ['--header', `Last-Event-ID: ${lastEventId}`];
    const running = spawn('curl', ['--silent', '--no-buffer', ...cursor, url], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    curl = running;
    let text = '';
    running.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const frames = text.split('\n\n');
      text = frames.pop() ?? '';
      for (const frame of frames) {
        const id = /^id: (.*)$/m.exec(frame)?.[1];
        if (id !== undefined) lastEventId = id;
        const data = /^data: (.*)$/m.exec(frame)?.[1];
        if (/^event: stream-open$/m.test(frame)) inbox.onOpen();
        else if (id !== undefined && data !== undefined) inbox.onEvent({ id, data });
      }
    });
    running.on('close', () => {
      if (!isOver) setTimeout(run, 100);
    });
  }
  run();
}

/** Publishes one event at a time until told to stop. */
function startPublishing(database: TestDatabase): { published(count: number): Promise<void>; stop(): Promise<void> } {
  let isOn = true;
  let total = 0;
  let waiter: { total: number; resolve: () => void } | undefined;
  async function run(): Promise<void> {
    while (isOn) {
      await publish(database, `number ${total}`);
      total += 1;
      if (waiter && total >= waiter.total) waiter.resolve();
      await delay(Math.random() * 10);
    }
  }
  const running = run();
  return {
    published: (count) => new Promise((resolve) => (waiter = { total: total + count, resolve })),
    async stop() {
      isOn = false;
      await running;
    },
  };
}

async function publish(database: TestDatabase, text: string, channel = 'orders'): Promise<string> {
  const { rows } = await database.query<{ id: string }>(
    'INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text)) RETURNING id',
    [channel, text],
  );
  return String(rows[0]?.id);
}

async function published(database: TestDatabase): Promise<Received[]> {
  const { rows } = await database.query<Received>(
    `SELECT id, data #>> '{}' AS data FROM outbox WHERE channel = 'orders' ORDER BY position`,
  );
  return rows;
}

async function restartsCostNothing(t: ExecutionContext, connect: Connect): Promise<void> {
  const database = await createDatabase(t);
  const relay = await startRelayProcess(t, database.url);
  const inbox = createInbox();
  connect(t, `${relay.url}/events?channel=orders`, inbox);
  await inbox.opened;
  await inbox.until(await publish(database, 'the first'));

  const publishing = startPublishing(database);
  for (const [signal, outcome] of [
    ['SIGTERM', 0],
    ['SIGKILL', 'SIGKILL'],
  ] as const) {
    await publishing.published(30);
    t.is(await relay.end(signal), outcome);
    await publishing.published(30);
    await relay.start();
    await inbox.until(await publish(database, `after ${signal}`));
  }
  await publishing.stop();

  await inbox.until(await publish(database, 'the last'));
  t.deepEqual(inbox.events, await published(database));
}

async function aCursorBeforeAnyEvent(t: ExecutionContext, connect: Connect, before: number): Promise<void> {
  const database = await createDatabase(t);
  for (let n = 0; n < before; n += 1) await publish(database, `before ${n}`, n % 2 === 0 ? 'orders' : 'other');
  const old = (await published(database)).length;
  const relay = await startRelayProcess(t, database.url);
  const inbox = createInbox();
  connect(t, `${relay.url}/events?channel=orders`, inbox);
  await inbox.opened;

  t.is(await relay.end('SIGKILL'), 'SIGKILL');
  await publish(database, 'while it was down, 1');
  await publish(database, 'while it was down, 2');
  await relay.start();
  await inbox.until(await publish(database, 'the last'));
  t.deepEqual(inbox.events, (await published(database)).slice(old));
}

const CLIENTS: readonly (readonly [string, Connect])[] = [
  ['eventsource', connectEventSource],
  ['@microsoft/fetch-event-source', connectFetchEventSource],
  ['curl', connectCurl],
];
const hasCurl = spawnSync('curl', ['--version']).error === undefined;

for (const [name, connect] of CLIENTS) {
  const isMissing = name === 'curl' && !hasCurl;
  const run = isMissing ? test.skip : test.serial;
  const title = isMissing ? `${name} (skipped: there is no curl on this machine)` : name;
  const prepare = name.startsWith('@microsoft') ? pretendToBeABrowser : () => undefined;

  run(
    `R3, R6: ${title} gets every event once and in order while the relay is stopped, killed and restarted`,
    async (t) => {
      prepare(t);
      await restartsCostNothing(t, connect);
    },
  );

  run(
    `R3, R6: ${title} that had got no event when the relay was killed gets what it missed, and nothing older`,
    async (t) => {
      prepare(t);
      await aCursorBeforeAnyEvent(t, connect, 5);
    },
  );

  run(`R3, R6: ${title} that had got no event resumes exactly in an outbox that was empty`, async (t) => {
    prepare(t);
    await aCursorBeforeAnyEvent(t, connect, 0);
  });
}
