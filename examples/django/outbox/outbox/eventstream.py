"""For code that was written for django-eventstream."""

from __future__ import annotations

import json
from typing import Any

from outbox.publishing import publish
from outbox.rules import Encoder


def send_event(channel: str, event_type: str, data: Any, json_encode: bool = True) -> None:
    """Publish as django-eventstream's `send_event` does, and within the transaction, as it does not.

    Its clients parse what arrives as JSON, so a string is sent in its quotes; with `json_encode=False` as its text.
    """
    if json_encode and isinstance(data, str):
        data = json.dumps(data, cls=Encoder)
    publish(channel, data, event=event_type)
