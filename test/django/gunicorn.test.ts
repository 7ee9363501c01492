/**
 * Production: gunicorn, and `manage.py outbox_relay` as a unit file or a container runs it, from the wheel and with no other Node than the one
 * from PyPI.
 */
import test from 'ava';
import { createProject } from '../support/django-project.js';
import { EXAMPLE } from '../support/python.js';
import { freePort } from '../support/port.js';
import { openStream } from '../support/stream.js';

interface FrontModule {
  startFront(targets: { app: string; relay: string }): Promise<{ url: string; stop(): Promise<void> }>;
}
const { startFront } = (await import(`${EXAMPLE}front.mjs`)) as FrontModule;

const NEWS = 'DEBUG = False\nOUTBOX = {"PUBLIC_CHANNELS": ["news"]}';

for (const workers of [1, 2]) {
  test.serial(
    `the relay's process is manage.py's own, and ends in order by SIGTERM, with WORKERS=${workers}`,
    async (t) => {
      const project = await createProject(t, NEWS);
      const app = project.start(['-m', 'gunicorn', 'site_wsgi', '--bind', '127.0.0.1:0']);
      const [, appUrl = ''] = /Listening at: (http:\S+)/.exec(await app.until(/Listening at/)) ?? [];
      const port = String(await freePort());
      const relay = project.start(['manage.py', 'outbox_relay'], {
        PORT: port,
        HOST: '127.0.0.1',
        WORKERS: String(workers),
      });
      await relay.until(workers === 1 ? /"listening"/ : /"all workers serve"/);
      const front = await startFront({ app: appUrl, relay: `http://127.0.0.1:${port}` });
      t.teardown(front.stop);

      const stream = await openStream(t, `${front.url}/events?channel=news`);
      await project.publish('news', 'hello');
      t.deepEqual(
        (await stream.untilEvents(1)).map(({ data }) => data),
        ['hello'],
      );
      // Nothing leads through Django: that is the front's work here.
      t.is((await fetch(`${appUrl}/events?channel=news`)).status, 404);
      t.is((await fetch(`${appUrl}/outbox-relay.js`)).status, 404);
      t.true((await project.relays()).includes(relay.child.pid ?? 0));
      relay.child.kill('SIGTERM');
      await stream.ended;
      t.is(await relay.ended, 0);
      t.true(stream.frames.some(({ event }) => event === 'stream-pause'));
      t.true(
        relay.lines.some((line) => line.includes('"msg":"stopped"')),
        relay.lines.join('\n'),
      );
      app.child.kill('SIGTERM');
      await app.ended;
      await project.untilNoRelay();
    },
  );
}

test.serial("outbox-relay's other commands run with the project's settings", async (t) => {
  const project = await createProject(t, NEWS);
  t.regex(await project.succeed('outbox_relay', 'doctor'), /^0 errors, /m);
  await project.publish('news', 'old');
  t.regex(await project.succeed('outbox_relay', 'prune', '--keep', '7d'), /^Nothing to delete/);
  const { code, output } = await project.manage(['outbox_relay', 'docter']);
  t.is(code, 1);
  t.regex(output, /Did you mean doctor\?/);
});

test.serial('--print-env shows what the relay is given, without secrets', async (t) => {
  const own = 'OUTBOX = {"PUBLIC_CHANNELS": ["news", "status:*"], "RELAY": {"WORKERS": 2, "LEGACY_PATHS": True}}';
  const project = await createProject(t, `DEBUG = False\n${own}`);
  const { code, output } = await project.manage(['outbox_relay', '--print-env'], { WORKERS: '3' });
  t.is(code, 0, output);
  t.deepEqual(output.trim().split('\n'), [
    'AUTH_COOKIE=outbox_token',
    'DATABASE_URL=(secret, not shown)',
    'HOST=127.0.0.1',
    'JWT_SECRET=(secret, not shown)',
    'LEGACY_PATHS=true',
    'PORT=8001',
    'PUBLIC_CHANNELS=news,status:*',
    'WORKERS=3',
  ]);
  t.regex(
    (await project.manage(['outbox_relay', '--print-env'], { PORT: '9' })).output,
    /^HOST=0\.0\.0\.0$[^]*^PORT=9$/m,
  );
});

test.serial('a role, a password and options with any characters reach the relay', async (t) => {
  const own = `DATABASES["default"].update(USER="we?ird/us:er", PASSWORD="p@ss w/ö%41#&=", OPTIONS={"sslmode": "prefer", "options": "-c search_path=public"})`;
  const project = await createProject(t, `${NEWS}\n${own}`);
  await project.database.query(`CREATE ROLE "we?ird/us:er" LOGIN SUPERUSER PASSWORD 'p@ss w/ö%41#&='`);
  t.teardown(() => project.database.query('DROP ROLE IF EXISTS "we?ird/us:er"'));
  const relay = project.start(['manage.py', 'outbox_relay'], { PORT: '0', HOST: '127.0.0.1' });
  await relay.until(/"listening"/);
  const { rows } = await project.database.query<{ users: string[] }>(
    `SELECT array_agg(DISTINCT usename::text) AS users FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'outbox-relay%'`,
  );
  t.deepEqual(rows[0]?.users, ['we?ird/us:er']);
  relay.child.kill('SIGTERM');
  t.is(await relay.ended, 0);
});

test.serial('what is wrong is one line that says what to do', async (t) => {
  const project = await createProject(t, NEWS, false);
  const run = async (env: Readonly<Record<string, string>>, expected: RegExp) => {
    const { code, output } = await project.manage(['outbox_relay'], env);
    t.is(code, 1, output);
    t.regex(output, expected);
    t.is(output.trim().split('\n').length, 1, output);
  };
  await run({ PORT: '0' }, /The database has no outbox yet\. .*Run: .*migrate/i);
  await project.succeed('migrate');
  const taken = await freePort();
  const other = project.start(['manage.py', 'outbox_relay'], { PORT: String(taken), HOST: '127.0.0.1' });
  await other.until(/"listening"/);
  await run(
    { PORT: String(taken), HOST: '127.0.0.1', LOG_LEVEL: 'silent' },
    /^Port taken: .* Stop the other process, or set PORT\.$/m,
  );
  other.child.kill('SIGTERM');
  await other.ended;
  const lost = await createProject(t, `${NEWS}\nDATABASES["default"]["NAME"] = "nowhere"`);
  const { code, output } = await lost.manage(['outbox_relay']);
  t.is(code, 1);
  t.regex(output, /^PostgreSQL refused: database "nowhere" does not exist\n$/);
});
