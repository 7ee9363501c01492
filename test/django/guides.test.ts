/**
 * The guides in docs/, followed to the letter in a new project of Django's, with the wheel in a fresh virtual environment: what they have
 * the reader type is all that makes it live.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { blockOf, readPage, readPages, ROOT } from '../support/docs.js';
import {
  buildWheel,
  freePort,
  html,
  makeProject,
  page as pageView,
  readGuide,
  USER,
  type GuideProject,
  type Running,
} from '../support/guide-project.js';
import { runPython } from '../support/python.js';
import { startRelayProcess } from '../support/relay-process.js';
import { createTeardown } from '../support/site.js';
import { openStream } from '../support/stream.js';
import { SECRET } from '../support/token.js';

const MOST = { commands: 3, terminals: 1, lines: 8, minutes: 5 } as const;
/** What does not come to an end: the next command needs another terminal. */
const STAYS = /\b(?:runserver|outbox_relay|outbox_tail)\b/;
const SERVES = /Quit the server/;
const NOTIFY = 'migrating/from-raw-notify.md';
const EVENTSTREAM = 'migrating/from-django-eventstream.md';
const POLLING = 'migrating/from-polling.md';
const OTHERS = ['django-eventstream>=5,<6', 'sse-relay-server[postgres,redis]==1.0.14'] as const;

const all = createTeardown();
let wheel: string;
let browser: Browser;
let project: GuideProject;
let site: string;
let running: Running;

test.before(async () => {
  wheel = await buildWheel(all);
  browser = await launchBrowser();
  all.teardown(() => closeBrowser(browser));
  project = await makeProject(all);
});
test.after.always(() => all.end());

/** Starts what the guide starts, at its own port if that is free. */
async function serve(command: string): Promise<Running> {
  const port = await freePort(8000);
  site = `http://127.0.0.1:${port}`;
  return project.leaveRunning(port === 8000 ? command : `${command} ${port}`, SERVES);
}

async function logIn(t: Pick<ExecutionContext, 'teardown'>): Promise<{ context: BrowserContext; page: Page }> {
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.goto(site);
  await page.fill('[name=username]', USER.name);
  await page.fill('[name=password]', USER.password);
  await page.click('button');
  await page.waitForURL(`${site}/`);
  return { context, page };
}

const says = (page: Page, text: string) =>
  page.waitForFunction(`document.body.innerText.includes(${JSON.stringify(text)})`, undefined, { timeout: 60_000 });

test.serial(
  'django.md: three commands, one terminal and eight lines later, one tab says what another was told',
  async (t) => {
    t.timeout(600_000);
    const { commands, lines } = readGuide('django.md', 'In production');
    t.deepEqual([...lines.keys()], ['settings.py', 'views.py', 'page.html']);
    const own = [...lines.values()].flatMap((code) => code.split('\n')).filter((line) => line.trim() !== '');
    const terminals = 1 + commands.slice(0, -1).filter((command) => STAYS.test(command)).length;
    t.regex(commands[0] ?? '', /^pip install /);

    const began = Date.now();
    const [install = '', ...others] = commands;
    await project.type(install.replace('django-outbox-relay', wheel));
    await project.append('mysite/settings.py', lines.get('settings.py') ?? '');
    const code = (lines.get('views.py') ?? '').split('\n');
    const isImport = (line: string) => line.startsWith('from ');
    const inView = code.filter((line) => !isImport(line)).join('\n');
    await project.write('mysite/views.py', pageView(code.filter(isImport).join('\n'), inView));
    await project.write('templates/page.html', html(lines.get('page.html') ?? ''));
    for (const command of others.slice(0, -1)) await project.type(command);
    running = await serve(others.at(-1) ?? '');

    const { context, page: first } = await logIn(t);
    const second = await context.newPage();
    const errors: string[] = [];
    for (const page of [first, second]) page.on('pageerror', (error) => errors.push(String(error)));
    await second.goto(site);
    const tell = async (page: Page, text: string) => {
      await page.fill('[name=text]', text);
      await page.press('[name=text]', 'Enter');
    };
    await tell(second, 'hello');
    await says(first, 'hello');
    const minutes = (Date.now() - began) / 60_000;
    t.log(
      `${commands.length} commands, ${terminals} terminal, ${own.length} lines of own code, ${(minutes * 60).toFixed(0)} s without typing`,
    );
    t.true(commands.length <= MOST.commands, commands.join('\n'));
    t.is(terminals, MOST.terminals);
    t.true(own.length <= MOST.lines, own.join('\n'));
    t.true(minutes <= MOST.minutes, `${minutes} minutes`);

    // As it says there, the tab that tells does not hear it; and neither misses what the other tells later.
    await tell(first, 'good morning');
    await says(second, 'good morning');
    t.notRegex(await second.locator('body').innerText(), /hello/);
    t.deepEqual(errors, []);
    t.regex(await project.manage('outbox_tail', '--from', 'earliest', '--no-follow'), /user:\d+ {2}note {2}hello/);
    t.regex(await project.manage('check', '--database', 'default'), /no issues/);
  },
);

