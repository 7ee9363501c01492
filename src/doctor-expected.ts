/**
 * What the migrations make, as the doctor expects to find it: one table for each kind of thing. A test holds them against a
 * migrated database, so a migration that changes one of these changes it here as well.
 */
import { migrationsSql } from './migrate.js';

export interface ExpectedTrigger {
  readonly name: string;
  readonly table: string;
  /** As pg_get_triggerdef() has it, without the schema. */
  readonly definition: string;
  /** What is no longer so while it does not fire. */
  readonly without: string;
}

const UNPLACED = 'rows get no position when they commit, so they are never delivered';
const UNGUARDED = 'what PostgreSQL should refuse goes through, and events may be moved, skipped or sent twice';
const UNTOLD = 'clients are not told of events that are gone';

export const TRIGGERS: readonly ExpectedTrigger[] = [
  {
    name: 'outbox_1_reach_second_round',
    table: 'outbox',
    definition:
      'CREATE CONSTRAINT TRIGGER outbox_1_reach_second_round AFTER INSERT ON outbox ' +
      'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox_reach_second_round()',
    without: UNPLACED,
  },
  {
    name: 'outbox_2_place',
    table: 'outbox_pending',
    definition:
      'CREATE CONSTRAINT TRIGGER outbox_2_place AFTER INSERT ON outbox_pending ' +
      'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox_place()',
    without: UNPLACED,
  },
  {
    name: 'outbox_refuse_position',
    table: 'outbox',
    definition:
      'CREATE TRIGGER outbox_refuse_position AFTER INSERT ON outbox FOR EACH ROW WHEN (new."position" IS NOT NULL) ' +
      'EXECUTE FUNCTION outbox_refuse_position()',
    without: UNGUARDED,
  },
  {
    name: 'outbox_refuse_move',
    table: 'outbox',
    definition:
      'CREATE TRIGGER outbox_refuse_move AFTER UPDATE OF "position" ON outbox FOR EACH ROW WHEN (pg_trigger_depth() = 0) ' +
      'EXECUTE FUNCTION outbox_refuse_move()',
    without: UNGUARDED,
  },
  {
    name: 'outbox_refuse_change',
    table: 'outbox',
    definition:
      'CREATE TRIGGER outbox_refuse_change AFTER UPDATE OF id, channel, event, created_at ON outbox FOR EACH ROW ' +
      'EXECUTE FUNCTION outbox_refuse_change()',
    without: UNGUARDED,
  },
  {
    name: 'outbox_redacted',
    table: 'outbox',
    definition:
      'CREATE TRIGGER outbox_redacted AFTER UPDATE OF data ON outbox FOR EACH ROW EXECUTE FUNCTION outbox_redacted()',
    without: 'relays go on serving from memory what has been redacted',
  },
  {
    name: 'outbox_deleted',
    table: 'outbox',
    definition:
      'CREATE TRIGGER outbox_deleted AFTER DELETE ON outbox REFERENCING OLD TABLE AS deleted ' +
      'FOR EACH STATEMENT EXECUTE FUNCTION outbox_deleted()',
    without: UNTOLD,
  },
  {
    name: 'outbox_before_truncate',
    table: 'outbox',
    definition:
      'CREATE TRIGGER outbox_before_truncate BEFORE TRUNCATE ON outbox ' +
      'FOR EACH STATEMENT EXECUTE FUNCTION outbox_before_truncate()',
    without: UNTOLD,
  },
  {
    name: 'outbox_after_truncate',
    table: 'outbox',
    definition:
      'CREATE TRIGGER outbox_after_truncate AFTER TRUNCATE ON outbox ' +
      'FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_truncate()',
    without: 'TRUNCATE … RESTART IDENTITY gives ids out again, and old cursors name new events',
  },
];

export interface ExpectedIndex {
  readonly name: string;
  /** As pg_get_indexdef() has it, without the schema. */
  readonly definition: string;
  readonly without: string;
  /** Of the table whose primary key it is. */
  readonly keyOf?: { readonly table: string; readonly column: string };
}

