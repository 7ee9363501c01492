/**
 * What breaks without each trigger and index of the migrations, for whoever is told that one is
 * missing.
 */
const UNPLACED = 'rows get no position when they commit, so they are never delivered';
const UNGUARDED = 'what PostgreSQL should refuse goes through, and events may be moved, skipped or sent twice';
const UNKEPT = 'nothing keeps outbox_floor from losing its row, or from being set back';
const UNTOLD = 'clients are not told of events that are gone';

export const WITHOUT_TRIGGER: Readonly<Record<string, string>> = {
  outbox_1_reach_second_round: UNPLACED,
  outbox_2_place: UNPLACED,
  outbox_check: UNGUARDED,
  outbox_refuse_move: UNGUARDED,
  outbox_refuse_change: UNGUARDED,
  outbox_redacted: 'relays go on serving from memory what has been redacted',
  outbox_deleted: UNTOLD,
  outbox_before_truncate: UNTOLD,
  outbox_after_truncate: 'TRUNCATE … RESTART IDENTITY gives ids out again, and old cursors name new events',
  outbox_keep_floor: UNKEPT,
  outbox_keep_floor_rising: UNKEPT,
};

export const WITHOUT_INDEX: Readonly<Record<string, string>> = {
  outbox_pkey: 'placing a row at its commit, and finding a cursor, read the whole table; ids need not be unique',
  outbox_position: 'each look for new events reads the whole table; positions need not be unique',
  outbox_channel_position: 'each replay reads the whole table',
  outbox_created_at: 'each stream that starts with since= reads the whole table',
  outbox_floor_has_one_row:
    'a second row in outbox_floor would double what relays read, and a publication of all tables would have DELETE fail',
  outbox_redaction_pkey: 'no event can be redacted',
  outbox_redaction_changed_by: 'each client that comes back has the whole table of redactions read',
};
