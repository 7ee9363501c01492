"""Django and outbox-relay share one account of migrations, and it does not matter who comes first."""

import io
import subprocess
from pathlib import Path
from unittest import skipUnless

from django.core.management import call_command
from django.db import connection
from django.test import TransactionTestCase

from outbox.schema import FOLDER, applied, shipped

ROOT = Path(__file__).resolve().parents[3]
# Where the app was copied into another project, neither is there.
SOURCE = ROOT / "migrations"
RELAY = ROOT / "dist/src/main.js"


def catalog():
    """All that is in the schema, by name and text, and who may do what with it."""
    with connection.cursor() as cursor:
        cursor.execute("""
            SELECT format('class %s %s %s', relkind, relname, relacl) FROM pg_class
                WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'outbox%'
            UNION ALL SELECT format('column %s.%s %s %s', relname, attname, atttypid::regtype, attnotnull)
                FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
                WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'outbox%' AND attnum > 0
            UNION ALL SELECT format('function %s %s %s', proname, proacl, pg_get_functiondef(oid)) FROM pg_proc
                WHERE pronamespace = 'public'::regnamespace
            UNION ALL SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
                WHERE conname LIKE 'outbox%' AND contype <> 'n'
            ORDER BY 1""")
        return [entry for (entry,) in cursor.fetchall()]


def relay(*args):
    settings = connection.settings_dict
    url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**settings)
    return subprocess.run(
        ["node", str(RELAY), "migrate", *args], env={"DATABASE_URL": url, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip


def migrate(*args):
    out = io.StringIO()
    call_command("migrate", "outbox", *args, stdout=out, verbosity=1)
    return out.getvalue()


class MigrationsTest(TransactionTestCase):
    def tearDown(self):
        migrate()

    def test_django_makes_the_outbox_and_accounts_for_it(self):
        self.assertEqual(applied(connection), shipped())

    def test_zero_removes_all_of_it_and_both_are_harmless_to_repeat(self):
        before = catalog()
        migrate("zero")
        self.assertEqual(catalog(), [])
        migrate("zero")
        migrate()
        migrate()
        self.assertEqual(catalog(), before)

    def test_the_model_and_its_migrations_agree(self):
        call_command("makemigrations", "outbox", check=True, dry_run=True, stdout=io.StringIO())

    def test_sqlmigrate_shows_the_sql(self):
        out = io.StringIO()
        call_command("sqlmigrate", "outbox", "0001", stdout=out)
        self.assertIn("CREATE TABLE outbox", out.getvalue())
        call_command("sqlmigrate", "outbox", "0001", backwards=True, stdout=out)
        self.assertIn("DROP TABLE outbox", out.getvalue())

    @skipUnless(SOURCE.is_dir(), "not in outbox-relay's repository")
    def test_the_sql_is_outbox_relays_own(self):
        sources = {path.name: path.read_text() for path in SOURCE.glob("*.sql")}
        self.assertEqual({path.name: path.read_text() for path in FOLDER.glob("*.sql")}, sources)
        check = subprocess.run(["node", str(Path(__file__).parents[1] / "sync.mjs"), "--check"], check=False)
        self.assertEqual(check.returncode, 0)

    @skipUnless(RELAY.exists(), "outbox-relay is not built here")
    def test_outbox_relay_finds_done_what_django_did(self):
        self.assertEqual(relay("status").split(), [w for name in shipped() for w in ("applied", name)])
        self.assertIn("Nothing to do", relay())

    @skipUnless(RELAY.exists(), "outbox-relay is not built here")
    def test_django_finds_done_what_outbox_relay_did(self):
        by_django = catalog()
        migrate("zero")
        relay()
        self.assertEqual(catalog(), by_django)
        migrate()
        self.assertEqual(catalog(), by_django)
        self.assertEqual(applied(connection), shipped())

    @skipUnless(RELAY.exists(), "outbox-relay is not built here")
    def test_one_may_go_on_where_the_other_stopped_whatever_the_time_zones(self):
        by_django = catalog()
        database = connection.settings_dict["NAME"]
        for zone in ("Pacific/Auckland", "America/Los_Angeles"):
            with self.subTest(zone=zone):
                with connection.cursor() as cursor:
                    cursor.execute(f"ALTER DATABASE {database} SET timezone = '{zone}'")
                connection.close()
                migrate("zero")
                migrate("0001")
                self.assertEqual(applied(connection), shipped()[:1])
                relay()
                migrate()
                # node-pg-migrate refuses an account that is out of order.
                self.assertIn("Nothing to do", relay())
                self.assertEqual(catalog(), by_django)
                self.assertIn(f"removed {shipped()[0]}", relay("down", "--yes"))
                self.assertEqual(catalog(), [])
                migrate("zero")
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {database} RESET timezone")
        connection.close()
