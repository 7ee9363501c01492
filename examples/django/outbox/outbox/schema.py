"""outbox-relay's migrations inside of Django's.

The files in `sql/` are the relay's own `migrations/*.sql`, and both keep one account of them, `outbox_migrations`. So it does not
matter who comes first, `manage.py migrate` or `outbox-relay migrate`: the other finds it done. Django's test databases
get the outbox as any other table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation

FOLDER = Path(__file__).parent / "sql"
# outbox-relay's own: neither runs while the other does.
_LOCK = 7_237_117_401_130_031
# As node-pg-migrate, by which outbox-relay migrates, makes it.
_CREATE = """
    CREATE TABLE IF NOT EXISTS outbox_migrations
        (id SERIAL PRIMARY KEY, name varchar(255) NOT NULL, run_on timestamp NOT NULL);
    GRANT SELECT ON outbox_migrations TO PUBLIC
"""
# Their order is that of run_on, a local time: Django's sessions are in UTC, outbox-relay's in the zone of the server.
_RECORD = """
    INSERT INTO outbox_migrations (name, run_on)
    SELECT %s, greatest(
        now() AT TIME ZONE (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'),
        (SELECT max(run_on) FROM outbox_migrations)
    )
"""


def shipped() -> list[str]:
    """Names of the migrations that this app has, oldest first."""
    return sorted((path.stem for path in FOLDER.glob("*.sql")), key=lambda name: int(name.partition("_")[0]))


def applied(connection: BaseDatabaseWrapper) -> list[str]:
    """Names of the migrations that the database has, whoever applied them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('outbox_migrations') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return []
        cursor.execute("SELECT name FROM outbox_migrations ORDER BY run_on, id")
        return [name for (name,) in cursor.fetchall()]


class OutboxNameTaken(Exception):
    """There can be no outbox in this schema. The message says why, and what to do."""


class RunOutboxSQL(Operation):
    """Applies one of outbox-relay's migrations, unless the database has it; unapplies it, if it has."""

    reversible = True
    reduces_to_sql = True

    def __init__(self, name: str) -> None:
        self.name = name

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return self.__class__.__name__, [self.name], {}

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if not _belongs(app_label, schema_editor):
            return
        up, _ = self._parts()
        if schema_editor.collect_sql:
            schema_editor.execute(up, params=None)
            return
        _lock(schema_editor)
        there = applied(schema_editor.connection)
        if self.name in there:
            return
        if not there:
            _refuse_taken(schema_editor)
        schema_editor.execute(_CREATE, params=None)
        schema_editor.execute(up, params=None)
        schema_editor.execute(_RECORD, params=[self.name])

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if not _belongs(app_label, schema_editor):
            return
        _, down = self._parts()
        if schema_editor.collect_sql:
            schema_editor.execute(down, params=None)
            return
        _lock(schema_editor)
        there = applied(schema_editor.connection)
        if self.name not in there:
            return
        schema_editor.execute(down, params=None)
        if there == [self.name]:
            schema_editor.execute("DROP TABLE outbox_migrations", params=None)
        else:
            schema_editor.execute("DELETE FROM outbox_migrations WHERE name = %s", params=[self.name])

    def describe(self) -> str:
        return f"outbox-relay's migration {self.name}"

    def _parts(self) -> tuple[str, str]:
        text = (FOLDER / f"{self.name}.sql").read_text(encoding="utf-8")
        up, _, down = text.partition("-- Down Migration")
        return up, down


def _lock(schema_editor: BaseDatabaseSchemaEditor) -> None:
    schema_editor.execute("SELECT pg_advisory_xact_lock(%s)", params=[_LOCK])


def _refuse_taken(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Raises OutboxNameTaken, with what to do, where another table already has a name that the outbox needs."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("""
            SELECT relname, current_schema() FROM pg_class
            WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
                AND relname IN ('outbox', 'outbox_pending', 'outbox_floor', 'outbox_position_seq', 'outbox_id_seq')
            ORDER BY relname""")
        found = cursor.fetchall()
    if found:
        names = ", ".join(f'"{schema}"."{name}"' for name, schema in found)
        raise OutboxNameTaken(
            f"The database already has {names}, which the outbox's migrations did not make. Nothing was changed. If it is of "
            "another app, rename it (ALTER TABLE, and db_table of its model), and migrate again. If it is an outbox whose "
            "account outbox_migrations was lost, run `npx outbox-relay doctor`."
        )


def _belongs(app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
    """Whether the outbox is to be in this database: where the routers let it, and PostgreSQL only.

    Elsewhere nothing is done, so that `migrate` and the tests of a project with several databases go on; the check
    outbox.E001 tells where the database that events go to is another.
    """
    connection = schema_editor.connection
    return connection.vendor == "postgresql" and router.allow_migrate(connection.alias, app_label, model_name="event")
