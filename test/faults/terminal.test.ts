/**
 * `top` and `tail` in a real terminal: relays that are killed, sizes that change, keys, and whatever somebody has published.
 */
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { startRelayProcess } from '../support/relay-process.js';
import { openRaw } from '../support/request.js';
import { publishLong } from '../support/slow-client.js';
import { ENDED, openTerminal } from '../support/terminal.js';

test('top in a terminal shows a relay, that it was killed, and that it is back; fits a small one; and q gives the screen back', async (t) => {
  const { url, query } = await createDatabase(t);
  const relay = await startRelayProcess(t, url, { PUBLIC_METRICS: 'true' });
  const terminal = await openTerminal(t, ['top', '--url', relay.url]);
  await terminal.until(/^connections +0 +live 0/m);
  await terminal.until(/^ready$/m);
  await query("INSERT INTO outbox (channel) VALUES ('a')");
  await terminal.until(/^delivered +p50 < /m);
  await relay.end('SIGKILL');
  await terminal.until(/^NO ANSWER for [1-9]\d* s/m);
  await relay.start();
  await terminal.until(/^ready$/m);
  await terminal.resize(30, 6);
  const small = await terminal.until(/^delivered +\S/m);
  t.true(small.startsWith('outbox-relay'), small);
  t.true(small.trimEnd().split('\n').length <= 6, small);
  await terminal.resize(100, 40);
  await terminal.until(/^process +cpu/m);
  await terminal.press('q');
  const left = await terminal.until(`${ENDED} 0`);
  t.false(left.includes('deliveries'), left);
});

test('top in a terminal shows channels and the slowest client as they come and go, and first who it is where that is narrow', async (t) => {
  const { url, query } = await createDatabase(t);
  const relay = await startRelayProcess(t, url, { METRICS_PORT: '0', WINDOW_MEGABYTES: '1' });
  const terminal = await openTerminal(t, ['top', '--url', relay.metricsUrl ?? ''], {}, [110, 40]);
  await terminal.until(/^channels +0 asked for\s+slowest +none is behind/m);
  await publishLong(query);
  const stuck = openRaw(t, relay.url, 'GET /events/long?last_event_id=earliest HTTP/1.1\r\nHost: x\r\n\r\n');
  stuck.socket.pause();
  await terminal.until(
    /^channels +1 asked for\s+long +1 +1 behind\s+slowest\s+\d+ +[\d,]+ behind {2}stalled {2}\S+ \S+ waiting {2}127\.0\.0\.x/m,
  );
  await terminal.resize(26, 40);
  await terminal.until(/^slowest\s+\d+ +[\d,]+ behind/m);
  stuck.socket.destroy();
  t.regex(await terminal.until(/^slowest +none is/m), /^channels +0 asked for/m);
  await terminal.press('q');
  await terminal.until(`${ENDED} 0`);
});

test('tail in a terminal goes on after its relay was killed, and nothing that was published gets out of its line', async (t) => {
  const { url, query } = await createDatabase(t);
  const relay = await startRelayProcess(t, url);
  const terminal = await openTerminal(t, ['tail', 'a', '--url', relay.url]);
  await terminal.until('Listening at');
  const title = await terminal.title();
  const publish = (data: string) =>
    query("INSERT INTO outbox (channel, data) VALUES ('a', to_jsonb($1::text))", [data]);
  await publish('first');
  await terminal.until('#1  first');
  await publish('\u001b]0;taken\u0007\u001b[2J\u001b[H\u009b2J\u001bcgone');
  await terminal.until('#2  \\u001b]0;taken\\u0007');
  await publish('x\n'.repeat(1_000_000));
  const shown = await terminal.until('… 2,000,000 bytes; --full shows all');
  t.true(shown.includes('    | x'), shown);
  t.is(await terminal.title(), title);
  await relay.end('SIGKILL');
  await terminal.until('Going on when it is back');
  await publish('while it was away');
  await relay.start();
  await terminal.until('#4  while it was away');
  await terminal.press('C-c');
  await terminal.until(`${ENDED} 0`);
});

test('top is Ctrl-C away from the shell while its relay is gone', async (t) => {
  const { url } = await createDatabase(t);
  const relay = await startRelayProcess(t, url, { PUBLIC_METRICS: 'true' });
  const terminal = await openTerminal(t, ['top', '--url', relay.url]);
  await terminal.until(/^ready$/m);
  await relay.end('SIGTERM');
  await terminal.until(/^NO ANSWER/m);
  await terminal.press('C-c');
  t.false((await terminal.until(`${ENDED} 0`)).includes('NO ANSWER'));
});
