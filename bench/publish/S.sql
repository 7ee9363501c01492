-- S: per statement. The statement's ids go into one pending row; deleting it is round one, its deletion's trigger round two.
-- What migrations/1_outbox.sql ships, without its guards: no SECURITY DEFINER, no SET clauses, no usage check, no other
-- triggers.
CREATE UNLOGGED TABLE outbox_pending (ids bigint[] NOT NULL);
ALTER TABLE outbox_pending ALTER COLUMN ids SET STORAGE EXTERNAL;
CREATE FUNCTION s_remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_pending SELECT array_agg(id) FROM inserted HAVING count(*) > 0;
  RETURN NULL;
END $$;
CREATE FUNCTION s_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM outbox_pending WHERE ctid = NEW.ctid;
  RETURN NULL;
END $$;
CREATE FUNCTION s_place() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  size integer := cardinality(OLD.ids);
  before_first bigint;
BEGIN
  PERFORM pg_notify('outbox', OLD.ids[size]::text);
  PERFORM pg_advisory_xact_lock(TG_RELID::integer, 0);
  IF size = 1 THEN
    UPDATE outbox SET position = nextval('outbox_position_seq') WHERE id = OLD.ids[1];
  ELSE
    before_first := nextval('outbox_position_seq') - 1;
    PERFORM setval('outbox_position_seq', before_first + size);
    UPDATE outbox SET position = before_first + i.n
      FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM unnest(OLD.ids) AS id) AS i WHERE outbox.id = i.id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER s_1 AFTER INSERT ON outbox REFERENCING NEW TABLE AS inserted
  FOR EACH STATEMENT EXECUTE FUNCTION s_remember();
CREATE CONSTRAINT TRIGGER s_2 AFTER INSERT ON outbox_pending DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION s_again();
CREATE CONSTRAINT TRIGGER s_3 AFTER DELETE ON outbox_pending DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION s_place();
