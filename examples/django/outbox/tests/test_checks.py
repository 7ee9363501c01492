"""`manage.py check` finds what would not work, and says what to do."""

from unittest import mock

from django.core.checks import run_checks
from django.db import connection, connections
from django.test import TestCase, override_settings

from outbox.schema import shipped
from tests.settings import MIDDLEWARE


def found(**options):
    return [message.id for message in run_checks(**options) if message.id.startswith("outbox.")]


class ChecksTest(TestCase):
    def test_a_project_in_order_has_none(self):
        self.assertEqual(found(databases=["default"]), [])

    def test_a_secret_that_is_missing_or_short_is_found(self):
        for secret, expected in [(None, ["outbox.E002"]), ("short", ["outbox.E003"]), ("x" * 20, ["outbox.W001"])]:
            with self.subTest(secret=secret), override_settings(OUTBOX_JWT_SECRET=secret):
                self.assertEqual(found(), expected)

    @override_settings(OUTBOX_JWT_SECRET=None, MIDDLEWARE=MIDDLEWARE[:-1])
    def test_a_project_with_public_channels_alone_needs_no_secret(self):
        self.assertEqual(found(), [])

    @override_settings(MIDDLEWARE=MIDDLEWARE[::-1])
    def test_a_middleware_in_the_wrong_place_is_found(self):
        self.assertIn("outbox.E004", found())

    def test_a_function_that_is_none_is_found(self):
        for function in ("no.such.thing", "tests.settings.USE_TZ"):
            with self.subTest(function=function), override_settings(OUTBOX_CHANNELS_FOR=function):
                self.assertEqual(found(), ["outbox.E005"])

    def test_another_database_than_postgresql_is_found(self):
        with mock.patch.object(connections["default"], "vendor", "sqlite"):
            self.assertEqual(found(), ["outbox.E001"])

    def test_migrations_that_the_database_lacks_or_has_too_many_are_found(self):
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM outbox_migrations WHERE name = %s", [shipped()[-1]])
            self.assertEqual(found(databases=["default"]), ["outbox.W002"])
            cursor.execute("INSERT INTO outbox_migrations (name, run_on) VALUES ('99_future', now())")
            self.assertEqual(found(databases=["default"]), ["outbox.W002", "outbox.W003"])
            cursor.execute("DROP TABLE outbox_migrations")
            self.assertEqual(found(databases=["default"]), ["outbox.W002"])
