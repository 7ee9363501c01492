/**
 * A page of one moment: what it shows and what its stream brings are together what the table has, whatever commits meanwhile.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type pg from 'pg';
import { createTeardown, PASSWORD, startSite, type Site } from '../support/site.js';
import { openStream, type TestStream } from '../support/stream.js';

const LOADS = 200;
/** Of all writers together. */
const INSERTS_PER_SECOND = 50;
const WRITERS = 5;
/** Loads that are under way at a time. */
const READERS = 4;

const all = createTeardown();
let site: Site;
test.before(async () => {
  site = await startSite(all, { MAX_CONNECTIONS_PER_SUBJECT: String(2 * LOADS) });
});
test.after.always(() => all.end());

/** Logs in without a browser, and returns the Cookie header of who is. */
async function logIn(name: string): Promise<string> {
  const cookies = new Map<string, string>();
  const header = () => [...cookies].map(([key, value]) => `${key}=${value}`).join('; ');
  const keep = (response: Response) => {
    for (const cookie of response.headers.getSetCookie()) {
      const [, key = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
      cookies.set(key, value);
    }
  };
  const form = await fetch(`${site.url}/log-in/`);
  keep(form);
  const [, token = ''] = /name="csrfmiddlewaretoken" value="([^"]+)"/.exec(await form.text()) ?? [];
  const answer = await fetch(`${site.url}/log-in/`, {
    method: 'POST',
    body: new URLSearchParams({ csrfmiddlewaretoken: token, username: name, password: PASSWORD }),
    headers: { Cookie: header() },
    redirect: 'manual',
  });
  keep(answer);
  return header();
}

/** A notification and its event, in a transaction that stays open for a while: ids and commits are in different orders. */
async function notify(client: pg.Client, userId: string, text: string): Promise<void> {
  await client.query('BEGIN');
  await client.query(
    'INSERT INTO store_notification (user_id, text, is_read, created_at) VALUES ($1, $2, false, now())',
    [userId, text],
  );
  await client.query(
    `SELECT outbox_publish('user:' || $1::text, jsonb_build_object('text', $2::text), 'notification')`,
    [userId, text],
  );
  await delay(Math.random() * 30);
  await client.query('COMMIT');
}

interface Load {
  /** The newest that the page shows. */
  readonly shown: readonly string[];
  readonly unread: number;
  readonly stream: TestStream;
}

test.serial(
  `page and stream are the table at each of ${LOADS} loads, while ${INSERTS_PER_SECOND} events a second commit`,
  async (t) => {
    t.timeout(150_000);
    const user = await site.newUser();
    const cookie = await logIn(user.name);
    const started = Date.now();
    let written = 0;
    let isWriting = true;
    const write = (writer: number) =>
      site.database.withClient(async (client) => {
        for (let n = 0; isWriting; n++) {
          await notify(client, user.id, `${writer}/${n}`);
          written += 1;
          // Of the rate of all, each has its share.
          await delay(Math.max(0, started + ((n + 1) * WRITERS * 1000) / INSERTS_PER_SECOND - Date.now()));
        }
      });

    const loads: Load[] = [];
    let left = LOADS;
    const read = async () => {
      while (left-- > 0) {
        const page = await (await fetch(`${site.url}/`, { headers: { Cookie: cookie } })).text();
        const [, address = ''] = /data-events="([^"]+)"/.exec(page) ?? [];
        const [, unread = '0'] = /id="unread"[^>]*>(\d+)</.exec(page) ?? [];
        // What commits between the page and its stream is what this is about.
        await delay(Math.random() * 20);
        const stream = await openStream(t, `${site.relay.url}${address}`, { Cookie: cookie });
        loads.push({
          shown: [...page.matchAll(/<li class="unread">([^<]+)<\/li>/g)].map(([, text = '']) => text),
          unread: Number(unread),
          stream,
        });
      }
    };
    const writing = Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer)));
    await Promise.all(Array.from({ length: READERS }, read));
    isWriting = false;
    await writing;
    const rate = written / ((Date.now() - started) / 1000);

    await site.database.query(`SELECT outbox_publish('user:' || $1::text, 'null', 'end')`, [user.id]);
    await Promise.all(loads.map(({ stream }) => stream.until(({ event }) => event === 'end')));
    const { rows } = await site.database.query<{ text: string }>(
      'SELECT text FROM store_notification WHERE user_id = $1',
      [user.id],
    );
    const table = rows.map(({ text }) => text);
    t.is(table.length, written);
    t.true(written > LOADS / READERS, 'something was written meanwhile');

    let missed = 0;
    let doubled = 0;
    for (const { shown, unread, stream } of loads) {
      const streamed = stream.events.flatMap(({ event, data }) =>
        event === 'notification' ? [(JSON.parse(data ?? '') as { text: string }).text] : [],
      );
      // The page lists the newest alone, and counts them all.
      const counted = unread + streamed.length - table.length;
      missed += Math.max(0, -counted);
      doubled += Math.max(0, counted) + shown.filter((text) => streamed.includes(text)).length;
      doubled += streamed.length - new Set(streamed).size;
    }
    t.log(`${loads.length} loads, ${written} events at ${rate.toFixed(0)}/s: ${missed} missed, ${doubled} doubled`);
    t.deepEqual({ loads: loads.length, missed, doubled }, { loads: LOADS, missed: 0, doubled: 0 });
  },
);
