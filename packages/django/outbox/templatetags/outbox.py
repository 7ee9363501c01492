"""`{% load outbox %}`: addresses of streams that start where the page was rendered."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.template import Context
from django.templatetags.static import static
from django.utils.html import format_html
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
def outbox_url(context: Context, *channels: Any, using: str | None = None) -> SafeString:
    """The address of a stream of these channels, or of all that the user may read, from this page's moment on.

    Of who is not logged in, that is the public channels; where there are none it is empty, and no stream is to be opened::

        {% outbox_url as url %}{% if url %}<div hx-ext="sse" sse-connect="{{ url }}">…</div>{% endif %}

    Good in scripts and in attributes alike: all but the `&` is percent-encoded, and a bare `&` before `channel=` or
    `last_event_id=` is what it looks like in both. Raises ImproperlyConfigured where the context has no user to ask about,
    ValueError for a channel without a name, as of a variable that is not there.
    """
    names = [str(name) for name in channels] or [
        *setting("PUBLIC_CHANNELS"),
        *channels_for(_user(context, "outbox_url")),
    ]
    if not all(names):
        raise ValueError(
            "{% outbox_url %} was given a channel without a name: a variable is not in the context, or empty."
        )
    if not names:
        return SafeString()
    query = [f"channel={quote(name, safe='')}" for name in names]
    return mark_safe(f"{setting('URL')}?{'&'.join([*query, f'last_event_id={current_cursor(using)}'])}")


@register.simple_tag(takes_context=True)
def outbox_script(context: Context) -> SafeString:
    """The script that keeps the token of an open page good. Nothing for who is not logged in, and has none."""
    if not _user(context, "outbox_script").is_authenticated:
        return SafeString()
    return format_html(
        '<script src="{}" data-token-url="{}" defer></script>', static("outbox/renew.js"), setting("TOKEN_URL")
    )


def _user(context: Context, tag: str) -> Any:
    """`user`, as the context processor of django.contrib.auth has it, or the request's."""
    user = context.get("user") or getattr(context.get("request"), "user", None)
    if user is None:
        raise ImproperlyConfigured(
            f"{{% {tag} %}} asks who the user is, and the template's context has neither `user` nor `request`: render it with "
            "the request, as in render(request, …) or render_to_string(…, request=request)"
            + ("; or name the channels." if tag == "outbox_url" else ".")
        )
    return user
