/**
 * Clients that others have made, against a relay in a process of its own. All of them listen during one run, in which the
 * relay is cut off, killed, stopped and started again; then each is judged by what it handed to its application and what it
 * asked the relay for. docs/clients.md says the same to users.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startProxy } from '../support/proxy.js';
import { startRelayProcess } from '../support/relay-process.js';
import { htmx2, htmx4 } from './htmx-pages.js';
import { createInbox, type Inbox, type Message } from './inbox.js';
import { hasGo, inGo, inNode, inPython, type Start } from './programs.js';

interface Client {
  readonly name: string;
  readonly start: Start;
  /** By how much of the told pause it may come earlier, by a chance of its own; undefined: it pays no heed to `retry:`. */
  readonly jitter: number | undefined;
  /** Whether it has to be on this machine. */
  readonly isOptional?: boolean;
}

let browser: Browser;
const theBrowser = (): Browser => browser;

const CLIENTS: readonly Client[] = [
  { name: 'requests + sseclient-py', start: inPython('requests_sseclient'), jitter: 0 },
  { name: 'httpx-sse', start: inPython('httpx_sse_client'), jitter: 0 },
  { name: 'launchdarkly-eventsource (Python)', start: inPython('launchdarkly'), jitter: undefined },
  { name: 'r3labs/sse (Go)', start: inGo('r3labs'), jitter: undefined, isOptional: true },
  { name: 'tmaxmax/go-sse (Go)', start: inGo('gosse'), jitter: 0.5, isOptional: true },
  { name: 'eventsource', start: inNode('eventsource'), jitter: 0 },
  { name: 'eventsource-client', start: inNode('eventsource-client'), jitter: 0 },
  { name: '@microsoft/fetch-event-source', start: inNode('fetch-event-source'), jitter: 0 },
  { name: 'reconnecting-eventsource', start: inNode('reconnecting-eventsource'), jitter: 0 },
  { name: 'htmx 2', start: htmx2(theBrowser), jitter: 0 },
  { name: 'htmx 4', start: htmx4(theBrowser), jitter: 0.3 },
];

const HEARTBEAT_SECONDS = 3;
/** What an event may take to arrive where nothing follows it: less than until the next heartbeat, which would push it on. */
const PROMPT_MS = 1500;
/** Longer than two heartbeats. */
const QUIET_MS = 7000;
/** What a client may take to start, and to come back after pauses of its own that grew. */
const START_MS = 30_000;
const RETURN_MS = 60_000;
/** A timer may be early by so much, and a proxy learns of a request a little after the client's clock. */
const SLACK_MS = 50;
const LARGE_BYTES = 200_000;

interface Participant {
  readonly client: Client;
  readonly inbox: Inbox;
  /** Milliseconds from the INSERT of an event on a quiet channel to its arrival; undefined: it never came. */
  promptMs?: number | undefined;
  /** The cursor of the first request after the cut. */
  cursor?: string | undefined;
  /** When the relay began to stop. */
  stoppedAt?: number;
}

const present = CLIENTS.filter(({ isOptional }) => !isOptional || hasGo());
const participants = new Map<string, Participant>();
let newestId = '';
let published: { id: string; data: string }[] = [];

/** Ends what the run has started, in the opposite order. */
const ends: (() => unknown)[] = [];
const all = { teardown: (end: () => unknown) => void ends.push(end) };
test.after.always(async () => {
  for (let end = ends.pop(); end; end = ends.pop()) await end();
});

test.before(async (t) => {
  t.timeout(200_000);
  browser = await launchBrowser();
  all.teardown(() => closeBrowser(browser));
  const database = await createDatabase(undefined);
  all.teardown(() => database.drop());
  const relay = await startRelayProcess(all, database.url, {
    HEARTBEAT_SECONDS: String(HEARTBEAT_SECONDS),
    RETRY_SECONDS: '1',
  });
  const proxies = await Promise.all(
    present.map(async (client) => {
      const inbox = createInbox();
      const proxy = await startProxy(all, relay.url, { onSent: (chunk) => inbox.sent(chunk) });
      all.teardown(await client.start(`${proxy.url}/events?channel=orders`, inbox));
      participants.set(client.name, { client, inbox });
      return proxy;
    }),
  );
  const everyone = [...participants.values()];
  /** Waits for all of them at once; says who did not come. */
  async function stage(name: string, come: (participant: Participant) => Promise<boolean>): Promise<void> {
    const outcomes = await Promise.all(everyone.map(async (each) => ((await come(each)) ? '' : each.client.name)));
    const missing = outcomes.filter(Boolean);
    if (missing.length > 0) t.log(`${name}: not ${missing.join(', ')}`);
    if (process.env['TEST_LOG'] === '1')
      console.error(`${Math.round(performance.now())} ms, ${name}; not: ${missing.join(', ')}`);
  }
  await stage('open', ({ inbox }) => inbox.until(opened, START_MS));

  // Prompt: on a quiet channel, each event on its own.
  const insertedAt = performance.now();
  const first = await publish(database, 'orders', { n: 'first' });
  await stage('prompt', async (each) => {
    const came = await each.inbox.until(({ messages }) => messages.some(({ id }) => id === first), 2 * QUIET_MS);
    const arrived = each.inbox.messages.find(({ id, name }) => id === first && name === 'message');
    each.promptMs = arrived && arrived.at - insertedAt;
    return came;
  });

  // The cursor: others get events, this channel none.
  for (let n = 0; n < 3; n++) newestId = await publish(database, 'elsewhere', { n });
  await delay(QUIET_MS);
  const cutAt = performance.now();
  for (const proxy of proxies) proxy.cut();
  await stage('back after a cut', async (each) => {
    await each.inbox.until(({ requests }) => requests.some(({ at }) => at > cutAt), RETURN_MS);
    each.cursor = each.inbox.requests.find(({ at }) => at > cutAt)?.cursor;
    const isBack = ({ name, at }: Message) => name === 'stream-open' && at > cutAt;
    return each.inbox.until(({ messages }) => messages.some(isBack), START_MS);
  });

  // Killed, and started again; then stopped, and started again; while events are published.
  const publishing = keepPublishing(database);
  await delay(1000);
  await relay.end('SIGKILL');
  await delay(1500);
  const startedAt = performance.now();
  await relay.start();
  await stage('back after a kill', ({ inbox }) =>
    inbox.until(({ messages }) => messages.some(({ at, name }) => at > startedAt && name === 'message'), RETURN_MS),
  );
  const stoppedAt = performance.now();
  for (const each of everyone) each.stoppedAt = stoppedAt;
  await relay.end('SIGTERM');
  await delay(500);
  await relay.start();
  await publish(database, 'orders', { large: 'x'.repeat(LARGE_BYTES) });
  await delay(500);
  await publishing.stop();
  const last = await publish(database, 'orders', { n: 'last' });
  await stage('back after a stop', ({ inbox }) =>
    inbox.until(({ messages }) => messages.some(({ id }) => id === last), RETURN_MS),
  );
  ({ rows: published } = await database.query<{ id: string; data: string }>(
    `SELECT id::text, data::text FROM outbox WHERE channel = 'orders' ORDER BY position`,
  ));
});

