"""What is wrong around the app: its database, other models' tables, the order of the middleware.

What the database has is only looked at with `manage.py check --database default`, and by `manage.py migrate`, as Django has it
for all checks that need a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.db import connections, router
from django.db.migrations.recorder import MigrationRecorder

from outbox.schema import RELATIONS, applied, shipped

MIDDLEWARE = "outbox.middleware.OutboxMiddleware"


def check_engine(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """The outbox is in PostgreSQL."""
    connection = connections[_alias()]
    if connection.vendor == "postgresql":
        return []
    return [
        checks.Error(
            f"The outbox is in the database {connection.alias!r}, which is {connection.display_name}, not PostgreSQL.",
            hint="Use django.db.backends.postgresql, or a router that keeps the app outbox in a PostgreSQL database.",
            id="outbox.E001",
        )
    ]


def check_tables(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """Django makes no other table by a name of the outbox's. Its own models.E028 passes by models that are not managed."""
    alias = _alias()
    return [
        checks.Error(
            f"{model._meta.label} has the table {model._meta.db_table!r}, which the outbox needs for itself.",
            hint="Give it another db_table, run `manage.py makemigrations`, and migrate its app before outbox; or have a "
            "router keep it in another database.",
            obj=model,
            id="outbox.E006",
        )
        for model in apps.get_models(include_auto_created=True)
        if model._meta.db_table in (*RELATIONS, "outbox_migrations")
        # One that is not managed may well be another view of the outbox.
        and model._meta.managed
        and not model._meta.proxy
        and router.allow_migrate_model(alias, model)
    ]


def check_middleware(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """The middleware asks who the user is, which has to be known by then."""
    order = list(settings.MIDDLEWARE)
    users = "django.contrib.auth.middleware.AuthenticationMiddleware"
    if MIDDLEWARE not in order or (users in order and order.index(users) < order.index(MIDDLEWARE)):
        return []
    return [
        checks.Error(
            f"{MIDDLEWARE} is not after {users} in MIDDLEWARE.",
            hint="Put it at the end of the list.",
            id="outbox.E004",
        )
    ]


def check_migrated(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """What Django has migrated is still there. What it has yet to migrate it tells of itself, so that `migrate` has no warning.

    A warning, since `migrate`, which mends it, would stop at an error.
    """
    alias = _alias()
    if alias not in (databases or ()) or connections[alias].vendor != "postgresql":
        return []
    there = applied(connections[alias])
    accounted = {name for app, name in MigrationRecorder(connections[alias]).applied_migrations() if app == "outbox"}
    numbers = {int(name.partition("_")[0]) for name in accounted}
    found: list[checks.CheckMessage] = []
    if missing := [n for n in shipped() if n not in there and int(n.partition("_")[0]) in numbers]:
        found.append(
            checks.Warning(
                f"The database {alias!r} lacks what Django has migrated: {', '.join(missing)}.",
                hint="It was taken back by outbox-relay or by hand: `manage.py migrate outbox zero`, then "
                "`manage.py migrate outbox`. That deletes the events that are left.",
                id="outbox.W002",
            )
        )
    if unknown := [name for name in there if name not in shipped()]:
        found.append(
            checks.Warning(
                f"The database {alias!r} has migrations of a newer outbox-relay: {', '.join(unknown)}.",
                hint="Update the app outbox.",
                id="outbox.W003",
            )
        )
    return found


def _alias() -> str:
    from outbox.models import Event

    return router.db_for_write(Event)
