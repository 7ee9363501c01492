"""No name in a statement of the app is resolved to what another role has made in a schema of the application's search_path."""

import io
import re

from django.contrib import admin
from django.core.management import call_command
from django.db import connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from outbox import bulk_publish, current_cursor, publish
from outbox.admin import EventAdmin
from outbox.models import Event
from outbox.schema import RunOutboxSQL, applied, shipped
from outbox.testing import captured_events

# Of each function with one of the names, one for its own arguments, and one for another type in the place of each; of each
# operator one for each pair of types; a domain of the name of each type. All of them fail when they are called.
_SHADOWS = """
DO $do$
DECLARE
  types text[] := ARRAY(SELECT t::regtype::text FROM unnest(ARRAY['text', 'name', 'varchar', 'int4', 'int8', 'oid', 'regclass',
    'regnamespace', 'bool', 'timestamp', 'timestamptz', 'jsonb', 'text[]', 'name[]', 'anyelement', 'anyarray']) AS t);
  f record; l text; r text; symbol text;
BEGIN
  FOR f IN
    SELECT DISTINCT p.proname, array_to_string(v.args, ', ') AS args FROM pg_proc p,
      LATERAL (SELECT ARRAY(
        SELECT format_type(a, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a(a, n) ORDER BY n) AS own) o,
      LATERAL (SELECT own AS args UNION
        SELECT own[:n - 1] || kind || own[n + 1:] FROM generate_series(1, p.pronargs) AS n, unnest(types) AS kind) v
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p' AND p.pronargs <= 3
      AND p.proname = ANY (string_to_array(current_setting('test.words'), ' '))
  LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE ''shadow of %s(%s)''; END $$',
        f.proname, f.args, f.proname, f.args);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  FOREACH l IN ARRAY types LOOP FOREACH r IN ARRAY types LOOP
    EXECUTE format('CREATE FUNCTION public.shadow(%s, %s) RETURNS bool LANGUAGE plpgsql AS $$
      BEGIN RAISE ''shadow of an operator (%s, %s)''; END $$', l, r, l, r);
    FOREACH symbol IN ARRAY '{=,<>,<,<=,>,>=,+,-,||,~~}'::text[] LOOP
      BEGIN
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.shadow)', symbol, l, r);
      EXCEPTION WHEN OTHERS THEN NULL;
      END;
    END LOOP;
  END LOOP; END LOOP;
  FOREACH l IN ARRAY '{text,name,oid,int8,regclass,regnamespace,jsonb,timestamptz}'::text[] LOOP
    EXECUTE format('CREATE FUNCTION public.shadow_type(pg_catalog.%s) RETURNS bool LANGUAGE plpgsql AS $$
      BEGIN RAISE ''shadow of the type %s''; END $$', l, l);
    EXECUTE format('CREATE DOMAIN public.%I AS pg_catalog.%I CHECK (public.shadow_type(VALUE))', l, l);
  END LOOP;
  -- And relations of PostgreSQL's.
  EXECUTE 'CREATE VIEW public.pg_class AS SELECT relname, relkind, oid, relnamespace, 1 / (random()::int4 * 0) AS broken
    FROM pg_catalog.pg_class';
  FOREACH symbol IN ARRAY '{pg_settings,pg_namespace,pg_attribute}'::text[] LOOP
    EXECUTE format('CREATE VIEW public.%I AS SELECT 1 / (random()::int4 * 0) AS broken', symbol);
  END LOOP;
END $do$
"""


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def look_in(path):
    execute(f"SET LOCAL search_path = {path}")


class NamesTest(TestCase):
    """All in one transaction, which is rolled back, and the shadows with it."""

    def migrate_both_ways(self):
        for name in reversed(shipped()):
            with connection.schema_editor() as editor:
                RunOutboxSQL(name).database_backwards("outbox", editor, None, None)
        self.assertEqual(applied(connection), [])
        for name in shipped():
            with connection.schema_editor() as editor:
                RunOutboxSQL(name).database_forwards("outbox", editor, None, None)
        self.assertEqual(applied(connection), shipped())

    def read(self):
        """By statements that are all the app's own."""
        self.assertTrue(current_cursor().isdigit())
        with captured_events():
            pass
        self.assertEqual(applied(connection), shipped())

    def use(self):
        """With what Django makes of models."""
        with captured_events() as events:
            publish("news", {"a": 1})
            bulk_publish([("news", "two"), ("news", None, "three")])
        # Positions are drawn by the commit, which never comes here: the rows are placed without.
        execute("SET LOCAL session_replication_role = replica")
        execute("SET CONSTRAINTS ALL IMMEDIATE")
        execute(
            "UPDATE outbox SET position = pg_catalog.nextval('outbox_position_seq'::pg_catalog.regclass) WHERE position IS NULL"
        )
        execute("SET LOCAL session_replication_role = origin")
        self.assertEqual(len(events), 3)
        Event.objects.filter(pk=events[0].pk).update(data=0)
        for options in (
            {"start": "earliest"},
            {"start": str(events[0].pk)},
            {"since": "1h", "channel": ["news", "n:*"]},
        ):
            call_command("outbox_tail", no_follow=True, stdout=io.StringIO(), **options)
        found, _ = EventAdmin(Event, admin.site).get_search_results(None, Event.objects.order_by("-id"), "ne")
        self.assertIn(events[-1], found)
        execute("SET CONSTRAINTS ALL DEFERRED")

    def test_no_function_operator_type_or_relation_of_another_role_is_used(self):
        with CaptureQueriesContext(connection) as queries:
            self.migrate_both_ways()
            self.read()
            self.use()
        words = {word for query in queries for word in re.findall(r"[a-z_][a-z0-9_]*", query["sql"])}
        execute("SELECT set_config('test.words', %s, true)", [" ".join(words)])
        path = execute("SHOW search_path")[0][0]
        look_in("pg_catalog")
        execute("SET LOCAL check_function_bodies = off")
        execute(_SHADOWS)
        [[count]] = execute("SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%shadow of%'")
        self.assertGreater(count, 500)

        # Where PostgreSQL's own come first, what fits better is still preferred to them.
        look_in(path)
        self.migrate_both_ways()
        self.read()
        self.use()
        # And where they come last, anything is; there Django's own statements are Django's affair.
        look_in("public, pg_catalog")
        self.migrate_both_ways()
        self.read()

        for careless in (
            "SELECT FROM outbox_migrations WHERE name = '1_outbox'",
            "SELECT to_regclass('outbox'::text)",
            "SELECT 'a'::text",
        ):
            with (
                self.subTest(careless=careless),
                self.assertRaisesMessage(Exception, "shadow of"),
                transaction.atomic(),
            ):
                execute(careless)
