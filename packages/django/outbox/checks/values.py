"""What is wrong with OUTBOX by itself: keys that there are none of, and values that do not work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from outbox.conf import DEFAULTS, NO_DICT, setting

# As the relay has it: fewer are refused, and a hash's worth is advised.
LEAST_BYTES, GOOD_BYTES = 16, 32
RELAY_VARIABLES: list[str] = json.loads(
    (Path(__file__).parents[1] / "relay_variables.json").read_text(encoding="utf-8")
)
# What is told to Django and to the relay by one key. Told to the relay alone, Django would go by another.
TOLD_TO_BOTH = {
    "JWT_SECRET": "SECRET",
    "AUTH_COOKIE": "COOKIE_NAME",
    "PUBLIC_CHANNELS": "PUBLIC_CHANNELS",
    "ALLOWED_ORIGINS": "ALLOWED_ORIGINS",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ORIGIN = re.compile(r"[a-z][a-z\d+.-]*://[^/?#\\@\s*]+/?", re.IGNORECASE)

Check = list[checks.CheckMessage]
Apps = Sequence[AppConfig] | None


def is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


def is_channel(name: Any) -> bool:
    """Of a channel, or of all that begin so, as in `org:7:*`; `*` is all."""
    if not isinstance(name, str) or not 1 <= len(name) <= 255 or _CONTROL.search(name) or "," in name:
        return False
    return name == "*" or "*" not in name.removesuffix(":*")


def is_path(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"/[^\s?#;]*", value) is not None


def _are_origins(value: Any) -> bool:
    return is_list(value) and (
        list(value) == ["*"] or all(isinstance(item, str) and _ORIGIN.fullmatch(item) for item in value)
    )


# What a key's value has to be, in words that follow that.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "SECRET": (lambda value: value is None or isinstance(value, (str, bytes)), "a string, or None"),
    "CHANNELS_FOR": (lambda value: isinstance(value, str) or callable(value), "a function, or its dotted path"),
    "PUBLIC_CHANNELS": (
        lambda value: is_list(value) and all(map(is_channel, value)),
        'a list of channels and prefixes, as in ["news", "status:*"]',
    ),
    "TOKEN_SECONDS": (
        lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0,
        "a number of seconds, above 0",
    ),
    "TOKEN_URL": (is_path, "a path of this site, as in /outbox/token"),
    "COOKIE_NAME": (
        lambda value: isinstance(value, str) and re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", value) is not None,
        "the name of a cookie, as in outbox_token",
    ),
    "COOKIE_PATH": (is_path, "a path, as in /"),
    "COOKIE_DOMAIN": (
        lambda value: value is None or (isinstance(value, str) and re.fullmatch(r"[\w.-]+", value) is not None),
        "a domain, as in example.com, or None",
    ),
    "COOKIE_SECURE": (lambda value: value is None or isinstance(value, bool), "True, False or None"),
    "COOKIE_SAMESITE": (
        lambda value: value in (None, False) or str(value).lower() in ("lax", "strict", "none"),
        '"Lax", "Strict", "None" or False',
    ),
    "URL": (
        lambda value: is_path(value) or (isinstance(value, str) and _is_address(value)),
        "a path of this site, as in /events, or an address, as in https://live.example.com/events",
    ),
    "ALLOWED_ORIGINS": (_are_origins, 'a list of origins without paths, as in ["https://app.example.com"]'),
    "RUNSERVER": (lambda value: isinstance(value, bool), "True or False"),
    "TRACING": (lambda value: isinstance(value, bool), "True or False"),
    "RELAY": (lambda value: isinstance(value, Mapping), 'a dict of the relay\'s variables, as in {"PORT": 9000}'),
}


def _is_address(value: str) -> bool:
    return re.fullmatch(r"https?://[^/?#\\@\s]+(/[^\s?#]*)?", value) is not None


def works(key: str) -> bool:
    """Whether the key's value is of its kind, so that what asks for more can be asked."""
    return isinstance(getattr(settings, "OUTBOX", {}), Mapping) and KINDS[key][0](setting(key))


