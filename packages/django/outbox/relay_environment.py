"""The relay's variables, all of them from settings, so that nothing is said twice.

For each variable, the first that says something wins:

| | who | of what |
|---|---|---|
| 1 | `beside` | HOST, PORT, WORKERS and METRICS_PORT of a relay that runs beside `runserver` |
| 2 | the environment of the process | all but the OWN below, and under DEBUG HOST and PORT: an operator's last word |
| 3 | `OUTBOX["RELAY"]` | any |
| 4 | Django's settings | DATABASES, and the other keys of OUTBOX |
| 5 | the relay | its defaults |

OWN, databases and keys, are not taken from the environment. A project that has a DATABASE_URL or a JWT_SECRET there has read it
into the settings by which it publishes and signs, or means something else by it. Nor are HOST and PORT under DEBUG, where Django
has to find the relay.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import router

from outbox.conf import secret, setting
from outbox.database_url import database_url, password_file

KEYS = ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWKS_URL")
OWN = ("DATABASE_URL", "LISTEN_DATABASE_URL", "RETENTION_DATABASE_URL", *KEYS)
# What the relay calls its commands when it tells people to run them.
COMMANDS = {
    "OUTBOX_RELAY_COMMAND": "python manage.py outbox_relay",
    "OUTBOX_RELAY_MIGRATE": "python manage.py migrate outbox",
}
# Never printed.
SECRET = (*OWN, "ARCHIVE_DATABASE_URL", "NATS_URL", "NATS_SECRET", "FORWARD_AUTH_URL")


def alone(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What settings and the environment say of a relay that runs by itself.

    Raises ImproperlyConfigured, with what to do, for settings that no relay can be run by.
    """
    return {**_overridden(from_settings(), environ), **place(environ)}


def place(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """HOST and PORT of a relay that runs by itself."""
    given = {name: str(value) for name, value in setting("RELAY").items() if name in ("HOST", "PORT")}
    if settings.DEBUG:
        return {"HOST": "127.0.0.1", "PORT": "8001", **given}
    # Whoever gives a port by the environment, as platforms do, reaches it from outside.
    host = "0.0.0.0" if environ.get("PORT") else "127.0.0.1"
    return _overridden({"HOST": host, "PORT": "8001", **given}, environ)


def beside(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The same of one that runs beside `runserver`: at a free port of this machine, quick to end and to be found again."""
    quick = {"RETRY_SECONDS": "0.5", "HEARTBEAT_SECONDS": "5", "SHUTDOWN_SECONDS": "1"}
    own = {"HOST": "127.0.0.1", "PORT": "0", "WORKERS": "1", "METRICS_PORT": ""}
    return {**_overridden({**quick, **from_settings()}, environ), **own}


def process_environment(variables: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the relay's process: with what its commands are called here, and whether `config` says "settings"."""
    given = {name: value for name, value in environ.items() if name not in OWN}
    ours = [name for name, value in variables.items() if given.get(name) != value]
    return {**given, **variables, **COMMANDS, "OUTBOX_RELAY_FROM_SETTINGS": ",".join(ours)}


def from_settings() -> dict[str, str]:
    """What settings alone say."""
    relay: Mapping[str, Any] = setting("RELAY")
    given = {name: _text(name, value) for name, value in relay.items() if value is not None}
    found = {
        "AUTH_COOKIE": setting("COOKIE_NAME"),
        "PUBLIC_CHANNELS": _list("PUBLIC_CHANNELS", setting("PUBLIC_CHANNELS")),
        "ALLOWED_ORIGINS": _list("ALLOWED_ORIGINS", setting("ALLOWED_ORIGINS")),
    }
    if not any(given.get(name) for name in KEYS):
        own = secret()
        found["JWT_SECRET"] = own.decode() if isinstance(own, bytes) else own
    if not given.get("DATABASE_URL"):
        from outbox.models import Event

        alias = router.db_for_write(Event)
        found["DATABASE_URL"] = database_url(alias)
        if file := password_file(alias):
            found["PGPASSFILE"] = os.fspath(file)
    return {name: value for name, value in {**found, **given}.items() if value}


def _overridden(variables: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value if name in OWN else environ.get(name) or value for name, value in variables.items()}


def _text(name: str, value: Any) -> str:
    """As the relay reads it: `true`, `15`, `a,b`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple, set, frozenset)):
        return _list(f'RELAY"]["{name}', value)
    return str(value)


def _list(key: str, items: str | Iterable[str]) -> str:
    names = [items] if isinstance(items, str) else [str(item) for item in items]
    if wrong := [name for name in names if "," in name and not isinstance(items, str)]:
        raise ImproperlyConfigured(
            f'OUTBOX["{key}"] has {wrong[0]!r}: commas stand between names there, so none can be in one. Leave it out.'
        )
    return ",".join(names)