test.serial('django.md: Ctrl-C ends the relay with runserver', async (t) => {
  await running.interrupt();
  const isLeft = async () =>
    (await project.database.query(`SELECT FROM pg_stat_activity WHERE application_name LIKE 'outbox-relay%'`)).rows
      .length > 0;
  while (await isLeft()) await new Promise((done) => setTimeout(done, 20));
  t.false(await isLeft());
});

/** From here on the project has the pages of the other guides, and the packages that they lead away from. */
test.serial(
  'the guides for those who move start from packages that are installed, and serve them beside the outbox',
  async (t) => {
    t.timeout(600_000);
    await project.type(
      `pip install --quiet --disable-pip-version-check ${OTHERS.map((name) => `"${name}"`).join(' ')}`,
    );
    const modules = join(ROOT, 'node_modules');
    await project.append(
      'mysite/settings.py',
      `
OUTBOX = {"PUBLIC_CHANNELS": ["room-7", "notifications", "orders", "log", "ping", "answer:7"]}
STATICFILES_DIRS = ["${modules}/htmx.org/dist", "${modules}/htmx-ext-sse/dist", "${modules}/reconnecting-eventsource/dist"]
`,
    );
    await project.append(
      'mysite/urls.py',
      `
from mysite import guides
urlpatterns += [path("list/", guides.listing), path("may-listen", guides.may_listen), path("page/<name>/", guides.page)]
`,
    );
    await project.write(
      'mysite/guides.py',
      `from django.http import HttpResponse, JsonResponse
from django.shortcuts import render

${blockOf('docs/access.md', 'python', 1)}

lists = 0
def listing(request):
    global lists
    lists += 1
    return HttpResponse(f"<li>list {lists}</li>")

def page(request, name):
    return render(request, f"{name}.html")
`,
    );
    const polling = blockOf(`docs/${POLLING}`, 'html').replaceAll('/orders/list/', '/list/');
    await project.write(
      'templates/polling.html',
      html(`{% load outbox static %}<script src="{% static 'htmx.min.js' %}"></script>
      <script src="{% static 'sse.min.js' %}"></script>${polling}`),
    );
    const eventstream = blockOf(`docs/${EVENTSTREAM}`, 'html')
      .replace('/static/reconnecting-eventsource.js', '/static/ReconnectingEventSource.min.js')
      .replace('console.log(', 'seen.push(');
    await project.write(
      'templates/eventstream.html',
      html(`<script>window.seen = [];</script>${eventstream}
      <script>es.addEventListener('stream-open', () => seen.push('stream-open'));</script>`),
    );
    const notify = blockOf(`docs/${NOTIFY}`, 'html').replace('console.log(', 'seen.push(');
    await project.write(
      'templates/notify.html',
      html(`<script>window.seen = [];</script>${notify}
      <script>source.addEventListener('stream-open', () => seen.push('stream-open'));</script>`),
    );
    running = await serve('python manage.py runserver');
    t.is((await fetch(site)).status, 200);
  },
);

async function open(t: ExecutionContext, name: string): Promise<Page> {
  const { page } = await logIn(t);
  await page.goto(`${site}/page/${name}/`);
  return page;
}

