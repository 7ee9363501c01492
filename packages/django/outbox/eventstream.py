"""For code that was written for django-eventstream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from asgiref.sync import sync_to_async

from outbox.asynchronous import sync_only
from outbox.publishing import publish
from outbox.rules import Encoder


def send_event(
    channel: str,
    event_type: str,
    data: Any,
    skip_user_ids: Iterable[Any] | None = None,
    async_publish: bool = True,
    json_encode: bool = True,
) -> None:
    """Publish as django-eventstream's `send_event` does, and within the transaction, as it does not.

    Its clients parse what arrives as JSON, so a string is sent in its quotes; with `json_encode=False` as its text.
    `async_publish` changes nothing: an INSERT waits for nobody. Raises ValueError for `skip_user_ids`, since a channel's events
    go to all who may read it: publish to the channels of those who are meant.
    """
    sync_only("send_event()", "Write `await asend_event(…)`.")
    if skip_user_ids:
        raise ValueError(
            "send_event: skip_user_ids has no counterpart, as a channel's events go to all who may read it. Publish to the "
            "channels of those who are meant, such as user:7."
        )
    if json_encode and isinstance(data, str):
        data = json.dumps(data, cls=Encoder)
    publish(channel, data, event=event_type)


async def asend_event(
    channel: str,
    event_type: str,
    data: Any,
    skip_user_ids: Iterable[Any] | None = None,
    async_publish: bool = True,
    json_encode: bool = True,
) -> None:
    """`send_event` for async code, which django-eventstream's users have: a transaction of its own, as `apublish` is."""
    await sync_to_async(send_event)(channel, event_type, data, skip_user_ids, async_publish, json_encode)
