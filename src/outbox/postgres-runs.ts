/**
 * Runs of the order, of all channels, from the outbox table: what a feed reads of it that gets its
 * events from elsewhere. It only ever selects (promise R7).
 */
import type { Kysely } from 'kysely';
import type { Tables } from '../postgres/pool.js';
import { refuseStandby, type StandbyRule } from '../postgres/standby.js';
import type { ArchiveRun, RunArchive } from './archive.js';
import { cursorIn } from './floor.js';
import { frameRows, undeliverableOf } from './framed-rows.js';
import { firstAfter, rowsAfter } from './new-rows.js';
import { nearNewest } from './newest.js';
import { createTypicalSize } from './typical-size.js';
import type { Undeliverable } from './undeliverable.js';

/** Bounds of one read. What is larger takes more reads. */
const RUN_EVENTS = 1000;
const RUN_BYTES = 1024 * 1024;

/**
 * @param undeliverable is told what can't be delivered.
 * @param rule what is made of an answer by a standby. Default: it is refused.
 */
export function createPostgresRuns(
  db: Kysely<Tables>,
  undeliverable: Undeliverable,
  rule: StandbyRule = refuseStandby,
): RunArchive {
  const size = createTypicalSize();
  const readAround = undeliverable.reader();

  async function read(after: bigint, through: bigint, limit: number): Promise<ArchiveRun> {
    const { rows, isCut, floor } = await rowsAfter(db, after, limit, RUN_BYTES, through, rule);
    const events = await frameRows(rows, undeliverable);
    size.learn(
      events.length,
      events.reduce((sum, { frame }) => sum + frame.length, 0),
    );
    const isAll = !isCut && rows.length < limit;
    return { events, through: isAll ? through : (events.at(-1)?.position ?? through), floor };
  }

  return {
    run: (after, through) =>
      readAround(
        size.rowsFor(RUN_BYTES, RUN_EVENTS),
        (limit) => read(after, through, limit),
        async () => {
          const row = await firstAfter(db, after);
          return row && BigInt(row.position) <= through ? row : undefined;
        },
        ({ floor, floorId, ...row }) => ({
          events: [undeliverableOf(row)],
          through: BigInt(row.position),
          floor: cursorIn({ id: floorId, position: floor }),
        }),
      ),

    nearHead: (head, limit) => nearNewest(db, head, limit),
  };
}
