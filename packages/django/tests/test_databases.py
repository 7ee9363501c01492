"""The outbox is where the routers say, in PostgreSQL, beside whatever else a project and its databases have."""

import json
import sqlite3

from outbox.schema import shipped
from tests.project import ProjectTestCase

KEEP_OUT = """
class KeepOut:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return db == "default" if (app_label, model_name) == ("outbox", "event") else None
"""
EVENTS_ELSEWHERE = """
class EventsElsewhere:
    def db_for_read(self, model, **hints):
        return "events" if model._meta.app_label == "outbox" else None
    db_for_write = db_for_read
    def allow_migrate(self, db, app_label, **hints):
        return (db == "events") == (app_label == "outbox")
"""
PUBLISH = 'from outbox import publish; print("id", publish("news", 1).pk)'


class SeveralDatabasesTest(ProjectTestCase):
    def tables(self, file):
        with sqlite3.connect(self.folder / file) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'outbox%'")]

    def test_a_router_keeps_the_outbox_out_of_a_second_database_forwards_and_backwards(self):
        first, second = self.postgres(), self.postgres()
        self.module("keep_out.py", KEEP_OUT)
        self.project(
            routers=["keep_out.KeepOut"],
            default=f'postgres("{first}")', other=f'postgres("{second}")', lite='sqlite("lite.db")',
        )  # fmt: skip
        for alias in ("default", "other", "lite"):
            self.succeed("migrate", "--database", alias)
        there = self.outbox_in(first)
        self.assertIn("outbox", there)
        for alias in ("other", "lite"):
            self.succeed("migrate", "--database", alias, "outbox", "zero")
            self.succeed("migrate", "--database", alias)
        self.assertEqual((self.outbox_in(first), self.outbox_in(second), self.tables("lite.db")), (there, [], []))
        self.succeed("migrate", "outbox", "zero")
        self.assertEqual(self.outbox_in(first), [])

    def test_without_a_router_sqlite_is_passed_by_and_a_second_postgresql_has_an_outbox_of_its_own(self):
        first, second = self.postgres(), self.postgres()
        self.project(default=f'postgres("{first}")', other=f'postgres("{second}")', lite='sqlite("lite.db")')
        for args in ([], ["outbox", "zero"], []):
            self.succeed("migrate", "--database", "lite", *args)
            self.assertEqual(self.tables("lite.db"), [])
        for alias in ("default", "other"):
            self.succeed("migrate", "--database", alias)
        self.succeed("migrate", "--database", "other", "outbox", "zero")
        self.assertEqual((self.outbox_in(first)[0], self.outbox_in(second)), ("outbox", []))

    def test_a_router_may_put_the_outbox_into_another_database_which_all_of_the_app_then_uses(self):
        first, second = self.postgres(), self.postgres()
        self.module("elsewhere.py", EVENTS_ELSEWHERE)
        self.project(
            routers=["elsewhere.EventsElsewhere"], default=f'postgres("{first}")', events=f'postgres("{second}")'
        )
        self.succeed("migrate")
        self.succeed("migrate", "--database", "events")
        self.assertEqual(self.outbox_in(first), [])
        self.succeed("shell", "-c", PUBLISH)
        line = self.succeed("outbox_tail", "--no-follow", "--from", "earliest", "--json")
        self.assertEqual(json.loads(line)["channel"], "news")
        self.assertNotIn("outbox.W", self.succeed("check", "--database", "events"))

    def test_a_project_whose_only_database_is_sqlite_is_told_what_it_needs(self):
        self.project(default='sqlite("lite.db")')
        code, output = self.manage("migrate")
        self.assertNotEqual(code, 0)
        self.assertIn("(outbox.E001) The outbox is in the database 'default', which is SQLite, not PostgreSQL.", output)

    def test_another_encoding_and_parameters_that_the_server_binds_are_no_hindrance(self):
        for encoding in ("LATIN1", "LATIN9"):
            with self.subTest(encoding=encoding):
                name = self.postgres(f"ENCODING '{encoding}' LOCALE 'C'")
                self.project(default=f'{{**postgres("{name}"), "OPTIONS": {{"server_side_binding": True}}}}')
                self.succeed("migrate")
                self.succeed("shell", "-c", PUBLISH.replace("news", "caf\u00e9"))
                line = self.succeed("outbox_tail", "--no-follow", "--from", "earliest", "--json")
                self.assertEqual(json.loads(line)["channel"], "caf\u00e9")
                self.succeed("migrate", "outbox", "zero")
                self.assertEqual(self.outbox_in(name), [])


