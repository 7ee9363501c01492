"""For code that was written for the NOTIFY relay, the package `sse-relay-server`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from outbox.asynchronous import sync_only
from outbox.publishing import publish

if TYPE_CHECKING:
    from outbox.models import Event

_KEYS = ("data", "event", "id", "retry", "comment", "sep")


def notify(channel: str, sse_payload: Mapping[str, Any], *, using: str | None = None) -> Event | None:
    """Publish what `sse_relay_server.notify` sent, within the transaction, as that does not::

        notify("orders", {"event": "status", "data": json.dumps({"order": 7})})

    Of the envelope, `data` and `event` are used: text arrives as it is, anything else as JSON, and without `event` the name is
    `message`. An envelope without `data` is not published, and None returned: no browser fires an event for it. `id` is left out:
    the database gives each event its own, by which browsers resume. So are `retry`, which the relay's RETRY_SECONDS says
    for all, `comment`, since heartbeats are the relay's own, and `sep`.

    NOTIFY folds the names of channels to lower case, so that `Orders` and `orders` were one. The outbox takes them as written:
    write a channel alike wherever it is named.

    Returns the event. Raises ValueError for keys that are no envelope's, and as `publish` does.
    """
    sync_only("notify()", "Write `await apublish(channel, data, event)`.")
    if unknown := sorted(set(sse_payload) - {*_KEYS}):
        raise ValueError(f"notify: an envelope has {', '.join(_KEYS[:-1])}, and no {', '.join(map(repr, unknown))}")
    data = sse_payload.get("data")
    if data is None:
        return None
    event = sse_payload.get("event")
    return publish(channel, data, event="message" if event is None else event, using=using)
