-- Up Migration

-- The outbox: what applications publish and relays read.
--
-- id names an event: it is final at INSERT, and it is what clients send back as Last-Event-ID. It is not an order: ids are
-- drawn at INSERT and become visible at COMMIT. position is the order: it is drawn while the transaction commits, by the
-- triggers below and by nothing else. What was visible before a transaction began to commit comes before what it publishes.
-- No committed row is ever visible without its position.

CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME outbox_id_seq) PRIMARY KEY,
  -- outbox_check() has the rules of what may be in these three.
  channel text COLLATE "C" NOT NULL,
  event text COLLATE "C" NOT NULL DEFAULT 'message',
  data jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  position bigint,
  -- The span that published it, as W3C's Trace Context writes it. A value of another form is passed
  -- by: no publication may fail for its trace.
  traceparent text COLLATE "C"
);

-- Partial, so that INSERT does not touch them: only placing a row does.
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;
CREATE INDEX outbox_channel_position ON outbox (channel, position) WHERE position IS NOT NULL;
-- For ?since=, which walks it in this order. Against a BRIN index, which is read in whole ranges, and of what no vacuum has
-- summarized yet in all of it, it costs an INSERT a tenth more WAL, and CPU time that was lost in the noise of measuring.
CREATE INDEX outbox_created_at ON outbox (created_at, position) WHERE position IS NOT NULL;

-- Not OWNED BY the column: TRUNCATE ... RESTART IDENTITY would set it back and new events would sort before old cursors.
-- CACHE 1: a session that kept positions in reserve would hand out old ones after newer ones had committed.
CREATE SEQUENCE outbox_position_seq AS bigint CACHE 1;

-- A number that nobody can read but the owner: what tells a marker, see below, from a lock that somebody else takes.
CREATE SEQUENCE outbox_secret_seq AS bigint CACHE 1;
DO $$ BEGIN
  PERFORM pg_catalog.setval('outbox_secret_seq', pg_catalog.concat('x',
    pg_catalog.translate(pg_catalog.substr(pg_catalog.gen_random_uuid()::pg_catalog.text, 2, 17), '-', ''))::pg_catalog.bit(60)::pg_catalog.int8);
END $$;

-- How far the log was pruned: id and position of the highest-placed row that was ever deleted. A cursor below it has lost
-- events. highest_id is the highest id of them all, which may stand lower: up to there an id that is gone was once handed out.
-- Exactly one row, by a key on a column: where a publication has all tables, one without a key refuses UPDATE and DELETE.
CREATE TABLE outbox_floor (
  id bigint NOT NULL,
  position bigint NOT NULL,
  highest_id bigint NOT NULL DEFAULT 0,
  singleton boolean NOT NULL DEFAULT true CONSTRAINT outbox_floor_has_one_row PRIMARY KEY CHECK (singleton)
);
INSERT INTO outbox_floor (id, position) VALUES (0, 0);
GRANT SELECT ON outbox_floor TO PUBLIC;

-- Placing: from rows to their positions, without a lock that publishers would queue for.
--
--   when                     event                                what it does
--   commit, first round      deferred trigger on the INSERT       INSERTs a row into outbox_pending
--   commit, second round     deferred trigger on that row         DELETEs it, takes a marker, draws positions, rings the doorbell
--
-- Positions are drawn while a transaction commits, so one that is drawn late may be visible early, and a reader who went by
-- positions alone would pass the earlier one by. Hence the marker: a shared advisory lock, named by the last position that had
-- been drawn before it was taken. PostgreSQL gives it back once the transaction is visible, or has ended otherwise.
-- outbox_settled() is how a reader uses it:
--
--   1. it reads the last position that was drawn, S,
--   2. then the markers that are held; the settled position is the least of S and all markers,
--   3. and then, with a new snapshot, rows up to there. No other will ever be visible among them.
--
-- For whoever is not seen at 2 takes its marker after 1, and draws above S. Whoever is seen draws above its marker. All others
-- ended before 3: what they committed is in its snapshot, and what they did not commit is a gap for ever. Nobody waits: not
-- publishers for each other, nor readers for more than the commits that are under way.
--
-- A marker's other half is a digest of outbox_secret_seq, of the transaction's id and of that position. pg_locks shows which
-- transactions hold it, so that of another one is worth nothing, and who cannot make it cannot hold up delivery. That a
-- transaction has a lock on a table of ours would prove nothing: PREPARE and nextval() take one before they look at any right.
-- Nor can anybody know it beforehand, and take it for himself alone.
--
-- Two rounds, because deferred foreign key checks run in the first and may wait for another transaction as long as that likes.
-- In the second they are over, and what follows the marker is what a commit takes. What is queued while deferred triggers fire
-- runs after all that were queued before.
--
-- A transaction's first row, mostly its only one, is placed by itself, in the least time. The others are listed and placed
-- together, some dozens at a time, in the order in which they were inserted.
--
-- Rows are found by their ctid and by no index: a SERIALIZABLE publisher that read an index page would conflict with all
-- others that insert into it.
--
-- Unlogged: a row does not outlive its transaction, so there is nothing to recover and no WAL to pay for.
CREATE UNLOGGED TABLE outbox_pending (
  -- One row of the transaction: its id and where it is.
  id bigint,
  tuple tid,
  -- Or several, as `id tuple;id tuple;...`. All three NULL: whatever is listed by the second round. Beside a tuple: put off.
  listed text,
  -- Time of the statement that queued it, which the commit is where constraints are deferred.
  queued_at timestamptz DEFAULT statement_timestamp()
);

