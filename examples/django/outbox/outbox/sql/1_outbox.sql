-- Up Migration

-- The outbox: what applications publish and relays read.
--
-- id names an event: it is final at INSERT, and it is what clients send back as Last-Event-ID. It is not an order: ids are
-- drawn at INSERT and become visible at COMMIT. position is the order: it is drawn while the transaction commits, by the
-- triggers below and by nothing else, so that a reader who stands at position N has seen everything up to N.
-- No committed row is ever visible without its position.

-- The rules are domains and not table checks for speed: PostgreSQL reads a table's checks from their stored form in every
-- statement, in the placing UPDATE too, under the lock; a domain's are prepared once per session and only looked at when a
-- value comes in. A publisher sees a constraint's name in the error and little else, so each name says the rule.
CREATE DOMAIN outbox_channel AS text COLLATE "C"
  CONSTRAINT outbox_channel_length_1_to_255 CHECK (char_length(VALUE) BETWEEN 1 AND 255)
  CONSTRAINT outbox_channel_no_control_characters CHECK (VALUE !~ '[\x01-\x1f\x7f-\x9f]')
  -- '*' is how a subscription names all channels with a prefix.
  CONSTRAINT outbox_channel_no_asterisk CHECK (strpos(VALUE, '*') = 0);
CREATE DOMAIN outbox_event AS text COLLATE "C"
  CONSTRAINT outbox_event_length_1_to_255 CHECK (char_length(VALUE) BETWEEN 1 AND 255)
  CONSTRAINT outbox_event_no_control_characters CHECK (VALUE !~ '[\x01-\x1f\x7f-\x9f]')
  -- stream-open, stream-reset, stream-error: the relay's own voice.
  CONSTRAINT outbox_event_prefix_stream_is_reserved CHECK (VALUE NOT LIKE 'stream-%');
CREATE DOMAIN outbox_data AS jsonb
  CONSTRAINT outbox_data_at_most_16_mib CHECK (pg_column_size(VALUE #> '{}') <= 16 * 1024 * 1024);

CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME outbox_id_seq) PRIMARY KEY,
  channel outbox_channel NOT NULL,
  event outbox_event NOT NULL DEFAULT 'message',
  data outbox_data,
  created_at timestamptz NOT NULL DEFAULT now(),
  position bigint
);

-- Partial, so that INSERT does not touch them: only placing a row does.
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;
CREATE INDEX outbox_channel_position ON outbox (channel, position) WHERE position IS NOT NULL;
-- For ?since=. What a BRIN index costs an INSERT was lost in the noise of measuring; without autosummarize, page ranges filled since
-- the last vacuum would all be scanned.
CREATE INDEX outbox_created_at ON outbox USING brin (created_at) WITH (autosummarize = on);

-- Not OWNED BY the column: TRUNCATE ... RESTART IDENTITY would set it back and new events would sort before old cursors.
-- CACHE 1: a session that kept positions in reserve would hand out old ones after newer ones had committed.
CREATE SEQUENCE outbox_position_seq AS bigint CACHE 1;

-- How far the log was pruned: id and position of the highest-placed row that was ever deleted. A cursor below it has lost
-- events. Exactly one row.
CREATE TABLE outbox_floor (
  id bigint NOT NULL,
  position bigint NOT NULL
);
CREATE UNIQUE INDEX outbox_floor_has_one_row ON outbox_floor ((true));
INSERT INTO outbox_floor (id, position) VALUES (0, 0);
GRANT SELECT ON outbox_floor TO PUBLIC;

-- Placing: one INSERT statement, from its rows to their positions.
--
--   when                     event                                what it does
--   the INSERT's end         statement trigger on outbox          INSERTs the statement's ids as one row into outbox_pending
--   commit, first round      deferred trigger on that INSERT      DELETEs the row again
--   commit, second round     deferred trigger on that DELETE      takes the lock, draws positions, rings the doorbell
--
-- Two rounds, because deferred foreign key checks run in the first and may wait for another publisher. Whoever waited for
-- one while holding the lock would deadlock with a publisher that holds the referenced row and waits for the lock. What is
-- queued while deferred triggers fire runs after all that were queued before.
--
-- Unlogged: a row does not outlive its transaction, so there is nothing to recover and no WAL to pay for.
CREATE UNLOGGED TABLE outbox_pending (
  ids bigint[] NOT NULL
);
-- PostgreSQL compresses what passes 2 kB; for a row that lives for milliseconds that is wasted.
ALTER TABLE outbox_pending ALTER COLUMN ids SET STORAGE EXTERNAL;

