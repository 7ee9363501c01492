"""outbox-relay's migrations inside of Django's.

The files in `sql/` are the relay's own `migrations/*.sql`, and both keep one account of them, `outbox_migrations`. So it does not
matter who comes first, `manage.py migrate` or `outbox-relay migrate`: the other finds it done. Django's test databases
get the outbox as any other table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import ProgrammingError, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.loader import MigrationLoader
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
        pg_catalog.timezone(
            (SELECT reset_val FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'TimeZone'), pg_catalog.now()
        ),
        (SELECT pg_catalog.max(run_on) FROM outbox_migrations)
    )
"""
# The outbox's schema, where it is or is to be, and the path as it was.
_SURROUNDINGS = """
    SELECT pg_catalog.quote_ident(n.nspname::pg_catalog.text), pg_catalog.current_setting('search_path')
    FROM pg_catalog.pg_namespace AS n
    WHERE n.oid OPERATOR(pg_catalog.=) coalesce(
        (SELECT relnamespace FROM pg_catalog.pg_class
            WHERE oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('outbox_migrations')::pg_catalog.oid),
        (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) pg_catalog.current_schema())
    )
"""
_LOOK_IN = "SELECT pg_catalog.set_config('search_path', %s, true)"
# What the migrations make first: one by such a name that is there before them is not ours.
RELATIONS: list[str] = json.loads((FOLDER / "relations.json").read_text(encoding="utf-8"))


def shipped() -> list[str]:
    """Names of the migrations that this app has, oldest first."""
    return sorted((path.stem for path in FOLDER.glob("*.sql")), key=lambda name: int(name.partition("_")[0]))


def applied(connection: BaseDatabaseWrapper) -> list[str]:
    """Names of the migrations that the database has, whoever applied them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.to_regclass('outbox_migrations') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return []
        cursor.execute("SELECT name FROM outbox_migrations ORDER BY run_on, id")
        return [name for (name,) in cursor.fetchall()]


class OutboxMissing(ProgrammingError):
    """The database has no outbox. The message says how it gets one."""


@contextmanager
def needs_outbox(alias: str) -> Iterator[None]:
    """Raises OutboxMissing in the place of what the driver says where a statement in the block finds no outbox."""
    try:
        yield
    except ProgrammingError as error:
        # psycopg 3 has the one, psycopg2 the other.
        code = getattr(error.__cause__, "sqlstate", None) or getattr(error.__cause__, "pgcode", None)
        if code not in ("42P01", "42883") or "outbox" not in str(error):  # undefined_table, undefined_function
            raise
        module, _ = MigrationLoader.migrations_module("outbox")
        todo = (
            f"Run `manage.py migrate --database {alias}`."
            if module
            else "Migrations are switched off, as by `pytest --nomigrations` or MIGRATION_MODULES, and the outbox is made by its "
            'own: let it have them, as with MIGRATION_MODULES = {"outbox": "outbox.migrations"}.'
        )
        from outbox.models import Event

        home = router.db_for_write(Event)
        where = "" if home == alias else f" Events go to {home!r}, unless `using` says otherwise."
        raise OutboxMissing(f"The database {alias!r} has no outbox.{where} {todo}") from error


class OutboxNameTaken(CommandError):
    """There can be no outbox in this schema. The message says why, and what to do."""


class RunOutboxSQL(Operation):
    """Applies one of outbox-relay's migrations, unless the database has it; unapplies it, if it has."""

    reversible = True
    reduces_to_sql = True

    def __init__(self, name: str, hints: dict[str, Any] | None = None) -> None:
        self.name = name
        # For routers, as those of RunSQL.
        self.hints = hints or {}

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return self.__class__.__name__, [self.name], {"hints": self.hints} if self.hints else {}

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if not self._belongs(app_label, schema_editor):
            return
        up, _ = self._parts()
        if schema_editor.collect_sql:
            schema_editor.execute(up, params=None)
            return
        with _alone(schema_editor) as schema:
            there = applied(schema_editor.connection)
            if self.name in there:
                return
            if not there:
                _refuse_taken(schema_editor, schema)
            schema_editor.execute(_CREATE, params=None)
            schema_editor.execute(up, params=None)
            schema_editor.execute(_RECORD, params=[self.name])

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if not self._belongs(app_label, schema_editor):
            return
        _, down = self._parts()
        if schema_editor.collect_sql:
            schema_editor.execute(down, params=None)
            return
        with _alone(schema_editor):
            there = applied(schema_editor.connection)
            if self.name not in there:
                return
            schema_editor.execute(down, params=None)
            if there == [self.name]:
                schema_editor.execute("DROP TABLE outbox_migrations", params=None)
            else:
                schema_editor.execute(
                    "DELETE FROM outbox_migrations WHERE name OPERATOR(pg_catalog.=) %s", params=[self.name]
                )

    def describe(self) -> str:
        return f"outbox-relay's migration {self.name}"

    def _parts(self) -> tuple[str, str]:
        text = (FOLDER / f"{self.name}.sql").read_text(encoding="utf-8")
        up, _, down = text.partition("-- Down Migration")
        return up, down

    def _belongs(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
        """Whether the outbox is to be in this database: where the routers let it, and PostgreSQL only.

        Elsewhere nothing is done, so that `migrate` and the tests of a project with several databases go on; the check
        outbox.E001 tells where the database that events go to is another.
        """
        connection = schema_editor.connection
        return connection.vendor == "postgresql" and router.allow_migrate(
            connection.alias, app_label, **{"model_name": "event", **self.hints}
        )


@contextmanager
def _alone(schema_editor: BaseDatabaseSchemaEditor) -> Iterator[str]:
    """Nobody else migrates meanwhile, and names lead to PostgreSQL's own or to the outbox's schema, which it yields, quoted.

    All of it ends with the transaction; an error, which ends that, needs no setting back.
    """
    schema_editor.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s::pg_catalog.int8)", params=[_LOCK])
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_SURROUNDINGS)
        found = cursor.fetchone()
        if found is None:
            raise CommandError(
                "No schema that the search_path leads to exists: create one, or set search_path for Django's role "
                "(ALTER ROLE … SET search_path = …)."
            )
        schema, path = found
        cursor.execute(_LOOK_IN, [f"{schema}, pg_temp"])
        yield schema
        cursor.execute(_LOOK_IN, [path])


