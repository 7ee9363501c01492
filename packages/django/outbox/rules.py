"""Rules: what the table refuses, told before the INSERT.

An error from PostgreSQL breaks the transaction that it happens in; a ValueError from here does not. Each message names the
rule as the table's constraint does.
"""

from __future__ import annotations

import re
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

LONGEST_NAME = 255
# As the table has it, and NUL, which PostgreSQL has in no text at all.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# An escaped NUL, but not a backslash that was escaped and "u0000" after it.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Encoder(DjangoJSONEncoder):
    """JSON as Django writes it, without what PostgreSQL's `jsonb` does not take."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_nan": False})

    def encode(self, o: Any) -> str:
        text = super().encode(o)
        if _NUL.search(text):
            raise ValueError("data: PostgreSQL stores no NUL character (\\u0000), in no text of a JSON value")
        return text


def check_channel(channel: str) -> None:
    """Raises ValueError, with the rule's name, for a channel that the table would refuse."""
    _check_name("channel", channel)
    if "*" in channel:
        raise ValueError(
            f"channel {channel!r}: has a '*', by which subscribers name all channels with a prefix "
            "(outbox_channel_no_asterisk)"
        )


def check_event(event: str) -> None:
    """Raises ValueError, with the rule's name, for an event's name that the table would refuse."""
    _check_name("event", event)
    if event.startswith("stream-"):
        raise ValueError(
            f"event {event!r}: names that start with 'stream-' are the relay's own "
            "(outbox_event_prefix_stream_is_reserved)"
        )
    if event in ("error", "open"):
        raise ValueError(
            f"event {event!r}: browsers' EventSource has that name for itself (outbox_event_error_and_open_are_reserved)"
        )


def check_data(data: Any) -> None:
    """Raises ValueError for what `jsonb` does not take, TypeError for what JSON does not know."""
    Encoder().encode(data)


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str):
        raise ValueError(f"{what} {name!r}: is a {type(name).__name__}, not a string")
    if not 1 <= len(name) <= LONGEST_NAME:
        raise ValueError(
            f"{what} {name[:40]!r}: has {len(name)} characters, not 1 to {LONGEST_NAME} "
            f"(outbox_{what}_length_1_to_{LONGEST_NAME})"
        )
    if _CONTROL.search(name):
        raise ValueError(f"{what} {name!r}: has control characters (outbox_{what}_no_control_characters)")
