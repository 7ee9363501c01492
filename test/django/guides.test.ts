/**
 * The guides in docs/, followed to the letter in a new project of Django's: their own code, as it stands there, makes it live.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { Browser, Page } from 'playwright-core';
import { launchBrowser } from '../support/browser.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { blockOf, readPages } from '../support/docs.js';
import { oldestDjango, runPython } from '../support/python.js';
import { startRelayProcess, type RelayProcess } from '../support/relay-process.js';
import { createTeardown } from '../support/site.js';
import { openStream } from '../support/stream.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const JWT_SECRET = 'the secret of the guides, 32 bytes and more';
const MOST_LINES = 12;
/** Where the guide has the relay. */
const RELAY = 'http://127.0.0.1:8001';

const all = createTeardown();
const python = oldestDjango();
let browser: Browser;
let database: TestDatabase;
let relay: RelayProcess;
let site: string;
let project: string;

test.before(async () => {
  browser = await launchBrowser();
  all.teardown(() => browser.close());
  database = await createDatabase(all, { template: false });
  project = await mkdtemp(join(tmpdir(), 'outbox-relay-guide-'));
  all.teardown(() => rm(project, { recursive: true, force: true }));
  const port = await freePort();
  site = `http://127.0.0.1:${port}`;
  await makeProject();
  await manage('migrate');
  await manage(
    'shell',
    '-c',
    "from django.contrib.auth.models import User; User.objects.create_user('ann', password='x')",
  );
  relay = await startRelayProcess(all, database.url, {
    PUBLIC_CHANNELS: 'room-7,orders,log,ping',
    JWT_SECRET,
    ALLOWED_ORIGINS: site,
  });
  for (const file of ['mysite/settings.py', 'templates/eventstream.html']) {
    const path = join(project, file);
    await writeFile(path, (await readFile(path, 'utf8')).replace(RELAY, relay.url));
  }
  await startRunserver(port);
});
test.after.always(() => all.end());

/** The blocks of a guide that say into which file they go, by that file; and all of its blocks by language. */
async function blocksOf(guide: string) {
  const text = await readFile(join(ROOT, 'docs', guide), 'utf8');
  const into = new Map<string, string>();
  for (const [, file = '', code = ''] of text.matchAll(/^In `([^`]+)`[^\n]*\n(?:[^\n]+\n)*\n```\w+\n([\s\S]*?)```/gm)) {
    into.set(file, code);
  }
  const byLanguage = (language: string) =>
    [...text.matchAll(/^```(\w+)\n([\s\S]*?)```/gm)].flatMap(([, name, code = '']) =>
      name === language ? [code] : [],
    );
  return { into, byLanguage };
}

/** What `django-admin startproject` makes, with a page and a log-in, as somebody's who reads the guide; and the guide's lines. */
async function makeProject(): Promise<void> {
  const { into } = await blocksOf('django.md');
  const take = (file: string) => into.get(file) ?? '';
  const startproject = await runPython(python, ['-m', 'django', 'startproject', 'mysite', project], { cwd: project });
  if (startproject.code !== 0) throw new Error(startproject.output);
  const { hostname, port, username, password, pathname } = new URL(database.url);
  const theirs = {
    ENGINE: 'django.db.backends.postgresql',
    HOST: hostname,
    PORT: port,
    USER: decodeURIComponent(username),
    PASSWORD: decodeURIComponent(password),
    NAME: pathname.slice(1),
  };
  await appendFile(
    join(project, 'mysite/settings.py'),
    `
DATABASES = {"default": ${JSON.stringify(theirs)}}
TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]
STATICFILES_DIRS = [("htmx", ${JSON.stringify(`${ROOT}node_modules/htmx.org/dist`)}),
    ("htmx-ext-sse", ${JSON.stringify(`${ROOT}node_modules/htmx-ext-sse/dist`)}),
    ("reconnecting", ${JSON.stringify(`${ROOT}node_modules/reconnecting-eventsource/dist`)})]
${take('settings.py')}`,
  );
  await appendFile(
    join(project, 'mysite/urls.py'),
    `
from mysite import views
urlpatterns += [path("in/", views.log_in), path("pack/", views.pack), path("list/", views.listing),
    path("may-listen", views.may_listen),
    path("page/<name>/", views.page)]
${take('urls.py')}`,
  );
  const [imports = '', call = ''] = take('views.py').trim().split('\n');
  await writeFile(
    join(project, 'mysite/views.py'),
    `
from django.contrib.auth import authenticate, login
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import render
${imports}
from django.http import JsonResponse
from outbox import send_event

${blockOf('docs/access.md', 'python', 1)}

def log_in(request):
    login(request, authenticate(username="ann", password="x"))
    return HttpResponse("in")

@transaction.atomic
def pack(request):
    ${call}
    return HttpResponse("packed")

lists = 0
def listing(request):
    global lists
    lists += 1
    return HttpResponse(f"<li>list {lists}</li>")

def page(request, name):
    return render(request, f"{name}.html")
