"""Checks: what `manage.py check` finds wrong before a user does.

Those of settings run always. What the database has is only looked at with `manage.py check --database default`, and by
`manage.py migrate`, as Django has it for all checks that need a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.db import connections, router
from django.utils.module_loading import import_string

from outbox.conf import setting
from outbox.schema import RELATIONS, applied, shipped

MIDDLEWARE = "outbox.middleware.TokenMiddleware"
# As the relay has it: fewer are refused, and a hash's worth is advised.
LEAST_BYTES, GOOD_BYTES = 16, 32


def register_all() -> None:
    """Adds the checks to Django's; called once, when the app is ready."""
    checks.register(check_engine, checks.Tags.models)
    checks.register(check_tables, checks.Tags.models)
    checks.register(check_secret, checks.Tags.security)
    checks.register(check_middleware)
    checks.register(check_channels_for)
    checks.register(check_migrated, checks.Tags.database)


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


def check_secret(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """Whoever makes tokens has the relay's secret. Without the middleware, channels may all be public."""
    secret = setting("OUTBOX_JWT_SECRET")
    if not secret:
        if MIDDLEWARE not in settings.MIDDLEWARE:
            return []
        return [
            checks.Error(
                "OUTBOX_JWT_SECRET is not set, so no tokens can be made.",
                hint="Make one with `openssl rand -base64 48`, and give it to the relay too, as JWT_SECRET.",
                id="outbox.E002",
            )
        ]
    length = len(secret.encode() if isinstance(secret, str) else secret)
    if length >= GOOD_BYTES:
        return []
    level = checks.Error if length < LEAST_BYTES else checks.Warning
    return [
        level(
            f"OUTBOX_JWT_SECRET has {length} bytes: the relay wants {LEAST_BYTES} at least, and {GOOD_BYTES} are better.",
            hint="Make one with `openssl rand -base64 48`.",
            id="outbox.E003" if length < LEAST_BYTES else "outbox.W001",
        )
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


def check_channels_for(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """OUTBOX_CHANNELS_FOR leads to a function."""
    function = setting("OUTBOX_CHANNELS_FOR")
    try:
        found = import_string(function) if isinstance(function, str) else function
    except ImportError as error:
        reason = str(error)
    else:
        if callable(found):
            return []
        reason = "it is not callable"
    return [
        checks.Error(
            f"OUTBOX_CHANNELS_FOR = {function!r} is no function: {reason}.",
            hint="Name one that is given a user and returns the channels that they may read.",
            id="outbox.E005",
        )
    ]


def check_migrated(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """The database has what the relay asks for. A warning, since `migrate`, which mends it, would stop at an error."""
    alias = _alias()
    if alias not in (databases or ()) or connections[alias].vendor != "postgresql":
        return []
    there = applied(connections[alias])
    found: list[checks.CheckMessage] = []
    if missing := [name for name in shipped() if name not in there]:
        found.append(
            checks.Warning(
                f"The database {alias!r} lacks the outbox's migrations: {', '.join(missing)}.",
                hint="Run `manage.py migrate outbox`, or `outbox-relay migrate`. Where Django says that there is nothing to "
                "do, but outbox-relay has taken them back: `manage.py migrate outbox zero` first.",
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
