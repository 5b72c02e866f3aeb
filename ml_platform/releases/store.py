"""The promotion ledger and the champion alias: who moved the champion, when, why and on what evidence.

The ledger is written first, then the alias moves, then the move is told where people look, and last the version is
tagged with the ledger's entry. Who dies in between leaves an entry that no tag names, and the next one finishes it. An
alias that is neither where the entry says nor where it was before was moved by somebody else, in MLflow's UI say.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import pyarrow as pa
from filelock import FileLock

from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import Ledger
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.releases.compute import PROMOTED

PROMOTIONS = Ledger(
    "promotions",
    {
        "release": pa.string(),
        "model": pa.string(),
        "version": pa.int64(),
        "previous": pa.int64(),
        "actor": pa.string(),
        "reason": pa.string(),
        "evidence": pa.string(),
        "action": pa.string(),
        "contract": pa.string(),
        "entry": pa.string(),
    },
)

_TAG = "release"
"""A version is tagged with the entry that last made it champion, once everything has followed it."""


@dataclass(frozen=True)
class AliasState:
    """What the ledger says the champion is, and what the alias says.

    `unfinished`: the newest move was recorded, and who made it was interrupted before everything had followed it.
    `moved`: somebody moved or removed the alias without the ledger.
    """

    release: str
    recorded: int | None
    alias: int | None
    state: Literal["agrees", "unfinished", "moved"]
    newest: Mapping[str, Any] | None = None

    def in_words(self) -> str:
        """One sentence for people, with the ways out."""
        recorded = f"version {self.recorded}" if self.recorded is not None else "nobody"
        alias = f"version {self.alias}" if self.alias is not None else "nothing"
        if self.state == "agrees":
            return f"releases/{self.release}: champion is {recorded}"
        if self.state == "unfinished":
            return (
                f"releases/{self.release}: the ledger made {recorded} champion, the alias points at {alias}, and "
                f"whoever moved it was interrupted. The same command again, or the next release, finishes it"
            )
        ways = [f"ml-platform releases promote {self.release} --to {self.alias}"] if self.alias else []
        ways += (
            [f"ml-platform releases rollback {self.release} --to {self.recorded}"] if self.recorded else []
        )
        text = (
            f"releases/{self.release}: the champion alias points at {alias}, and the ledger says {recorded}: it was "
            f"moved behind the ledger's back. Nothing is promoted until a person decides which one it is to be"
        )
        return "\n".join([text, *(f"Way out: {way} --reason '…'" for way in ways)])


def alias_state(settings: Settings, release: str, *, model: str | None = None) -> AliasState:
    """Do ledger and alias agree on the champion of a release?

    The model is the one of the newest entry; name it to ask of a release that the ledger has nothing of yet.
    """
    moves = history(settings, release)
    newest = moves[-1] if moves else None
    name = newest["model"] if newest is not None else model
    found = registry.champion(settings, name) if name is not None else None
    alias = found.version if found is not None else None
    recorded = newest["version"] if newest is not None else None
    if newest is not None and alias in (recorded, newest["previous"]) and not _finished(settings, newest):
        return AliasState(release, recorded, alias, "unfinished", newest)
    return AliasState(release, recorded, alias, "agrees" if alias == recorded else "moved", newest)


def follow(settings: Settings, entry: Mapping[str, Any]) -> None:
    """Point the alias at the version of a move that the ledger has."""
    registry.set_champion(settings, entry["model"], entry["version"])


def settle(settings: Settings, entry: Mapping[str, Any]) -> None:
    """Say that everything has followed a move: nobody has to finish it."""
    registry.tag(settings, entry["model"], entry["version"], **{_TAG: entry["entry"]})


@contextmanager
def moving(settings: Settings, release: str) -> Iterator[None]:
    """One at a time: nobody else of this home moves the champion of a release until the end of the block."""
    with FileLock(settings.root / "locks" / f"release-{release}"):
        yield


def move(
    settings: Settings,
    state: AliasState,
    target: registry.Registered,
    *,
    action: str = PROMOTED,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> dict[str, Any]:
    """Record that a version is champion from now on, with its contract, then let the alias follow; the entry.

    It came from where the alias was; from the champion of the ledger, where somebody had moved the alias to it before.
    """
    entry = {
        "release": state.release,
        "model": target.name,
        "version": target.version,
        "previous": state.recorded if state.alias == target.version else state.alias,
        "actor": actor,
        "reason": reason,
        "evidence": json.dumps(evidence, sort_keys=True),
        "action": action,
        "contract": contract_digest(settings, target),
        "entry": uuid4().hex,
    }
    PROMOTIONS.append(Lake(settings.lake_uri), [entry])
    follow(settings, entry)
    return entry


def contract_digest(settings: Settings, version: registry.Registered) -> str:
    """Digest of what serving is told with a version."""
    return digest_of(registry.load_document(settings, version, "contract.json"))


def history(settings: Settings, release: str) -> list[dict[str, Any]]:
    """All moves of a release's champion, oldest first; what older entries did not record is empty."""
    return _moves(settings, release=[release])


def moves_of(settings: Settings, model: str, version: int) -> list[dict[str, Any]]:
    """The moves of any release to a version of a model, or away from it, oldest first."""
    return [
        move for move in _moves(settings, model=[model]) if version in (move["version"], move["previous"])
    ]


def _moves(settings: Settings, **wanted: Sequence[str]) -> list[dict[str, Any]]:
    unknown = {"action": PROMOTED, "contract": "", "entry": ""}
    entries = PROMOTIONS.entries(Lake(settings.lake_uri), **wanted)
    return [{**entry, **{name: entry.get(name) or unknown[name] for name in unknown}} for entry in entries]


def _finished(settings: Settings, entry: Mapping[str, Any]) -> bool:
    """Whether everything has followed a move, whatever was done since; of a deleted version nobody can tell."""
    version = registry.version(settings, entry["model"], entry["version"])
    return version is None or not entry["entry"] or version.tags.get(_TAG) == entry["entry"]
