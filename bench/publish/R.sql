-- R: per row. Round one puts the id into a small unlogged table, round two takes it out, locks, places, notifies.
CREATE UNLOGGED TABLE outbox_pending (id bigint NOT NULL);
CREATE FUNCTION r_remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox_pending VALUES (NEW.id);
  RETURN NULL;
END $$;
CREATE FUNCTION r_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM outbox_pending WHERE ctid = NEW.ctid;
  PERFORM pg_notify('outbox', NEW.id::text);
  PERFORM pg_advisory_xact_lock(TG_RELID::integer, 0);
  UPDATE outbox SET position = nextval('outbox_position_seq') WHERE id = NEW.id;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER r_1 AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION r_remember();
CREATE CONSTRAINT TRIGGER r_2 AFTER INSERT ON outbox_pending DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION r_place();
