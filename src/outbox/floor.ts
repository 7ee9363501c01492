/**
 * The floor: the newest event that was deleted, as SQL reads it. What came before it can't be told
 * any more.
 *
 * Each read that may skip something has the floor of its own snapshot in its answer. Where the row
 * that keeps the floor is gone it reads as zeros, so that delivery goes on: `changesSince` reports
 * the loss.
 */
import { sql } from 'kysely';
import type { Cursor } from '../event/event.js';

export const FLOOR_ID = sql`coalesce((SELECT max(id) FROM here.outbox_floor), 0)`;
export const FLOOR_HIGHEST_ID = sql`coalesce((SELECT max(highest_id) FROM here.outbox_floor), 0)`;
export const FLOOR_POSITION = sql`coalesce((SELECT max(position) FROM here.outbox_floor), 0)`;

/** Columns of an answer that has the floor in it, and nothing else of it. */
export interface FloorRow {
  readonly id: string;
  readonly floor: string;
  readonly standby: boolean;
}

/** The first row of a page, with the floor of its snapshot. */
export interface FirstRow {
  readonly id: string;
  readonly position: string;
  readonly floorId: string;
  readonly floor: string;
}

export function floorIn(row: FloorRow | undefined): Cursor {
  return { id: row?.id ?? '0', position: BigInt(row?.floor ?? 0) };
}

/** The cursor in a row; that before all events where there is none. */
export function cursorIn(row: { readonly id: string; readonly position: string } | undefined): Cursor {
  return { id: row?.id ?? '0', position: BigInt(row?.position ?? 0) };
}
