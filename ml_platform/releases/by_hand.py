"""Moves of the champion that people ask for: back to a champion before, or on to a version that they choose.

Both ask the same of the version: that it was trained behind open gates, and that what it reads is what is online.
Neither compares it with the champion: whoever moves it by hand has a reason, which the ledger keeps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ml_platform.gates.ways_out import require_reason
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.releases import store
from ml_platform.releases.compute import PROMOTED, ROLLED_BACK, standing
from ml_platform.releases.online_features import other_features
from ml_platform.releases.spec import ReleaseSpec


@dataclass(frozen=True)
class Moved:
    """A move as the ledger has it. `finished`: it had been recorded before, and only the alias had to follow."""

    entry: Mapping[str, Any]
    finished: bool = False

    def in_words(self) -> str:
        """What happened, in one sentence."""
        entry = self.entry
        came = f"version {entry['previous']}" if entry["previous"] is not None else "no version"
        text = (
            f"releases/{entry['release']}: {entry['action']} from {came} to version {entry['version']} by "
            f"{entry['actor']}: {entry['reason']}"
        )
        return f"{text} (was recorded before and interrupted; it is finished now)" if self.finished else text


Tell = Callable[[Moved], None]
"""Shows a move where people look: once it is made, and again by who finishes it after an interruption."""


def rollback(
    settings: Settings,
    catalog: Catalog,
    spec: ReleaseSpec,
    *,
    to: int | None,
    reason: str,
    actor: str,
    tell: Tell,
) -> Moved:
    """Make a champion of the past champion again: the one before, or the version named.

    The versions above it are withdrawn: a release does not promote them again by itself. Raises InputError, with
    nothing changed, when there is no such champion, or it can no longer answer as it did.
    """
    asked = {"action": ROLLED_BACK, "actor": actor, "reason": reason}
    return _move(settings, catalog, spec, asked, to=to, tell=tell)


def promote(
    settings: Settings, catalog: Catalog, spec: ReleaseSpec, *, to: int, reason: str, actor: str, tell: Tell
) -> Moved:
    """Make a version champion because a person says so, also one that was refused or rolled back from.

    Raises InputError, with nothing changed, for a version without gate evidence, or that could not answer.
    """
    asked = {"action": PROMOTED, "actor": actor, "reason": reason}
    return _move(settings, catalog, spec, asked, to=to, tell=tell)


def _move(
    settings: Settings,
    catalog: Catalog,
    spec: ReleaseSpec,
    asked: Mapping[str, str],
    *,
    to: int | None,
    tell: Tell,
) -> Moved:
    action = asked["action"]
    require_reason(asked["reason"], f"{spec.key} is to be {action}", nothing="changed")
    with store.moving(settings, spec.name):
        state = store.alias_state(settings, spec.name, model=spec.model)
        moved = _interrupted(state, to=to, action=action)
        if moved is None:
            number = _target(settings, spec, state, to=to) if action == ROLLED_BACK else to
            target = _existing(settings, spec, number)
            _require_another(spec, state, target)
            evidence = _evidence(settings, catalog, spec, target)
            moved = Moved(store.move(settings, state, target, **asked, evidence=evidence))
        else:
            store.follow(settings, moved.entry)
        tell(moved)
        store.settle(settings, moved.entry)
    return moved


def _interrupted(state: store.AliasState, *, to: int | None, action: str) -> Moved | None:
    """The newest move, if it was interrupted and is what is asked for again; any other is left behind."""
    newest = state.newest
    if newest is None or state.state != "unfinished":
        return None
    same = newest["action"] == action if to is None else newest["version"] == to
    return Moved(newest, finished=True) if same else None


def _require_another(spec: ReleaseSpec, state: store.AliasState, target: registry.Registered) -> None:
    if state.state != "moved" and target.version == state.recorded:
        raise InputError(
            f"{spec.key}: another version than the champion is required; version {target.version} is champion. "
            f"Nothing was changed; see: ml-platform releases list {spec.name}"
        )


def _target(settings: Settings, spec: ReleaseSpec, state: store.AliasState, *, to: int | None) -> int:
    """The champion of the past that a rollback goes to."""
    if state.state == "moved" and to is None:
        raise InputError(f"{state.in_words()}\nNothing was changed; say with `to` which version it is to be")
    now = standing(store.history(settings, spec.name))
    allowed = now.champions if state.state == "moved" else now.champions[:-1]
    number = now.before if to is None else to
    if number is None or number not in allowed:
        came = "there is none" if to is None else f"version {to} is none of them"
        known = ", ".join(map(str, allowed)) or "none"
        raise InputError(
            f"{spec.key}: a champion before the current one is required to roll back to ({known}); {came}. Nothing was "
            f"changed; to make another version champion: ml-platform releases promote {spec.name} --to N --reason '…'"
        )
    return number


def _existing(settings: Settings, spec: ReleaseSpec, number: int | None) -> registry.Registered:
    found = registry.version(settings, spec.model, number) if number is not None else None
    if found is None:
        known = ", ".join(str(version.version) for version in registry.versions(settings, spec.model))
        raise InputError(
            f"{spec.key}: a registered version of model {spec.model} is required ({known or 'there is none'}); "
            f"version {number} is not there, or was deleted. Nothing was changed"
        )
    return found


def _evidence(
    settings: Settings, catalog: Catalog, spec: ReleaseSpec, target: registry.Registered
) -> dict[str, Any]:
    """What speaks for a version: how it was gated, and that what it reads is online; InputError where it does not."""
    contract = registry.load_document(settings, target, "contract.json")
    gates = contract.get("gate_evidence", {})
    if not gates.get("gates") or contract["training"]["run_id"] != target.run_id:
        raise InputError(
            f"{spec.key}: a version that this platform trained behind its gates is required; version {target.version} "
            f"of {target.name} has no evidence of that in its contract. Nothing was changed"
        )
    promoted = [
        move
        for move in store.history(settings, spec.name)
        if move["version"] == target.version and move["contract"]
    ]
    if promoted and promoted[-1]["contract"] != store.contract_digest(settings, target):
        raise InputError(
            f"{spec.key}: the contract with which version {target.version} was champion is required; it has another "
            f"one now. Nothing was changed; its artifacts in MLflow were changed after it was released"
        )
    others = other_features(
        settings, catalog, contract, registry.load_document(settings, target, "manifest.json")
    )
    if others:
        raise InputError(
            f"{spec.key}: feature definitions that are online are required; version {target.version} was trained on "
            f"others: {'; '.join(others)}. Nothing was changed: it would answer from features that it does not know. "
            f"Way out: declare and publish those of then again, or train a new version: materialize "
            f"models/{spec.model}, then {spec.key}"
        )
    return {"partition": target.partition, "training_set": target.tags.get("training_set"), **gates}
