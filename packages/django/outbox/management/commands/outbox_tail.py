"""`manage.py outbox_tail`: events as they commit."""

from __future__ import annotations

import json
import re
import select
import time
import unicodedata
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connections, router
from django.db.backends.postgresql.psycopg_any import is_psycopg3
from django.db.models import Q
from django.utils.dateparse import parse_datetime

from outbox.models import Event

# As many rows as are read at a time.
PAGE = 500
# A notification that was lost costs so long, as in the relay.
SWEEP_SECONDS = 5.0
# Until an event is looked at again that a commit under way may yet come before.
UNSETTLED_SECONDS = 0.02
# Between attempts to reach a database that is away.
PAUSE_SECONDS = 1.0
_SPAN = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Control characters, invisible formatting, separators of lines and halves of characters; what joins letters and emoji may stay.
_UNSAFE = {"Cc", "Cf", "Zl", "Zp", "Cs"}
_JOINERS = "\u200c\u200d"


class Command(BaseCommand):
    help = "Print events as they commit, in the order in which they are delivered. Ctrl-C ends it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--channel", action="append", default=[], help="only this channel, or prefix as in 'user:*'; repeatable"
        )
        start = parser.add_mutually_exclusive_group()
        start.add_argument("--from", dest="start", metavar="ID", help="what follows this event, or 'earliest'")
        start.add_argument("--since", help="what was created since: ISO 8601, or a span as in 90s, 15m, 2h, 7d")
        parser.add_argument("--no-follow", action="store_true", help="end when all that is there is printed")
        parser.add_argument("--json", action="store_true", help="a JSON object per line")
        parser.add_argument("--database", help="default: the one that routers name for events")

    def handle(self, *args: Any, **options: Any) -> None:
        self.database = options["database"] or router.db_for_write(Event)
        self.wanted = _filter(options["channel"])
        position = self._start(options["start"], options["since"])
        show = _as_json if options["json"] else _as_line
        try:
            for event in self._events(position, follow=not options["no_follow"]):
                self.stdout.write(show(event))
                # Through a pipe each line is to arrive when it is new.
                self.stdout.flush()
        except (KeyboardInterrupt, BrokenPipeError):
            pass

    def _events(self, position: int, *, follow: bool) -> Iterator[Event]:
        """All that follows the position. Reads first and waits then, so nothing is missed in between."""
        while True:
            try:
                notified = self._listen() if follow else None
                while True:
                    yield from (found := self._page(position))
                    if found:
                        position = _position(found[-1])
                    elif notified is None:
                        return
                    elif self._is_unsettled(position):
                        time.sleep(UNSETTLED_SECONDS)
                    else:
                        notified()
            except OperationalError as error:
                if not follow:
                    raise
                self.stderr.write(f"The database is away: {str(error).strip()}")
                connections[self.database].close()
                time.sleep(PAUSE_SECONDS)

    def _listen(self) -> Any:
        """LISTENs, and returns what waits for a notification, or for the sweep."""
        connection = connections[self.database]
        with connection.cursor() as cursor:
            cursor.execute("LISTEN outbox")

        def notified() -> None:
            # Errors of the driver's own, which Django wraps only where it calls it.
            with connection.wrap_database_errors:
                _await_notification(connection.connection)

        return notified

    def _page(self, position: int) -> list[Event]:
        """What is settled: among what is above, a commit under way may yet publish."""
        # A statement of its own, so that the next sees all of it.
        through = self._head()
        events = Event.objects.using(self.database).filter(self.wanted, position__gt=position, position__lte=through)
        return list(events.order_by("position")[:PAGE])

    def _is_unsettled(self, position: int) -> bool:
        return Event.objects.using(self.database).filter(self.wanted, position__gt=position).exists()

    def _start(self, cursor: str | None, since: str | None) -> int:
        """The position to start after."""
        events = Event.objects.using(self.database).filter(position__isnull=False)
        if since is not None:
            moment = _moment(since)
            first = events.filter(created_at__gte=moment).order_by("position").first()
            return _position(first) - 1 if first else self._head()
        if cursor is None:
            return self._head()
        if cursor == "earliest":
            return 0
        if not cursor.isdigit():
            raise CommandError(f"--from is the id of an event, or 'earliest', not {cursor!r}.")
        event = events.filter(pk=int(cursor)).first()
        if event is None:
            raise CommandError(f"There is no event {cursor}. What is there begins with --from earliest.")
        return _position(event)

    def _head(self) -> int:
        with connections[self.database].cursor() as cursor:
            cursor.execute("SELECT through FROM outbox_settled()")
            return int(cursor.fetchone()[0])


def _await_notification(connection: Any) -> None:
    """Of the driver's connection: waits for one, or for the sweep."""
    if is_psycopg3:
        for _ in connection.notifies(timeout=SWEEP_SECONDS, stop_after=1):
            pass
        return
    if not connection.notifies:
        select.select([connection], [], [], SWEEP_SECONDS)
    connection.poll()
    connection.notifies.clear()


def _position(event: Event) -> int:
    """Of one that has committed, as all that are read here have."""
    return cast(int, event.position)


def _filter(channels: list[str]) -> Q:
    wanted = Q()
    for channel in channels:
        if channel == "*":
            return Q()
        if channel.endswith(":*"):
            wanted |= Q(channel__startswith=channel[:-1])
        else:
            wanted |= Q(channel=channel)
    return wanted


def _moment(text: str) -> datetime:
    if span := _SPAN.fullmatch(text):
        return datetime.now(timezone.utc) - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise CommandError(f"--since is a time as in 2026-01-31T12:00Z, or a span as in 15m, not {text!r}.")
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _as_line(event: Event) -> str:
    # One event, one line.
    data = (
        event.data.replace("\\", "\\\\") if isinstance(event.data, str) else json.dumps(event.data, ensure_ascii=False)
    )
    return _harmless(
        f"{event.position}  {event.created_at:%Y-%m-%d %H:%M:%S}  {event.pk}  {event.channel}  {event.event}  {data}"
    )


def _as_json(event: Event) -> str:
    return _harmless(
        json.dumps(
            {
                "position": event.position,
                "id": event.pk,
                "channel": event.channel,
                "event": event.event,
                "data": event.data,
                "created_at": event.created_at.isoformat(),
            },
            ensure_ascii=False,
        )
    )


def _harmless(text: str) -> str:
    """Nothing in it moves a terminal's cursor, changes its title or turns its text. JSON means the same."""
    return "".join(character if _is_plain(character) else json.dumps(character)[1:-1] for character in text)


def _is_plain(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _UNSAFE
