"""For tests of code that publishes.

A `TestCase` never commits, so its events have no position and reach no relay; they are there to be looked at all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import connections, router

if TYPE_CHECKING:
    from outbox.models import Event


@contextmanager
def captured_events(using: str | None = None) -> Iterator[list[Event]]:
    """The events that the block publishes, in a list that is filled when it ends::

        with captured_events() as events:
            order.pack()
        self.assertEqual([event.event for event in events], ["status"])

    The table is not Django's to flush, so after a `TransactionTestCase` its events are still there: compare what is
    captured, and do not count rows.
    """
    from outbox.models import Event

    alias = using or router.db_for_write(Event)
    with connections[alias].cursor() as cursor:
        # Of the sequence, not of the rows: a rollback gives no id back.
        cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_id_seq")
        before = cursor.fetchone()[0]
    events: list[Event] = []
    yield events
    events += Event.objects.using(alias).filter(pk__gt=before).order_by("pk")
