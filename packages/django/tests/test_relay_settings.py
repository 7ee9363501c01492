"""What the relay is told, from settings, the environment and files of libpq's."""

import os
import tempfile
from pathlib import Path
from unittest import mock

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import SimpleTestCase, override_settings

from outbox import relay_child, relay_environment
from outbox.database_url import database_url, password_file

PLACE = {"HOST": "db.example", "PORT": "5433", "USER": "shop", "PASSWORD": "", "NAME": "shop", "OPTIONS": {}}
NO_PG = {name: "" for name in os.environ if name.startswith("PG")}


def entry(**values):
    """The default database's settings are these."""
    return mock.patch.dict(connections["default"].settings_dict, {**PLACE, **values})


def url(**values):
    with entry(**values), mock.patch.dict(os.environ, NO_PG):
        return database_url("default")


class DatabaseUrlTest(SimpleTestCase):
    def test_it_has_all_of_the_entry_with_any_characters(self):
        self.assertEqual(url(), "postgres://shop@db.example:5433/shop?sslmode=prefer")
        self.assertEqual(
            url(USER="a b", PASSWORD="p@ss/w:ö%#?&=", NAME="of/us"),
            "postgres://a%20b:p%40ss%2Fw%3A%C3%B6%25%23%3F%26%3D@db.example:5433/of%2Fus?sslmode=prefer",
        )
        self.assertEqual(url(PORT="", HOST="localhost"), "postgres://shop@localhost:5432/shop")

    def test_sockets_and_addresses_of_ipv6_stand_in_the_query(self):
        self.assertEqual(url(HOST="/run/pg"), "postgres://shop@/shop?host=%2Frun%2Fpg&port=5433")
        self.assertEqual(url(HOST="::1", PASSWORD="p"), "postgres://shop:p@/shop?host=%3A%3A1&port=5433")

    def test_options_that_the_relay_knows_go_along_and_those_of_the_driver_do_not(self):
        self.assertEqual(
            url(
                OPTIONS={"sslmode": "verify-full", "sslrootcert": "/a b.crt", "pool": True, "application_name": "shop"}
            ),
            "postgres://shop@db.example:5433/shop?sslmode=verify-full&sslrootcert=%2Fa%20b.crt",
        )
        self.assertEqual(
            url(OPTIONS={"options": "-c search_path=live", "assume_role": "reader"}),
            "postgres://shop@db.example:5433/shop?options=-c%20search_path%3Dlive%20-c%20role%3Dreader&sslmode=prefer",
        )
        with entry(OPTIONS={"passfile": "/secret/pass"}):
            self.assertEqual(password_file("default"), "/secret/pass")

    def test_what_the_relay_cannot_do_is_refused_with_what_to_do(self):
        for values in ({"OPTIONS": {"sslcrl": "/crl.pem"}}, {"HOST": "a.example,b.example"}):
            with self.assertRaisesRegex(ImproperlyConfigured, r'OUTBOX = \{"RELAY": \{"DATABASE_URL"'):
                url(**values)

    def test_a_service_and_the_environment_say_what_the_entry_does_not(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "services")
            file.write_text(
                "# ours\n[other]\nhost=no\n[live]\nhost=there.example\n# port=1\nuser = me\nsslmode=require\n"
            )
            with mock.patch.dict(
                os.environ, {**NO_PG, "PGSERVICEFILE": str(file), "PGPASSWORD": "pw", "PGUSER": "nobody"}
            ):
                with entry(HOST="", PORT="", USER="", OPTIONS={"service": "live"}):
                    self.assertEqual(
                        database_url("default"), "postgres://me:pw@there.example:5432/shop?sslmode=require"
                    )
                with (
                    entry(OPTIONS={"service": "none"}),
                    self.assertRaisesRegex(ImproperlyConfigured, 'no service "none"'),
                ):
                    database_url("default")


