import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { CAUSES } from '../src/console/causes.js';
import { createLive } from '../src/console/live.js';
import type { Peers, Question } from '../src/console/question.js';
import { channelFilter } from '../src/event/channel-filter.js';
import { DENIALS } from '../src/http/errors.js';
import { startConsole, type TestConsole } from './support/console.js';
import { startServer } from './support/http-server.js';
import { openStream, type TestStream } from './support/stream.js';

interface Refusal {
  readonly n: number;
  readonly code: string;
  readonly path: string;
  readonly count: number;
  readonly cause: string;
  readonly cure: string;
}

const open = async (t: Parameters<typeof openStream>[0], relay: TestConsole, query = '', headers = {}) =>
  openStream(t, `${relay.url}/console/api/live${query}`, { cookie: await relay.signIn(), ...headers });

test('refusals come as they happen, equal ones in a row as one, and none is missed by who comes back', async (t) => {
  const relay = await startConsole(t);
  const live = await open(t, relay, '?views=overview');
  await live.until(({ event }) => event === 'overview');
  for (let n = 0; n < 3; n += 1) await relay.get('/events?channel=&secret=s3cret');
  await relay.get('/nowhere');
  const seen = await live.until(({ event, data }) => event === 'refusal' && (data ?? '').includes('not_found'));
  live.close();
  await relay.get('/events?format=x&channel=a');
  await relay.get('/elsewhere');
  const back = await open(t, relay, '?views=overview', { 'Last-Event-ID': seen.id ?? '' });
  await back.until(({ event, data }) => event === 'refusal' && (data ?? '').includes('/elsewhere'));
  const codes = back.frames
    .filter(({ event }) => event === 'refusal')
    .map(({ data }) => JSON.parse(data ?? '') as Refusal);
  t.deepEqual(
    codes.map(({ code }) => code),
    ['bad_format', 'not_found'],
  );
  const { refusals } = await relay.api<{ refusals: Refusal[] }>('refusals');
  t.deepEqual(
    refusals.map(({ code, path, count }) => [code, path, count]),
    [
      ['not_found', '/elsewhere', 1],
      ['bad_format', '/events', 1],
      ['not_found', '/nowhere', 1],
      ['bad_channel', '/events', 3],
    ],
  );
  t.true(refusals.every(({ cause, cure }) => cause !== '' && cure !== ''));
  t.false(JSON.stringify(refusals).includes('s3cret'));
});

test('the newest 200 refusals are kept, however many there are', async (t) => {
  const relay = await startConsole(t);
  for (let n = 0; n < 230; n += 1) await relay.get(`/nowhere/${n}`);
  const { refusals } = await relay.api<{ refusals: Refusal[] }>('refusals');
  t.is(refusals.length, 200);
  t.is(refusals[0]?.path, '/nowhere/229');
  t.is(new Set(refusals.map(({ n }) => n)).size, 200);
});

