/**
 * The documentation against the code: links, commands and variables exist, snippets run or parse.
 */
import { EventEmitter, once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { EventSource } from 'eventsource';
import ts from 'typescript';
import { VARIABLES } from '../src/config/config.js';
import { runCommand } from './support/command.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { blockOf, brokenLinks, readPages, ROOT, type Page } from './support/docs.js';
import { commandsIn } from './support/docs-shell.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';

const README_BYTES = 9000;
const pages = readPages();
const all: readonly Page[] = [...pages.values()];
const blocks = all.flatMap((page) => page.blocks);
const commands = blocks
  .filter(({ language }) => ['sh', 'bash', 'console'].includes(language))
  .flatMap(({ at, code, language }) => commandsIn(code, language).map((command) => ({ at, ...command })));

const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  readonly version: string;
  readonly scripts: Readonly<Record<string, string>>;
};
const scripts = Object.keys(manifest.scripts);

/** Names with an underscore that are no variables of the relay's. */
const OTHERS: readonly RegExp[] = [
  /^(?:CHAOS|FUZZ|TORTURE)_|^TEST_LOG$|^CHROMIUM_PATH$/, // of the tests
  /^ALLOWED_HOSTS$|^ATOMIC_REQUESTS$|^BASE_DIR$|^STATICFILES_DIRS$|^CSRF_TRUSTED_ORIGINS$|^DATABASE_ROUTERS$|^SECRET_KEY$|^SESSION_COOKIE_SECURE$/, // of Django
  /^NO_COLOR$/, // of terminals
  /^OTEL_/, // of OpenTelemetry
  /^OUTBOX_TOKEN$/, // of commands that ask a relay
  /^SQL_ASCII$/, // of PostgreSQL
  /^EVENTSTREAM_|^GRIP_URL$/, // of django-eventstream
  /^REDIS_URL$|^RELAY_USE_PG$|^RELAY_SERVER_DEBUG$|^NEW_NOTIFICATION$/, // of sse-relay-server, and an event's name
  /^SUBSCRIBER_JWT$/, // of bench/README.md, for Mercure
  /^WEB_COMMAND$/, // of docs/deploy.md, for the command of a web server
  /^NATS_(?:NAME|ROUTES|DATA|(?:SETUP|FEEDER|RELAY)_PASSWORD|SERVER_PATH)$/, // of examples/deploy/nats, and of the tests
  /^TMPDIR$/, // of the system
  /^COMPOSE_ENV_FILES$|^WEB_COMMAND$/, // of Compose, and of the recipe for Heroku
];

/** Programs that the documentation may call, beside npm, outbox-relay and files of ours. */
const PROGRAMS = [
  'curl',
  'openssl',
  'docker',
  'pip',
  'python',
  'apt-get',
  'psql',
  'pgrep',
  'seq',
  'date',
  'printf',
  'true',
];

/** Of PyPI, that the documentation may have installed. */
const PACKAGES = ['django-outbox-relay[relay]'];

/** What manage.py can do by itself, where the documentation asks for it. */
const OF_DJANGO = ['migrate', 'runserver', 'check', 'makemigrations', 'sqlsequencereset'];

/** For what minds nobody else's rows: commands, and SQL in transactions that are rolled back. */
let shared: TestDatabase;
test.before(async () => {
  shared = await createDatabase(undefined);
});
test.after.always(() => shared.drop());

test('every relative link of a page leads to a file, and to a heading of it', (t) => {
  for (const page of all) t.deepEqual(brokenLinks(page, pages), [], page.path);
});

/** What commands make, and a fresh checkout does not have. */
const MADE = ['examples/django/.venv'];

test('every file and folder of ours that is named exists', (t) => {
  const path = /^(?:\.ci|bench|docs|examples|migrations|packages|src|test)\/[\w./-]*$/;
  for (const { path: page, spans } of all) {
    const missing = spans.filter((span) => path.test(span) && !MADE.includes(span) && !existsSync(join(ROOT, span)));
    t.deepEqual(missing, [], page);
  }
});

test("CONTRIBUTING.md's map has a line for every room", (t) => {
  const rooms = ['src', 'packages'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => `| \`${folder}/${name}/\` |`),
  );
  const map = pages.get('CONTRIBUTING.md')?.text ?? '';
  t.deepEqual(
    rooms.filter((room) => map.split(room).length !== 2),
    [],
  );
});

