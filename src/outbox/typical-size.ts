/**
 * Typical size: how many rows to ask for, so that a page has about so many bytes. A page is cut by
 * the sizes that rows have in the table, where long data is compressed, perhaps to a fraction.
 */

/** Bytes that a row is taken to cost beside its payload: the frame's fields. */
export const ROW_BYTES = 100;

/** Least rows that are candidates for a page. */
const LEAST_ROWS = 16;

export interface TypicalSize {
  /** @param bytes of so many events, framed. */
  learn(events: number, bytes: number): void;
  /** How many rows have about so many bytes; at most `most`. */
  rowsFor(bytes: number, most: number): number;
}

export function createTypicalSize(): TypicalSize {
  let typicalBytes = ROW_BYTES;
  return {
    learn(events, bytes) {
      if (events > 0) typicalBytes = Math.max(ROW_BYTES, (typicalBytes + bytes / events) / 2);
    },
    rowsFor: (bytes, most) => Math.max(LEAST_ROWS, Math.min(most, Math.ceil(bytes / typicalBytes))),
  };
}