CREATE FUNCTION outbox_remember_inserted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  -- HAVING: an INSERT that inserted nothing (ON CONFLICT DO NOTHING) leaves nothing to place.
  INSERT INTO here.outbox_pending (ids) SELECT array_agg(id) FROM inserted HAVING count(*) > 0;
  RETURN NULL;
END $$;

CREATE FUNCTION outbox_reach_second_round() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  DELETE FROM here.outbox_pending WHERE ctid = NEW.ctid;
  RETURN NULL;
END $$;

-- Apart from outbox_place(), because each SET clause of a function costs every call, and these pins are only for joins: a plan
-- that reads all of outbox to find some rows of it would do so under the lock.
CREATE FUNCTION outbox_place_many(ids bigint[]) RETURNS void LANGUAGE plpgsql
  SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  before_first bigint := nextval('here.outbox_position_seq') - 1;
BEGIN
  PERFORM setval('here.outbox_position_seq', before_first + cardinality(ids));
  UPDATE here.outbox SET position = before_first + i.n
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM unnest(ids) AS id) AS i
    WHERE outbox.id = i.id;
END $$;

CREATE FUNCTION outbox_place() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  size integer := cardinality(OLD.ids);
BEGIN
  -- A doorbell, not the message: one per statement, and relays find the rest by position. A listener that is stuck in a
  -- transaction keeps PostgreSQL from emptying the queue, and once it is full every commit that notifies fails: publishers
  -- stop ringing long before. Ahead of the lock, because it need not be under it.
  IF pg_notification_queue_usage() < 0.5 THEN
    PERFORM pg_notify('outbox', OLD.ids[size]::text);
  END IF;
  -- From here until the end of the transaction publishers queue, so the order of positions is the order of commits.
  PERFORM pg_advisory_xact_lock(TG_RELID::integer, 0);
  IF size = 1 THEN
    UPDATE here.outbox SET position = nextval('here.outbox_position_seq') WHERE id = OLD.ids[1];
  ELSE
    PERFORM here.outbox_place_many(OLD.ids);
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_1_remember_inserted AFTER INSERT ON outbox
  REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION outbox_remember_inserted();
CREATE CONSTRAINT TRIGGER outbox_2_reach_second_round AFTER INSERT ON outbox_pending
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox_reach_second_round();
CREATE CONSTRAINT TRIGGER outbox_3_place AFTER DELETE ON outbox_pending
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox_place();

-- What is refused. AFTER triggers whose WHEN decides without a function call: BEFORE triggers would lock each row once more
-- and keep COPY from inserting in batches.
CREATE FUNCTION outbox_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = TG_ARGV[0], HINT = TG_ARGV[1],
    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END $$;

CREATE TRIGGER outbox_refuse_position AFTER INSERT ON outbox FOR EACH ROW
  WHEN (NEW.position IS NOT NULL)
  EXECUTE FUNCTION outbox_refuse('outbox.position is assigned at commit and cannot be inserted',
    'Leave position out of the INSERT.');

CREATE TRIGGER outbox_refuse_change AFTER UPDATE OF id, channel, event, created_at ON outbox FOR EACH ROW
  WHEN ((OLD.id, OLD.channel, OLD.event, OLD.created_at) IS DISTINCT FROM (NEW.id, NEW.channel, NEW.event, NEW.created_at))
  EXECUTE FUNCTION outbox_refuse('only outbox.data may be updated, for redaction: events are never sent again',
    'INSERT a new row to publish; UPDATE data alone to redact.');

-- outbox_place() itself runs inside a trigger. The expression is parsed anew in every placing, hence so short.
CREATE TRIGGER outbox_refuse_move AFTER UPDATE OF position ON outbox FOR EACH ROW
  WHEN (pg_trigger_depth() = 0 AND OLD.position IS DISTINCT FROM NEW.position)
  EXECUTE FUNCTION outbox_refuse('outbox.position is assigned at commit and cannot be changed',
    'Leave position out of the UPDATE.');

