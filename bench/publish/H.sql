-- H: per row. Round one is a HOT update of an unindexed column of outbox itself, whose deferred trigger is round two.
ALTER TABLE outbox ADD round smallint;
ALTER TABLE outbox SET (fillfactor = 80);
CREATE FUNCTION h_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE outbox SET round = 1 WHERE id = NEW.id;
  RETURN NULL;
END $$;
CREATE FUNCTION h_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('outbox', NEW.id::text);
  PERFORM pg_advisory_xact_lock(TG_RELID::integer, 0);
  UPDATE outbox SET position = nextval('outbox_position_seq') WHERE id = NEW.id;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER h_1 AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION h_again();
CREATE CONSTRAINT TRIGGER h_2 AFTER UPDATE ON outbox DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.round = 1 AND OLD.round IS NULL) EXECUTE FUNCTION h_place();
