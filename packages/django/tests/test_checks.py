"""`manage.py check` finds what would not work, and says what to do."""

from unittest import mock

from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.test import TestCase, override_settings

from outbox.checks.values import KINDS
from outbox.conf import DEFAULTS, setting
from outbox.schema import shipped
from tests.settings import MIDDLEWARE

SECRET_KEY = "a key of a project, with 32 bytes and more"


def messages(**options):
    return [message for message in run_checks(**options) if message.id.startswith("outbox.")]


def found(**options):
    return [message.id for message in messages(**options)]


class ChecksTest(TestCase):
    def test_a_project_in_order_has_none(self):
        self.assertEqual(found(databases=["default"]), [])

    def test_a_secret_that_is_short_is_found(self):
        for secret, expected in [(None, []), ("short", ["outbox.E003"]), ("x" * 20, ["outbox.W001"])]:
            with self.subTest(secret=secret), override_settings(OUTBOX={"SECRET": secret}):
                self.assertEqual(found(), expected)

    def test_a_key_that_there_is_none_of_is_found_with_what_is_likely_meant(self):
        for key, hint in [
            ("TOKEN_SECOND", "Did you mean TOKEN_SECONDS?"),
            ("cookie_name", "Did you mean COOKIE_NAME?"),
            ("JWT_SECRET", "Did you mean SECRET?"),
            ("PORT", 'It is the relay\'s: OUTBOX = {"RELAY": {"PORT": …}}.'),
            ("nothing_like_it", f"There are {', '.join(DEFAULTS)}."),
        ]:
            with self.subTest(key=key), override_settings(OUTBOX={key: 1}):
                (message,) = messages()
                self.assertEqual((message.id, message.hint), ("outbox.E008", hint))
                self.assertIn(f'OUTBOX["{key}"]', message.msg)

    def test_a_value_of_another_kind_is_found_with_what_it_has_to_be(self):
        for key, wrong in [
            ("SECRET", [7]),
            ("CHANNELS_FOR", [["a"]]),
            ("PUBLIC_CHANNELS", ["news", [7], ["a*b"], [""], None, ["a,b"]]),
            ("TOKEN_SECONDS", [0, -1, "300", True, None]),
            ("TOKEN_URL", ["outbox/token", "https://example.com/token", "/a b", "/a?b", None]),
            ("COOKIE_NAME", ["", "a b", "a;", None]),
            ("COOKIE_PATH", ["", "outbox"]),
            ("COOKIE_DOMAIN", ["https://example.com", "", 7]),
            ("COOKIE_SECURE", ["false", 1]),
            ("COOKIE_SAMESITE", ["loose", True]),
            ("URL", ["events", "", "ftp://example.com/", "/events?channel=a", None]),
            (
                "ALLOWED_ORIGINS",
                ["https://example.com", ["example.com"], ["https://example.com/a"], ["*", "https://a"], [7]],
            ),
            ("RUNSERVER", ["false", None, 8001]),
            ("RELAY", [["PORT"], None, "PORT=1"]),
        ]:
            for value in wrong:
                with self.subTest(key=key, value=value), override_settings(OUTBOX={key: value}):
                    (message,) = messages()
                    self.assertEqual(message.id, "outbox.E009")
                    self.assertIn(f'OUTBOX["{key}"] has to be ', message.msg)

    def test_what_works_is_found_by_none(self):
        for outbox in [
            DEFAULTS,
            {
                "SECRET": b"x" * 32,
                "CHANNELS_FOR": len,
                "PUBLIC_CHANNELS": ["news", "status:*", "*"],
                "TOKEN_SECONDS": 0.5,
            },
            {"URL": "https://live.example.com", "ALLOWED_ORIGINS": ("https://a.example.com/", "capacitor://localhost")},
            {
                "ALLOWED_ORIGINS": ["*"],
                "COOKIE_DOMAIN": ".example.com",
                "COOKIE_SAMESITE": False,
                "COOKIE_SECURE": True,
            },
            {"RELAY": {"PORT": 9000, "LOG_LEVEL": "debug", "LEGACY_PATHS": True, "DATABASE_URL": None}},
        ]:
            with self.subTest(outbox=outbox), override_settings(OUTBOX=outbox):
                self.assertEqual(messages(), [])

    @override_settings(
        OUTBOX={"TOKEN_SECOND": 1, "URL": "events", "SECRET": "short", "RELAY": {"PROT": 1}, "CHANNELS_FOR": "no.such"}
    )
    def test_all_that_is_wrong_is_found_at_once(self):
        self.assertEqual(sorted(found()), [f"outbox.E0{number}" for number in ("03", "05", "08", "09", "10")])

    def test_each_key_has_a_kind(self):
        self.assertEqual(set(KINDS), set(DEFAULTS))

    def test_an_outbox_that_is_no_dict_is_found_and_nothing_else_breaks(self):
        with override_settings(OUTBOX=["SECRET"]):
            self.assertEqual([message.id for message in messages(include_deployment_checks=True)], ["outbox.E007"])
            with self.assertRaisesMessage(ImproperlyConfigured, "OUTBOX is a dict"):
                setting("SECRET")

    def test_a_variable_that_the_relay_has_not_is_found(self):
        for name, hint in [
            ("PROT", "Did you mean PORT?"),
            ("log_level", "Did you mean LOG_LEVEL?"),
            ("XYZ", "docs/configuration.md of outbox-relay has them all."),
        ]:
            with self.subTest(name=name), override_settings(OUTBOX={"RELAY": {name: 1}}):
                (message,) = messages()
                self.assertEqual((message.id, message.hint), ("outbox.E010", hint))
        with override_settings(OUTBOX={"RELAY": {"PORT": {}}}):
            self.assertEqual(found(), ["outbox.E010"])

    def test_what_is_told_to_the_relay_alone_is_found(self):
        with override_settings(OUTBOX={"RELAY": {"AUTH_COOKIE": "mine"}}):
            (message,) = messages()
            self.assertEqual(
                (message.id, message.hint), ("outbox.W005", 'Say OUTBOX["COOKIE_NAME"], which both are told.')
            )

    @override_settings(OUTBOX_JWT_SECRET="x", OUTBOX_TOKEN_SECONDS=60)
    def test_settings_that_nothing_reads_are_found_with_what_they_are_now(self):
        self.assertEqual(
            [(message.id, message.hint) for message in messages()],
            [
                ("outbox.W004", 'It is a key of OUTBOX now: OUTBOX = {"TOKEN_SECONDS": …}.'),
                ("outbox.W004", 'It is a key of OUTBOX now: OUTBOX = {"SECRET": …}.'),
            ],
        )

    def test_what_is_dangerous_in_production_is_found_by_check_deploy_alone(self):
        there = "https://live.example.com/events"
        for outbox, expected in [
            ({}, []),
            ({"COOKIE_SECURE": False}, ["W010"]),
            ({"COOKIE_SAMESITE": "None"}, []),
            ({"COOKIE_SAMESITE": "none", "COOKIE_SECURE": False}, ["W010", "W011"]),
            ({"PUBLIC_CHANNELS": ["news", "*"]}, ["W012"]),
            ({"SECRET": SECRET_KEY}, ["W013"]),
            ({"SECRET": SECRET_KEY.encode()}, ["W013"]),
            ({"TOKEN_SECONDS": 5}, ["W014"]),
            ({"TOKEN_SECONDS": 86400}, ["W015"]),
            ({"URL": there}, ["W016", "W018"]),
            ({"URL": there, "ALLOWED_ORIGINS": ["https://example.com/"], "COOKIE_DOMAIN": "example.com"}, []),
            ({"URL": "http://example.com:8001/events", "ALLOWED_ORIGINS": ["https://example.com"]}, ["W017"]),
        ]:
            with (
                self.subTest(outbox=outbox),
                override_settings(OUTBOX=outbox, SESSION_COOKIE_SECURE=True, SECRET_KEY=SECRET_KEY),
            ):
                self.assertEqual(found(), [])
                self.assertEqual(found(include_deployment_checks=True), [f"outbox.{number}" for number in expected])

    @override_settings(MIDDLEWARE=MIDDLEWARE[::-1])
    def test_a_middleware_in_the_wrong_place_is_found(self):
        self.assertIn("outbox.E004", found())

    def test_a_function_that_is_none_is_found(self):
        for function in ("no.such.thing", "tests.settings.USE_TZ"):
            with self.subTest(function=function), override_settings(OUTBOX={"CHANNELS_FOR": function}):
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

    def test_migrations_that_django_has_yet_to_apply_are_its_own_to_tell_of(self):
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM outbox_migrations WHERE name = %s", [shipped()[-1]])
            cursor.execute("DELETE FROM django_migrations WHERE app = 'outbox' AND name LIKE %s", [f"%{shipped()[-1]}"])
        self.assertEqual(found(databases=["default"]), [])
