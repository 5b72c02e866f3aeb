"""What a shell completes: names of assets, checks and declarations.

Reading declarations takes a second, and a shell asks at every TAB. So what they declare is kept below the home, and
read from there until a file of them changes.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import typer

from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.errors import PlatformError
from ml_platform.kernel.settings import Settings, settings

Completer = Callable[[str], list[str]]


def assets(incomplete: str) -> list[str]:
    """Keys of assets that begin so."""
    return [key for key in _declared()["assets"] if key.startswith(incomplete)]


def checks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the checks of the asset that was given before."""
    declared = _declared()["assets"]
    words = [ctx.params.get("asset"), *ctx.args]  # words before an option without a value are given up
    found = next((declared[word] for word in words if word in declared), [])
    return [name for name in found if name.startswith(incomplete)]


def names_of(kind: str) -> Completer:
    """Completes names of declarations of a kind, such as `Source`."""

    def names(incomplete: str) -> list[str]:
        return [name for name in _declared()["names"].get(kind, []) if name.startswith(incomplete)]

    return names


def _declared() -> dict[str, Any]:
    """Checks by asset and names by kind; nothing where declarations are wrong, which commands say better."""
    try:
        here = settings()
        return _kept(here) or _read(here)
    except PlatformError:
        return {"assets": {}, "names": {}}


def _kept(here: Settings) -> dict[str, Any] | None:
    """What was kept, if it is of the declarations as they are."""
    path = here.root / "completion.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("of") == _fingerprint(here) else None


def _read(here: Settings) -> dict[str, Any]:
    """What is declared now, kept for the next time where the home can be written to."""
    from ml_platform import declarations

    of = _fingerprint(here)
    catalog = declarations.load()
    nodes = sorted(catalog.lineage.nodes.items())
    names: dict[str, list[str]] = {}
    for kind, name in sorted(catalog.specs, key=lambda key: (key[0].__name__, key[1])):
        names.setdefault(kind.__name__.removesuffix("Spec"), []).append(name)
    found = {
        "of": of,
        "assets": {key: [check.name for check in node.checks] for key, node in nodes},
        "names": names,
    }
    unfinished = here.root / f"completion.{uuid4().hex}.unfinished"
    try:
        here.root.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(found), encoding="utf-8")
        unfinished.replace(here.root / "completion.json")
    except OSError:
        unfinished.unlink(missing_ok=True)
    return found


def _fingerprint(here: Settings) -> str:
    """Changes with every file of the declarations."""
    return digest_of(sorted(_files(here)))


def _files(here: Settings) -> Iterator[list[Any]]:
    for path in here.declared_in.defs.rglob("*"):
        if path.suffix in (".yaml", ".sql"):
            found = path.stat()
            yield [str(path), found.st_mtime_ns, found.st_size]