-- What relays must not go on serving from memory, and what resuming clients must be told is gone.
CREATE FUNCTION outbox_redacted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  PERFORM pg_notify('outbox', 'forget:' || OLD.position);
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_redacted AFTER UPDATE OF data ON outbox FOR EACH ROW
  WHEN (OLD.position IS NOT NULL AND OLD.data IS DISTINCT FROM NEW.data)
  EXECUTE FUNCTION outbox_redacted();

CREATE FUNCTION outbox_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  newest record;
BEGIN
  SELECT id, position INTO newest FROM deleted WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1;
  IF FOUND THEN
    UPDATE here.outbox_floor SET id = newest.id, position = newest.position WHERE position < newest.position;
    PERFORM pg_notify('outbox', 'forget:' || newest.position);
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_deleted AFTER DELETE ON outbox
  REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION outbox_deleted();

CREATE FUNCTION outbox_before_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  newest record;
BEGIN
  -- TRUNCATE removes what an older snapshot does not show, and the floor would end up too low to tell clients.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = 'TRUNCATE outbox needs isolation level READ COMMITTED',
      HINT = 'Run it in a transaction of its own, or DELETE the rows.';
  END IF;
  SELECT id, position INTO newest FROM here.outbox WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1;
  IF FOUND THEN
    UPDATE here.outbox_floor SET id = newest.id, position = newest.position WHERE position < newest.position;
    PERFORM pg_notify('outbox', 'forget:' || newest.position);
  END IF;
  PERFORM set_config('outbox.last_id', last_value::text, true) FROM here.outbox_id_seq;
  RETURN NULL;
END $$;

-- RESTART IDENTITY (Django's flush does it) would give ids out again, and a cursor from before would name a later event.
CREATE FUNCTION outbox_after_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  PERFORM setval('here.outbox_id_seq', current_setting('outbox.last_id')::bigint) FROM here.outbox_id_seq
    WHERE last_value < current_setting('outbox.last_id')::bigint;
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_before_truncate BEFORE TRUNCATE ON outbox
  FOR EACH STATEMENT EXECUTE FUNCTION outbox_before_truncate();
CREATE TRIGGER outbox_after_truncate AFTER TRUNCATE ON outbox
  FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_truncate();

-- The functions run as their owner, whatever the publisher's rights, so no name in them may resolve to what a publisher
-- made. Their search_path is pinned to pg_catalog, with pg_temp last, or a temporary table would come first; and not to
-- this schema, in which a publisher may be allowed to CREATE: an overload there with the exact argument types would be
-- preferred to the one of pg_catalog. Our own names are qualified: `here.` stands for the schema of the migration.
-- Plans are cached for a session: one made while a table is nearly empty would be a sequential scan, and stay one while
-- the table grows.
DO $$
DECLARE
  name text;
  here text := quote_ident(current_schema()) || '.';
BEGIN
  FOREACH name IN ARRAY ARRAY['outbox_remember_inserted', 'outbox_reach_second_round', 'outbox_place', 'outbox_refuse',
    'outbox_redacted', 'outbox_deleted', 'outbox_before_truncate', 'outbox_after_truncate']
  LOOP
    EXECUTE replace(pg_get_functiondef(format('%I.%I()', current_schema(), name)::regprocedure), 'here.', here);
    EXECUTE format('ALTER FUNCTION %I.%I() SET search_path = pg_catalog, pg_temp', current_schema(), name);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %I.%I() FROM PUBLIC', current_schema(), name);
  END LOOP;
  EXECUTE replace(pg_get_functiondef('outbox_place_many(bigint[])'::regprocedure), 'here.', here);
END $$;
ALTER FUNCTION outbox_reach_second_round() SET enable_seqscan = off;
ALTER FUNCTION outbox_place() SET enable_seqscan = off;
REVOKE EXECUTE ON FUNCTION outbox_place_many(bigint[]) FROM PUBLIC;

-- Down Migration

DROP TABLE outbox, outbox_pending, outbox_floor;
DROP SEQUENCE outbox_position_seq;
DROP DOMAIN outbox_channel, outbox_event, outbox_data;
DROP FUNCTION outbox_remember_inserted(), outbox_reach_second_round(), outbox_place_many(bigint[]), outbox_place(), outbox_refuse(),
  outbox_redacted(), outbox_deleted(), outbox_before_truncate(), outbox_after_truncate();
