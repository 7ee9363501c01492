-- base1 (= 1.00): what the relay over raw NOTIFY had, a plain AFTER INSERT trigger that notifies.
CREATE FUNCTION base1_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('outbox', NEW.id::text);
  RETURN NULL;
END $$;
CREATE TRIGGER base1_notify AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION base1_notify();
