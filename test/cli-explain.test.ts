/**
 * `explain`: of events, tokens and addresses, each state that there is, with the step that says it; and nothing secret.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { explainToken } from '../src/explain/token.js';
import { explainUrl } from '../src/cli/explain/url.js';
import { explanationJson } from '../src/cli/explain/steps.js';
import type { Explanation } from '../src/explain/steps.js';
import { readConfig } from '../src/config/config.js';
import { runCommand } from './support/command.js';
import { createDatabase } from './support/database.js';
import type { Environment } from './support/relay.js';
import { startTestRelay } from './support/relay.js';
import { openRaw } from './support/request.js';
import { publishLong } from './support/slow-client.js';
import { openStream } from './support/stream.js';
import { inSeconds, SECRET, sign, tokenFor } from './support/token.js';

type Explained = Explanation & { readonly ok: boolean };

/** By the command, which prints what it says and exits by that. */
async function explain(t: ExecutionContext, args: readonly string[], env: Environment = {}) {
  const { code, output } = await runCommand(['explain', ...args, '--json'], env);
  const explained = JSON.parse(output) as Explained;
  t.is(code, explained.ok ? 0 : 1, output);
  return told(explained, output);
}

/** By what the command calls, without a process for each. */
async function explainHere(explanation: Promise<Explanation>) {
  const output = explanationJson(await explanation);
  return told(JSON.parse(output) as Explained, output);
}

function told(explained: Explained, output: string) {
  /** Of the step of that name, or of the first that says no. */
  const step = (name?: string) => {
    const found = explained.steps.find(({ step, verdict }) => (name === undefined ? verdict === 'no' : step === name));
    return found === undefined ? '' : `${found.verdict}: ${found.what}`;
  };
  return { ...explained, output, step };
}

