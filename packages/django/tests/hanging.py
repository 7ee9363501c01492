"""A commit that hangs: after its positions are drawn, in a deferred trigger of the project's own."""

from contextlib import contextmanager
from threading import Thread

from django.db import connection, transaction

# In the second round, so that it comes after placing.
_GATE = """
CREATE TABLE hanging (round int);
CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.round = 1 THEN INSERT INTO hanging VALUES (2); ELSE PERFORM pg_advisory_xact_lock(4711); END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON hanging DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang()
"""
_AWAIT = """
DO $$ BEGIN
  WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted) LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$
"""


def _execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


@contextmanager
def hanging_commit(publish):
    """What it publishes is committed at the end."""

    def run():
        with transaction.atomic():
            publish()
            _execute("INSERT INTO hanging VALUES (1)")
        connection.close()

    _execute(_GATE)
    _execute("SELECT pg_advisory_lock(4711)")
    thread = Thread(target=run)
    thread.start()
    try:
        _execute(_AWAIT)
        yield
    finally:
        _execute("SELECT pg_advisory_unlock(4711)")
        thread.join()
        _execute("DROP TABLE hanging; DROP FUNCTION hang()")
