"""Settings: every OUTBOX_* that there is, with its default.

They are read when they are used, so that `override_settings` works in tests.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

DEFAULTS: dict[str, Any] = {
    # The relay's JWT_SECRET: tokens are signed with it (HS256). At least 16 bytes, better 32 or more.
    "OUTBOX_JWT_SECRET": None,
    # What a user may read: a callable, or its dotted path, that is given the user and returns names of channels.
    "OUTBOX_CHANNELS_FOR": "outbox.tokens.own_channel",
    # How long a token is good. A stream that is open when the user logs out lasts until then at most.
    "OUTBOX_TOKEN_SECONDS": 300,
    # The relay's AUTH_COOKIE.
    "OUTBOX_COOKIE_NAME": "outbox_token",
    # "/", so that the middleware sees the cookie and knows when to renew it.
    "OUTBOX_COOKIE_PATH": "/",
    "OUTBOX_COOKIE_DOMAIN": None,
    # None: as SESSION_COOKIE_SECURE is.
    "OUTBOX_COOKIE_SECURE": None,
    "OUTBOX_COOKIE_SAMESITE": "Lax",
    # Where browsers reach the relay's streams: a path of this site, or an address on another host or port.
    "OUTBOX_URL": "/events",
}


def setting(name: str) -> Any:
    """The value of a setting, or its default.

    Raises KeyError for a name that is not one of ours.
    """
    return getattr(settings, name, DEFAULTS[name])