`,
  );
  await mkdir(join(project, 'templates'));
  const html = (body: string) => `<!doctype html><title>theirs</title><body><p>theirs</p>${body}</body>`;
  await writeFile(join(project, 'templates/base.html'), html(take('base.html')));
  const polling = (await blocksOf('migrating/from-polling.md')).byLanguage('html')[0] ?? '';
  await writeFile(
    join(project, 'templates/polling.html'),
    html(`{% load outbox static %}<script src="{% static 'htmx/htmx.min.js' %}"></script>
      <script src="{% static 'htmx-ext-sse/sse.min.js' %}"></script>${polling.replaceAll('/orders/list/', '/list/')}`),
  );
  const eventstream = (await blocksOf('migrating/from-django-eventstream.md')).byLanguage('html')[0] ?? '';
  await writeFile(
    join(project, 'templates/eventstream.html'),
    html(
      `{% load static %}<script>window.seen = [];</script>${eventstream
        .replace('/static/reconnecting-eventsource.js', "{% static 'reconnecting/ReconnectingEventSource.min.js' %}")
        .replace('/events/', `${RELAY}/events/`)
        .replace('console.log(', 'seen.push(')
        .replace("import('/outbox-relay.js').then((relay) => relay.reloadOnce(e))", "seen.push('reset')")}
      <script>es.addEventListener('stream-open', () => seen.push('stream-open'));</script>`,
    ),
  );
}

async function manage(...args: string[]): Promise<string> {
  const { code, output } = await runPython(python, ['manage.py', ...args], { cwd: project, env: { JWT_SECRET } });
  if (code !== 0) throw new Error(`manage.py ${args.join(' ')} failed:\n${output}`);
  return output;
}

async function startRunserver(port: number): Promise<void> {
  const child = spawn(python, ['manage.py', 'runserver', '--noreload', String(port)], {
    cwd: project,
    env: { PATH: process.env['PATH'] ?? '', PYTHONUNBUFFERED: '1', JWT_SECRET },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const gone = once(child, 'exit');
  all.teardown(() => {
    child.kill('SIGTERM');
    return gone;
  });
  await new Promise<void>((resolve, reject) => {
    void gone.then(() => reject(new Error('runserver ended early.')));
    createInterface(child.stdout).on('line', (line) => {
      if (line.includes('Quit the server')) resolve();
    });
  });
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

/** Ann's, logged in. */
async function openPage(t: { teardown(end: () => unknown): void }, name: string): Promise<Page> {
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.goto(`${site}/in/`);
  await page.goto(`${site}/page/${name}/`);
  return page;
}

test.serial(`django.md: its own lines, at most ${MOST_LINES}, make a new project live`, async (t) => {
  const { into } = await blocksOf('django.md');
  t.deepEqual([...into.keys()], ['settings.py', 'urls.py', 'views.py', 'base.html']);
  const lines = [...into.values()].flatMap((code) => code.split('\n')).filter((line) => line.trim() !== '');
  t.true(lines.length <= MOST_LINES, `${lines.length} lines`);

  const page = await openPage(t, 'base');
  // What happened between the page and its stream is not missed, so there is nothing to wait for.
  await page.evaluate("fetch('/pack/')");
  await page.waitForFunction("document.body.innerText.startsWith('Your order is packed.')");
  t.regex(await manage('outbox_tail', '--from', 'earliest', '--no-follow'), /user:\d+ {2}notification {2}\{"text"/);
  t.regex(await manage('check', '--database', 'default'), /no issues/);
});

test.serial('from-polling.md: a list that was polled is asked for when an event says so', async (t) => {
  const page = await openPage(t, 'polling');
  await page.waitForFunction("document.querySelector('ul') && htmx");
  await manage(
    'shell',
    '-c',
    "from django.contrib.auth.models import User; from outbox import publish; publish(f'user:{User.objects.get().pk}', event='orders')",
  );
  const list = await page.waitForFunction("document.querySelector('ul').innerText.trim() === 'list 1'");
  t.true(await list.jsonValue());
});

test.serial(
  "from-django-eventstream.md: its client gets what send_event sends, from the relay's /events/?channel=",
  async (t) => {
    const page = await openPage(t, 'eventstream');
    await page.waitForFunction("seen.includes('stream-open')");
    const [, send = ''] =
      (await blocksOf('migrating/from-django-eventstream.md')).byLanguage('python')[0]?.split('\n\n') ?? [];
    await manage('shell', '-c', `from outbox import send_event\n${send}`);
    await page.waitForFunction('seen.length > 1');
    // It comes back by itself, with the cursor in its query.
    await relay.end('SIGKILL');
    await manage('shell', '-c', `from outbox import send_event\n${send.replace('hello world', 'while it was away')}`);
    await relay.start();
    await page.waitForFunction("seen.some(({ text }) => text === 'while it was away')");
    t.deepEqual(await page.evaluate("seen.filter((each) => each !== 'stream-open')"), [
      { text: 'hello world' },
      { text: 'while it was away' },
    ]);
  },
);

test.serial('from-raw-notify.md: a trigger notifies as before, and publishes beside it', async (t) => {
  const [trigger = ''] = (await blocksOf('migrating/from-raw-notify.md')).byLanguage('sql');
  await database.query(`CREATE TABLE orders (id int, status text); ${trigger};
    CREATE TRIGGER order_changed AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION order_changed()`);
  const stream = await openStream(t, `${relay.url}/events?channel=orders&channel=log&channel=ping`);
  await database.withClient(async (client) => {
    const notified = once(client, 'notification') as Promise<[{ payload?: string }]>;
    await client.query('LISTEN orders');
    await client.query(`INSERT INTO orders VALUES (7, 'packed')`);
    t.deepEqual(JSON.parse((await notified)[0].payload ?? ''), { id: 7, status: 'packed' });
  });
  // The table of what becomes what.
  const text = await readFile(join(ROOT, 'docs/migrating/from-raw-notify.md'), 'utf8');
  const calls = [
    ...text.matchAll(/^\| .*pg_notify.* \| `(outbox_publish.*)` \|$|^\| `NOTIFY ping` \| `(outbox_publish[^`]*)`/gm),
  ];
  t.is(calls.length, 3);
  for (const [, first, second] of calls) await database.query(`SELECT ${first ?? second ?? ''}`);
  t.deepEqual(
    (await stream.untilEvents(4)).map(({ data }) => data),
    ['{"id": 7, "status": "packed"}', '{"id": 7}', 'plain text', 'null'],
  );
});