test.serial('from-polling.md: a list that was polled is asked for when an event says so', async (t) => {
  const page = await open(t, 'polling');
  await page.waitForFunction("document.querySelector('ul') && htmx");
  await project.manage(
    'shell',
    '-c',
    "from django.contrib.auth.models import User; from outbox import publish; publish(f'user:{User.objects.get().pk}', event='orders')",
  );
  const list = await page.waitForFunction("document.querySelector('ul').innerText.trim() === 'list 1'");
  t.true(await list.jsonValue());
});

test.serial('from-django-eventstream.md: send_event takes what that of django-eventstream takes', async (t) => {
  const signature = (module: string) =>
    project.manage(
      'shell',
      '-c',
      `import inspect; from ${module} import send_event
print([(name, repr(each.default)) for name, each in inspect.signature(send_event).parameters.items()])`,
    );
  const last = (output: string) => output.trim().split('\n').at(-1);
  t.is(last(await signature('outbox')), last(await signature('django_eventstream')));
});

test.serial(
  'from-django-eventstream.md: its client gets what send_event sends, and goes on when the relay was killed',
  async (t) => {
    const page = await open(t, 'eventstream');
    await page.waitForFunction("seen.includes('stream-open')");
    const [, send = ''] = blockOf(`docs/${EVENTSTREAM}`, 'python').split('\n\n');
    const publish = (code: string) => project.manage('shell', '-c', `from outbox import send_event\n${code}`);
    await publish(send);
    await page.waitForFunction("seen.some(({ text }) => text === 'hello world')");
    // It comes back by itself, with the cursor in its query.
    await running.killBelow('ends_with_parent');
    await publish(send.replace('hello world', 'while it was away'));
    await page.waitForFunction("seen.some(({ text }) => text === 'while it was away')");
    t.deepEqual(await page.evaluate("seen.filter((each) => each !== 'stream-open')"), [
      { text: 'hello world' },
      { text: 'while it was away' },
    ]);
  },
);

