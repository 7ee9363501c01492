/**
 * Undeliverable events: rows that the table should have refused, of before it did or from behind
 * its back. One of them is passed by, for everybody and in replays too, and never stops the others
 * (promise R5).
 *
 * Two kinds: an event that is too large as sent, which a page comes without; and one that
 * PostgreSQL can't even make the text of, so that each page with it fails. The second is found by
 * reading row by row.
 */
import { LRUCache } from 'lru-cache';
import pg from 'pg';
import type { Logger } from 'pino';

/**
 * The most that an event may have: the bytes of its data as sent, line for line. What the table
 * refuses to take, said once more for rows that are there all the same: the largest is in memory a
 * few times over while it is framed.
 */
export const MAX_EVENT_BYTES = 16 * 1024 * 1024;

/**
 * Of the data: data exceptions, program_limit_exceeded, data_corrupted (PostgreSQL manual, appendix
 * A).
 */
const DATA_ERRORS = /^(22...|54...|XX001)$/;
/**
 * Perhaps: out_of_memory, which others may have taken for a moment; internal_error, which poolers
 * use for their own.
 */
const PERHAPS_DATA_ERRORS = /^(53200|XX000)$/;
/**
 * How often reading one row has to fail like that, with pauses between, until it is the row that is
 * to blame.
 */
const PATIENCE = 5;

/** Of how many events it is kept that they are passed by, so that each is told of once. */
const JUDGED_KEPT = 1000;

export interface Undeliverable {
  /** How many were found. */
  readonly count: number;
  /** Tells of one, once. */
  report(id: string, reason: string): void;
  /** The same of an event that has more bytes as sent than any may have. */
  reportTooLarge(id: string, bytes: number): void;
  /**
   * Makes a way to read pages that gets around those rows: one for each thing that is read in a
   * row.
   */
  reader(): ReadAround;
}

/**
 * Reads a page, of few rows where the data of one makes the read fail: one at first, and twice as
 * many each time that goes well.
 *
 * @param read of so many rows at most.
 * @param first the first row that the page would have.
 * @param passed the page that has nothing and has passed that row by.
 * @throws what `read` throws, where it is not for the data.
 */
export type ReadAround = <Page, Row extends { readonly id: string }>(
  limit: number,
  read: (limit: number) => Promise<Page>,
  first: () => Promise<Row | undefined>,
  passed: (row: Row) => Page,
) => Promise<Page>;

/** @param logger is told of each. Default: nobody is. */
export function createUndeliverable(logger?: Pick<Logger, 'error'>): Undeliverable {
  let count = 0;
  const judged = new LRUCache<string, string>({ max: JUDGED_KEPT });
  const failures = new LRUCache<string, number>({ max: JUDGED_KEPT });

  function report(id: string, reason: string): void {
    if (judged.has(id)) return;
    judged.set(id, reason);
    count += 1;
    logger?.error(
      { id, reason },
      `event ${id} cannot be delivered, so it is passed by: ${reason}. Its channel's clients do not get it. To have them get what ` +
        `can be sent, run as a role that may redact: UPDATE outbox SET data = '"…"' WHERE id = ${id}`,
    );
  }

  /** Whether it is for this row alone that it can't be read. */
  function isHopeless(id: string, error: pg.DatabaseError): boolean {
    if (DATA_ERRORS.test(error.code ?? '') || judged.has(id)) return true;
    const times = (failures.get(id) ?? 0) + 1;
    failures.set(id, times);
    return times >= PATIENCE;
  }

  return {
    get count() {
      return count;
    },
    report,
    reportTooLarge: (id, bytes) =>
      report(id, `its data has ${bytes} bytes as sent, and ${MAX_EVENT_BYTES} is the most`),
    reader() {
      let most = Number.POSITIVE_INFINITY;
      const readAround: ReadAround = async (limit, read, first, passed) => {
        const rows = Math.min(limit, most);
        try {
          const page = await read(rows);
          most = rows < limit ? rows * 2 : Number.POSITIVE_INFINITY;
          return page;
        } catch (error) {
          if (!isOfData(error)) throw error;
          most = 1;
          if (rows > 1) return readAround(limit, read, first, passed);
          const row = await first();
          if (row === undefined || !isHopeless(row.id, error)) throw error;
          report(row.id, `PostgreSQL says ${error.message} (${error.code ?? 'without a code'})`);
          return passed(row);
        }
      };
      return readAround;
    },
  };
}

/** Whether it may lie in the data of what was read, and not in the connection or the server. */
export function isOfData(error: unknown): error is pg.DatabaseError {
  if (!(error instanceof pg.DatabaseError) || error.code === undefined) return false;
  return DATA_ERRORS.test(error.code) || PERHAPS_DATA_ERRORS.test(error.code);
}
