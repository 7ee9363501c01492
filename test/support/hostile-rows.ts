/**
 * A publisher that tries all that a row can be: names in all scripts, nothing but line breaks, what compresses well, up to the
 * limit; and what has to be refused. What was taken is owed to everybody, as all else is.
 */
import pg from 'pg';
import { lastingSession } from './lasting-session.js';
import type { Random } from './random.js';
import type { Actor } from './actor.js';

interface Kind {
  /** How often it is tried, to the others. */
  readonly weight: number;
  readonly fate: 'taken' | 'refused';
  readonly row: (random: Random) => { channel?: string; event?: string; data?: string };
}

/** Data of an event goes out with six bytes before each line. */
const BYTES_OF_A_BREAK = 7;
const LIMIT_BYTES = 16 * 1024 * 1024;
/** What the other fields of a frame may take. */
const SPARE_BYTES = 4096;

const SCRIPTS = ['ж', '日本語', 'العربية', 'हिन्दी', '👩‍👩‍👧', 'é́́', '\u2028', 'ﷺ', '%2F?&#', '\'"\\', ' ', '../..'] as const;
const CONTROLS = ['\n', '\r', '\t', '\u0001', '\u007f', '\u0085'] as const;

const breaks = (count: number) => `to_jsonb(repeat(E'\\n', ${count}))`;
const letters = (count: number) => `jsonb_build_object('compressible', repeat('x', ${count}))`;

const KINDS: readonly Kind[] = [
  {
    weight: 100,
    fate: 'taken',
    row: (random) => ({
      channel: `${random.pick(['user:', 'org:7:', 'news/'])}${random.pick(SCRIPTS)}`,
      event: `${random.pick(SCRIPTS)}${random.pick(SCRIPTS)}`,
      data: `jsonb_build_object('script', U&'\\0436\\2028\\FEFF')`,
    }),
  },
  { weight: 30, fate: 'taken', row: (random) => ({ data: breaks(random.integer(0, 2000)) }) },
  {
    weight: 20,
    fate: 'taken',
    row: (random) => ({ data: `to_jsonb(repeat(E'\\r\\n\\r', ${random.integer(0, 2000)}))` }),
  },
  { weight: 4, fate: 'taken', row: () => ({ data: letters(1024 * 1024) }) },
  { weight: 1, fate: 'taken', row: () => ({ data: letters(LIMIT_BYTES - SPARE_BYTES) }) },
  { weight: 30, fate: 'refused', row: (random) => ({ channel: `user:${random.pick(CONTROLS)}` }) },
  { weight: 30, fate: 'refused', row: (random) => ({ event: `${random.pick(CONTROLS)}x` }) },
  { weight: 10, fate: 'refused', row: (random) => ({ event: `stream-${random.pick(SCRIPTS)}` }) },
  { weight: 10, fate: 'refused', row: () => ({ channel: 'user:*' }) },
  { weight: 5, fate: 'refused', row: () => ({ data: letters(LIMIT_BYTES + 1) }) },
  // Sizes that only a table that measures what goes out can tell apart.
  {
    weight: 1,
    fate: 'taken',
    row: () => ({ data: breaks(Math.floor((LIMIT_BYTES - SPARE_BYTES) / BYTES_OF_A_BREAK)) }),
  },
  // 55 MB of digits in 4 kB, which keep the server busy for two seconds.
  { weight: 3, fate: 'refused', row: () => ({ data: `('[' || repeat('1e131071,', 420) || '0]')::jsonb` }) },
  { weight: 5, fate: 'refused', row: () => ({ data: breaks(Math.ceil(LIMIT_BYTES / BYTES_OF_A_BREAK) + 1024) }) },
];
const WEIGHTS = KINDS.reduce((sum, { weight }) => sum + weight, 0);

const PAUSE_MS = [100, 600] as const;

export function createHostileRows(): Actor {
  const complaints: string[] = [];
  let [taken, refused] = [0, 0];

  async function attempt(client: pg.Client, { fate, row }: Kind, random: Random): Promise<void> {
    const { channel = 'news', event = 'message', data = 'NULL' } = row(random);
    const text = `INSERT INTO outbox (channel, event, data) VALUES ($1, $2, ${data})`;
    try {
      await client.query(text, [channel, event]);
    } catch (error) {
      if (fate === 'taken' || !isRefusal(error)) throw error;
      refused += 1;
      return;
    }
    taken += 1;
    if (fate === 'refused')
      complaints.push(`the table took what it has to refuse: ${JSON.stringify({ channel, event, data })}`);
  }

  return {
    async run({ random, shift, ...session }) {
      const onFailure = (text: string) => complaints.push(`hostile rows: ${text}`);
      await lastingSession({ ...session, shift, onFailure }, async (client, isOpen) => {
        while (shift.isOn && isOpen()) {
          await attempt(client, pickKind(random), random);
          await shift.pause(random.integer(...PAUSE_MS));
        }
      });
    },
    complaints,
    figures: () => [
      ['hostile rows that the table took', taken],
      ['hostile rows that it refused', refused],
    ],
  };
}

function pickKind(random: Random): Kind {
  let left = random.integer(1, WEIGHTS);
  return KINDS.find(({ weight }) => (left -= weight) <= 0) ?? (KINDS[0] as Kind);
}

/** By a rule of the table or a type of PostgreSQL: integrity, data, and limits of the program (appendix A, classes 22, 23 and 54). */
function isRefusal(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(?:22|23|54)/.test(error.code ?? '');
}
