"""Tokens: what lets a browser read a user's channels, in a cookie that scripts cannot see.

A token cannot be called back. Whoever is logged out gets no new one, and a stream that is open ends with the token that
it was opened with: OUTBOX["TOKEN_SECONDS"] is how long that may take.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import jwt
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.module_loading import import_string

from outbox.conf import secret, setting


def own_channel(user: Any) -> list[str]:
    """The default of OUTBOX["CHANNELS_FOR"]: `user:` and the user's primary key."""
    return [f"user:{user.pk}"]


def channels_for(user: Any) -> list[str]:
    """What the user may read beside the public channels, as OUTBOX["CHANNELS_FOR"] says. Nothing, if nobody is logged in.

    Raises TypeError for an answer that is one string, whose letters are nobody's channels.
    """
    if not user.is_authenticated:
        return []
    function = setting("CHANNELS_FOR")
    if isinstance(function, str):
        function = import_string(function)
    found = function(user)
    if isinstance(found, str):
        raise TypeError(f'OUTBOX["CHANNELS_FOR"] returned {found!r}: return a list, as in [{found!r}].')
    return list(found)


def token_for(user: Any, channels: Iterable[str] | None = None, *, seconds: float | None = None) -> str:
    """A signed token with which to read `channels`, by default all that the user may read.

    `channels` may have prefixes such as `org:7:*`. It is good for `seconds`, by default OUTBOX["TOKEN_SECONDS"].
    """
    claims = {
        "sub": str(user.pk),
        "channels": sorted(channels_for(user) if channels is None else channels),
        "exp": int(time.time() + (setting("TOKEN_SECONDS") if seconds is None else seconds)),
    }
    return jwt.encode(claims, secret(), algorithm="HS256")


def set_token_cookie(response: HttpResponseBase, user: Any) -> None:
    """Give the browser a new token of the user's. The middleware does that by itself; a log-in of your own may want to."""
    response.set_cookie(
        setting("COOKIE_NAME"),
        token_for(user),
        max_age=int(setting("TOKEN_SECONDS")),
        httponly=True,
        secure=_secure(),
        samesite=setting("COOKIE_SAMESITE"),
        path=setting("COOKIE_PATH"),
        domain=setting("COOKIE_DOMAIN"),
    )


def delete_token_cookie(response: HttpResponseBase) -> None:
    """Take the token away: what is open lasts until its token ends, and nothing new is opened."""
    response.delete_cookie(
        setting("COOKIE_NAME"),
        path=setting("COOKIE_PATH"),
        domain=setting("COOKIE_DOMAIN"),
        samesite=setting("COOKIE_SAMESITE"),
    )


def needs_new_token(request: HttpRequest, user: Any) -> bool:
    """Whether the request's token is not this user's, is not for what they may read now, or has lived half of its time."""
    try:
        claims = jwt.decode(
            request.COOKIES.get(setting("COOKIE_NAME"), ""),
            secret(),
            algorithms=["HS256"],
            # Only what we write ourselves; an audience, say, would be another issuer's affair.
            options={"require": ["exp", "sub"], "verify_aud": False},
        )
    except jwt.InvalidTokenError:
        return True
    return bool(
        claims["sub"] != str(user.pk)
        or claims.get("channels") != sorted(channels_for(user))
        or claims["exp"] < time.time() + setting("TOKEN_SECONDS") / 2
    )


def _secure() -> bool:
    secure = setting("COOKIE_SECURE")
    return settings.SESSION_COOKIE_SECURE if secure is None else secure