test.serial('from-django-eventstream.md: the addresses that routes become are those of streams', async (t) => {
  const addresses = [...readPage(`docs/${EVENTSTREAM}`).text.matchAll(/^\| `path\(.*\)` \| `([^`]+)`/gm)];
  t.is(addresses.length, 4);
  for (const [, address = ''] of addresses) {
    const stream = await openStream(t, site + address.replace(/news&channel=test/, 'log&channel=ping'));
    t.is(stream.status, 200, address);
    await stream.until(({ event }) => event === 'stream-open');
  }
});

test.serial(
  'from-raw-notify.md: what notify sent over sse-relay-server arrives as before, by the same call',
  async (t) => {
    const port = await freePort();
    const { database } = project;
    const theirs = `DATABASE_URL=${database.url} RELAY_USE_PG=True ALLOWED_ORIGINS=${site}`;
    await project.leaveRunning(`${theirs} sse-relay-server --host 127.0.0.1 --port ${port}`, /startup complete/);
    const [, call = ''] = /^[^\n]+\n([^]*)$/.exec(blockOf(`docs/${NOTIFY}`, 'python')) ?? [];
    const send = (module: string, code: string) =>
      project.manage(
        'shell',
        '-c',
        `import json, os; os.environ |= {"DATABASE_URL": "${database.url}", "RELAY_USE_PG": "True"}\nfrom ${module} import notify\n${code}`,
      );

    const before = await open(t, 'notify');
    await before.evaluate(`seen.length = 0; source.close();
    const old = new EventSource('http://127.0.0.1:${port}/NOTIFICATIONS', { withCredentials: true });
    old.addEventListener('NEW_NOTIFICATION', (e) => seen.push(e.data));`);
    const isListening = async () =>
      (await database.query(`SELECT FROM pg_stat_activity WHERE query ILIKE 'LISTEN notifications%'`)).rows.length > 0;
    while (!(await isListening())) await new Promise((done) => setTimeout(done, 20));
    // An apostrophe breaks its statement, and it folds the names of channels.
    await t.throwsAsync(send('sse_relay_server', call), { message: /syntax error/i });
    await send('sse_relay_server', call.replace("It's", 'It is').replace('"notifications"', '"Notifications"'));
    await before.waitForFunction('seen.length > 0');
    t.deepEqual(await before.evaluate('seen'), ['{"message": "It is here"}']);

    const after = await open(t, 'notify');
    await after.waitForFunction("seen.includes('stream-open')");
    await send('outbox', call.replace('"notifications"', '"Notifications"'));
    await send('outbox', call);
    await after.waitForFunction('seen.length > 1');
    t.deepEqual(await after.evaluate('seen.slice(1)'), ['{"message": "It\'s here"}']);
  },
);

test.serial('from-raw-notify.md: a trigger notifies as before, and publishes beside it', async (t) => {
  const { database } = project;
  const trigger = blockOf(`docs/${NOTIFY}`, 'sql');
  await database.query(`CREATE TABLE orders (id int, status text); ${trigger};
    CREATE TRIGGER order_changed AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION order_changed()`);
  const stream = await openStream(t, `${site}/events?channel=orders&channel=log&channel=ping`);
  await database.withClient(async (client) => {
    const notified = once(client, 'notification') as Promise<[{ payload?: string }]>;
    await client.query('LISTEN orders');
    await client.query(`INSERT INTO orders VALUES (7, 'packed')`);
    const envelope = JSON.parse((await notified)[0].payload ?? '') as Record<string, string>;
    t.deepEqual(envelope, { event: 'status', data: '{"id": 7, "status": "packed"}' });
  });
  // The table of what becomes what.
  const calls = [
    ...readPage(`docs/${NOTIFY}`).text.matchAll(/^\| `(?:pg_notify|NOTIFY).*\| `(outbox_publish[^`]*)`/gm),
  ];
  t.is(calls.length, 4);
  for (const [, call = ''] of calls) await database.query(`SELECT ${call}`);
  t.deepEqual(
    (await stream.untilEvents(5)).map(({ event, data }) => [event, data]),
    [
      ['status', '{"id": 7, "status": "packed"}'],
      [undefined, '7'],
      ['status', '{"id": 7}'],
      [undefined, 'plain text'],
      [undefined, 'null'],
    ],
  );
});

/** Runs a block of a page as it stands, after and before lines of the test's own; resolves with the last line that is printed. */
async function runBlock(before: string, block: string, after: string): Promise<string> {
  const words = [before, block, after].map((code) => JSON.stringify(Buffer.from(code).toString('base64')));
  // As a module of the app, so that a model in it has an app.
  const script = `import base64; names = {"__name__": "outbox.models"}
