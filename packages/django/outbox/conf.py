"""Settings: one dict, `OUTBOX`, of which every key has a default::

    OUTBOX = {"CHANNELS_FOR": "shop.channels.channels_for", "TOKEN_SECONDS": 60}

They are read when they are used, so that `override_settings(OUTBOX={…})` works in tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac

DEFAULTS: dict[str, Any] = {
    # Signs tokens (HS256), as the relay's JWT_SECRET. At least 16 bytes, better 32 or more. None: one derived from SECRET_KEY.
    "SECRET": None,
    # What a user who is logged in may read: a callable, or its dotted path, that is given the user and returns names of
    # channels, prefixes such as "org:7:*" among them.
    "CHANNELS_FOR": "outbox.tokens.own_channel",
    # What everybody may read, logged in or not: names and prefixes, as the relay's PUBLIC_CHANNELS.
    "PUBLIC_CHANNELS": (),
    # How long a token is good. A stream that is open when the user logs out lasts until then at most.
    "TOKEN_SECONDS": 300,
    # Where the middleware renews the token of a page that stays open.
    "TOKEN_URL": "/outbox/token",
    # The relay's AUTH_COOKIE.
    "COOKIE_NAME": "outbox_token",
    # "/", so that the middleware sees the cookie and knows when to renew it.
    "COOKIE_PATH": "/",
    "COOKIE_DOMAIN": None,
    # None: as SESSION_COOKIE_SECURE is.
    "COOKIE_SECURE": None,
    "COOKIE_SAMESITE": "Lax",
    # Where browsers reach the relay's streams: a path of this site, or an address on another host or port.
    "URL": "/events",
    # Origins of pages on other hosts that may open streams. Pages of the relay's own host always may.
    "ALLOWED_ORIGINS": (),
    # Whether `runserver` under DEBUG has a relay beside it, and passes URL on to it.
    "RUNSERVER": True,
    # Whether an event carries the span that it is published within, where OpenTelemetry has one that is recorded.
    "TRACING": True,
    # Any other variable of the relay: {"PORT": 9000, "LOG_LEVEL": "debug", "DATABASE_URL": "postgres://…"}.
    "RELAY": {},
}


NO_DICT = 'OUTBOX is a dict, as in OUTBOX = {{"TOKEN_SECONDS": 60}}, and not {!r}.'


def setting(name: str) -> Any:
    """The value of a key of OUTBOX, or its default.

    Raises KeyError for a name that is not one of ours, ImproperlyConfigured where OUTBOX is no dict.
    """
    own = getattr(settings, "OUTBOX", {})
    if not isinstance(own, Mapping):
        raise ImproperlyConfigured(NO_DICT.format(own))
    return own.get(name, DEFAULTS[name])


def secret() -> str:
    """What tokens are signed with, and the relay's JWT_SECRET: OUTBOX["SECRET"], or 64 hexadecimal digits from SECRET_KEY.

    Whoever knows it knows nothing of SECRET_KEY.
    """
    given = setting("SECRET")
    return given or salted_hmac("outbox.conf.secret", "relay", algorithm="sha256").hexdigest()