test('every test file that CONTRIBUTING.md names for a promise carries its number', (t) => {
  const rows = [...(pages.get('CONTRIBUTING.md')?.text ?? '').matchAll(/^\| (R\d) \|.*\| (.+) \|$/gm)];
  t.is(rows.length, 9);
  for (const [, number = '', files = ''] of rows) {
    for (const [, file = ''] of files.matchAll(/`(test\/[^`]+\.test\.ts)`/g)) {
      t.regex(readFileSync(join(ROOT, file), 'utf8'), new RegExp(`\\b${number}\\b`), `${number}: ${file}`);
    }
  }
});

test('CONTRIBUTING.md names every suite', (t) => {
  const { spans = [] } = pages.get('CONTRIBUTING.md') ?? {};
  for (const name of scripts.filter((script) => /^(?:test:|torture$|chaos$|fuzz$)/.test(script))) {
    t.true(spans.includes(`npm run ${name}`), name);
  }
});

test('README.md has at most 9,000 bytes, and what a user asks in that order', (t) => {
  const { text = '' } = pages.get('README.md') ?? {};
  t.true(Buffer.byteLength(text) <= README_BYTES, `${Buffer.byteLength(text)} bytes`);
  t.deepEqual(
    [...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading),
    ['Try it', 'Publish', 'Subscribe', 'What is promised', 'What it costs', 'When not to use it', 'Where to go on'],
  );
  for (const language of ['sql', 'js']) t.is(blockOf('README.md', language).trim().split('\n').length, 5, language);
});

test('docs/README.md leads to every page in docs/', (t) => {
  const linked = new Set(pages.get('docs/README.md')?.links);
  const missing = all.filter(({ path }) => path.startsWith('docs/') && !linked.has(path.slice('docs/'.length)));
  t.deepEqual(
    missing.map(({ path }) => path),
    ['docs/README.md'],
  );
});

test('images are small enough to be looked at on the way', (t) => {
  for (const name of readdirSync(join(ROOT, 'docs/images'))) {
    t.true(readFileSync(join(ROOT, 'docs/images', name)).length <= 150_000, name);
  }
});

test('every variable that is named exists', (t) => {
  const known = new Set(VARIABLES);
  const django = readFileSync(join(ROOT, 'packages/django/outbox/conf.py'), 'utf8');
  const isKnown = (name: string) =>
    known.has(name) || django.includes(`"${name}"`) || OTHERS.some((pattern) => pattern.test(name));
  for (const { path, spans } of all) {
    const named = spans.flatMap((span) => span.match(/\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b(?!\()/g) ?? []);
    t.deepEqual(
      named.filter((name) => !isKnown(name)),
      [],
      path,
    );
  }
  for (const { at, variables } of commands)
    t.deepEqual(
      variables.filter((name) => !isKnown(name)),
      [],
      at,
    );
});

test('every program that is called is known, and every script and file of ours exists', (t) => {
  t.true(commands.length > 40, `${commands.length} commands`);
  for (const { at, words } of commands) {
    const [program = '', first = '', second = ''] = words;
    const said = `${at}: ${words.join(' ')}`;
    if (program === 'npm') {
      t.true(
        first === 'run' ? scripts.includes(second) : ['ci', 'start', 'test', 'pack', 'install'].includes(first),
        said,
      );
    } else if (program === 'npx') t.is(first, 'outbox-relay', said);
    else if (program.includes('/')) t.true(existsSync(join(ROOT, program)), said);
    else if (program !== '') t.true(PROGRAMS.includes(program), said);
    const [archive = `outbox-relay-${manifest.version}.tgz`] = words.filter((word) => word.endsWith('.tgz'));
    t.is(basename(archive), `outbox-relay-${manifest.version}.tgz`, said);
    if (program === 'pip') t.true(PACKAGES.includes(second) || existsSync(join(ROOT, second)), said);
    if (program === 'python') t.true(isManagementCommand(second), said);
  }
  for (const { path, spans } of all) {
    for (const [, name = ''] of spans.flatMap((span) => [...span.matchAll(/\bnpm run (?:--silent )?([\w:-]+)/g)])) {
      t.true(scripts.includes(name), `${path}: npm run ${name}`);
    }
  }
});

function isManagementCommand(name: string): boolean {
  const folder = join(ROOT, 'packages/django/outbox/management/commands');
  return OF_DJANGO.includes(name) || existsSync(join(folder, `${name}.py`));
}

test('every command and option of outbox-relay that is named is in its help', async (t) => {
  const { output: help } = await runCommand(['--help']);
  const named = new Map<string, { readonly at: string; readonly options: Set<string> }>();
  const note = (at: string, words: readonly string[]) => {
    const [command = ''] = words;
    if (!/^[a-z][a-z-]*$/.test(command)) return;
    const { options } = named.get(command) ?? { options: new Set() };
    for (const word of words) if (word.startsWith('--')) options.add(word);
    named.set(command, { at, options });
  };
  for (const { at, words } of commands) if (words[1] === 'outbox-relay') note(at, words.slice(2));
  for (const { path, spans } of all) {
    for (const [, rest = ''] of spans.flatMap((span) => [...span.matchAll(/^(?:npx )?outbox-relay ([^]*)$/g)])) {
      note(path, rest.split(/\s+/));
    }
  }
  const ofHelp = [...help.matchAll(/^  ([a-z-]+) [^\n]*?  /gm)].map(([, command]) => command);
  t.deepEqual([...named.keys()].sort(), ofHelp.filter((command) => command !== 'start').sort());
  for (const [command, { at, options }] of named) {
    t.regex(help, new RegExp(`\\b${command}\\b`), at);
    // Each command may have a page of its own.
    const own = [...options].every((option) => help.includes(option))
      ? ''
      : (await runCommand([command, '--help'])).output;
    for (const option of options) t.true(`${help}${own}`.includes(option), `${at}: ${command} ${option}`);
  }
});

test('commands of outbox-relay that come to an end do so without an error, as they stand', async (t) => {
  const { url } = shared;
  // Tests of their own, below, in docs-cli.test.ts and in test/nats, have these.
  const elsewhere = ['roles', 'doctor', 'feed', 'publish', 'tail', 'top', 'explain', 'stats', 'config'];
  const lines = new Set(
    commands
      .filter(({ words }) => words[1] === 'outbox-relay' && words.length > 2 && !elsewhere.includes(words[2] ?? ''))
      .map(({ words }) => words.slice(2).join(' ')),
  );
  t.true(lines.size >= 5, [...lines].join('\n'));
  for (const line of lines) {
    const { code, output } = await runCommand(line.split(' '), {
      DATABASE_URL: url,
      JWT_SECRET: 'of this test, of 32 bytes or more',
    });
    t.is(code, 0, `${line}: ${output}`);
  }
});

test('roles grants what docs/operations.md says', async (t) => {
  const { url } = shared;
  const options = [
    '--app=shop',
    '--relay=outbox_relay',
    '--retention=outbox_retention',
    '--redaction=outbox_redaction',
  ];
  const { output } = await runCommand(['roles', ...options, '--print'], { DATABASE_URL: url });
  const printed = output.replaceAll('"public".', '').replaceAll('"', '');
  const grants = blockOf('docs/operations.md', 'sql').match(/^GRANT [^;]+;/gm) ?? [];
  t.is(grants.length, 6);
  for (const grant of grants) {
    const [, rights = '', tables = '', role = ''] = /^GRANT (.+) ON (.+) TO (\w+);$/.exec(grant) ?? [];
    for (const table of tables.split(', ')) {
      t.true(printed.includes(`GRANT ${rights} ON ${table} TO ${role};`), `${grant}\n${output}`);
    }
  }
});

test('every block of SQL runs on a migrated database', async (t) => {
  const { query, withClient } = shared;
  await query(`CREATE TABLE orders (id int, status text); INSERT INTO orders VALUES (7, 'placed')`);
  const found = blocks.filter(({ language }) => language === 'sql');
  t.true(found.length >= 9, `${found.length} blocks`);
  for (const { at, code, notRun } of found) {
    if (notRun !== undefined) continue;
    // Roles are the server's, so they are gone at the end.
    const roles = ['shop', 'outbox_relay', 'outbox_retention', 'outbox_redaction'].map(
      (name) => `CREATE ROLE ${name};`,
    );
    const statements = /^BEGIN;/m.test(code) ? code : `BEGIN; ${roles.join(' ')} ${code}; ROLLBACK;`;
    await t.notThrowsAsync(
      withClient((client) => client.query(statements)),
      at,
    );
  }
});

test('every block of JavaScript and TypeScript, and every script in a block of HTML, parses', (t) => {
  const found = blocks.flatMap(({ at, language, code }) => {
    if (language === 'js' || language === 'ts') return [{ at, code }];
    return language === 'html'
      ? [...code.matchAll(/<script(?: type="module")?>([^]+?)<\/script>/g)].map(([, script = '']) => ({
          at,
          code: script,
        }))
      : [];
  });
  t.true(found.length >= 8, `${found.length} scripts`);
  for (const { at, code } of found) {
    const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
    const { diagnostics = [] } = ts.transpileModule(code, { reportDiagnostics: true, compilerOptions: options });
    t.deepEqual(
      diagnostics.map(({ messageText }) => messageText),
      [],
      at,
    );
  }
});

test('README.md: its subscriber gets what its publisher commits', async (t) => {
  const { url, query, withClient } = await createDatabase(t);
  const relay = await startTestRelay(t, url);
  await query("CREATE TABLE orders (id int, status text); INSERT INTO orders VALUES (7, 'placed')");
  const page = new EventEmitter();
  const opened = once(page, 'open');
  const logged = once(page, 'log');
  class PageSource extends EventSource {
    constructor(path: string) {
      super(new URL(path, relay.url));
      t.teardown(() => this.close());
      this.addEventListener('stream-open', () => page.emit('open'));
    }
  }
  const console = { log: (...words: unknown[]) => page.emit('log', ...words) };
  runInNewContext(blockOf('README.md', 'js'), { EventSource: PageSource, console, JSON });
  await opened;
  await withClient((client) => client.query(blockOf('README.md', 'sql')));
  t.deepEqual(await logged, ['1', { order: 7, status: 'packed' }]);
  t.deepEqual((await query('SELECT status FROM orders')).rows, [{ status: 'packed' }]);
});

test('docs/http.md: the stream is the one that its request gets', async (t) => {
  const { url, query } = await createDatabase(t);
  await query(`INSERT INTO outbox (channel) SELECT 'others' FROM generate_series(1, 22)`);
  await query(`INSERT INTO outbox (channel, event, data) VALUES
    ('orders', 'status', '{"order": 7, "status": "packed"}'), ('orders', 'order-row', to_jsonb(E'<li>Order 7\\nis packed</li>'::text))`);
  const relay = await startTestRelay(t, url);
  const [, address = '', expected = ''] =
    /^\$ curl -N 'http:\/\/127\.0\.0\.1:8001([^']+)'\n([^]+)$/.exec(blockOf('docs/http.md', 'console')) ?? [];
  const aborted = new AbortController();
  t.teardown(() => aborted.abort());
  const response = await fetch(relay.url + address, { signal: aborted.signal });
  let came = '';
  for await (const chunk of response.body ?? []) {
    came += Buffer.from(chunk).toString();
    if (came.length > expected.length) break;
  }
  t.is(came.trim(), expected.trim());
});

test('docs/browser.md: the cursor of a page is the newest event that was committed, or the floor', async (t) => {
  const { url, query } = await createDatabase(t);
  const python = blockOf('docs/browser.md', 'python');
  const [, sql = ''] = /execute\("([^"]+)"\)/.exec(python) ?? [];
  const cursor = async () => (await query<{ cursor: string }>(`${sql} AS cursor`)).rows[0]?.cursor;
  t.is(await cursor(), '0');
  await query(`INSERT INTO outbox (channel, data) VALUES ('a', '1'), ('a', '2')`);
  t.is(await cursor(), '2');
  await query('DELETE FROM outbox');
  t.is(await cursor(), '2');
  const relay = await startTestRelay(t, url);
  const stream = await openStream(t, `${relay.url}/events/a?last_event_id=2`);
  await query(`INSERT INTO outbox (channel, data) VALUES ('a', '3')`);
  t.is((await stream.untilEvents(1))[0]?.data, '3');
});

test('docs/operations.md and docs/http.md name messages and codes that the relay has', (t) => {
  const sources = sourcesBelow(join(ROOT, 'src')).join('\n');
  const cells = (path: string, heading: string) =>
    (pages.get(path)?.text.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '')
      .split('\n')
      .filter((line) => line.startsWith('| '))
      .map((line) => line.split('|'));
  const named = [
    ...cells('docs/operations.md', 'Logs').map((row) => row[2] ?? ''),
    ...cells('docs/operations.md', 'Health').map((row) => row[1] ?? ''),
    ...cells('docs/http.md', 'Errors').map((row) => row[2] ?? ''),
  ].flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text));
  t.true(named.length >= 25, `${named.length} names`);
  for (const text of named) if (text !== 'error') t.true(sources.includes(text), text);
  for (const { path, spans } of all) {
    for (const span of spans) {
      const [, metric] = /^outbox_relay_(\w+?)(?:_total)?$/.exec(span) ?? [];
      if (metric !== undefined) t.true(sources.includes(metric), `${path}: ${span}`);
    }
  }
});

test('docs/doctor.md: what doctor says of rows without a position is what it says', async (t) => {
  const { url, query, withClient } = await createDatabase(t);
  await withClient((client) =>
    client.query(`SET session_replication_role = replica; INSERT INTO outbox (channel) VALUES ('a'), ('a')`),
  );
  const { code, output } = await runCommand(['doctor'], { DATABASE_URL: url });
  t.is(code, 1);
  const said = blockOf('docs/doctor.md', 'console');
  const cure = /What to do: in psql, .*\n([^…]+)/.exec(said)?.[1]?.trim().split('\n') ?? [];
  t.is(cure.length, 3);
  for (const line of cure) t.true(output.includes(line.trim()), `${line}\n${output}`);
  for (const word of [
    'ok           server',
    'ERROR        positions      2 committed rows have no position',
    'not checked,',
  ]) {
    t.true(said.includes(word) && output.includes(word), `${word}\n${output}`);
  }
  await withClient((client) => client.query(cure.join('\n')));
  t.deepEqual((await query('SELECT FROM outbox WHERE position IS NULL')).rows, []);
});

function sourcesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sourcesBelow(path);
    return basename(path).endsWith('.ts') ? [readFileSync(path, 'utf8')] : [];
  });
}
