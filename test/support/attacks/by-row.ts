/**
 * Attacks by row: what who may publish can publish.
 */
import { every, pause, withSession, type Attack } from './attack.js';

const MIB = 1024 ** 2;
/** A line break goes out as `data: ` and itself. */
const BYTES_OF_A_BREAK = 7;
/** What the table might allow, largest first: by what is stored, and by what goes out. */
const BREAKS = [16 * MIB - 64, Math.floor((16 * MIB - 1024) / BYTES_OF_A_BREAK), 2 * MIB, MIB, MIB / 4];

const PUBLISH_BREAKS = `INSERT INTO outbox (channel, data) VALUES ('breaks', to_jsonb(repeat(E'\\n', $1::int)))`;

const lineBreaks: Attack = {
  name: 'events of nothing but line breaks, as large as is allowed, one a second, and larger ones',
  leaves: 'breaks',
  async prepare(scene) {
    await withSession(scene.signal, scene.databaseUrl, async (client) => {
      for (const breaks of BREAKS) {
        await client.query('BEGIN');
        const taken = await client.query(PUBLISH_BREAKS, [breaks]).then(
          () => true,
          () => false,
        );
        await client.query('ROLLBACK');
        if (!taken) continue;
        scene.note('breaks', breaks);
        scene.note('bytes', breaks * BYTES_OF_A_BREAK);
        return;
      }
    });
  },
  memory: { of: 'resident', is: '4 times the event', bytes: (noted) => 4 * (noted['bytes'] ?? 0) },
  async loop(scene, attacker) {
    const breaks = scene.noted['breaks'] ?? 0;
    // The last of the ten tries what is refused.
    const size = attacker < 9 ? breaks : 2 * breaks + 1024;
    await withSession(scene.signal, scene.databaseUrl, async (client) => {
      await pause(scene.signal, attacker * 1000);
      await every(scene, 10_000, async () => {
        await client.query(PUBLISH_BREAKS, [size]);
        scene.count('published');
      });
    });
  },
};

/** Small when sent to the database, huge when it is read out again; or huge in another way. */
const BOMBS = [
  `('[' || repeat('1e131071,', 4200) || '0]')::jsonb`,
  `('[' || repeat('1e131071,', 1000) || '0]')::jsonb`,
  `('{"a": 1e131071}')::jsonb`,
  `to_jsonb(array_fill(1e308::numeric, ARRAY[100000]))`,
  `(repeat('[', 5000) || repeat(']', 5000))::jsonb`,
];

const bombs: Attack = {
  name: 'JSON that is short when it is published and long when it is read',
  leaves: 'bombs',
  // Ten sessions that make half a gigabyte of text each: a publisher waits as long without a relay.
  burdensServer: true,
  loop: (scene, attacker) =>
    withSession(scene.signal, scene.databaseUrl, async (client) => {
      let n = attacker;
      await every(scene, 500, async () => {
        const bomb = BOMBS[(n += 1) % BOMBS.length] ?? '';
        await client.query(`INSERT INTO outbox (channel, data) VALUES ('bombs', ${bomb})`);
        scene.count('published');
      });
    }),
};

export const BY_ROW: readonly Attack[] = [lineBreaks, bombs];
