/** How many transactions, or rows, publishers get done. */
import { median } from '../usage.js';
import type { Result } from '../result.js';
import { withClient } from './databases.js';
import {
  catchUp,
  DATA,
  FULL_LOAD,
  INSERT,
  NOTIFY,
  OUTBOX,
  pairedRatio,
  PLAIN,
  takeTurns,
  UNHEARD,
  type Contest,
  type Party,
} from './parties.js';
import { CHANNEL, openCrowd, type Crowd } from './readers.js';

/** How often and for how long each party has its turn. */
export interface Pace {
  readonly rounds: number;
  readonly seconds: number;
}

export interface Workload {
  readonly title: string;
  readonly clients: number;
  readonly script: string;
  readonly settings?: Readonly<Record<string, number>>;
  readonly parties: readonly Party[];
  /** What the outbox reaches of a party's rate, and the least that it should. */
  readonly bars: readonly { readonly against: Party; readonly least?: number }[];
}

export const WORKLOADS: readonly Workload[] = [
  {
    title: '16 clients, a row in a transaction',
    clients: 16,
    script: INSERT,
    parties: [PLAIN, UNHEARD, NOTIFY, OUTBOX],
    bars: [{ against: NOTIFY, least: 1.5 }],
  },
  {
    title: '64 clients, a row in a transaction, and a commit that takes 3 ms more',
    clients: 64,
    script: INSERT,
    settings: { commit_delay: 3000, commit_siblings: 0 },
    parties: [PLAIN, NOTIFY, OUTBOX],
    bars: [
      { against: NOTIFY, least: 10 },
      { against: PLAIN, least: 0.5 },
    ],
  },
  {
    title: '1 client, a row in a transaction',
    clients: 1,
    script: INSERT,
    parties: [PLAIN, UNHEARD, NOTIFY, OUTBOX],
    bars: [{ against: NOTIFY, least: 0.85 }],
  },
  {
    title: '16 clients, a row and then 10 ms of other work in a transaction',
    clients: 16,
    script: `BEGIN;\n${INSERT}\n\\sleep 10 ms\nCOMMIT;`,
    parties: [PLAIN, NOTIFY, OUTBOX],
    bars: [{ against: NOTIFY, least: 0.97 }],
  },
  {
    title: '1 client, 10 rows in 10 statements in a transaction',
    clients: 1,
    script: `BEGIN;\n${`${INSERT}\n`.repeat(10)}COMMIT;`,
    parties: [PLAIN, NOTIFY, OUTBOX],
    bars: [{ against: NOTIFY }],
  },
];

export const BULK_ROWS = 100_000;
const BULK = `INSERT INTO outbox (channel, data) SELECT '${CHANNEL}', '${DATA}' FROM generate_series(1, ${BULK_ROWS})`;
/** At most so many turns of those: each takes a second and more. */
const BULK_ROUNDS = 3;
const MOST_BULK = 2.6;

/** Sessions that LISTEN and do nothing else, beside the one that reads. */
const FEW = 2;
export const MANY = 200;
const LEAST_CROWDED = 0.9;

export async function measureWorkload(
  contest: Contest,
  workload: Workload,
  { rounds, seconds }: Pace,
): Promise<Result[]> {
  const { title, clients, script, settings, parties, bars } = workload;
  const behind: Partial<Record<Party, number[]>> = {};
  const rates = await takeTurns(parties, rounds, async (party) => {
    const rate = await contest.pgbench(contest.urls[party], { clients, script, seconds, settings });
    (behind[party] ??= []).push(await catchUp(contest, party));
    return rate;
  });
  const rows = parties.map((party) => ({
    party,
    tps: Math.round(median(rates[party])),
    'its reader is done after (ms)': party === NOTIFY || party === OUTBOX ? median(behind[party] ?? []) : '',
  }));
  return bars.map(({ against, least }) => {
    const ratio = pairedRatio(rates[OUTBOX], rates[against]);
    return {
      part: 'publish',
      title: titled(contest, `${title} (medians of ${rounds} turns of ${seconds} s); ratio to ${against}`),
      rows,
      ratio,
      bar: { is: least === undefined ? 'none' : `at least ${least}`, holds: ratio >= (least ?? 0) },
    };
  });
}

export async function measureBulk(contest: Contest, title: string, pace: Pace): Promise<Result[]> {
  const rounds = Math.min(BULK_ROUNDS, pace.rounds);
  const parties = [PLAIN, UNHEARD, OUTBOX] as const;
  const times = await takeTurns(parties, rounds, async (party) => {
    const seconds = await withClient(contest.urls[party], async (client) => {
      const began = performance.now();
      await client.query(BULK);
      return (performance.now() - began) / 1000;
    });
    await catchUp(contest, party);
    return seconds;
  });
  const ratio = pairedRatio(times[OUTBOX], times[UNHEARD]);
  return [
    {
      part: 'publish',
      title: titled(contest, `${title} (medians of ${rounds} turns); ratio to ${UNHEARD}`),
      rows: parties.map((party) => ({ party, seconds: median(times[party]) })),
      ratio,
      bar: { is: `at most ${MOST_BULK}`, holds: ratio <= MOST_BULK },
    },
  ];
}

export async function measureCrowd(contest: Contest, title: string, { rounds, seconds }: Pace): Promise<Result[]> {
  const crowds: Partial<Record<Party, Crowd>> = {
    [NOTIFY]: await openCrowd(contest.urls[NOTIFY], MANY),
    [OUTBOX]: await openCrowd(contest.urls[OUTBOX], MANY),
  };
  try {
    const turns = new Map(
      ([NOTIFY, OUTBOX] as const).flatMap((party) =>
        [FEW, MANY].map((listening) => [`${party}, ${listening} more listen`, { party, listening }]),
      ),
    );
    const rates = await takeTurns([...turns.keys()], rounds, async (name) => {
      const { party, listening } = turns.get(name) ?? { party: OUTBOX, listening: FEW };
      await crowds[party]?.listen(listening);
      const rate = await contest.pgbench(contest.urls[party], { ...FULL_LOAD, seconds });
      await catchUp(contest, party);
      return rate;
    });
    const ratioOf = (party: string) =>
      pairedRatio(rates[`${party}, ${MANY} more listen`], rates[`${party}, ${FEW} more listen`]);
    const ratio = ratioOf(OUTBOX);
    return [
      {
        part: 'publish',
        title: titled(contest, `${title} (medians of ${rounds} turns of ${seconds} s); ratio to ${FEW} that do`),
        rows: [...turns].map(([name, { party, listening }]) => ({
          party: name,
          tps: Math.round(median(rates[name] ?? [])),
          ratio: listening === MANY ? ratioOf(party) : '',
        })),
        ratio,
        bar: { is: `at least ${LEAST_CROWDED}`, holds: ratio >= LEAST_CROWDED },
      },
    ];
  } finally {
    await Promise.all(Object.values(crowds).map((crowd) => crowd.stop()));
  }
}

function titled({ version }: Contest, text: string): string {
  return `PostgreSQL ${version}: ${text}`;
}