export const INDEXES: readonly ExpectedIndex[] = [
  {
    name: 'outbox_pkey',
    definition: 'CREATE UNIQUE INDEX outbox_pkey ON outbox USING btree (id)',
    keyOf: { table: 'outbox', column: 'id' },
    without: 'placing a row at its commit, and finding a cursor, read the whole table; ids need not be unique',
  },
  {
    name: 'outbox_position',
    definition: 'CREATE UNIQUE INDEX outbox_position ON outbox USING btree ("position") WHERE "position" IS NOT NULL',
    without: 'each look for new events reads the whole table; positions need not be unique',
  },
  {
    name: 'outbox_channel_position',
    definition:
      'CREATE INDEX outbox_channel_position ON outbox USING btree (channel, "position") WHERE "position" IS NOT NULL',
    without: 'each replay reads the whole table',
  },
  {
    name: 'outbox_created_at',
    definition:
      'CREATE INDEX outbox_created_at ON outbox USING btree (created_at, "position") WHERE "position" IS NOT NULL',
    without: 'each stream that starts with since= reads the whole table',
  },
  {
    name: 'outbox_floor_has_one_row',
    definition: 'CREATE UNIQUE INDEX outbox_floor_has_one_row ON outbox_floor USING btree ((true))',
    without: 'a second row in outbox_floor would double what relays read',
  },
  {
    name: 'outbox_redaction_pkey',
    definition: 'CREATE UNIQUE INDEX outbox_redaction_pkey ON outbox_redaction USING btree ("position")',
    keyOf: { table: 'outbox_redaction', column: 'position' },
    without: 'no event can be redacted',
  },
  {
    name: 'outbox_redaction_changed_by',
    definition: 'CREATE INDEX outbox_redaction_changed_by ON outbox_redaction USING btree (changed_by)',
    without: 'each client that comes back has the whole table of redactions read',
  },
];

export interface ExpectedFunction {
  readonly name: string;
  /** Types of its arguments. */
  readonly args: string;
  readonly isDefiner: boolean;
  /** Its SET clauses, as pg_proc.proconfig has them. */
  readonly settings: readonly string[];
  /** Everybody may execute it, since it runs with its caller's rights. */
  readonly isPublic?: true;
}

const PINNED = 'search_path=pg_catalog, pg_temp';

export const FUNCTIONS: readonly ExpectedFunction[] = [
  // These two have every name qualified instead.
  { name: 'outbox_reach_second_round', args: '', isDefiner: true, settings: [] },
  { name: 'outbox_place', args: '', isDefiner: true, settings: ['enable_seqscan=off'] },
  {
    name: 'outbox_place_listed',
    args: 'text',
    isDefiner: false,
    settings: [PINNED, 'enable_seqscan=off', 'enable_hashjoin=off', 'enable_mergejoin=off'],
  },
  { name: 'outbox_refuse_position', args: '', isDefiner: false, settings: [PINNED] },
  { name: 'outbox_refuse_move', args: '', isDefiner: false, settings: [PINNED] },
  { name: 'outbox_refuse_change', args: '', isDefiner: false, settings: [PINNED] },
  { name: 'outbox_redacted', args: '', isDefiner: true, settings: [PINNED] },
  { name: 'outbox_deleted', args: '', isDefiner: true, settings: [PINNED] },
  { name: 'outbox_before_truncate', args: '', isDefiner: true, settings: [PINNED] },
  { name: 'outbox_after_truncate', args: '', isDefiner: true, settings: [PINNED] },
  { name: 'outbox_publish', args: 'text, jsonb, text', isDefiner: false, settings: [], isPublic: true },
];

export const TABLES = ['outbox', 'outbox_pending', 'outbox_floor', 'outbox_redaction'] as const;

export interface FunctionSource {
  /** The statement that makes it, or makes it anew. */
  readonly create: string;
  /** What stands between the dollars. */
  readonly body: string;
}

/** Each function's source, by name, as the newest migration that has it makes it in a schema; the name is quoted as SQL wants it. */
export async function functionSources(quotedSchema: string): Promise<Map<string, FunctionSource>> {
  const sources = new Map<string, FunctionSource>();
  const statement = /^CREATE (?:OR REPLACE )?(FUNCTION (\w+)\([^$]*\$\$([^$]*)\$\$);$/gm;
  for (const [, rest = '', name = '', body = ''] of (await migrationsSql()).matchAll(statement)) {
    // `here.` is how the migrations name the schema that they run in.
    const inPlace = (text: string) => text.replaceAll('here.', `${quotedSchema}.`);
    sources.set(name, { create: `CREATE OR REPLACE ${inPlace(rest)}`, body: inPlace(body) });
  }
  return sources;
}
