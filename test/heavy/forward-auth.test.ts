/**
 * An application that is asked by a thousand clients at once.
 */
import test from 'ava';
import type { ErrorBody } from '../support/request.js';
import { openStream } from '../support/stream.js';
import { by, keepsWaiting, session, setUp, view } from '../support/application.js';

test.serial(
  '1,000 clients at once: the same question is asked once, others each once, and nobody gets the answer of another',
  async (t) => {
    const { app, get } = await setUp(
      t,
      (asked, response) => {
        setTimeout(() => view(asked, response), 200);
      },
      { MAX_CONNECTIONS_PER_SUBJECT: '2000', FORWARD_AUTH_CACHE_SECONDS: '60', TRUST_PROXY: '1' },
    );
    const from = (n: number) => by(`203.0.113.${n % 50}`);
    const same = await Promise.all(
      Array.from({ length: 500 }, (_, n) => get('/events/user:ann', { ...session('ann'), ...from(n) })),
    );
    t.true(same.every(({ status }) => status === 200));
    t.is(app.requests.length, 1);

    const others = await Promise.all(
      Array.from({ length: 500 }, async (_, n) => {
        const own = get(`/events/user:u${n}`, { ...session(`u${n}`), ...from(n) });
        const foreign = get(`/events/user:u${(n + 1) % 500}`, { ...session(`u${n}`), ...from(n) });
        return [(await own).status, (await foreign).status];
      }),
    );
    for (const statuses of others) t.deepEqual(statuses, [200, 403]);
    t.is(app.requests.length, 1 + 2 * 500);
  },
);

test.serial(
  'R5: whoever asks a slow application from elsewhere is answered, however many others wait from one address or from ten',
  async (t) => {
    for (const attackers of [1, 10]) {
      const { answer, kept, open } = keepsWaiting();
      const { app, url, get } = await setUp(t, answer, { TRUST_PROXY: '1', FORWARD_AUTH_TIMEOUT_SECONDS: '30' });
      const asked = Array.from({ length: 900 }, (_, n) =>
        get('/events/news', { ...session(`x${n}`), ...by(`203.0.113.${n % attackers}`) }),
      );
      await app.requested(30);
      const legit = await openStream(t, `${url}/events/news`, { ...session('legit'), ...by('198.51.100.1') });
      t.is(legit.status, 200);
      t.true(kept.length <= 64 * (attackers / (attackers + 1)) + 1, `${kept.length} questions are under way`);
      // More of the attackers' own are not put, and are not left waiting either.
      const later = await Promise.race(asked);
      t.is(later.status, 503);
      t.is((JSON.parse(later.body) as ErrorBody).error, 'auth_busy');
      t.true(Number(later.headers['retry-after']) > 0);
      const another = await openStream(t, `${url}/events/news`, { ...session('legit2'), ...by('203.0.113.0') });
      await another.ended;
      t.is(another.events.length, 0);
      t.true((another.frames.find((frame) => frame.retry !== undefined)?.retry ?? 0) > 0, 'sent away, to come again');
      open();
      const statuses = (await Promise.all(asked)).map(({ status }) => status);
      t.deepEqual([...new Set(statuses)].sort(), [200, 503]);
      t.is(statuses.filter((status) => status === 200).length, app.requests.length - 1);
      t.is(
        (await get('/events/news', { ...session('after'), ...by('203.0.113.0') })).status,
        200,
        'and all is well again',
      );
    }
  },
);
