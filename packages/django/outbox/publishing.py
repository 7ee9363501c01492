"""Publishing: an INSERT into the outbox, which counts when, and only when, the transaction around it commits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import router

from outbox.asynchronous import sync_only
from outbox.rules import check_channel, check_data, check_event
from outbox.schema import needs_outbox

if TYPE_CHECKING:
    from outbox.models import Event

ToPublish = tuple[str, Any] | tuple[str, Any, str]


def publish(channel: str, data: Any = None, event: str = "message", *, using: str | None = None) -> Event:
    """Publish one event.

    `data` arrives as JSON (dicts, lists, numbers, dates and whatever else DjangoJSONEncoder knows); a string, such as HTML from
    `render_to_string`, as its text; None as `null`. `event` is the name that browsers listen for. `using` is the database
    of the transaction to be part of; by default the one that Django's routers name for `Event`.

    Returns the event, whose `id` is what browsers get as `lastEventId`. Raises ValueError for what the table refuses, before
    anything is sent.
    """
    from outbox.models import Event

    sync_only("publish()", "Write `await apublish(…)`.")
    _check(channel, data, event)
    row = Event(channel=channel, event=event, data=data)
    with needs_outbox(using := using or router.db_for_write(Event)):
        row.save(force_insert=True, using=using)
    return row


def bulk_publish(
    events: Iterable[ToPublish], *, using: str | None = None, batch_size: int | None = None
) -> list[Event]:
    """Publish many events, all or none, in the order given; each is `(channel, data)` or `(channel, data, event)`.

    Returns the events, with their ids. Raises ValueError as `publish` does, before any of them is sent.
    """
    from outbox.models import Event

    sync_only("bulk_publish()", "Write `await abulk_publish(…)`.")
    rows = [Event(**dict(zip(("channel", "data", "event"), each, strict=False))) for each in events]
    for row in rows:
        _check(row.channel, row.data, row.event)
    with needs_outbox(using := using or router.db_for_write(Event)):
        return Event.objects.using(using).bulk_create(rows, batch_size=batch_size)


async def apublish(channel: str, data: Any = None, event: str = "message", *, using: str | None = None) -> Event:
    """`publish` for async code, where each call is a transaction of its own: Django has none that an async function can hold.

    To publish together with what is written, have both in a function under `transaction.atomic`, and call that by
    `sync_to_async`.
    """
    return await sync_to_async(publish)(channel, data, event, using=using)


async def abulk_publish(
    events: Iterable[ToPublish], *, using: str | None = None, batch_size: int | None = None
) -> list[Event]:
    """`bulk_publish` for async code: all or none, in a transaction of its own."""
    return await sync_to_async(bulk_publish)(events, using=using, batch_size=batch_size)


def _check(channel: str, data: Any, event: str) -> None:
    """Ahead of `save`, within which an error of any kind is the end of the transaction."""
    check_channel(channel)
    check_event(event)
    check_data(data)
