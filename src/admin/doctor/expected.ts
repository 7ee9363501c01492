/**
 * What the migrations make, as the doctor expects to find it: one table for each kind of thing. A test holds them against a
 * migrated database, so a migration that changes one of these changes it here as well.
 */
import { migrationsSql } from '../../postgres/migrate.js';

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
const UNKEPT = 'nothing keeps outbox_floor from losing its row, or from being set back';
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
    name: 'outbox_check',
    table: 'outbox',
    definition:
      'CREATE TRIGGER outbox_check AFTER INSERT OR UPDATE OF data ON outbox FOR EACH ROW EXECUTE FUNCTION outbox_check()',
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
  {
    name: 'outbox_keep_floor',
    table: 'outbox_floor',
    definition:
      'CREATE TRIGGER outbox_keep_floor BEFORE INSERT OR DELETE OR TRUNCATE ON outbox_floor ' +
      'FOR EACH STATEMENT EXECUTE FUNCTION outbox_keep_floor()',
    without: UNKEPT,
  },
  {
    name: 'outbox_keep_floor_rising',
    table: 'outbox_floor',
    definition:
      'CREATE TRIGGER outbox_keep_floor_rising AFTER UPDATE ON outbox_floor ' +
      'FOR EACH ROW EXECUTE FUNCTION outbox_keep_floor()',
    without: UNKEPT,
  },
];

export interface ExpectedIndex {
  readonly name: string;
  /** As pg_get_indexdef() has it, without the schema. */
  readonly definition: string;
  /** Of a key, which is no index alone: what is added to the table. */
  readonly constraint?: string;
  readonly without: string;
}

export const INDEXES: readonly ExpectedIndex[] = [
  {
    name: 'outbox_pkey',
    definition: 'CREATE UNIQUE INDEX outbox_pkey ON outbox USING btree (id)',
    constraint: 'PRIMARY KEY (id)',
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
    definition: 'CREATE UNIQUE INDEX outbox_floor_has_one_row ON outbox_floor USING btree (singleton)',
    constraint: 'PRIMARY KEY (singleton)',
    without:
      'a second row in outbox_floor would double what relays read, and a publication of all tables would have DELETE fail',
  },
  {
    name: 'outbox_redaction_pkey',
    definition: 'CREATE UNIQUE INDEX outbox_redaction_pkey ON outbox_redaction USING btree ("position")',
    constraint: 'PRIMARY KEY (position)',
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
  // These three have every name qualified instead.
  { name: 'outbox_reach_second_round', args: '', isDefiner: true, settings: [] },
  { name: 'outbox_place', args: '', isDefiner: true, settings: ['enable_seqscan=off'] },
  {
    name: 'outbox_place_listed',
    args: 'text',
    isDefiner: false,
    settings: [PINNED, 'enable_seqscan=off', 'enable_hashjoin=off', 'enable_mergejoin=off'],
  },
  { name: 'outbox_check', args: '', isDefiner: false, settings: [] },
  { name: 'outbox_refuse_move', args: '', isDefiner: false, settings: [PINNED] },
  { name: 'outbox_refuse_change', args: '', isDefiner: false, settings: [PINNED] },
  { name: 'outbox_redacted', args: '', isDefiner: true, settings: [PINNED] },
  { name: 'outbox_raise_floor', args: 'bigint, bigint, bigint', isDefiner: false, settings: [PINNED] },
  { name: 'outbox_deleted', args: '', isDefiner: true, settings: [PINNED] },
  { name: 'outbox_before_truncate', args: '', isDefiner: true, settings: [PINNED] },
  { name: 'outbox_after_truncate', args: '', isDefiner: true, settings: [PINNED] },
  { name: 'outbox_keep_floor', args: '', isDefiner: false, settings: [PINNED] },
  { name: 'outbox_publish', args: 'text, jsonb, text', isDefiner: false, settings: [], isPublic: true },
];

export interface ExpectedColumn {
  readonly table: string;
  readonly name: string;
  /** Type, collation where it matters, NOT NULL, default or identity: as the migrations write it. */
  readonly definition: string;
}

/** What is in them may be read as it was written only where they are what the migrations made. */
export const COLUMNS: readonly ExpectedColumn[] = [
  { table: 'outbox', name: 'id', definition: 'bigint NOT NULL GENERATED ALWAYS AS IDENTITY' },
  { table: 'outbox', name: 'channel', definition: 'text COLLATE "C" NOT NULL' },
  { table: 'outbox', name: 'event', definition: `text COLLATE "C" NOT NULL DEFAULT 'message'::text` },
  { table: 'outbox', name: 'data', definition: 'jsonb' },
  { table: 'outbox', name: 'created_at', definition: 'timestamp with time zone NOT NULL DEFAULT now()' },
  { table: 'outbox', name: 'position', definition: 'bigint' },
  { table: 'outbox_pending', name: 'id', definition: 'bigint' },
  { table: 'outbox_pending', name: 'tuple', definition: 'tid' },
  { table: 'outbox_pending', name: 'listed', definition: 'text' },
  { table: 'outbox_floor', name: 'id', definition: 'bigint NOT NULL' },
  { table: 'outbox_floor', name: 'position', definition: 'bigint NOT NULL' },
  { table: 'outbox_floor', name: 'highest_id', definition: 'bigint NOT NULL DEFAULT 0' },
  { table: 'outbox_floor', name: 'singleton', definition: 'boolean NOT NULL DEFAULT true' },
  { table: 'outbox_redaction', name: 'position', definition: 'bigint NOT NULL' },
  { table: 'outbox_redaction', name: 'changed_by', definition: 'xid8 NOT NULL DEFAULT pg_current_xact_id()' },
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