-- A transaction remembers in settings how far it is. Each begins with the transaction's id: what a session or a role has set under
-- those names, by whatever mistake, is nobody's.
CREATE FUNCTION outbox_reach_second_round() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  ours CONSTANT pg_catalog.text := pg_catalog.concat(pg_catalog.pg_current_xact_id(), ' ');
  listed pg_catalog.text := pg_catalog.current_setting('outbox.listed', true);
BEGIN
  IF listed IS NULL OR pg_catalog.starts_with(listed, ours) IS NOT TRUE THEN
    listed := pg_catalog.set_config('outbox.listed', pg_catalog.concat(ours, '-'), true);
    INSERT INTO here.outbox_pending (id, tuple) VALUES (NEW.id, NEW.ctid);
  ELSIF listed OPERATOR(pg_catalog.=) pg_catalog.concat(ours, '-') THEN
    -- Ahead of the INSERT: where constraints are immediate, it places what is listed.
    listed := pg_catalog.set_config('outbox.listed', pg_catalog.concat(ours, '+', NEW.id, ' ', NEW.ctid), true);
    INSERT INTO here.outbox_pending DEFAULT VALUES;
  ELSIF pg_catalog.octet_length(listed) OPERATOR(pg_catalog.<) 600 THEN
    listed := pg_catalog.set_config('outbox.listed', pg_catalog.concat(listed, ';', NEW.id, ' ', NEW.ctid), true);
  ELSE
    INSERT INTO here.outbox_pending (listed)
      VALUES (pg_catalog.substr(listed, pg_catalog.length(ours) OPERATOR(pg_catalog.+) 2));
    listed := pg_catalog.set_config('outbox.listed', pg_catalog.concat(ours, '*', NEW.id, ' ', NEW.ctid), true);
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION outbox_place() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  low pg_catalog.int8;
  has_rung pg_catalog.bool;
  setting pg_catalog.text;
BEGIN
  DELETE FROM here.outbox_pending WHERE ctid OPERATOR(pg_catalog.=) NEW.ctid;

  -- Where constraints are immediate, a position would be drawn long before the commit, and hold up delivery until then: so it is
  -- put off. What is immediate fires within the first round's trigger. SET CONSTRAINTS fires what was queued before it, once; only
  -- a commit fires what comes anew in its own statement. What comes after a first row that was put off stays after it.
  IF pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.>) 1
    OR NEW.queued_at OPERATOR(pg_catalog.<>) pg_catalog.statement_timestamp()
    OR (NEW.tuple IS NULL AND pg_catalog.current_setting('outbox.put_off', true)
      OPERATOR(pg_catalog.=) pg_catalog.concat(pg_catalog.pg_current_xact_id(), ' first'))
  THEN
    SET CONSTRAINTS here.outbox_2_place DEFERRED;
    INSERT INTO here.outbox_pending (id, tuple, listed) VALUES (NEW.id, NEW.tuple,
      CASE WHEN NEW.tuple IS NULL THEN NEW.listed ELSE
        pg_catalog.set_config('outbox.put_off', pg_catalog.concat(pg_catalog.pg_current_xact_id(), ' first'), true) END);
    RETURN NULL;
  END IF;

  -- The last position is read before the marker is taken, and others are drawn after. Lists have another one than the first row,
  -- which a setting tells of: there may be lists without a first row.
  IF NEW.tuple IS NOT NULL
    OR (pg_catalog.current_setting('outbox.marker', true)
      OPERATOR(pg_catalog.=) pg_catalog.concat(pg_catalog.pg_current_xact_id(), ' taken')) IS NOT TRUE
  THEN
    low := pg_catalog.pg_sequence_last_value('here.outbox_position_seq'::pg_catalog.regclass);
    WHILE pg_catalog.pg_try_advisory_xact_lock_shared(
      pg_catalog.hashtext(pg_catalog.encode(pg_catalog.sha256(
        pg_catalog.int8send(pg_catalog.pg_sequence_last_value('here.outbox_secret_seq'::pg_catalog.regclass))
        OPERATOR(pg_catalog.||) pg_catalog.xidsend(pg_catalog.pg_current_xact_id()::pg_catalog.xid)
        OPERATOR(pg_catalog.||) pg_catalog.int8send(low)), 'hex')),
      (low OPERATOR(pg_catalog.&) 2147483647)::pg_catalog.int4) IS NOT TRUE
    LOOP
      IF low IS NULL THEN -- None was drawn since the sequence was made, or restarted.
        SELECT last_value OPERATOR(pg_catalog.-) 1 INTO low FROM here.outbox_position_seq;
      ELSE -- Somebody has by chance taken the same for himself alone, and nobody can make a publisher wait: a lower one does.
        low := low OPERATOR(pg_catalog.-) 1;
      END IF;
    END LOOP;
  END IF;

  IF NEW.tuple IS NULL THEN
    IF low IS NOT NULL THEN
      setting := pg_catalog.set_config('outbox.marker', pg_catalog.concat(pg_catalog.pg_current_xact_id(), ' taken'), true);
    END IF;
    PERFORM here.outbox_place_listed(NEW.listed);
    RETURN NULL;
  END IF;
  IF NEW.listed IS NOT NULL THEN
    setting := pg_catalog.set_config('outbox.put_off', '', true);
  END IF;

  UPDATE here.outbox SET position = pg_catalog.nextval('here.outbox_position_seq'::pg_catalog.regclass)
    WHERE ctid OPERATOR(pg_catalog.=) NEW.tuple AND id OPERATOR(pg_catalog.=) NEW.id;
  IF NOT FOUND THEN
    PERFORM here.outbox_place_listed(pg_catalog.concat(NEW.id, ' ', NEW.tuple));
  END IF;

  -- A doorbell, not the message: relays find the rest by position, so what is listed needs none beside that of the first row.
  --
  -- Nobody rings while a relay is awake: one that is rung often promises to look by itself, and holds the lock with key 2. It is
  -- asked for after the marker is taken: whoever gives the promise up looks once more, and finds the marker or what it stood for.
  -- The lock is given back within the expression, so no publisher holds it. All is one expression, because PERFORM is a query.
  --
  -- Otherwise one at a time rings: who gets the bell, the lock with key 3. NOTIFY has a lock of PostgreSQL's own, which who has rung
  -- holds until its commit is over, the wait for a standby included. Whoever does not get the bell goes on without ringing. It took
  -- its marker before it asked, so when the holder's notification arrives, it is visible or still has its marker, or the bell has yet
  -- to be given back: relays look until nobody has either. Where the holder fails there is no notification: for that, relays glance
  -- once a second at what was drawn.
  --
  -- A prepared transaction would keep its marker for as long as it likes. PostgreSQL prepares none that has rung, so where it
  -- can prepare any, all ring: with the bell or without, and whether or not a relay is awake.
  --
  -- A listener that is stuck in a transaction keeps PostgreSQL from emptying the queue, and once it is full every commit that
  -- notifies fails: publishers stop ringing long before.
  has_rung := pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.5
    AND (pg_catalog.pg_try_advisory_lock_shared('here.outbox'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4, 2)
      AND pg_catalog.pg_advisory_unlock_shared('here.outbox'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4, 2)
      AND pg_catalog.pg_try_advisory_xact_lock('here.outbox'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4, 3)
      OR pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.<>) '0')
    AND pg_catalog.pg_notify('outbox', NEW.id::pg_catalog.text) IS NOT NULL;
  RETURN NULL;