const opened = ({ messages }: Inbox): boolean => messages.some(({ name }) => name === 'stream-open');

async function publish(database: TestDatabase, channel: string, data: unknown): Promise<string> {
  const { rows } = await database.query<{ id: string }>(
    'INSERT INTO outbox (channel, data) VALUES ($1, $2) RETURNING id::text',
    [channel, JSON.stringify(data)],
  );
  return rows[0]?.id ?? '';
}

function keepPublishing(database: TestDatabase): { stop(): Promise<void> } {
  let isOn = true;
  async function run(): Promise<void> {
    for (let n = 0; isOn; n++) {
      await publish(database, 'orders', { n });
      await delay(20);
    }
  }
  const running = run();
  return {
    stop: () => {
      isOn = false;
      return running;
    },
  };
}

function unnamed({ messages }: Inbox): Message[] {
  return messages.filter(({ name }) => name === 'message');
}

for (const client of CLIENTS) {
  const isMissing = !present.includes(client);
  const judge = (promise: string, look: (participant: Participant) => [holds: boolean, words: string]): void => {
    const title = `${client.name} ${promise}`;
    if (isMissing) {
      test.skip(`${title} (skipped: there is no Go on this machine)`, () => undefined);
      return;
    }
    test(title, (t) => {
      const participant = participants.get(client.name);
      if (participant === undefined) return t.fail('it was not started');
      const [holds, words] = look(participant);
      t.true(holds, `${words}\n${participant.inbox.failure ?? ''}`);
    });
  };

  judge('is handed an event at once, though nothing follows it', ({ promptMs }) => [
    promptMs !== undefined && promptMs < PROMPT_MS,
    `after ${promptMs ?? 'never'} ms`,
  ]);
  judge('R3, R6: returns after a kill, a stop and a cut, and loses, doubles and disorders nothing', ({ inbox }) => {
    const got = unnamed(inbox).filter(({ data }) => data !== '');
    const places = new Map(published.map(({ id }, place) => [id, place]));
    const order = got.map(({ id }) => places.get(id) ?? -1);
    const lost = published.filter(({ id }) => !got.some((event) => event.id === id)).length;
    const doubled = got.length - new Set(order).size;
    const disorder = order.filter((place, n) => n > 0 && place < (order[n - 1] ?? 0)).length;
    const garbled = got.filter(({ id, data }) => data !== published[places.get(id) ?? -1]?.data).length;
    return [
      lost + doubled + disorder + garbled === 0 && published.length > 100,
      `${published.length} published, ${lost} lost, ${doubled} doubled, ${disorder} in disorder, ${garbled} with other data`,
    ];
  });
  judge('never gets an empty message, nor one that is not JSON', ({ inbox }) => {
    const bad = inbox.messages.filter(({ data }) => !isJson(data));
    return [bad.length === 0 && inbox.messages.length > 0, `${bad.length}, as ${JSON.stringify(bad[0] ?? '')}`];
  });
  judge('comes back with the newest id, which heartbeats told it on a quiet channel', ({ cursor }) => [
    cursor === newestId,
    `with ${cursor ?? 'none'}, and the newest was ${newestId}`,
  ]);
  const { jitter } = client;
  if (jitter !== undefined) {
    judge('waits as long as a relay that stops tells it to', ({ inbox, stoppedAt = 0 }) => {
      const told = inbox.messages.find(({ name, at }) => name === 'stream-pause' && at > stoppedAt);
      const back = inbox.requests.find(({ at }) => at > (told?.at ?? Infinity));
      const { retryMs = Infinity } = JSON.parse(told?.data ?? '{}') as { retryMs?: number };
      const waited = (back?.at ?? 0) - (told?.at ?? 0);
      return [waited >= retryMs * (1 - jitter) - SLACK_MS, `${waited} ms, told ${retryMs}`];
    });
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
