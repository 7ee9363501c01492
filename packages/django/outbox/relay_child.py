"""The relay beside `runserver`: a child of the process that serves, on a port of its own choosing.

| it is | meaning | left when |
|---|---|---|
| waiting | the database or its migrations are missing, or it has ended and is given a pause | they are there; the pause is over |
| starting | its process is there | it listens; it ends |
| serving | `address` is set | it ends |

Django goes on in all of them. The child ends with this process, however that ends: see ends_with_parent.mjs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.color import color_style
from django.db import Error, connections, router

from outbox import relay_environment, schema
from outbox.conf import setting
from outbox.relay_program import RelayMissing, find_program

# Between looks at a database that is not ready.
LOOK_SECONDS = 1.0
# Before a relay that has ended is started again: doubled each time, from the first to the last, unless it has served so long.
PAUSE_SECONDS = (0.5, 8.0)
STEADY_SECONDS = 10.0
_PRELOADED = Path(__file__).with_name("ends_with_parent.mjs")
_WARNING, _ERROR = 40, 50
# True of each role that an application has, and of interest in production only.
_OF_PRODUCTION = "the role of this relay can do more than read"

_child: RelayChild | None = None


def start_with_runserver() -> None:
    """Starts it where this process is the one of `runserver` that serves, under DEBUG, unless OUTBOX["RUNSERVER"] says no."""
    global _child
    try:
        if _child is not None or not is_serving() or not is_wanted():
            return
    except ImproperlyConfigured:
        # The checks, which `runserver` runs next, say what is wrong.
        return
    if "--nothreading" in sys.argv:
        say(
            "Live events need threads, one for each stream. Run: python manage.py runserver without --nothreading",
            _ERROR,
        )
        return
    _child = RelayChild()
    _child.start()


def is_serving() -> bool:
    """Whether this process answers the requests of `runserver`, and is not the one that reloads it."""
    words = sys.argv[1:]
    return (
        words[:1] == ["runserver"]
        and not {"-h", "--help", "--version"}.intersection(words)
        and (os.environ.get("RUN_MAIN") == "true" or "--noreload" in words)
    )


def is_wanted() -> bool:
    """Whether settings have a relay beside `runserver`: an address on another host has one of its own."""
    return bool(settings.DEBUG and setting("RUNSERVER") and str(setting("URL")).startswith("/"))


def address() -> tuple[str, int] | None:
    """Host and port where this project's relay is in development; None while it is not there.

    Where this is not `runserver`, or OUTBOX["RUNSERVER"] is False, it is the one that `manage.py outbox_relay` runs.
    """
    if _child is not None:
        return _child.address
    if is_serving() and is_wanted():
        return None
    place = relay_environment.place()
    return place["HOST"], int(place["PORT"])


class RelayChild:
    """Keeps one relay running, and tells in the terminal what is of interest of it."""

    def __init__(self) -> None:
        self.address: tuple[str, int] | None = None
        self._said = ""
        self._words: list[str] = []

    def start(self) -> None:
        """Returns at once; all else happens in a thread that ends with the process."""
        threading.Thread(target=self._keep, name="outbox-relay", daemon=True).start()

    def _keep(self) -> None:
        apps.ready_event.wait()
        pause = PAUSE_SECONDS[0]
        while True:
            try:
                self._until_migrated()
                began = time.monotonic()
                self._run()
            except (ImproperlyConfigured, RelayMissing) as error:
                # Nothing mends these but a change that has `runserver` load everything anew.
                self._say(f"{error}", _ERROR)
                return
            pause = PAUSE_SECONDS[0] if time.monotonic() - began > STEADY_SECONDS else min(pause * 2, PAUSE_SECONDS[1])
            time.sleep(pause)

    def _until_migrated(self) -> None:
        if setting("RELAY").get("DATABASE_URL"):
            # Not one of Django's: the relay says what is missing there.
            return
        while True:
            try:
                missing = _missing_migrations()
            except Error as error:
                reason = str(error).strip().split("\n")[0]
                self._say(f"The database is not reachable: {reason.rstrip('.')}. Live events begin when it is.", _ERROR)
            else:
                if not missing:
                    return
                self._say("The database has no outbox yet. Run: python manage.py migrate", _WARNING)
            time.sleep(LOOK_SECONDS)

    def _run(self) -> None:
        """One relay, from its start to its end."""
        node, main = find_program()
        variables = relay_environment.beside()
        is_talkative = "LOG_LEVEL" in variables or "LOG_LEVEL" in os.environ
        process = subprocess.Popen(
            [node, f"--import={_PRELOADED.as_uri()}", str(main)],
            # Its log is read here, whatever the terminal's user likes to read.
            env=relay_environment.process_environment({**variables, "LOG_FORMAT": "json"}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            # A Ctrl-C in the terminal is for Django, with which the relay ends.
            start_new_session=True,
        )
        assert process.stdin and process.stdout
        # A fork of this process is not to hold the pipe, and with it the relay, open.
        os.register_at_fork(after_in_child=process.stdin.close)
        try:
            for line in process.stdout:
                self._tell(line.rstrip("\n"), is_talkative)
        finally:
            self.address = None
            process.stdin.close()
            process.wait()
            self._tell_words()

    def _tell(self, line: str, is_talkative: bool) -> None:
        """A line of its log, or of what it says before it has one."""
        entry = _entry(line)
        if entry is None:
            self._words.append(line)
            return
        level, message = entry["level"], entry["msg"]
        if message == "listening":
            url = urlsplit(entry["url"])
            self.address = (url.hostname or "", url.port or 0)
            self._said = ""
            say(f"Live events are served at {_site()}{setting('URL')}")
        elif level >= _WARNING and not message.startswith(_OF_PRODUCTION):
            reason = entry.get("err", {}).get("message")
            self._say(f"{message}{f' ({reason})' if reason else ''}", level)
        elif is_talkative and level < _WARNING:
            say(message)

    def _tell_words(self) -> None:
        words, self._words = self._words, []
        if any(line.startswith("    at ") for line in words):
            # Nobody foresaw this: the whole of it helps whoever mends it.
            self._say("\n".join(words), _ERROR)
        elif words:
            self._say(" ".join(line.strip() for line in words), _ERROR)

    def _say(self, text: str, level: int) -> None:
        """The same is not said again and again while it is tried again and again."""
        if text != self._said:
            self._said = text
            say(text, level)


def say(text: str, level: int = 0) -> None:
    """In the terminal, beside the lines of `runserver`."""
    style = color_style()
    paint = style.ERROR if level >= _ERROR else style.WARNING if level >= _WARNING else str
    sys.stderr.write(f"{paint(f'[outbox-relay] {text}')}\n")
    sys.stderr.flush()


def _missing_migrations() -> list[str]:
    from outbox.models import Event

    connection = connections[router.db_for_write(Event)]
    if connection.vendor != "postgresql":
        # The settings say what is wrong.
        return []
    try:
        there = schema.applied(connection)
    finally:
        connection.close()
    return [name for name in schema.shipped() if name not in there]


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"level", "msg"} <= entry.keys() else None


def _site() -> str:
    """Where `runserver` serves, by its arguments."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("addrport", nargs="?", default="")
    parser.add_argument("-6", "--ipv6", action="store_true")
    for option in (("-v", "--verbosity"), ("--settings",), ("--pythonpath",)):
        parser.add_argument(*option)
    given, _ = parser.parse_known_args(sys.argv[2:])
    host, _, port = given.addrport.rpartition(":")
    if host in ("", "0", "0.0.0.0", "[::]"):
        host = "[::1]" if given.ipv6 or host == "[::]" else "127.0.0.1"
    return f"http://{host}:{port if re.fullmatch(r'[0-9]+', port) else 8000}"