for part in [${words.join(', ')}]: exec(base64.b64decode(part).decode(), names)`;
  return (await project.manage('shell', '-c', script)).trim().split('\n').at(-1) ?? '';
}

test.serial('publishing.md: its function and its model publish what they are given', async (t) => {
  const { rows: before } = await project.database.query<{ id: string }>('SELECT max(id) AS id FROM outbox');
  const since = async () =>
    (
      await project.database.query(
        'SELECT channel, event, data FROM outbox WHERE id > $1 AND position IS NOT NULL ORDER BY position',
        [before[0]?.id ?? '0'],
      )
    ).rows;
  const order = 'class Order:\n    pk = 7\n    def pack(self): print("packed")\norder = Order()';
  t.is(await runBlock(order, blockOf('docs/publishing.md', 'python', 0), ''), 'packed');
  t.deepEqual(await since(), [{ channel: 'orders', event: 'status', data: { order: 7, status: 'packed' } }]);
  const user = 'from django.contrib.auth.models import User; user = User.objects.get()';
  const id = await runBlock(user, blockOf('docs/publishing.md', 'python', 1), 'print(user.pk)');
  t.deepEqual((await since()).slice(1), [
    { channel: `user:${id}`, event: 'message', data: { text: 'Your order is packed.' } },
    ...[0, 1, 2].map((data) => ({ channel: 'stock', event: 'message', data })),
  ]);
});

test.serial('django-recipes.md: a page that comes amid a long answer gets it from its start', async (t) => {
  const block = blockOf('docs/django-recipes.md', 'python', 3);
  await runBlock('from outbox import publish', block, 'answer("answer:7", ["It ", "is "])');
  const stream = await openStream(t, `${site}/events?channel=answer:7&last_event_id=earliest`);
  t.deepEqual(
    (await stream.untilEvents(3)).map(({ event, data }) => [event, data]),
    [
      ['chunk', '{"text": "It ", "number": 0}'],
      ['chunk', '{"text": "is ", "number": 1}'],
      ['done', 'null'],
    ],
  );
});

test("django-recipes.md: its code is that of the app's tests", (t) => {
  const tests = ['test_rest', 'test_celery', 'urls']
    .map((name) => readFileSync(join(ROOT, `packages/django/tests/${name}.py`), 'utf8'))
    .join('\n')
    .replace('(name="pack")', '')
    .replace(', *, fails=False', '');
  const there = new Set(tests.split('\n').map((line) => line.trim()));
  for (const index of [0, 1, 2]) {
    const lines = blockOf('docs/django-recipes.md', 'python', index).split('\n');
    t.deepEqual(
      lines.filter((line) => !there.has(line.trim())),
      [],
    );
  }
});

test.serial('browser.md: the view starts a stream at the newest event', async (t) => {
  await project.database.query(`INSERT INTO outbox (channel) VALUES ('stock')`);
  const { rows } = await project.database.query('SELECT id::text FROM outbox ORDER BY position DESC LIMIT 1');
  const cursor = await runBlock(
    'from django.db import connection',
    blockOf('docs/browser.md', 'python'),
    'print(current_cursor())',
  );
  t.deepEqual(rows, [{ id: cursor }]);
});

test.serial('access.md: the cookie that the view sets opens the channels that it names, and no others', async (t) => {
  const cookie = await runBlock(
    `import time, jwt; from django.conf import settings; settings.JWT_SECRET = "${SECRET}"
from django.http import HttpResponse; from django.contrib.auth.models import User
user = User.objects.get(); response = HttpResponse()`,
    blockOf('docs/access.md', 'python', 0),
    'set_token(response, user); print(user.pk, response.cookies["outbox_token"].value)',
  );
  const [id = '', token = ''] = cookie.split(' ');
  const relay = await startRelayProcess(t, project.database.url, { PUBLIC_CHANNELS: '', JWT_SECRET: SECRET });
  const headers = { Cookie: `outbox_token=${token}`, Host: new URL(relay.url).host };
  const stream = await openStream(t, `${relay.url}/events?channel=user:${id}&channel=news`, headers);
  t.is(stream.status, 200);
  await t.throwsAsync(openStream(t, `${relay.url}/events?channel=user:0`, headers), { message: /^403 .*forbidden/ });
});

test.serial('access.md: the view that is asked lets its user in, and nobody else', async (t) => {
  const asking = await startRelayProcess(t, project.database.url, {
    PUBLIC_CHANNELS: '',
    FORWARD_AUTH_URL: `${site}/may-listen`,
  });
  const { context } = await logIn(t);
  const session = (await context.cookies()).find(({ name }) => name === 'sessionid')?.value ?? '';
  const cookie = { Cookie: `sessionid=${session}` };
  t.is((await openStream(t, `${asking.url}/events?channel=news`, cookie)).status, 200);
  await t.throwsAsync(openStream(t, `${asking.url}/events?channel=news`), { message: /^401 / });
  await t.throwsAsync(openStream(t, `${asking.url}/events?channel=user:0`, cookie), { message: /^403 / });
});

test.serial('every block of Python in the documentation is Python', async (t) => {
  const found = [...readPages().values()].flatMap(({ blocks }) =>
    blocks.filter(({ language }) => language === 'python'),
  );
  t.true(found.length >= 18, `${found.length} blocks`);
  const file = join(project.folder, 'blocks.json');
  await writeFile(file, JSON.stringify(found.map(({ at, code }) => [at, code])));
  const { code, output } = await runPython(
    project.python,
    ['-c', 'import ast, json, sys\nfor at, code in json.load(open(sys.argv[1])): ast.parse(code, at)', file],
    { cwd: project.folder },
  );
  t.is(code, 0, output);
});