/** Runs a block of a page as it stands, after and before lines of the test's own; resolves with the last line that is printed. */
async function runBlock(before: string, block: string, after: string): Promise<string> {
  const words = [before, block, after].map((code) => JSON.stringify(Buffer.from(code).toString('base64')));
  // As a module of the app, so that a model in it has an app.
  const script = `import base64; names = {"__name__": "outbox.models"}
for part in [${words.join(', ')}]: exec(base64.b64decode(part).decode(), names)`;
  return (await manage('shell', '-c', script)).trim().split('\n').at(-1) ?? '';
}

test.serial('publishing.md: its function and its model publish what they are given', async (t) => {
  const { rows: before } = await database.query<{ id: string }>('SELECT max(id) AS id FROM outbox');
  const since = async () =>
    (
      await database.query(
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

test.serial('browser.md: the view starts a stream at the newest event', async (t) => {
  await database.query(`INSERT INTO outbox (channel) VALUES ('stock')`);
  const { rows } = await database.query('SELECT id::text FROM outbox ORDER BY position DESC LIMIT 1');
  const cursor = await runBlock(
    'from django.db import connection',
    blockOf('docs/browser.md', 'python'),
    'print(current_cursor())',
  );
  t.deepEqual(rows, [{ id: cursor }]);
});

test.serial('access.md: the cookie that the view sets opens the channels that it names, and no others', async (t) => {
  const cookie = await runBlock(
    `import time, jwt; from django.conf import settings; settings.JWT_SECRET = "${JWT_SECRET}"
from django.http import HttpResponse; from django.contrib.auth.models import User
user = User.objects.get(); response = HttpResponse()`,
    blockOf('docs/access.md', 'python', 0),
    'set_token(response, user); print(user.pk, response.cookies["outbox_token"].value)',
  );
  const [id = '', token = ''] = cookie.split(' ');
  const headers = { Cookie: `outbox_token=${token}`, Host: new URL(relay.url).host };
  const stream = await openStream(t, `${relay.url}/events?channel=user:${id}&channel=news`, headers);
  t.is(stream.status, 200);
  await t.throwsAsync(openStream(t, `${relay.url}/events?channel=user:0`, headers), { message: /^403 .*forbidden/ });
});

test.serial('access.md: the view that is asked lets its user in, and nobody else', async (t) => {
  const asking = await startRelayProcess(t, database.url, {
    PUBLIC_CHANNELS: '',
    FORWARD_AUTH_URL: `${site}/may-listen`,
  });
  const { headers } = await fetch(`${site}/in/`);
  const [session = ''] = headers.getSetCookie().filter((text) => text.startsWith('sessionid='));
  const cookie = { Cookie: session.split(';', 1)[0] ?? '' };
  t.is((await openStream(t, `${asking.url}/events?channel=news`, cookie)).status, 200);
  await t.throwsAsync(openStream(t, `${asking.url}/events?channel=news`), { message: /^401 / });
  await t.throwsAsync(openStream(t, `${asking.url}/events?channel=user:0`, cookie), { message: /^403 / });
});

test.serial('every block of Python in the documentation is Python', async (t) => {
  const found = [...readPages().values()].flatMap(({ blocks }) =>
    blocks.filter(({ language }) => language === 'python'),
  );
  t.true(found.length >= 18, `${found.length} blocks`);
  const file = join(project, 'blocks.json');
  await writeFile(file, JSON.stringify(found.map(({ at, code }) => [at, code])));
  const { code, output } = await runPython(
    python,
    ['-c', 'import ast, json, sys\nfor at, code in json.load(open(sys.argv[1])): ast.parse(code, at)', file],
    { cwd: project },
  );
  t.is(code, 0, output);
});