def _refuse_taken(schema_editor: BaseDatabaseSchemaEditor, schema: str) -> None:
    """Raises OutboxNameTaken, with what to do, where something else already has a name that the outbox needs."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                    WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' WHEN 'c' THEN 'type' ELSE 'table' END,
                ARRAY(
                    SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a
                    WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0
                        AND NOT a.attisdropped AND c.relkind OPERATOR(pg_catalog.<>) 'S'
                    ORDER BY a.attnum
                )
            FROM pg_catalog.pg_class AS c
            WHERE c.relnamespace OPERATOR(pg_catalog.=) %s::pg_catalog.regnamespace::pg_catalog.oid
                AND c.relname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.text[])
            ORDER BY c.relname""",
            [schema, RELATIONS],
        )
        found = cursor.fetchall()
    if not found:
        return
    if len(found) == len(RELATIONS):
        raise OutboxNameTaken(
            f"Schema {schema} has an outbox, but no account of its migrations (outbox_migrations). Nothing of it was changed. "
            "Run: python manage.py outbox_relay doctor"
        )
    names = ", ".join(
        f'{kind} "{name}"' + (f" ({', '.join(columns)})" if columns else "") for name, kind, columns in found
    )
    raise OutboxNameTaken(
        f"Schema {schema} already has what is not of this outbox: {names}. Nothing of it was changed.\n"
        "If a model of this project has it, rename it: set db_table of the model, `manage.py makemigrations`, and migrate its "
        "app before outbox; or ALTER TABLE … RENAME TO …\n"
        "If nothing of this project uses it, give the outbox a schema of its own, and have Django's role look there first: in "
        "psql, CREATE SCHEMA outbox_relay, and ALTER ROLE … SET search_path = outbox_relay, public; the relay's role alike."
    )
