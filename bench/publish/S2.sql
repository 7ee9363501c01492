-- S2: as S, but the pending row is a range where the statement's ids are without gaps, placed by one index range scan; an
-- array of ids only where they are not. Notification and lock share one statement.
CREATE UNLOGGED TABLE outbox_pending (first bigint NOT NULL, last bigint NOT NULL, ids bigint[]);
ALTER TABLE outbox_pending ALTER COLUMN ids SET STORAGE EXTERNAL;
CREATE FUNCTION s_remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_pending
    SELECT min(id), max(id), CASE WHEN max(id) - min(id) >= count(*) THEN (SELECT array_agg(id ORDER BY id) FROM inserted) END
    FROM inserted HAVING count(*) > 0;
  RETURN NULL;
END $$;
CREATE FUNCTION s_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM outbox_pending WHERE ctid = NEW.ctid;
  RETURN NULL;
END $$;
CREATE FUNCTION s_place() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  before_first bigint;
BEGIN
  PERFORM pg_notify('outbox', OLD.last::text), pg_advisory_xact_lock(TG_RELID::integer, 0);
  IF OLD.first = OLD.last THEN
    UPDATE outbox SET position = nextval('outbox_position_seq') WHERE id = OLD.first;
  ELSIF OLD.ids IS NULL THEN
    before_first := nextval('outbox_position_seq') - 1;
    PERFORM setval('outbox_position_seq', before_first + OLD.last - OLD.first + 1);
    UPDATE outbox SET position = before_first + id - OLD.first + 1 WHERE id BETWEEN OLD.first AND OLD.last;
  ELSE
    before_first := nextval('outbox_position_seq') - 1;
    PERFORM setval('outbox_position_seq', before_first + cardinality(OLD.ids));
    UPDATE outbox SET position = before_first + i.n
      FROM unnest(OLD.ids) WITH ORDINALITY AS i (id, n) WHERE outbox.id = i.id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER s_1 AFTER INSERT ON outbox REFERENCING NEW TABLE AS inserted
  FOR EACH STATEMENT EXECUTE FUNCTION s_remember();
CREATE CONSTRAINT TRIGGER s_2 AFTER INSERT ON outbox_pending DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION s_again();
CREATE CONSTRAINT TRIGGER s_3 AFTER DELETE ON outbox_pending DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION s_place();
