"""The address of a database, as the relay takes it, from an entry of DATABASES."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

# Of OPTIONS, what the relay's address has as well.
_IN_ADDRESS = {"sslmode", "sslrootcert", "sslcert", "sslkey", "options", "target_session_attrs"}
# What says how Django or its driver works, or is the relay's own affair: it changes nothing of where the outbox is, nor of how
# safe the way there is.
_IGNORED = {
    "application_name", "assume_role", "autocommit", "binary", "channel_binding", "client_encoding", "connect_timeout",
    "connection_factory", "context", "cursor_factory", "fallback_application_name", "gssencmode", "isolation_level",
    "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "passfile", "pool", "prepare_threshold",
    "row_factory", "server_side_binding", "service", "servicefile", "sslcertmode", "sslcompression", "sslsni",
    "tcp_user_timeout", "dbname", "user", "password", "host", "port",
}  # fmt: skip
# Where PostgreSQL's own builds, and those of Debian and others, have its socket.
_SOCKET_FOLDERS = ("/var/run/postgresql", "/tmp")


def database_url(alias: str) -> str:
    """`postgres://user:password@host:port/name?…` of DATABASES[alias], with what libpq would add from its own environment.

    Raises ImproperlyConfigured where the database is none of PostgreSQL, or has an option that the relay does not know.
    """
    if connections[alias].vendor != "postgresql":
        raise ImproperlyConfigured(
            f'The outbox is in DATABASES["{alias}"], which is no PostgreSQL. Use django.db.backends.postgresql, or a router that '
            "keeps the app outbox in a PostgreSQL database."
        )
    settings = connections[alias].settings_dict
    options: dict[str, Any] = dict(settings.get("OPTIONS") or {})
    if unknown := sorted(set(options) - _IN_ADDRESS - _IGNORED):
        raise ImproperlyConfigured(
            f'DATABASES["{alias}"]["OPTIONS"]["{unknown[0]}"]: the relay has no such option. Give it an address of its own: '
            'OUTBOX = {"RELAY": {"DATABASE_URL": "postgres://…"}}.'
        )
    service = _service(options)

    def value(theirs: str, libpq: str, variable: str) -> str:
        """By the order of libpq: what is said, the service, the environment."""
        given = settings.get(theirs) or options.get(libpq) or service.get(libpq) or os.environ.get(variable)
        return str(given) if given else ""

    port = value("PORT", "port", "PGPORT") or "5432"
    host = value("HOST", "host", "PGHOST") or options.get("hostaddr") or _default_host(port)
    if "," in host or "," in port:
        raise ImproperlyConfigured(
            f'DATABASES["{alias}"] names several hosts, of which the relay chooses none. Give it one that leads to the primary: '
            'OUTBOX = {"RELAY": {"DATABASE_URL": "postgres://…"}}.'
        )
    user = value("USER", "user", "PGUSER") or getpass.getuser()
    name = value("NAME", "dbname", "PGDATABASE") or user
    query = {key: str(found) for key in sorted(_IN_ADDRESS) if (found := options.get(key) or service.get(key))}
    if role := options.get("assume_role"):
        query["options"] = f"{query.get('options', '')} -c role={role}".strip()
    if not (query.get("sslmode") or os.environ.get("PGSSLMODE") or _is_local(host)):
        # As libpq, where the relay by itself would first try without.
        query["sslmode"] = "prefer"
    place = f"{host}:{port}"
    if not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        # The folder of a socket, or an address of IPv6.
        place, query["host"], query["port"] = "", host, port
    password = value("PASSWORD", "password", "PGPASSWORD")
    login = _quoted(user) + (f":{_quoted(password)}" if password else "")
    suffix = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"postgres://{login}@{place}/{_quoted(name)}{suffix}"


def password_file(alias: str) -> str | None:
    """The file of passwords that OPTIONS names, which has no place in an address: the relay's PGPASSFILE."""
    options: Mapping[str, Any] = connections[alias].settings_dict.get("OPTIONS") or {}
    return options.get("passfile") or None


def _default_host(port: str) -> str:
    """As libpq: the socket of this machine, where there is one."""
    for folder in _SOCKET_FOLDERS:
        if Path(folder, f".s.PGSQL.{port}").exists():
            return folder
    return "localhost"


def _is_local(host: str) -> bool:
    return host.startswith("/") or host in ("localhost", "127.0.0.1", "::1")


def _service(options: Mapping[str, Any]) -> dict[str, str]:
    """What the file of services says of the one that is asked for (PostgreSQL manual, 32.17)."""
    name = options.get("service") or os.environ.get("PGSERVICE")
    if not name:
        return {}
    own = options.get("servicefile") or os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf"
    files = [Path(own), Path(os.environ.get("PGSYSCONFDIR", "/etc/postgresql-common"), "pg_service.conf")]
    for file in files:
        if file.is_file() and (found := _section(file.read_text(encoding="utf-8"), name)) is not None:
            return found
    raise ImproperlyConfigured(
        f'There is no service "{name}" in {files[0]} nor in {files[1]}. Write it there, or have PGSERVICEFILE name its file.'
    )


def _section(text: str, name: str) -> dict[str, str] | None:
    found: dict[str, str] | None = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            if found is not None:
                return found
            found = {} if line == f"[{name}]" else None
        elif found is not None and "=" in line and not line.startswith("#"):
            key, _, given = line.partition("=")
            found[key.strip()] = given.strip()
    return found


def _quoted(text: str) -> str:
    return quote(text, safe="")
