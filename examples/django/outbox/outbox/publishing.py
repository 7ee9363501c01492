"""Publishing: an INSERT into the outbox, which counts when, and only when, the transaction around it commits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from outbox.rules import check_channel, check_data, check_event

if TYPE_CHECKING:
    from outbox.models import Event


def publish(channel: str, data: Any = None, event: str = "message", *, using: str | None = None) -> Event:
    """Publish one event.

    `data` arrives as JSON (dicts, lists, numbers, dates and whatever else DjangoJSONEncoder knows); a string, such as HTML from
    `render_to_string`, as its text; None as `null`. `event` is the name that browsers listen for. `using` is the database
    of the transaction to be part of; by default the one that Django's routers name for `Event`.

    Returns the event, whose `id` is what browsers get as `lastEventId`. Raises ValueError for what the table refuses, before
    anything is sent.
    """
    from outbox.models import Event

    _check(channel, data, event)
    row = Event(channel=channel, event=event, data=data)
    row.save(force_insert=True, using=using)
    return row


def bulk_publish(
    events: Iterable[tuple[str, Any] | tuple[str, Any, str]],
    *,
    using: str | None = None,
    batch_size: int | None = None,
) -> list[Event]:
    """Publish many events, all or none, in the order given; each is `(channel, data)` or `(channel, data, event)`.

    Returns the events, with their ids. Raises ValueError as `publish` does, before any of them is sent.
    """
    from outbox.models import Event

    rows = [Event(**dict(zip(("channel", "data", "event"), each, strict=False))) for each in events]
    for row in rows:
        _check(row.channel, row.data, row.event)
    return Event.objects.using(using).bulk_create(rows, batch_size=batch_size)


def _check(channel: str, data: Any, event: str) -> None:
    """Ahead of `save`, within which an error of any kind is the end of the transaction."""
    check_channel(channel)
    check_event(event)
    check_data(data)
