"""Projects with databases of their own, whose commands run as users run them: in processes of their own."""

import os
import subprocess
import sys
import tempfile
from contextlib import closing
from itertools import count
from pathlib import Path

from django.db import connection
from django.test import SimpleTestCase

APP = Path(__file__).resolve().parents[1]
_numbers = count()

_SETTINGS = """
from tests.settings import *
from tests.settings import DATABASES as THEIRS
def postgres(name):
    return {{**THEIRS["default"], "NAME": name}}
def sqlite(name):
    return {{"ENGINE": "django.db.backends.sqlite3", "NAME": name}}
DATABASES = {{{databases}}}
DATABASE_ROUTERS = {routers}
INSTALLED_APPS = [*INSTALLED_APPS, *{apps}]
"""


class ProjectTestCase(SimpleTestCase):
    """What it makes is gone when the test is."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def query(self, sql, params=None, *, database="postgres"):
        """On a connection of its own, without a transaction."""
        theirs = connection.settings_dict
        # The driver's own, psycopg 2 or 3, and no transaction around it.
        own = connection.Database.connect(
            host=theirs["HOST"], port=theirs["PORT"], user=theirs["USER"], password=theirs["PASSWORD"], dbname=database
        )  # fmt: skip
        own.autocommit = True
        with closing(own), own.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []

    def postgres(self, options=""):
        """A new database's name; `options` are those of CREATE DATABASE."""
        name = f"outbox_project_{os.getpid()}_{next(_numbers)}"
        self.query(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        self.addCleanup(self.query, f"DROP DATABASE {name} WITH (FORCE)")
        return name

    def project(self, *, apps=(), routers=(), **databases):
        """A project's settings: databases are `postgres("name")` or `sqlite("name")` by their alias."""
        entries = ", ".join(f"{alias!r}: {database}" for alias, database in databases.items())
        text = _SETTINGS.format(databases=entries, routers=list(routers), apps=list(apps))
        (self.folder / "project_settings.py").write_text(text)

    def module(self, path, text):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        for parent in {file.parent, *file.parents} - {self.folder, *self.folder.parents}:
            (parent / "__init__.py").touch()
        file.write_text(text)

    def manage(self, *args):
        """Exit code, and all that a command printed."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *args],
            cwd=self.folder, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": f"{self.folder}:{APP}", "DJANGO_SETTINGS_MODULE": "project_settings"},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def succeed(self, *args):
        code, output = self.manage(*args)
        self.assertEqual(code, 0, f"{args}: {output}")
        return output

    def outbox_in(self, name):
        """Of a PostgreSQL database, all that has a name of the outbox's."""
        found = self.query(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'outbox%'"
            " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'outbox%'"
            " ORDER BY 1",
            database=name,
        )
        return [each for (each,) in found]
