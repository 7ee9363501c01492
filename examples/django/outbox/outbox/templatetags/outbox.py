"""`{% load outbox %}`: addresses of streams that start where the page was rendered."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django import template
from django.template import Context
from django.utils.safestring import SafeString, mark_safe

from outbox.conf import setting
from outbox.cursor import current_cursor
from outbox.tokens import channels_for

register = template.Library()


@register.simple_tag
def outbox_cursor(using: str | None = None) -> str:
    """The id at which this page's stream starts: `?last_event_id={% outbox_cursor %}`. See `outbox.cursor`."""
    return current_cursor(using)


@register.simple_tag(takes_context=True)
def outbox_url(context: Context, *channels: str, using: str | None = None) -> SafeString:
    """The address of a stream of these channels, or of all that the user may read, from this page's moment on.

    Good in scripts and in attributes alike: all but the `&` is percent-encoded, and a bare `&` before `channel=` or
    `last_event_id=` is what it looks like in both.
    """
    names: list[Any] = list(channels) or channels_for(context["user"])
    query = [f"channel={quote(str(name), safe='')}" for name in names]
    return mark_safe(f"{setting('OUTBOX_URL')}?{'&'.join([*query, f'last_event_id={current_cursor(using)}'])}")
