/**
 * Attacks by resuming: clients that come back with a cursor for which much has to be looked at, and little or nothing is theirs.
 */
import { every, pause, withSession, type Attack, type Scene } from './attack.js';
import { eventsPath, get, rawRequest } from './raw-request.js';
import { openSlowReader } from './slow-reader.js';

/** So many as one connection may ask for. */
const NAMES = 100;
const WINDOW_EVENTS = 90_000;

const MIB = 1024 ** 2;
/** A page that waits may be larger than what is left by the one event that had to be taken. */
const SLOW_READERS = 3;

const nothing = (attacker: number) => Array.from({ length: NAMES }, (_, n) => `nobody:${attacker}:${n}:*`);
/** Of the channels of the large table; see `seed.ts`. */
const some = (attacker: number) => Array.from({ length: NAMES }, (_, n) => `c:${(attacker * NAMES + n) % 1000}`);

/** Fills the window; resolves with the id of its first event, which a client may come back with. */
async function fillWindow(scene: Scene): Promise<void> {
  await withSession(scene.signal, scene.databaseUrl, async (client) => {
    const { rows } = await client.query<{ first: string }>(
      `WITH published AS (
         INSERT INTO outbox (channel, data) SELECT 'filler', to_jsonb(n) FROM generate_series(1, $1::int) AS n RETURNING id
       ) SELECT min(id) AS first FROM published`,
      [WINDOW_EVENTS],
    );
    scene.note('first', Number(rows[0]?.first));
  });
}

const windowPrefixes: Attack = {
  name: `${NAMES} prefixes that match nothing, from the beginning of a window of ${WINDOW_EVENTS} events`,
  prepare: fillWindow,
  judgesHealth: true,
  async loop(scene, attacker) {
    const one = () =>
      every(scene, 400, () => {
        const headers = { 'Last-Event-ID': String(scene.noted['first']) };
        const bytes = get(eventsPath(nothing(attacker)), headers);
        return rawRequest(scene, scene.url, { bytes, until: { text: 'id:' } });
      });
    await Promise.all(Array.from({ length: 4 }, one));
  },
};

const historyChannels: Attack = {
  name: `${NAMES} channels from the earliest event of a large table on`,
  loop: (scene, attacker) =>
    every(scene, 1000, () => {
      const bytes = get(eventsPath(some(attacker), '&last_event_id=earliest'));
      return rawRequest(scene, scene.url, { bytes, until: 'end', patience: 5000 });
    }),
};

const historyPrefixes: Attack = {
  name: `${NAMES} prefixes that match nothing, from the earliest event of a large table on`,
  loop: (scene, attacker) =>
    every(scene, 1000, () => {
      const bytes = get(eventsPath(nothing(attacker), '&last_event_id=earliest'));
      return rawRequest(scene, scene.url, { bytes, until: 'end', patience: 5000 });
    }),
};

const redactions: Attack = {
  name: 'a hundred redactions a second, beside clients that come back',
  prepare: fillWindow,
  async loop(scene, attacker) {
    const first = Number(scene.noted['first']);
    await Promise.all([
      withSession(scene.signal, scene.databaseUrl, (client) =>
        every(scene, 100, async () => {
          const id = first + scene.random.integer(0, WINDOW_EVENTS - 1);
          await client.query({
            name: 'redact',
            text: `UPDATE outbox SET data = '"redacted"' WHERE id = $1 AND channel = 'filler'`,
            values: [id],
          });
          scene.count('redacted');
        }),
      ),
      every(scene, 200, () => {
        const id = first + WINDOW_EVENTS - 100 - attacker;
        const bytes = get(eventsPath(['filler']), { 'Last-Event-ID': String(id) });
        return rawRequest(scene, scene.url, { bytes, until: { text: `id: ${first + WINDOW_EVENTS - 1}\n` } });
      }),
    ]);
  },
};

/** @param rowBytes see `seed.ts`. */
function slowReaders(channel: string, rowBytes: number, megabytes: number, memory: Attack['memory']): Attack {
  return {
    name: `${SLOW_READERS * 10} clients that read little of compressible events of ${rowBytes / MIB} MiB; REPLAY_MEGABYTES=${megabytes}`,
    env: () => ({ REPLAY_MEGABYTES: String(megabytes) }),
    ...(memory && { memory }),
    async loop(scene) {
      const readers = Array.from({ length: SLOW_READERS }, () =>
        openSlowReader(scene, get(eventsPath([channel], '&last_event_id=earliest'))),
      );
      await pause(scene.signal, Infinity);
      for (const reader of readers) reader.close();
    },
  };
}

/** Where nothing is seeded. */
export const SLOW_READERS_OF_ALL: Attack = {
  name: 'clients that read little of everything',
  async loop(scene) {
    const reader = openSlowReader(scene, get(eventsPath(['*'], '&last_event_id=earliest')));
    await pause(scene.signal, Infinity);
    reader.close();
  },
};

export const LARGE_ROW_BYTES = 16 * MIB - 1024;
export const MIDDLE_ROW_BYTES = MIB;

/** What may be tried on any table. */
export const RESUMES_ANYWHERE: readonly Attack[] = [historyChannels, historyPrefixes];

export const BY_RESUME: readonly Attack[] = [
  windowPrefixes,
  ...RESUMES_ANYWHERE,
  redactions,
  slowReaders('large', LARGE_ROW_BYTES, 16, {
    of: 'resident',
    is: '4 times the event',
    bytes: () => 4 * LARGE_ROW_BYTES,
  }),
  slowReaders('middle', MIDDLE_ROW_BYTES, 64, {
    of: 'external',
    is: 'REPLAY_MEGABYTES and a quarter',
    bytes: () => 1.25 * 64 * MIB,
  }),
];
