/**
 * The example's one command: it starts all that it says, and stops all that it started.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { EXAMPLE } from '../support/python.js';

test.serial(
  'npm run example:django serves the shop, stops the relay and starts it again by a key, and Ctrl-C stops all of it',
  async (t) => {
    const database = await createDatabase(t, { template: false });
    const child = spawn(process.execPath, [`${EXAMPLE}run.mjs`], {
      env: { PATH: process.env['PATH'] ?? '', DATABASE_URL: database.url, PORT: '0' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const gone = once(child, 'close') as Promise<[number | null]>;
    t.teardown(() => child.kill('SIGKILL'));
    let output = '';
    const lines = [child.stdout, child.stderr].map((stream) => createInterface(stream));
    const page = await new Promise<string>((resolve, reject) => {
      let url: string | undefined;
      for (const each of lines) {
        each.on('line', (line) => {
          output += `${line}\n`;
          url ??= /Page\s+(http:\S+)/.exec(line)?.[1];
          if (url !== undefined && line.includes('Ctrl-C')) resolve(url);
        });
      }
      void gone.then(() => reject(new Error(`It ended early:\n${output}`)));
    });
    t.regex(output, /alice \/ outbox/);
    const form = await fetch(page);
    t.is(form.status, 200);
    t.is(new URL(form.url).pathname, '/log-in/');
    const [, style = ''] = /href="([^"]+\.css)"/.exec(await form.text()) ?? [];
    for (const path of [
      style,
      '/static/htmx/htmx.min.js',
      '/static/htmx-ext-sse/sse.min.js',
      '/static/htmx4/ext/hx-sse.min.js',
    ]) {
      t.is((await fetch(new URL(path, page))).status, 200, path);
    }
    // The relay is there, and opens nothing to who is not logged in.
    const refusal = () => fetch(new URL('/events?channel=user:1', page));
    t.is((await refusal()).status, 401);

    const says = (words: string) =>
      new Promise<void>((resolve) => {
        for (const each of lines) each.on('line', (line) => line.includes(words) && resolve());
      });
    const stopped = says('The relay is stopped');
    child.stdin.write('r\n');
    await stopped;
    // The front answers for it, so that pages come back; and the shop is there.
    t.regex(await (await refusal()).text(), /"reason":"away"/);
    t.is((await fetch(page)).status, 200);
    const back = says('The relay is back');
    child.stdin.write('r\n');
    await back;
    t.is((await refusal()).status, 401);

    child.kill('SIGINT');
    t.deepEqual((await gone)[0], 0, output);
    const { rows } = await database.query(
      'SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
    );
    t.deepEqual(rows, []);
  },
);
