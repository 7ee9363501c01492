"""What works, and is dangerous in production: `manage.py check --deploy`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from outbox.checks.values import Apps, Check, check_outbox
from outbox.conf import setting

# Shorter: each page renews all the time. Longer: so long may a stream last after its user has logged out.
LEAST_SECONDS, MOST_SECONDS = 30, 3600


def check_deploy(app_configs: Apps, **_: Any) -> Check:
    """One warning for each."""
    # What does not work at all is told of by the checks of values.
    if check_outbox(None):
        return []
    return [
        checks.Warning(text, hint=hint, id=f"outbox.{number}")
        for find in (_cookie, _access, _seconds, _address)
        for number, text, hint in find()
    ]


def _cookie() -> Iterator[tuple[str, str, str]]:
    own, session = setting("COOKIE_SECURE"), settings.SESSION_COOKIE_SECURE
    if own is False and session:
        yield (
            "W010",
            'OUTBOX["COOKIE_SECURE"] is False, although SESSION_COOKIE_SECURE is True: tokens go over the network in the clear.',
            "Leave it out: it is then as SESSION_COOKIE_SECURE is.",
        )
    same_site = str(setting("COOKIE_SAMESITE")).lower() if setting("COOKIE_SAMESITE") else ""
    if same_site == "none" and not (session if own is None else own):
        yield (
            "W011",
            'OUTBOX["COOKIE_SAMESITE"] is "None" for a cookie that is not secure, which browsers do not keep.',
            'Set COOKIE_SECURE, too; or leave it at "Lax", which a relay on a sub-domain does not mind.',
        )


def _access() -> Iterator[tuple[str, str, str]]:
    if "*" in setting("PUBLIC_CHANNELS"):
        yield (
            "W012",
            'OUTBOX["PUBLIC_CHANNELS"] has "*": everybody may read every channel, those of users included.',
            'Name the channels that are for all, as in ["news", "status:*"].',
        )
    own = setting("SECRET")
    if own and (own.decode(errors="replace") if isinstance(own, bytes) else own) == settings.SECRET_KEY:
        yield (
            "W013",
            'OUTBOX["SECRET"] is SECRET_KEY: whoever can read the relay\'s environment can forge sessions.',
            "Leave it out: one is derived from SECRET_KEY, from which nothing can be told of it.",
        )


def _seconds() -> Iterator[tuple[str, str, str]]:
    seconds = setting("TOKEN_SECONDS")
    if seconds < LEAST_SECONDS:
        yield (
            "W014",
            f'OUTBOX["TOKEN_SECONDS"] is {seconds}: each open page asks for a new token every {seconds / 2:g} seconds.',
            "300 is the default.",
        )
    if seconds > MOST_SECONDS:
        yield (
            "W015",
            f'OUTBOX["TOKEN_SECONDS"] is {seconds}: for so long may a stream last after its user has logged out.',
            "300 is the default; pages that stay open renew theirs with {% outbox_script %}.",
        )


def _address() -> Iterator[tuple[str, str, str]]:
    address = urlsplit(setting("URL"))
    if not address.netloc:
        return
    if not setting("ALLOWED_ORIGINS"):
        yield (
            "W016",
            f'OUTBOX["URL"] is on {address.netloc}, and no origin is allowed to read from there: browsers refuse its answers.',
            'Name this site in ALLOWED_ORIGINS, as in ["https://www.example.com"]; or pass /events of this site on to the relay.',
        )
    if address.scheme == "http":
        yield (
            "W017",
            f'OUTBOX["URL"] is {setting("URL")}, whose events and tokens go over the network in the clear.',
            "Use https, or a path of this site, as in /events.",
        )
    elif not setting("COOKIE_DOMAIN"):
        yield (
            "W018",
            f"OUTBOX[\"URL\"] is on {address.netloc}, and browsers send the token's cookie to this site's host alone.",
            'Set COOKIE_DOMAIN to the domain of both, as in "example.com"; ignore this where both have one host.',
        )
