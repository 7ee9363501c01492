"""What a project does all day with its database works with an outbox in it, and says nothing of it."""

from tests.project import ProjectTestCase

MODELS = """
from django.db import models
from outbox import publish_model

@publish_model(channel="notes", data=["text"], event="note")
class Note(models.Model):
    text = models.TextField()
"""
TESTS = """
from django.db import connection
from django.test import TestCase, TransactionTestCase
from outbox import current_cursor, publish, snapshot
from outbox.models import Event
from outbox.testing import captured_events
from shop.models import Note

class Rolled(TestCase):
    def test_note(self):
        with captured_events() as events:
            Note.objects.create(text="hi")
        self.assertEqual([event.data for event in events], [{"text": "hi"}])
        with snapshot() as cursor:
            self.assertEqual(cursor, current_cursor())

class Committed(TransactionTestCase):
    # All or none: a flush by one without it makes rows that are then loaded again.
    serialized_rollback = True

    def test_note(self):
        with captured_events() as events:
            Note.objects.create(text="hi")
        self.assertGreater(Event.objects.get(pk=events[0].pk).position, 0)
        self.assertEqual(current_cursor(), str(events[0].pk))

class Kept(TransactionTestCase):
    serialized_rollback = True

    def test_what_a_migration_made_is_there(self):
        self.assertEqual([note.text for note in Note.objects.all()], ["first"])

    test_and_again = test_what_a_migration_made_is_there
"""
DATA = """
from django.db import migrations

def make(apps, schema_editor):
    apps.get_model("shop", "Note").objects.create(text="first")

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial"), ("outbox", "0001_outbox")]
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
"""
# As a project has it whose settings are older than the default.
SETTINGS = 'from project_settings import *\nDEFAULT_AUTO_FIELD = "django.db.models.AutoField"\n'
NO_MIGRATIONS = 'from project_settings import *\nMIGRATION_MODULES = {"outbox": None}\n'
PUBLISH = 'from outbox import publish; print("id", publish("news", 1).pk)'
READ = "from outbox import current_cursor; current_cursor()"


class LifeTest(ProjectTestCase):
    def setUp(self):
        super().setUp()
        self.name = self.postgres()
        self.addCleanup(self.drop_tests_databases)
        self.module("shop/models.py", MODELS)
        self.module("shop/migrations/__init__.py", "")
        tests = f'"TEST": {{"NAME": "{self.name}_test"}}'
        self.project(apps=["shop"], default=f'{{**postgres("{self.name}"), {tests}}}')
        self.succeed("makemigrations", "shop")

    def drop_tests_databases(self):
        for suffix in ("", "_1", "_2"):
            self.query(f"DROP DATABASE IF EXISTS {self.name}_test{suffix} WITH (FORCE)")

    def test_migrating_says_nothing_of_the_outbox_and_leaves_nothing_to_make_or_to_check(self):
        self.module("older_settings.py", SETTINGS)
        for args in ([], ["--settings", "older_settings"]):
            self.assertNotIn("WARN", self.succeed("migrate", *args).upper())
            self.succeed("makemigrations", "outbox", "--check", "--dry-run", *args)
        self.assertIn("no issues", self.succeed("check", "--fail-level", "WARNING", "--database", "default"))

    def test_flush_leaves_an_outbox_that_publishes_on_with_new_ids(self):
        self.succeed("migrate")
        published = [int(self.succeed("shell", "-c", PUBLISH).rsplit("id ", 1)[1])]
        self.succeed("flush", "--no-input")
        published.append(int(self.succeed("shell", "-c", PUBLISH).rsplit("id ", 1)[1]))
        self.assertEqual(published[1], published[0] + 1)

    def test_tests_of_all_kinds_run_also_in_parallel_and_on_a_database_that_was_kept(self):
        self.module("shop/tests.py", TESTS)
        self.module("shop/migrations/0002_first.py", DATA)
        # Into a database that was kept Django does not bring back what a migration made.
        again = ["shop.tests.Rolled", "shop.tests.Committed", "--keepdb"]
        for args, count in [(["shop", "--parallel", "2"], 4), (again, 2), (again, 2)]:
            with self.subTest(args=args):
                output = self.succeed("test", *args)
                self.assertIn(f"Ran {count} tests", output)
                self.assertNotIn("outbox.W", output)

    def test_a_database_without_an_outbox_is_told_of_with_what_to_do(self):
        self.module("no_migrations.py", NO_MIGRATIONS)
        for code in (PUBLISH, READ):
            _, output = self.manage("shell", "-c", code)
            self.assertIn(
                "OutboxMissing: The database 'default' has no outbox. Run `manage.py migrate --database default`.",
                output,
            )
        self.succeed("migrate", "--run-syncdb", "--settings", "no_migrations")
        _, output = self.manage("shell", "-c", PUBLISH, "--settings", "no_migrations")
        self.assertIn("Migrations are switched off, as by `pytest --nomigrations`", output)
