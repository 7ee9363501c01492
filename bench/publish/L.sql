-- L, for comparison only: positions in an insert-only table of their own, so outbox is never updated. Otherwise S.
CREATE TABLE outbox_log (position bigint PRIMARY KEY, id bigint NOT NULL, channel text COLLATE "C" NOT NULL);
CREATE INDEX ON outbox_log (channel, position);
CREATE UNIQUE INDEX ON outbox_log (id);
CREATE UNLOGGED TABLE outbox_pending (ids bigint[] NOT NULL, channels text[] NOT NULL);
CREATE FUNCTION l_remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_pending SELECT array_agg(id ORDER BY id), array_agg(channel ORDER BY id) FROM inserted HAVING count(*) > 0;
  RETURN NULL;
END $$;
CREATE FUNCTION l_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM outbox_pending WHERE ctid = NEW.ctid;
  RETURN NULL;
END $$;
CREATE FUNCTION l_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('outbox', OLD.ids[cardinality(OLD.ids)]::text);
  PERFORM pg_advisory_xact_lock(TG_RELID::integer, 0);
  IF cardinality(OLD.ids) = 1 THEN
    INSERT INTO outbox_log VALUES (nextval('outbox_position_seq'), OLD.ids[1], OLD.channels[1]);
  ELSE
    INSERT INTO outbox_log SELECT nextval('outbox_position_seq'), id, channel
      FROM unnest(OLD.ids, OLD.channels) AS i (id, channel);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER l_1 AFTER INSERT ON outbox REFERENCING NEW TABLE AS inserted
  FOR EACH STATEMENT EXECUTE FUNCTION l_remember();
CREATE CONSTRAINT TRIGGER l_2 AFTER INSERT ON outbox_pending DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION l_again();
CREATE CONSTRAINT TRIGGER l_3 AFTER DELETE ON outbox_pending DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION l_place();
