/**
 * Attacks by session: what somebody can do who may connect to the database.
 */
import { every, pause, withSession, type Attack } from './attack.js';
import { eventsPath, get, rawRequest } from './raw-request.js';

const LOCK_MS = 3000;

const lockedTable: Attack = {
  name: `clients that come back while another session locks the table for ${LOCK_MS / 1000} s; QUERY_TIMEOUT_SECONDS=1`,
  env: () => ({ QUERY_TIMEOUT_SECONDS: '1' }),
  locksMs: LOCK_MS,
  async loop(scene, attacker) {
    if (attacker === 0) {
      await every(scene, LOCK_MS + 1500, () =>
        withSession(scene.signal, scene.databaseUrl, async (client) => {
          await client.query('BEGIN');
          await client.query('LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE');
          await client.query('SELECT pg_sleep($1)', [LOCK_MS / 1000]);
          await client.query('COMMIT');
          scene.count('locked');
        }),
      );
      return;
    }
    await every(scene, 100, () =>
      rawRequest(scene, scene.url, {
        bytes: get(eventsPath([`c:${scene.random.integer(0, 999)}`], '&last_event_id=earliest')),
        until: { text: 'data: {"n"' },
        patience: 1000,
      }),
    );
  },
};

const FORGED = [
  'forget:9223372036854775807',
  'forget:1',
  'forget:999999999',
  'forget:99999999999999999999999999',
  'forget:-1',
  'probe:0',
  'awake',
  '',
  '1',
  'ж'.repeat(3000),
];

const notifications: Attack = {
  name: 'a thousand forged notifications a second, by a role that may connect and nothing else',
  loop: (scene, attacker) =>
    withSession(scene.signal, scene.strangerUrl, async (client) => {
      let n = attacker;
      await every(scene, 10, async () => {
        await client.query('SELECT pg_notify($1, $2)', ['outbox', FORGED[(n += 1) % FORGED.length]]);
        scene.count('notified');
      });
    }),
};

const STUCK_MS = 3000;

const stuck: Attack = {
  name: 'sessions that LISTEN and sit in a transaction with an old snapshot, by a role that may connect and nothing else',
  loop: (scene) =>
    every(scene, 100, () =>
      withSession(scene.signal, scene.strangerUrl, async (client) => {
        await client.query('LISTEN outbox');
        await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
        await client.query('SELECT 1');
        scene.count('stuck');
        await pause(scene.signal, STUCK_MS);
      }),
    ),
};

/** What a role can do that may connect and nothing else. */
export const BY_STRANGER: readonly Attack[] = [notifications, stuck];

export const BY_SESSION: readonly Attack[] = [lockedTable, ...BY_STRANGER];