def check_outbox(app_configs: Apps, **_: Any) -> Check:
    """OUTBOX is a dict, of keys that there are, each with a value of its kind. Values are not printed where they are secret."""
    own = getattr(settings, "OUTBOX", {})
    if not isinstance(own, Mapping):
        return [checks.Error(NO_DICT.format(type(own).__name__), id="outbox.E007")]
    found: Check = []
    for key, value in own.items():
        if key not in DEFAULTS:
            found.append(_unknown(key))
        elif not KINDS[key][0](value):
            shown = f"a {type(value).__name__}" if key in ("SECRET", "RELAY") else repr(value)
            found.append(checks.Error(f'OUTBOX["{key}"] has to be {KINDS[key][1]}, and is {shown}.', id="outbox.E009"))
    return found


def _unknown(key: Any) -> checks.CheckMessage:
    if key in RELAY_VARIABLES and key not in TOLD_TO_BOTH:
        hint = f'It is the relay\'s: OUTBOX = {{"RELAY": {{"{key}": …}}}}.'
    else:
        hint = did_you_mean(str(key), DEFAULTS, TOLD_TO_BOTH)
    return checks.Error(f'OUTBOX["{key}"]: there is no such setting.', hint=hint, id="outbox.E008")


def did_you_mean(name: str, names: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """A hint that has the name that is likely meant, or all that there are. `others` are what else is called so, by its name."""
    others = others or {}
    likely = get_close_matches(name.upper(), [*names, *others], n=1, cutoff=0.7)
    if likely:
        return f"Did you mean {others.get(likely[0], likely[0])}?"
    return f"There are {', '.join(names)}."


def check_relay(app_configs: Apps, **_: Any) -> Check:
    """OUTBOX["RELAY"] has variables that the relay knows, each with a value that one can be made of."""
    if not works("RELAY"):
        return []
    found: Check = []
    for name, value in setting("RELAY").items():
        where = f'OUTBOX["RELAY"]["{name}"]'
        if name not in RELAY_VARIABLES:
            hint = did_you_mean(str(name), RELAY_VARIABLES)
            if hint.startswith("There are"):
                hint = "docs/configuration.md of outbox-relay has them all."
            found.append(checks.Error(f"{where}: the relay has no such variable.", hint=hint, id="outbox.E010"))
        elif not (value is None or isinstance(value, (str, bytes, int, float)) or is_list(value)):
            found.append(
                checks.Error(f"{where} is a {type(value).__name__}, and no string, number or list.", id="outbox.E010")
            )
        elif name in TOLD_TO_BOTH:
            found.append(
                checks.Warning(
                    f"{where} is told to the relay alone, and Django goes by something else.",
                    hint=f'Say OUTBOX["{TOLD_TO_BOTH[name]}"], which both are told.',
                    id="outbox.W005",
                )
            )
    return found


def check_old_names(app_configs: Apps, **_: Any) -> Check:
    """Settings of one name each, which nothing reads."""
    names = {f"OUTBOX_{key}": key for key in DEFAULTS} | {"OUTBOX_JWT_SECRET": "SECRET"}
    return [
        checks.Warning(
            f"Nothing reads the setting {old}.",
            hint=f'It is a key of OUTBOX now: OUTBOX = {{"{key}": …}}.',
            id="outbox.W004",
        )
        for old, key in names.items()
        if hasattr(settings, old)
    ]


def check_channels_for(app_configs: Apps, **_: Any) -> Check:
    """OUTBOX["CHANNELS_FOR"] leads to a function."""
    if not works("CHANNELS_FOR"):
        return []
    function = setting("CHANNELS_FOR")
    try:
        found = import_string(function) if isinstance(function, str) else function
    except ImportError as error:
        reason = str(error)
    else:
        if callable(found):
            return []
        reason = "it is not callable"
    return [
        checks.Error(
            f'OUTBOX["CHANNELS_FOR"] = {function!r} is no function: {reason}.',
            hint="Name one that is given a user and returns the channels that they may read.",
            id="outbox.E005",
        )
    ]


def check_secret(app_configs: Apps, **_: Any) -> Check:
    """A secret of one's own is long enough for the relay; the one that is derived from SECRET_KEY is."""
    own = setting("SECRET") if works("SECRET") else None
    length = len(own.encode() if isinstance(own, str) else own or b"")
    if not own or length >= GOOD_BYTES:
        return []
    level = checks.Error if length < LEAST_BYTES else checks.Warning
    return [
        level(
            f'OUTBOX["SECRET"] has {length} bytes: the relay wants {LEAST_BYTES} at least, and {GOOD_BYTES} are better.',
            hint="Make one with `openssl rand -base64 48`, or leave it out: one is derived from SECRET_KEY.",
            id="outbox.E003" if length < LEAST_BYTES else "outbox.W001",
        )
    ]
