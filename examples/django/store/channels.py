"""Channels: who may read what."""

from __future__ import annotations

from typing import Any

# Every move of every order, for the dashboard.
DASHBOARD = "dashboard"


def user_channel(user_id: int) -> str:
    """What concerns one user, as JSON."""
    return f"user:{user_id}"


def html_channel(user_id: int) -> str:
    """The same as HTML, ready to be put into a page by htmx."""
    return f"html:{user_id}"


def channels_for(user: Any) -> list[str]:
    """OUTBOX["CHANNELS_FOR"]: a user's own channels, and the dashboard for staff."""
    own = [user_channel(user.pk), html_channel(user.pk)]
    return [*own, DASHBOARD] if user.is_staff else own
