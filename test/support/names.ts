/**
 * Runs all that sends statements to PostgreSQL, twice: to learn which names it uses, and again among shadows of these.
 */
import type { ExecutionContext } from 'ava';
import pg from 'pg';
import { runCommand } from './command.js';
import type { TestDatabase } from './database.js';
import { startRelayProcess } from './relay-process.js';
import { makeShadows, overhear } from './shadows.js';
import { openStream } from './stream.js';

/**
 * @param database empty
 * @param url as the relay and the commands have it, which may lead through a pooler
 */
export async function checkNames(t: ExecutionContext, database: TestDatabase, url: string): Promise<void> {
  const wire = await overhear(t, url);
  const direct = await overhear(t, database.url);
  const run = async (...args: string[]) => {
    const { code, output } = await runCommand(args, { DATABASE_URL: wire.url });
    t.is(code, 0, `${args.join(' ')}: ${output}`);
  };
  const publish = async (text: string, values: unknown[] = []) => {
    const client = new pg.Client({ connectionString: direct.url, application_name: 'test' });
    await client.connect();
    await client.query(text, values).finally(() => client.end());
  };
  const insert = (channel: string) =>
    publish(`INSERT INTO public.outbox (channel, data) VALUES ('${channel}', '{"a": 1}')`);
  const useAll = async () => {
    await run('migrate');
    await run('migrate', 'status');
    for (const channel of ['a', 'a', 'b:1']) await insert(channel);
    await publish(`INSERT INTO public.outbox (channel, data) VALUES ('a', '1'), ('a', '2'), ('b:1', '"three"')`);
    await publish(`SELECT public.outbox_publish($1::pg_catalog.text, $2::pg_catalog.jsonb, $3::pg_catalog.text)`, [
      'a',
      '4',
      'e',
    ]);
    const relay = await startRelayProcess(t, wire.url, {
      LISTEN_DATABASE_URL: direct.url,
      WINDOW_MEGABYTES: '0',
      SWEEP_SECONDS: '0.2',
    });
    // By channels and by prefixes; all, and since a time; and a cursor that is looked up.
    const streams = await Promise.all(
      [
        'channel=a&channel=b:1&last_event_id=earliest',
        'channel=a&channel=b:*&last_event_id=earliest',
        'channel=*&since=2020-01-01T00:00:00Z',
      ].map((query) => openStream(t, `${relay.url}/events?${query}`)),
    );
    const [first] = await Promise.all(streams.map((stream) => stream.untilEvents(7)));
    await openStream(t, `${relay.url}/events?channel=a&channel=b:*`, { 'Last-Event-ID': first?.[2]?.id ?? '' }).then(
      (stream) => stream.untilEvents(4),
    );
    await insert('a');
    await Promise.all(streams.map((stream) => stream.untilEvents(8)));
    const page = await fetch(`${relay.url}/history?channel=a&channel=b:*&limit=3`);
    t.is(((await page.json()) as { events: unknown[] }).events.length, 3);
    await publish('SELECT * FROM public.outbox_settled()');
    await publish(`UPDATE public.outbox SET data = '0' WHERE id OPERATOR(pg_catalog.=) 1`);
    await publish(`DELETE FROM public.outbox WHERE id OPERATOR(pg_catalog.=) 1`);
    t.is(await relay.end('SIGTERM'), 0);
    const doctor = await runCommand(['doctor'], { DATABASE_URL: wire.url, LISTEN_DATABASE_URL: direct.url });
    t.notRegex(doctor.output, /cannot be looked at/, doctor.output);
    await run('advance-ids');
    await run('roles', '--relay', 'outbox_relay', '--print');
    await run('prune', '--keep', '1s');
    await publish('TRUNCATE public.outbox RESTART IDENTITY');
  };

  await useAll();
  await run('migrate', 'down', '--yes');
  const words = new Set([...wire.words, ...direct.words]);
  const before = await makeShadows(database, words);
  t.true(before > 1000, `${before} shadows`);
  // Of default rights, too, only those are kept that our own names get by.
  await database.query(`ALTER DATABASE ${database.name} SET search_path = public, pg_catalog`);
  await run('migrate');
  // With types of ours there would be exact matches that could not be made before.
  const after = await makeShadows(database, words);
  t.true(after >= before, `${after} shadows`);
  await useAll();
  t.deepEqual([...wire.called, ...direct.called].sort(), []);
  t.log(`${after} functions and operators lay in wait`);

  await insert('a');
  await publish(`SELECT FROM outbox WHERE pg_column_size(data) > 0 AND starts_with(channel, 'a')`);
  t.true(direct.called.size > 0, 'who names things carelessly calls them');
}