class FixturesTest(ProjectTestCase):
    WRITE = (
        "from django.contrib.auth.models import User; from tests.models import Order;"
        'User.objects.create_user("ann"); Order.objects.create(status="packed");'
    )

    def setUp(self):
        super().setUp()
        self.source, self.target = self.postgres(), self.postgres()
        # With a router of its own that has an answer for everything.
        self.module("all.py", "class All:\n    def allow_migrate(self, db, app_label, **hints):\n        return True\n")
        self.project(routers=["all.All"], default=f'postgres("{self.source}")', target=f'postgres("{self.target}")')
        for alias in ("default", "target"):
            self.succeed("migrate", "--run-syncdb", "--database", alias)

    def publish_in_target(self):
        output = self.succeed("shell", "-c", PUBLISH.replace("1)", "1, using='target')"))
        return int(output.rsplit("id ", 1)[1])

    def test_a_dump_of_the_whole_project_loads_into_a_new_database_without_its_events(self):
        self.succeed("shell", "-c", self.WRITE + PUBLISH)
        for options in ([], ["--all"], ["--natural-foreign", "--natural-primary"]):
            self.succeed("dumpdata", *options, "--output", "all.json")
            models = {each["model"] for each in json.loads((self.folder / "all.json").read_text())}
            self.assertLessEqual({"auth.user", "tests.order", "contenttypes.contenttype"}, models)
            self.assertNotIn("outbox.event", models)
        published = self.publish_in_target()
        self.succeed("loaddata", "--database", "target", "all.json")
        self.assertEqual(
            self.query("SELECT username, status FROM auth_user, tests_order", database=self.target), [("ann", "packed")]
        )
        self.assertEqual(self.publish_in_target(), published + 1)

    def test_loading_a_fixture_that_has_events_leaves_them_out_and_gives_no_id_out_twice(self):
        ids = [self.publish_in_target() for _ in range(3)]
        # As pruning leaves it: the highest id that is there says nothing.
        self.query("DELETE FROM outbox", database=self.target)
        event = {"channel": "news", "event": "message", "data": 1, "created_at": "2026-01-01T00:00:00Z", "position": 1}
        order = {"parent": None, "status": "packed"}
        fixture = [
            {"model": "outbox.event", "pk": 1, "fields": event},
            {"model": "tests.order", "pk": 7, "fields": order},
        ]
        (self.folder / "events.json").write_text(json.dumps(fixture))
        self.assertIn("Installed 1 object(s) (of 2)", self.succeed("loaddata", "--database", "target", "events.json"))
        self.assertEqual(self.query("SELECT id FROM tests_order", database=self.target), [(7,)])
        self.assertEqual(self.query("SELECT id FROM outbox", database=self.target), [])
        self.assertEqual(self.publish_in_target(), ids[-1] + 1)