END $$;

-- Places the rows of a list; NULL: those that are listed by now, but after the lists that are in outbox_pending.
CREATE FUNCTION outbox_place_listed(list text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  ours CONSTANT text := concat(pg_current_xact_id(), ' ');
  listed text := current_setting('outbox.listed', true);
  ids bigint[];
  tuples tid[];
  positions bigint[];
  placed integer;
BEGIN
  IF list IS NULL THEN
    PERFORM set_config('outbox.listed', ours || '-', true);
    IF starts_with(listed, ours || '*') THEN
      INSERT INTO here.outbox_pending (listed) VALUES (substr(listed, length(ours) + 2));
      RETURN;
    ELSIF starts_with(listed, ours || '+') THEN
      list := substr(listed, length(ours) + 2);
    ELSE
      -- Somebody has reset all settings, or made others of them. What the transaction has inserted is what it sees without a position.
      SELECT string_agg(concat(id, ' ', ctid), ';' ORDER BY id) INTO list FROM here.outbox
        WHERE position IS NULL AND age(xmin) <= age(pg_current_xact_id()::xid);
    END IF;
  END IF;
  -- Ascending, in whatever order the rows of the list come.
  SELECT array_agg(split_part(item, ' ', 1)::bigint ORDER BY n), array_agg(split_part(item, ' ', 2)::tid ORDER BY n),
      array_agg(nextval('here.outbox_position_seq'))
    INTO ids, tuples, positions FROM unnest(string_to_array(list, ';')) WITH ORDINALITY AS items(item, n);
  UPDATE here.outbox SET position = rows.position FROM unnest(ids, tuples, positions) AS rows(id, tuple, position)
    WHERE outbox.ctid = rows.tuple AND outbox.id = rows.id AND outbox.position IS NULL;
  GET DIAGNOSTICS placed = ROW_COUNT;
  -- What was updated meanwhile is elsewhere. What was deleted leaves a gap.
  IF placed < cardinality(ids) THEN
    UPDATE here.outbox SET position = rows.position FROM unnest(ids, positions) AS rows(id, position)
      WHERE outbox.id = rows.id AND outbox.position IS NULL;
    IF EXISTS (SELECT FROM here.outbox WHERE id = ANY (ids) AND position IS NULL) THEN
      RAISE EXCEPTION USING ERRCODE = 'triggered_action_exception',
        MESSAGE = 'a trigger on outbox keeps an event from getting its position, without which it is never delivered',
        HINT = 'Have triggers of your own that run BEFORE UPDATE on outbox return NEW.';
    END IF;
  END IF;
END $$;

-- Through which position all is settled: whoever drew one up to there has ended. A statement that begins after this one sees all
-- of them that were committed. In REPEATABLE READ and SERIALIZABLE only a new transaction has a new snapshot.
--
-- waits_for is the process whose commit holds the position back: 0 for a prepared transaction, NULL where none does. One process
-- can be left out: who deletes need not wait for itself.
--
-- is_quiet: nobody has a marker, whatever position it is named by, nor the bell. Whoever begins to commit after that rings, or
-- leaves it to one that does. Whoever had ended before drew up to drawn, so who has read that far, or reads then, has read all.
--
-- pg_locks reads ids of transactions and advisory locks at one moment. A transaction's own id is the oldest that it holds; those
-- of savepoints come after it.
CREATE FUNCTION outbox_settled(but_for integer DEFAULT NULL,
  OUT through bigint, OUT waits_for integer, OUT drawn bigint, OUT is_quiet boolean)
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  secret CONSTANT bigint := pg_sequence_last_value('here.outbox_secret_seq');
  seen record;
BEGIN
  SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO through FROM here.outbox_position_seq;
  -- A marker's distance below the last position that was drawn, of which it has the last 31 bits: less than 0 where it was taken
  -- since.
  WITH locks AS MATERIALIZED (
    SELECT * FROM pg_locks WHERE granted AND (but_for IS NULL OR pid IS DISTINCT FROM but_for)
  ), transactions AS (
    SELECT DISTINCT ON (virtualtransaction) virtualtransaction, transactionid FROM locks
    WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' ORDER BY virtualtransaction, age(transactionid) DESC
  ), advisory AS (
    SELECT virtualtransaction, pid, mode, classid, objid,
      ((through - objid::bigint + 1073741824) & 2147483647) - 1073741824 AS distance
    FROM locks WHERE locktype = 'advisory' AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  ), markers AS (
    SELECT coalesce(pid, 0) AS pid, distance FROM transactions JOIN advisory USING (virtualtransaction)
    WHERE mode = 'ShareLock' AND classid::bigint = hashtext(encode(sha256(
      int8send(secret) || xidsend(transactionid) || int8send(through - distance)), 'hex'))::bigint & 4294967295
  )
  SELECT max(distance) FILTER (WHERE distance >= 0) AS distance,
      (array_agg(pid ORDER BY distance DESC) FILTER (WHERE distance >= 0))[1] AS pid,
      count(*) = 0 AND NOT EXISTS
        (SELECT FROM advisory WHERE mode = 'ExclusiveLock' AND classid = 'here.outbox'::regclass AND objid = 3) AS quiet
    INTO seen FROM markers;
  IF seen.distance IS NOT NULL THEN
    through := through - seen.distance;
    waits_for := seen.pid;
  END IF;
  SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO drawn FROM here.outbox_position_seq;
  is_quiet := seen.quiet;
END $$;

-- Where the stream of a page is to start: the newest event that is settled. Called in a statement of its own, before the page is
-- read: whatever the page lacks comes after it. What commits in between is in the page and in the stream.
--
-- Of an empty outbox, what was deleted last; '0' where there never was an event.
CREATE FUNCTION outbox_cursor() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  settled bigint;
  newest bigint;
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_state',
      MESSAGE = 'outbox_cursor() has to be called in READ COMMITTED',
      DETAIL = format('This transaction is %s: it goes on seeing what it saw first, and events that are settled since would be lost.',
        upper(current_setting('transaction_isolation'))),
      HINT = 'Call it before BEGIN ISOLATION LEVEL REPEATABLE READ, and in there outbox_cursor(after) with what it has returned.';
  END IF;
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = 'outbox_cursor() cannot be called on a standby, which does not know what commits are under way',
      HINT = 'Read the page and its cursor on the primary.';
  END IF;
  SELECT through INTO settled FROM here.outbox_settled();
  -- A statement of its own: its snapshot is newer than what it was told.
  SELECT id INTO newest FROM (
    (SELECT id, position FROM here.outbox WHERE position <= settled ORDER BY position DESC LIMIT 1)
    UNION ALL SELECT id, position FROM here.outbox_floor
  ) places ORDER BY position DESC LIMIT 1;
  RETURN coalesce(newest, 0);
END $$;

-- The same for a page that is read in this REPEATABLE READ transaction, exactly: it starts after `after`, which outbox_cursor()
-- has returned before the transaction began, and leaves out what the transaction sees of what comes later: 41!43-45,50,47 starts
-- after 41, without 43 to 45, 50 and 47. The last one has the highest position, so who has passed it has passed them all.
CREATE FUNCTION outbox_cursor(after text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  -- The work is bounded for the database, the length for addresses and headers. Relays take as many bytes.
  most_events CONSTANT integer := 50000;
  most_bytes CONSTANT integer := 2000;
  start bigint;
  is_unseen boolean;
  events integer;
  names text;
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_state',
      MESSAGE = 'outbox_cursor(after) has to be called in REPEATABLE READ',
      DETAIL = 'In READ COMMITTED each statement of a page sees another moment, and no cursor is exact for all of them.',
      HINT = 'BEGIN ISOLATION LEVEL REPEATABLE READ, call it, and read the page in the same transaction.';
  END IF;
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = 'outbox_cursor(after) cannot be called on a standby, which may lack what is before the cursor',
      HINT = 'Read the page and its cursor on the primary.';
  END IF;
  IF after IS NULL OR after !~ '^(0|[1-9][0-9]{0,18})$' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
      MESSAGE = format('%L is no cursor that outbox_cursor() has returned', left(after, 50)),
      HINT = 'Call outbox_cursor() before BEGIN ISOLATION LEVEL REPEATABLE READ, and give what it returns.';
  END IF;
  SELECT CASE WHEN f.id = after::bigint THEN f.position WHEN o.position >= f.position THEN o.position END,
      o.id IS NULL AND after::bigint > greatest(f.id, f.highest_id)
    INTO start, is_unseen
    FROM here.outbox_floor f LEFT JOIN here.outbox o ON o.id = after::bigint AND o.position IS NOT NULL;
  IF is_unseen THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
      MESSAGE = format('this transaction sees no event %s: its snapshot is older than the cursor', after),
      HINT = 'Call outbox_cursor() before the transaction begins, in the same database.';
  END IF;
  -- It has been deleted with what followed it, or some of that: the relay tells the client so.
  IF start IS NULL THEN
    RETURN after;
  END IF;
  WITH shown AS MATERIALIZED (
    SELECT id, position FROM here.outbox WHERE position > start ORDER BY position LIMIT most_events + 1
  ), newest AS (
    SELECT id FROM shown ORDER BY position DESC LIMIT 1
  ), runs AS (
    SELECT min(id) AS low, max(id) AS high FROM (
      SELECT id, id - row_number() OVER (ORDER BY id) AS run FROM shown WHERE id <> (SELECT id FROM newest)
    ) numbered GROUP BY run
  )
  SELECT (SELECT count(*) FROM shown), concat_ws(',',
      (SELECT string_agg(CASE WHEN low = high THEN low::text ELSE concat(low, '-', high) END, ',' ORDER BY low) FROM runs),
      (SELECT id FROM newest))
    INTO events, names;
  IF events > most_events OR octet_length(names) > most_bytes THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
      MESSAGE = format('too many events follow the cursor %s for one that leaves them out', after),
      DETAIL = format('This transaction sees %s of them, and a cursor may name %s, in %s bytes.',
        CASE WHEN events > most_events THEN concat('more than ', most_events) ELSE events::text END, most_events, most_bytes),
      HINT = 'Try again with a new outbox_cursor(). Where it stays so, a commit hangs: outbox-relay doctor '
        '(in a Django project: python manage.py outbox_relay doctor) names it. Until it is over, a page that can take an event '
        'twice may start its stream at outbox_cursor().';
  END IF;
  RETURN concat_ws('!', after, nullif(names, ''));
END $$;

CREATE CONSTRAINT TRIGGER outbox_1_reach_second_round AFTER INSERT ON outbox
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox_reach_second_round();
CREATE CONSTRAINT TRIGGER outbox_2_place AFTER INSERT ON outbox_pending
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox_place();

-- What is refused, and what relays are told. AFTER triggers: BEFORE triggers would lock each row once more and keep COPY from
-- inserting in batches. PostgreSQL copies a table's triggers in every INSERT and UPDATE, and parses anew the WHEN of those that
-- it looks at: what a publication passes by has therefore no WHEN, and the rest a short one.
--
-- outbox_check() has the rules for what is published. They are neither table checks nor domains: PostgreSQL reads a table's
-- checks from their stored form in every statement, in the placing UPDATE too, and an array of a domain is mere text to
-- drivers. It runs for every row, so what is ordinary passes one condition, and all names are qualified, as in placing.
--
-- Data is measured as it is sent: a JSON string's text, each of its lines after "data: ", and anything else as JSON. What is
-- stored, uncompressed, in at most 1,500 bytes needs no measuring: what grows most is a number, which takes 14 bytes or more
-- and has at most 131,072 digits before its point and 16,383 after it, so all of it has less than 16 MiB.
CREATE FUNCTION outbox_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8'
    AND (NEW.position IS NULL OR TG_OP OPERATOR(pg_catalog.=) 'UPDATE')
    AND NEW.channel OPERATOR(pg_catalog.<>) ''
    AND pg_catalog.char_length(NEW.channel) OPERATOR(pg_catalog.<=) 255
    AND NEW.channel OPERATOR(pg_catalog.!~) E'[\\x01-\\x1f\\x7f-\\x9f*]'
    AND (NEW.event OPERATOR(pg_catalog.=) 'message'
      OR (NEW.event OPERATOR(pg_catalog.<>) ''
        AND pg_catalog.char_length(NEW.event) OPERATOR(pg_catalog.<=) 255
        AND NEW.event OPERATOR(pg_catalog.!~) E'[\\x01-\\x1f\\x7f-\\x9f]'
        AND NEW.event OPERATOR(pg_catalog.!~) '^stream-'
        AND NEW.event OPERATOR(pg_catalog.<>) 'error'
        AND NEW.event OPERATOR(pg_catalog.<>) 'open'))
    AND (NEW.data IS NULL
      OR (pg_catalog.pg_column_size(NEW.data) OPERATOR(pg_catalog.<=) 1500
        AND pg_catalog.pg_column_compression(NEW.data) IS NULL))
  THEN
    RETURN NULL;
  END IF;

  DECLARE
    is_utf8 CONSTANT pg_catalog.bool := pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8';
    most_bytes CONSTANT pg_catalog.int8 := 16 OPERATOR(pg_catalog.*) 1024 OPERATOR(pg_catalog.*) 1024;
    -- A line break costs "data: " of the line that it begins.
    line_bytes CONSTANT pg_catalog.int8 := 6;
    field pg_catalog.text;
    sent pg_catalog.text;
    bytes pg_catalog.int8;
    breaks pg_catalog.int8;
    pairs pg_catalog.int8;
    rule pg_catalog.text;
    broken pg_catalog.text;
    advice pg_catalog.text;
  BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' AND NEW.position IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'restrict_violation',
        MESSAGE = 'outbox.position is assigned at commit and cannot be inserted',
        HINT = 'Leave position out of the INSERT.', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;

    FOREACH field IN ARRAY ARRAY['channel', 'event', 'data'] LOOP
      CONTINUE WHEN field OPERATOR(pg_catalog.=) 'data' AND NEW.data IS NULL;
      bytes := NULL;
      BEGIN
        sent := CASE WHEN field OPERATOR(pg_catalog.=) 'channel' THEN NEW.channel
          WHEN field OPERATOR(pg_catalog.=) 'event' THEN NEW.event
          ELSE NEW.data OPERATOR(pg_catalog.#>>) '{}'::pg_catalog.text[] END;
        bytes := CASE WHEN is_utf8 THEN pg_catalog.octet_length(sent)
          ELSE pg_catalog.octet_length(pg_catalog.convert_to(sent, 'UTF8')) END;
      EXCEPTION
        -- Relays read in UTF-8: a row that can't be told in it would fail each of their reads.
        WHEN untranslatable_character OR character_not_in_repertoire THEN
          rule := pg_catalog.concat('outbox_', field, '_can_be_told_in_utf8');
          broken := pg_catalog.concat('has a character that can''t be told in UTF-8: ', SQLERRM);
          advice := 'Publish text whose characters Unicode has.';
        -- PostgreSQL makes no text above a gigabyte.
        WHEN program_limit_exceeded OR out_of_memory OR internal_error THEN
          broken := pg_catalog.concat('would be more than can be made as text (', SQLERRM, ')');
      END;

      IF rule IS NOT NULL THEN
        NULL;
      ELSIF field OPERATOR(pg_catalog.=) 'data' THEN
        -- Of CR and LF each is a break, but both together are one.
        IF pg_catalog.jsonb_typeof(NEW.data) OPERATOR(pg_catalog.=) 'string'
          AND (bytes OPERATOR(pg_catalog.*) (1 OPERATOR(pg_catalog.+) line_bytes)) OPERATOR(pg_catalog.>) most_bytes
        THEN
          breaks := pg_catalog.octet_length(sent) OPERATOR(pg_catalog.-)
            pg_catalog.octet_length(pg_catalog.translate(sent, E'\r\n', ''));
          pairs := (pg_catalog.octet_length(sent) OPERATOR(pg_catalog.-)
            pg_catalog.octet_length(pg_catalog.replace(sent, E'\r\n', ''))) OPERATOR(pg_catalog./) 2;
          bytes := bytes OPERATOR(pg_catalog.+) (line_bytes OPERATOR(pg_catalog.*) (breaks OPERATOR(pg_catalog.-) pairs));
        END IF;
        IF bytes IS NULL OR bytes OPERATOR(pg_catalog.>) most_bytes THEN
          rule := 'outbox_data_at_most_16_mib';
          broken := pg_catalog.concat(
            coalesce(broken, pg_catalog.concat('would be ', bytes, ' bytes as it is sent')), '; ', most_bytes, ' are allowed');
          advice := 'Publish where the data is, and not the data. All digits of a number count, '
            'and each line break of a string counts as 7 bytes.';
        END IF;
      ELSIF sent OPERATOR(pg_catalog.=) '' OR pg_catalog.char_length(sent) OPERATOR(pg_catalog.>) 255 THEN
        rule := pg_catalog.concat('outbox_', field, '_length_1_to_255');
        broken := pg_catalog.concat('has ', pg_catalog.char_length(sent), ' characters; 1 to 255 are allowed');
      ELSIF (CASE WHEN is_utf8 THEN sent OPERATOR(pg_catalog.~) E'[\\x01-\\x1f\\x7f-\\x9f]'
        ELSE pg_catalog.encode(pg_catalog.convert_to(sent, 'UTF8'), 'hex')
          OPERATOR(pg_catalog.~) '^(..)*(0.|1.|7f|c2[89].)' END)
      THEN
        rule := pg_catalog.concat('outbox_', field, '_no_control_characters');
        broken := pg_catalog.concat('has a control character', CASE WHEN is_utf8 THEN pg_catalog.concat(', U+',
          pg_catalog.lpad(pg_catalog.upper(pg_catalog.to_hex(
            pg_catalog.ascii(pg_catalog."substring"(sent, E'[\\x01-\\x1f\\x7f-\\x9f]')))), 4, '0')) END);
      ELSIF field OPERATOR(pg_catalog.=) 'channel' THEN
        -- '*' is how a subscription names all channels with a prefix.
        IF pg_catalog.strpos(sent, '*') OPERATOR(pg_catalog.>) 0 THEN
          rule := 'outbox_channel_no_asterisk';
          broken := 'has a "*", by which subscribers name all channels with a prefix';
        END IF;
      -- stream-open, stream-reset, stream-error: the relay's own voice.
      ELSIF pg_catalog.starts_with(sent, 'stream-') THEN
        rule := 'outbox_event_prefix_stream_is_reserved';
        broken := 'starts with "stream-", and such names are the relay''s own';
      -- An EventSource has them for its connection: who listens for its errors would be called with an event.
      ELSIF sent OPERATOR(pg_catalog.=) 'error' OR sent OPERATOR(pg_catalog.=) 'open' THEN
        rule := 'outbox_event_error_and_open_are_reserved';
        broken := pg_catalog.concat('is "', sent, '", which browsers'' EventSource has for itself');
      END IF;

      IF rule IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation',
          MESSAGE = pg_catalog.concat('outbox.', field, ' ', broken, ' (', rule, ')'),
          HINT = coalesce(advice, 'Choose another name.'),
          SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = field, CONSTRAINT = rule;
      END IF;
    END LOOP;
  END;
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_check AFTER INSERT OR UPDATE OF data ON outbox FOR EACH ROW EXECUTE FUNCTION outbox_check();

CREATE FUNCTION outbox_refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.position IS DISTINCT FROM NEW.position THEN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation',
      MESSAGE = 'outbox.position is assigned at commit and cannot be changed',
      HINT = 'Leave position out of the UPDATE.', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
  END IF;
  RETURN NULL;
END $$;

-- outbox_place() itself runs inside a trigger.
CREATE TRIGGER outbox_refuse_move AFTER UPDATE OF position ON outbox FOR EACH ROW
  WHEN (pg_trigger_depth() = 0)
  EXECUTE FUNCTION outbox_refuse_move();

CREATE FUNCTION outbox_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (OLD.id, OLD.channel, OLD.event, OLD.created_at, OLD.traceparent)
    IS DISTINCT FROM (NEW.id, NEW.channel, NEW.event, NEW.created_at, NEW.traceparent)
  THEN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation',
      MESSAGE = 'only outbox.data may be updated, for redaction: events are never sent again',
      HINT = 'INSERT a new row to publish; UPDATE data alone to redact.', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_refuse_change AFTER UPDATE OF id, channel, event, created_at, traceparent ON outbox FOR EACH ROW
  EXECUTE FUNCTION outbox_refuse_change();

-- What relays must not go on serving from memory, and what resuming clients must be told is gone. Both stand in tables, which relays
-- ask; a notification says no more than that there is reason to, so one that is forged or lost does no harm. One text for all, since
-- PostgreSQL sends each once for a transaction; none where the queue fills up, for the reason that outbox_place() gives.

-- Which events have been redacted, and by which transaction last: who knows what it could see then finds what is new since.
CREATE TABLE outbox_redaction (
  position bigint PRIMARY KEY,
  changed_by xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX outbox_redaction_changed_by ON outbox_redaction (changed_by);
GRANT SELECT ON outbox_redaction TO PUBLIC;

-- Not only where data differs: jsonb takes 1 and 1.0 for the same.
CREATE FUNCTION outbox_redacted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF OLD.position IS NOT NULL THEN
    INSERT INTO here.outbox_redaction (position) VALUES (OLD.position)
      ON CONFLICT (position) DO UPDATE SET changed_by = pg_current_xact_id();
    PERFORM pg_notify('outbox', 'changed') WHERE pg_notification_queue_usage() < 0.5;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_redacted AFTER UPDATE OF data ON outbox FOR EACH ROW
  EXECUTE FUNCTION outbox_redacted();

-- Waits until an event is settled: the floor may not rise above commits that are under way, or what they publish would be below
-- it before anybody has read it. Not for long: who hangs there may be waiting for the one that deletes.
CREATE FUNCTION outbox_await_settled(deleted_position bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  deadline CONSTANT timestamptz := clock_timestamp() + interval '2 s';
  settled record;
BEGIN
  LOOP
    SELECT * INTO settled FROM here.outbox_settled(pg_backend_pid());
    EXIT WHEN settled.through >= deleted_position;
    IF settled.waits_for IS NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('events up to position %s cannot be deleted while outbox_position_seq has come to %s only',
          deleted_position, settled.through),
        HINT = 'So it is after a restore. As the owner of the outbox, run: outbox-relay advance-ids '
          '(in a Django project: python manage.py outbox_relay advance-ids)';
    ELSIF clock_timestamp() > deadline THEN
      RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
        MESSAGE = 'events cannot be deleted while a commit is under way that began before theirs was over',
        DETAIL = CASE settled.waits_for WHEN 0 THEN 'A prepared transaction holds' ELSE format('Process %s is committing', settled.waits_for) END
          || format(' events that may come before the newest of those: all up to position %s can be deleted.', settled.through),
        HINT = 'Try again, or delete older events only. Where that commit hangs, pg_stat_activity has what it waits for.';
    END IF;
    PERFORM pg_sleep(0.002);
  END LOOP;
END $$;

-- Under the rights of the triggers that call it.
CREATE FUNCTION outbox_raise_floor(deleted_id bigint, deleted_position bigint, deleted_highest_id bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE here.outbox_floor SET
    id = CASE WHEN position < deleted_position THEN deleted_id ELSE id END,
    position = greatest(position, deleted_position),
    highest_id = greatest(highest_id, deleted_highest_id)
  WHERE position < deleted_position OR highest_id < deleted_highest_id;
END $$;

CREATE FUNCTION outbox_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  newest record;
BEGIN
  SELECT id, position, (SELECT max(id) FROM deleted WHERE position IS NOT NULL) AS highest_id INTO newest
    FROM deleted WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1;
  IF FOUND THEN
    PERFORM here.outbox_await_settled(newest.position);
    PERFORM here.outbox_raise_floor(newest.id, newest.position, newest.highest_id);
    -- Without waiting for who redacts, and may be about to delete: what stays is below the floor, and harmless.
    DELETE FROM here.outbox_redaction WHERE position IN
      (SELECT position FROM here.outbox_redaction WHERE position <= newest.position FOR UPDATE SKIP LOCKED);
    PERFORM pg_notify('outbox', 'changed') WHERE pg_notification_queue_usage() < 0.5;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_deleted AFTER DELETE ON outbox
  REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION outbox_deleted();

CREATE FUNCTION outbox_before_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  newest record;
BEGIN
  -- TRUNCATE removes what an older snapshot does not show, and the floor would end up too low to tell clients. Nothing is under
  -- way meanwhile: it has waited for all who publish.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = 'TRUNCATE outbox needs isolation level READ COMMITTED',
      HINT = 'Run it in a transaction of its own, or DELETE the rows.';
  END IF;
  SELECT id, position, (SELECT max(id) FROM here.outbox) AS highest_id INTO newest
    FROM here.outbox WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1;
  IF FOUND THEN
    PERFORM here.outbox_raise_floor(newest.id, newest.position, newest.highest_id);
    -- Without waiting for who redacts, and may be about to delete: what stays is below the floor, and harmless.
    DELETE FROM here.outbox_redaction WHERE position IN
      (SELECT position FROM here.outbox_redaction WHERE position <= newest.position FOR UPDATE SKIP LOCKED);
    PERFORM pg_notify('outbox', 'changed') WHERE pg_notification_queue_usage() < 0.5;
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

-- Without its row relays can't tell what was deleted, and a lower one would have them honour cursors that have lost events.
-- Mending, which only ever inserts where no row is, passes.
CREATE FUNCTION outbox_keep_floor() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' AND NOT EXISTS (SELECT FROM here.outbox_floor) THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'UPDATE' THEN
    IF NEW.position > OLD.position OR (NEW.position = OLD.position AND NEW.id = OLD.id) THEN
      IF NEW.highest_id >= OLD.highest_id THEN
        RETURN NULL;
      END IF;
    END IF;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'restrict_violation',
    MESSAGE = 'outbox_floor keeps exactly one row, which only rises: it says how far the log was pruned',
    HINT = 'Leave it to the triggers of outbox: DELETE from outbox or TRUNCATE outbox raises it.',
    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END $$;

CREATE TRIGGER outbox_keep_floor BEFORE INSERT OR DELETE OR TRUNCATE ON outbox_floor
  FOR EACH STATEMENT EXECUTE FUNCTION outbox_keep_floor();
CREATE TRIGGER outbox_keep_floor_rising AFTER UPDATE ON outbox_floor
  FOR EACH ROW EXECUTE FUNCTION outbox_keep_floor();

-- The functions run as their owner, whatever the publisher's rights, so no name in them may resolve to what a publisher
-- made. Their search_path is pinned to pg_catalog, with pg_temp last, or a temporary table would come first; and not to
-- this schema, in which a publisher may be allowed to CREATE: an overload there with the exact argument types would be
-- preferred to the one of pg_catalog. Our own names are qualified: `here.` stands for the schema of the migration.
-- The three that run in every publication have all names qualified instead, operators too: a pinned search_path would cost
-- them a quarter of what a publication costs.
-- Plans are cached for a session: one made while a table is nearly empty would be a sequential scan, and stay one while
-- the table grows. Joins, too, are to find some rows and not to read all of outbox.
DO $$
DECLARE
  name text;
  here text := pg_catalog.concat(pg_catalog.quote_ident(pg_catalog.current_schema()::pg_catalog.text), '.');
  path text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOREACH name IN ARRAY ARRAY['outbox_reach_second_round()', 'outbox_place()', 'outbox_place_listed(text)',
    'outbox_settled(integer)', 'outbox_cursor()', 'outbox_cursor(text)', 'outbox_check()', 'outbox_refuse_move()', 'outbox_refuse_change()', 'outbox_redacted()',
    'outbox_await_settled(bigint)', 'outbox_raise_floor(bigint, bigint, bigint)', 'outbox_deleted()', 'outbox_before_truncate()', 'outbox_after_truncate()',
    'outbox_keep_floor()']
  LOOP
    EXECUTE replace(pg_get_functiondef((here || name)::regprocedure), 'here.', here);
    IF name NOT IN ('outbox_reach_second_round()', 'outbox_place()', 'outbox_check()') THEN
      EXECUTE format('ALTER FUNCTION %s%s SET search_path = pg_catalog, pg_temp', here, name);
    END IF;
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s%s FROM PUBLIC', here, name);
  END LOOP;
  PERFORM set_config('search_path', path, true);
END $$;
GRANT EXECUTE ON FUNCTION outbox_settled(integer), outbox_cursor(), outbox_cursor(text) TO PUBLIC;
ALTER FUNCTION outbox_cursor() SET enable_seqscan = off;
ALTER FUNCTION outbox_cursor(text) SET enable_seqscan = off;
ALTER FUNCTION outbox_place() SET enable_seqscan = off;
ALTER FUNCTION outbox_place_listed(text) SET enable_seqscan = off;
ALTER FUNCTION outbox_place_listed(text) SET enable_hashjoin = off;
ALTER FUNCTION outbox_place_listed(text) SET enable_mergejoin = off;

-- Down Migration

DROP TABLE outbox, outbox_pending, outbox_floor, outbox_redaction;
DROP SEQUENCE outbox_position_seq, outbox_secret_seq;
DROP FUNCTION outbox_reach_second_round(), outbox_place(), outbox_place_listed(text), outbox_settled(integer), outbox_cursor(), outbox_cursor(text),
  outbox_check(),
  outbox_refuse_move(), outbox_refuse_change(), outbox_redacted(), outbox_await_settled(bigint), outbox_raise_floor(bigint, bigint, bigint),
  outbox_deleted(), outbox_before_truncate(), outbox_after_truncate(), outbox_keep_floor();
