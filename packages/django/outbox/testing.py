"""For tests of code that publishes.

A `TestCase` never commits, so its events have no position and reach no relay; they are there to be looked at all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import connections, router

from outbox.asynchronous import sync_only
from outbox.schema import needs_outbox

if TYPE_CHECKING:
    from outbox.models import Event


class captured_events:
    """The events that the block publishes, in a list that is filled when it ends; `async with` in async tests::

        with captured_events() as events:
            order.pack()
        self.assertEqual([event.event for event in events], ["status"])

    The table is not Django's to flush, so after a `TransactionTestCase` its events are still there: compare what is
    captured, and do not count rows.
    """

    def __init__(self, using: str | None = None) -> None:
        self._using = using

    def __enter__(self) -> list[Event]:
        from outbox.models import Event

        sync_only("captured_events()", "Write `async with captured_events() as events:`.")
        self._alias = self._using or router.db_for_write(Event)
        self._events: list[Event] = []
        with needs_outbox(self._alias), connections[self._alias].cursor() as cursor:
            # Of the sequence, not of the rows: a rollback gives no id back.
            cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_id_seq")
            self._before = cursor.fetchone()[0]
        return self._events

    def __exit__(self, failed: type[BaseException] | None, *_: Any) -> None:
        from outbox.models import Event

        if failed is None:
            self._events += Event.objects.using(self._alias).filter(pk__gt=self._before).order_by("pk")

    async def __aenter__(self) -> list[Event]:
        return await sync_to_async(self.__enter__)()

    async def __aexit__(self, *exception: Any) -> None:
        await sync_to_async(self.__exit__)(*exception)