class NameTakenTest(ProjectTestCase):
    def setUp(self):
        super().setUp()
        self.name = self.postgres()
        self.project(default=f'postgres("{self.name}")')

    def refused(self, *parts):
        before = self.outbox_in(self.name)
        code, output = self.manage("migrate", "outbox")
        self.assertNotEqual(code, 0)
        for part in (*parts, "Nothing of it was changed"):
            self.assertIn(part, output)
        self.assertNotIn("Traceback", output)
        self.assertEqual(self.outbox_in(self.name), before)

    def test_a_table_view_or_sequence_with_a_name_of_the_outbox_is_told_of_and_left_alone(self):
        for make, kind, said in (
            ("CREATE TABLE outbox (id int, topic text)", "TABLE", 'table "outbox" (id, topic)'),
            ("CREATE VIEW outbox AS SELECT 1 AS number", "VIEW", 'view "outbox" (number)'),
            ("CREATE SEQUENCE outbox_position_seq", "SEQUENCE", 'sequence "outbox_position_seq"'),
        ):
            with self.subTest(kind=kind):
                self.query(make, database=self.name)
                self.refused(
                    f"Schema public already has what is not of this outbox: {said}.", "db_table", "search_path"
                )
                name = said.split('"')[1]
                self.query(f"DROP {kind} {name}", database=self.name)
        self.succeed("migrate", "outbox")

    def test_an_outbox_whose_account_was_lost_is_told_of_and_left_alone(self):
        self.succeed("migrate", "outbox")
        self.query("DROP TABLE outbox_migrations; DELETE FROM django_migrations", database=self.name)
        self.refused(
            "Schema public has an outbox, but no account of its migrations", "python manage.py outbox_relay doctor"
        )

    def test_a_model_of_the_project_that_has_the_table_is_told_of_before_anything_is_migrated(self):
        self.module(
            "legacy/models.py",
            'from django.db import models\nclass Box(models.Model):\n    class Meta:\n        db_table = "outbox"\n',
        )
        self.module(
            "legacy_elsewhere.py",
            "class Elsewhere:\n    def allow_migrate(self, db, app_label, **hints):\n"
            '        return db == "old" if app_label == "legacy" else None\n',
        )
        self.module(
            "view/models.py",
            "from django.db import models\nclass Box(models.Model):\n    class Meta:\n"
            '        db_table = "outbox"\n        managed = False\n',
        )
        self.module(
            "unmanaged_settings.py",
            "from project_settings import *\n"
            'INSTALLED_APPS = [name for name in INSTALLED_APPS if name != "legacy"] + ["view"]\n',
        )
        self.query("CREATE TABLE outbox (id bigint)", database=self.name)
        self.project(apps=["legacy"], default=f'postgres("{self.name}")')
        code, output = self.manage("migrate")
        self.assertNotEqual(code, 0)
        self.assertIn("legacy.Box: (outbox.E006) legacy.Box has the table 'outbox', which the outbox needs", output)
        self.assertEqual(self.query("SELECT FROM pg_tables WHERE tablename LIKE 'django%'", database=self.name), [])
        self.assertEqual(self.outbox_in(self.name), ["outbox"])
        self.assertIn("no issues", self.succeed("check", "--tag", "models", "--settings", "unmanaged_settings"))
        other = self.postgres()
        self.project(
            apps=["legacy"],
            routers=["legacy_elsewhere.Elsewhere"],
            default=f'postgres("{other}")',
            old=f'postgres("{self.name}")',
        )
        self.succeed("migrate", "outbox")

    def test_the_outbox_may_have_a_schema_of_its_own_as_the_message_has_it(self):
        self.query("CREATE TABLE outbox (id int)", database=self.name)
        self.query("CREATE SCHEMA outbox_relay", database=self.name)
        self.query(f"ALTER DATABASE {self.name} SET search_path = outbox_relay, public", database=self.name)
        self.succeed("migrate", "outbox")
        self.succeed("shell", "-c", PUBLISH)
        self.assertEqual(self.query("SELECT channel FROM outbox_relay.outbox", database=self.name), [("news",)])
        self.query(f"ALTER DATABASE {self.name} SET search_path = public, outbox_relay", database=self.name)
        self.assertEqual(self.succeed("migrate", "outbox", "zero").count("OK"), len(shipped()))
        self.assertEqual(self.outbox_in(self.name), ["outbox"])