class RelayEnvironmentTest(SimpleTestCase):
    def told(self, environ=None, **outbox):
        with override_settings(OUTBOX=outbox):
            return relay_environment.alone(environ or {})

    def test_values_of_python_become_what_the_relay_reads(self):
        told = self.told(
            PUBLIC_CHANNELS=["news", "status:*"],
            RELAY={"WORKERS": 2, "LEGACY_PATHS": True, "JWT_AUDIENCE": ["a", "b"], "RETENTION": None},
        )
        self.assertEqual(told["PUBLIC_CHANNELS"], "news,status:*")
        self.assertEqual((told["WORKERS"], told["LEGACY_PATHS"], told["JWT_AUDIENCE"]), ("2", "true", "a,b"))
        self.assertNotIn("RETENTION", told)
        self.assertNotIn("ALLOWED_ORIGINS", told)

    def test_the_environment_wins_but_for_databases_and_keys(self):
        environ = {
            "LOG_LEVEL": "debug",
            "JWT_SECRET": "of the project",
            "DATABASE_URL": "postgis://elsewhere/db",
            "X": "y",
        }
        told = self.told(environ, SECRET="0123456789abcdef" * 2, RELAY={"LOG_LEVEL": "warn"})
        self.assertEqual(told["LOG_LEVEL"], "debug")
        self.assertEqual(told["JWT_SECRET"], "0123456789abcdef" * 2)
        self.assertTrue(told["DATABASE_URL"].startswith("postgres://"))
        process = relay_environment.process_environment(told, environ)
        self.assertEqual((process["X"], process["JWT_SECRET"]), ("y", told["JWT_SECRET"]))
        ours = process["OUTBOX_RELAY_FROM_SETTINGS"].split(",")
        self.assertTrue({"DATABASE_URL", "JWT_SECRET"}.issubset(ours))
        self.assertNotIn("LOG_LEVEL", ours)

    def test_the_relay_is_told_what_its_commands_are_called_here(self):
        process = relay_environment.process_environment(self.told(), {})
        self.assertEqual(process["OUTBOX_RELAY_COMMAND"], "python manage.py outbox_relay")
        self.assertEqual(process["OUTBOX_RELAY_MIGRATE"], "python manage.py migrate outbox")
        self.assertEqual(self.told(RELAY={"DATABASE_URL": "postgres://own/db"})["DATABASE_URL"], "postgres://own/db")

    def test_another_key_takes_the_place_of_the_secret(self):
        told = self.told(RELAY={"JWKS_URL": "https://id.example/keys"})
        self.assertEqual(told["JWKS_URL"], "https://id.example/keys")
        self.assertNotIn("JWT_SECRET", told)

    def test_a_port_of_the_platform_is_open_to_it_and_none_under_debug(self):
        self.assertEqual(self.told()["HOST"], "127.0.0.1")
        told = self.told({"PORT": "10000"})
        self.assertEqual((told["HOST"], told["PORT"]), ("0.0.0.0", "10000"))
        self.assertEqual(self.told({"PORT": "10000", "HOST": "::"})["HOST"], "::")
        with override_settings(DEBUG=True):
            told = self.told({"PORT": "10000", "HOST": "0.0.0.0"})
        self.assertEqual((told["HOST"], told["PORT"]), ("127.0.0.1", "8001"))

    def test_beside_runserver_it_has_a_port_of_its_own_and_one_process(self):
        with override_settings(OUTBOX={"RELAY": {"PORT": 9000, "WORKERS": 4, "METRICS_PORT": 9001}}):
            told = relay_environment.beside({"PORT": "8000", "RETRY_SECONDS": "3"})
        self.assertEqual(
            (told["HOST"], told["PORT"], told["WORKERS"], told["METRICS_PORT"]), ("127.0.0.1", "0", "1", "")
        )
        self.assertEqual(told["RETRY_SECONDS"], "3")


class RunserverTest(SimpleTestCase):
    def of(self, *words, **environ):
        with mock.patch("sys.argv", ["manage.py", *words]), mock.patch.dict(os.environ, environ):
            return relay_child.is_serving(), relay_child._site()

    def test_only_the_process_that_serves_has_a_relay(self):
        self.assertTrue(self.of("runserver", RUN_MAIN="true")[0])
        self.assertTrue(self.of("runserver", "--noreload")[0])
        for words in (["runserver"], ["runserver", "--noreload", "--help"], ["migrate"], ["test", "--noreload"], []):
            self.assertFalse(self.of(*words)[0], words)

    def test_the_address_is_that_of_runserver(self):
        for words, expected in {
            (): "http://127.0.0.1:8000",
            ("9000",): "http://127.0.0.1:9000",
            ("-v", "2", "0:9000"): "http://127.0.0.1:9000",
            ("10.0.0.7:80", "--settings=x"): "http://10.0.0.7:80",
            ("--settings", "x", "shop.local:8080"): "http://shop.local:8080",
            ("--ipv6",): "http://[::1]:8000",
            ("[::]:9000",): "http://[::1]:9000",
        }.items():
            self.assertEqual(self.of("runserver", *words)[1], expected)
