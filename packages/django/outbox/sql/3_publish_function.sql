-- Up Migration

-- outbox_publish: the INSERT as a function, for triggers, psql and languages for which a call is handier than a statement.
--
-- It runs with the caller's rights (SECURITY INVOKER) and gives nobody any: who may not INSERT (channel, event, data) into
-- outbox, and SELECT from it for the id, may not call it with success either. A trigger that calls it does so as the role that
-- changed the table, unless the trigger's own function is SECURITY DEFINER.
CREATE OR REPLACE FUNCTION outbox_publish(channel text, data jsonb DEFAULT NULL, event text DEFAULT 'message') RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  published bigint;
BEGIN
  INSERT INTO here.outbox (channel, event, data)
    VALUES (outbox_publish.channel, outbox_publish.event, outbox_publish.data)
    RETURNING outbox.id INTO published;
  RETURN published;
END $$;

-- As in the first migration, `here.` stands for this schema: the caller's search_path may lead elsewhere.
DO $$
DECLARE
  here pg_catalog.text := pg_catalog.concat(pg_catalog.quote_ident(pg_catalog.current_schema()::pg_catalog.text), '.');
  path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  EXECUTE replace(pg_get_functiondef((here || 'outbox_publish(text, jsonb, text)')::regprocedure), 'here.', here);
  PERFORM set_config('search_path', path, true);
END $$;

COMMENT ON FUNCTION outbox_publish(text, jsonb, text) IS
  'Publishes when the transaction commits, with the caller''s rights. Returns the event''s id.';

-- Where default rights keep functions from PUBLIC: calling it is no right of its own.
GRANT EXECUTE ON FUNCTION outbox_publish(text, jsonb, text) TO PUBLIC;

-- Down Migration

DROP FUNCTION outbox_publish(text, jsonb, text);