test('each code that a client may be told has a cause and a cure', (t) => {
  const codes = new Set<string>();
  for (const folder of ['src', 'packages/demo']) {
    for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const text = readFileSync(`${folder}/${file}`, 'utf8');
      for (const [, code = ''] of text.matchAll(/new RequestError\(\s*\d{3},\s*'(\w+)'/g)) codes.add(code);
      for (const [, code = ''] of text.matchAll(/refuseRaw\(\s*socket,\s*'[^']+',\s*'(\w+)'/g)) codes.add(code);
      for (const [, code = ''] of text.matchAll(/code: '(bad_\w+)'/g)) codes.add(code);
    }
  }
  for (const [code, { error = code }] of Object.entries(DENIALS)) codes.add(error);
  t.true(codes.size > 25, String(codes.size));
  t.deepEqual(
    [...codes].filter((code) => !Object.hasOwn(CAUSES, code)),
    [],
  );
});

test('the console is open on so many pages at a time, and one that leaves makes room', async (t) => {
  const relay = await startConsole(t);
  const pages = [];
  for (let n = 0; n < 8; n += 1) pages.push(await open(t, relay, '?views=overview'));
  const cookie = await relay.signIn();
  const refused = await relay.get('/console/api/live', { cookie });
  t.is(refused.status, 503);
  t.like(JSON.parse(refused.body), { error: 'console_busy' });
  pages[0]?.close();
  await pages[0]?.ended;
  let { status } = refused;
  while (status === 503) ({ status } = await relay.get('/console/api/live', { cookie }));
  t.is(status, 200);
});

test('hostile names and data are JSON and nothing else on the way to the page', async (t) => {
  const relay = await startConsole(t);
  const channel = 'a<img src=x onerror=alert(1)>"\\\u2028\u202e';
  const stream = await openStream(t, `${relay.url}/events?channel=${encodeURIComponent(channel)}`);
  await stream.until(({ event }) => event === 'stream-open');
  const live = await open(t, relay);
  const frame = await live.until(({ event }) => event === 'connections');
  const { connections } = JSON.parse(frame.data ?? '') as { connections: { channels: string[] }[] };
  t.deepEqual(connections[0]?.channels, [channel]);
  await relay.get(`/events/${encodeURIComponent('x\ny')}`, { origin: 'https://evil.example/"<>' });
  const refusal = await live.until(({ event }) => event === 'refusal');
  t.is((JSON.parse(refusal.data ?? '') as { origin: string }).origin, 'https://evil.example/"<>');
  const api = await relay.get('/console/api/connections', { cookie: await relay.signIn() });
  t.regex(String(api.headers['content-type']), /^application\/json/);
});

test('while the database is away the console says so, and goes on when it is back', async (t) => {
  const relay = await startConsole(t, { SWEEP_SECONDS: '0.2', LISTEN_TIMEOUT_SECONDS: '4' });
  const live = await open(t, relay, '?views=overview');
  type Told = { ready: boolean; database: { connected: boolean; trouble: string | null } };
  const overview = ({ event, data }: { event?: string; data?: string }) =>
    event === 'overview' ? (JSON.parse(data ?? '') as Told) : undefined;
  await live.until((frame) => overview(frame)?.database.connected === true);
  await relay.database.withTablesLocked(async () => {
    await live.until((frame) => overview(frame)?.database.connected === false);
    const { status, body } = await relay.get('/console/api/log', { cookie: await relay.signIn() });
    t.is(status, 503);
    t.like(JSON.parse(body), { error: 'database_away' });
  });
  const count = live.frames.length;
  await live.until((frame) => live.frames.indexOf(frame) >= count && overview(frame)?.database.connected === true);
  t.regex(live.frames.map((frame) => overview(frame)?.database.trouble ?? '').join(''), /cannot read new events/);
});

test('a page that opens while others are being told is told what it asked for, and not what they did', async (t) => {
  const questions: Question[] = [];
  let answer: (() => void) | undefined;
  const peers: Peers = {
    count: 1,
    async ask(question) {
      questions.push(question);
      await new Promise<void>((resolve) => (answer = resolve));
      const connections = (question.connections ?? []).map(({ channel }) => ({
        total: channel === 'b' ? 2 : 1,
        connections: [],
      }));
      return { answers: [{ connections }], missing: 0 };
    },
  };
  const live = createLive({ peers, heartbeatSeconds: 15, retrySeconds: 1, stallSeconds: 30 });
  t.teardown(live.close);
  const viewer = { kind: 'open', subject: undefined, channels: channelFilter([]), expiresAt: Infinity } as const;
  const server = await startServer(t, (request, response) => {
    const channel = (request.url ?? '').slice(1);
    live.open(request, response, {
      ...{ views: new Set(['connections'] as const), sort: 'lag', channel, refusalsAfter: undefined, viewer },
    });
  });
  const first = await openStream(t, `${server.url}/a`);
  while (answer === undefined) await delay(5);
  const second = await openStream(t, `${server.url}/b`);
  await second.until(({ event }) => event === 'stream-open');
  answer();
  const told = async (stream: TestStream) =>
    (JSON.parse((await stream.until(({ event }) => event === 'connections')).data ?? '') as { total: number }).total;
  t.is(await told(first), 1);
  // At the next tick.
  while (questions.length < 2) await delay(5);
  answer();
  t.is(await told(second), 2);
});

test("a relay that stops ends the console's streams with a pause", async (t) => {
  const relay = await startConsole(t);
  const live = await open(t, relay, '?views=');
  await live.until(({ event }) => event === 'stream-open');
  await relay.stop();
  const frame = await live.until(({ event }) => event === 'stream-pause');
  t.like(JSON.parse(frame.data ?? ''), { reason: 'shutdown' });
  t.false(live.isComplete);
});

test('what the doctor finds is there, with what to do', async (t) => {
  const relay = await startConsole(t);
  type Finding = { severity: string; title: string; consequence: string | null; fix: string | null };
  const { findings } = await relay.api<{ findings: Finding[] }>('doctor');
  t.true(findings.length > 10);
  t.true(
    findings.every(({ severity, title }) => ['ok', 'note', 'warning', 'error'].includes(severity) && title !== ''),
  );
  t.true(findings.some(({ title }) => title.startsWith('triggers: ')));
  // Its role may do all, as the server's superuser.
  const [{ consequence, fix } = { consequence: null, fix: null }] = findings.filter(({ fix }) => fix !== null);
  t.regex(consequence ?? '', /^[A-Z].*\.$/s);
  t.regex(fix ?? '', /^run, as .*:\n {2}\S.*outbox-relay roles/s);
});