test('explain follows an event from its transaction to a relay, and names the step where it stopped', async (t) => {
  const { url, query, withClient } = await createDatabase(t);
  const relay = await startTestRelay(t, url);
  const env = { DATABASE_URL: url };
  const of = (id: string, ...args: string[]) => explain(t, [id, '--url', relay.url, ...args], env);
  await query(`INSERT INTO outbox (channel, event, data) VALUES ('a:b', 'x', '"one\\ntwo"'), ('a:b', 'message', '{}')`);

  const good = await of('2');
  t.true(good.ok, good.output);
  t.regex(good.step('written'), /channel "a:b" as event "message", 2 bytes/);
  t.is(good.step('asked'), `yes: the relay at ${relay.url} has it`);
  t.regex(good.step('readers'), /Streams of "a:b", "\*", "a:\*" bring it/);
  t.regex((await of('1')).step('in a page'), /addEventListener\("x", …\) alone/);

  t.regex((await of('77')).step(), /no event was ever given this id here: the newest is 2/);

  await withClient(async (client) => {
    await client.query("BEGIN; INSERT INTO outbox (channel) VALUES ('a')");
    const open = await of('3');
    t.regex(
      open.step('committed'),
      /perhaps not yet: transactions that write to the outbox are open \(process \d+ since/,
    );
    await client.query('ROLLBACK');
  });
  t.regex((await of('3')).step(), /it was rolled back, as an error after the INSERT does it/);

  await withClient((client) =>
    client.query(`SET session_replication_role = replica; INSERT INTO outbox (channel) VALUES ('a')`),
  );
  const unplaced = await of('4');
  t.regex(unplaced.step('placed'), /^no: it has no position, so no relay ever delivers it/);
  t.true(unplaced.output.includes('npx outbox-relay doctor'), unplaced.output);

  await query(`UPDATE outbox SET data = '"gone"' WHERE id = 2`);
  t.regex((await of('2')).step('redacted'), /^unknown: its data was changed/);
  await query('DELETE FROM outbox WHERE id <= 2');
  t.regex((await of('1')).step(), /it was rolled back, or it was deleted/);
});

test('explain says how many of the connections that are open have an event, and who is behind', async (t) => {
  const { url, query } = await createDatabase(t);
  const relay = await startTestRelay(t, url, { METRICS_PORT: '0', WINDOW_MEGABYTES: '1' });
  const metricsPort = new URL(relay.metricsUrl ?? '').port;
  const delivered = async (id: string, env: Environment = { METRICS_PORT: metricsPort }) =>
    (await explain(t, [id, '--url', relay.url], { DATABASE_URL: url, ...env })).step('delivered');
  await publishLong(query);
  t.regex(await delivered('2000'), /^unknown: no connection that is open now gets it/);
  const live = await openStream(t, `${relay.url}/events/long`);
  await live.until(({ event }) => event === 'stream-open');
  t.is(await delivered('2000'), 'yes: to the one connection that is open now and gets it');
  const stuck = openRaw(t, relay.url, 'GET /events/long?last_event_id=earliest HTTP/1.1\r\nHost: x\r\n\r\n');
  stuck.socket.pause();
  while (relay.byState().stalled === 0) await delay(20);
  const behind =
    /^unknown: to 1 of the 2 connections .*; 1 is behind: \d+ from 127\.0\.0\.x, stalled, [\d,]+ behind the newest$/;
  t.regex(await delivered('2000'), behind);
  t.regex(await delivered('1'), /^yes: to all 2 connections that are open now and get it$/);
  t.regex(await delivered('2000', {}), /^unknown: no relay notes who got it/);
  t.regex(await delivered('2000', { METRICS_PORT: '9' }), /^unknown: No relay answers at/);
  t.regex(await delivered('2000', { METRICS_PORT: new URL(relay.url).port }), /^unknown: .* does not tell who has it/);
});

test('explain says that a relay does not answer, or has another database', async (t) => {
  const [one, other] = [await createDatabase(t), await createDatabase(t)];
  await one.query("INSERT INTO outbox (channel) VALUES ('a')");
  const env = { DATABASE_URL: one.url };
  const nobody = await explain(t, ['1', '--url', 'http://127.0.0.1:9'], env);
  t.regex(nobody.step('asked'), /^unknown: No relay answers/);
  const relay = await startTestRelay(t, other.url);
  t.regex((await explain(t, ['1', '--url', relay.url], env)).step('asked'), /^no: .* does not have it/);
});

test('explain judges a token as the relay does, with what to do, and never prints it', async (t) => {
  const config = readConfig({ JWT_SECRET: SECRET, PUBLIC_CHANNELS: 'news', JWT_AUDIENCE: 'relay' });
  const claims = { aud: 'relay' };
  const cases: [token: string, step: string, expected: RegExp][] = [
    [await tokenFor(['a'], claims), 'a', /^yes: open/],
    [await tokenFor(['b'], claims), 'a', /^no: forbidden/],
    [await tokenFor([], claims), 'news', /^yes: open to anybody/],
    [await tokenFor([], claims), 'opens', /^unknown: nothing but what is public/],
    [await tokenFor(['a']), 'accepted', /^no: invalid_token: The token has no claim "aud"/],
    [await sign({ channels: ['a'], exp: inSeconds(-9), ...claims }), 'accepted', /^no: expired_token/],
    [await sign({ channels: ['a'], ...claims }), 'accepted', /^no: invalid_token: The token has no claim "exp"/],
    [`${await tokenFor(['a'], claims)}x`, 'accepted', /^no: invalid_token: The signature/],
    ['a.b.c', 'says', /^no: it is no JWT/],
  ];
  for (const [token, step, expected] of cases) {
    const explained = await explainHere(explainToken(token, ['a', 'news'], config));
    t.regex(explained.step(step), expected, explained.output);
    t.false(explained.output.includes(token), 'the token');
  }
  const keyless = await explain(t, [await tokenFor(['a'])]);
  t.regex(keyless.step(), /^no: tokens are ignored: there is no key/);
});

test('explain rehearses a request by the code that answers requests', async (t) => {
  const { url, query } = await createDatabase(t);
  await query("INSERT INTO outbox (channel) VALUES ('a'), ('a'), ('a')");
  await query('DELETE FROM outbox WHERE id < 3');
  const config = readConfig({
    DATABASE_URL: url,
    JWT_SECRET: SECRET,
    PUBLIC_CHANNELS: 'news',
    ALLOWED_ORIGINS: 'https://good.example',
  });
  const token = await tokenFor(['a'], { sub: '7' });
  const cookie = `Cookie: outbox_token=${token}`;
  const bearer = `Authorization: Bearer ${token}`;
  const cases: [args: string[], step: string | undefined, expected: RegExp][] = [
    [['/events?channel=news'], 'allowed', /^yes: as anybody may/],
    [['/events?channel=news'], 'start', /^unknown: at what is published from now on/],
    [['/events/a', bearer], 'allowed', /^yes: as "7", until 20/],
    [['/events/a', cookie], 'brought', /^yes: Cookie$/],
    [['https://relay.example/events/a', cookie, 'Origin: https://bad.example'], undefined, /403 foreign_origin/],
    [['https://relay.example/events/a', cookie, 'Origin: https://relay.example'], 'allowed', /^yes/],
    [['https://relay.example/events/a', cookie, 'Origin: https://good.example'], 'allowed', /^yes/],
    [['/events/b', bearer], undefined, /403 forbidden: Not open to you: b/],
    [['/events/a'], undefined, /401 unauthorized/],
    [['/events/a', 'Authorization: Bearer x.y.z'], undefined, /401 invalid_token/],
    [['/events?channel=a*b'], undefined, /400 bad_channel/],
    [['/events'], undefined, /400 no_channel/],
    [['/event'], undefined, /404 not_found/],
    [['/events/news?since=soon'], undefined, /400 bad_since/],
    [['/events/news?last_event_id=earliest'], 'start', /^yes: at the oldest/],
    [['/events/news?last_event_id=3'], 'start', /^yes: after event 3, which is known/],
    [['/events/news?last_event_id=1'], 'start', /^no: stream-reset "expired"/],
    [['/history/news?after=9'], 'start', /^no: stream-reset "unknown"/],
    [['/events/news', 'Last-Event-ID: 3'], 'start', /^yes: after event 3/],
    [[`/events/a?token=${token}`], undefined, /401 unauthorized: A token in the address is not taken here/],
  ];
  for (const [args, step, expected] of cases) {
    const [address = '', ...lines] = args;
    const headers = Object.fromEntries(lines.map((line) => line.split(': ', 2) as [string, string]));
    const explained = await explainHere(explainUrl({ address, headers, config, isAsked: false }));
    t.regex(explained.step(step), expected, explained.output);
    t.false(explained.output.includes(token), 'the token');
  }
});

test('explain asks the address too, and tells where that is another than its settings say', async (t) => {
  const { url } = await createDatabase(t);
  const relay = await startTestRelay(t, url, { METRICS_PORT: '0' });
  const address = `${relay.url}/events/a`;
  t.regex((await explain(t, [address], { PUBLIC_CHANNELS: 'a' })).step('asked'), /^yes: .* answers with a stream/);
  const differs = await explain(t, [address]);
  t.regex(differs.step('asked'), /other settings/);
  t.regex(
    (await explain(t, [`http://127.0.0.1:9/events/a`], { PUBLIC_CHANNELS: 'a' })).step(),
    /^no: No relay answers/,
  );
  for (const args of [['what'], ['9'.repeat(30)], ['/events/a', '--header', 'nonsense']]) {
    t.is((await runCommand(['explain', ...args])).code, 1, args.join(' '));
  }
});

test('explain of an address knows a relay that compresses by itself, and says so of all else that does', async (t) => {
  const { url } = await createDatabase(t);
  const relay = await startTestRelay(t, url, { COMPRESSION: 'gzip' });
  const asked = async (env: Environment) =>
    (await explain(t, [`${relay.url}/events/a`], { PUBLIC_CHANNELS: 'a', ...env })).step('asked');
  t.regex(await asked({ COMPRESSION: 'gzip' }), /^yes: .* answers with a stream/);
  t.regex(await asked({}), /^no: the stream comes compressed \(gzip\)/);
});
