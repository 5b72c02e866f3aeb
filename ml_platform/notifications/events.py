"""What has happened since the last look, from Dagster's event log and the promotions ledger.

Only what is new is read: events after a position, and the ledger only when it has a new commit.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import dagster as dg
from dagster import DagsterEventType, EventLogEntry

from ml_platform.gates.evaluations import latest_materializations
from ml_platform.gates.failures import refusal_of, words_of
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.lineage import Lineage
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.notifications.compute import Happening, without_runs
from ml_platform.notifications.spec import Event, WebhookSpec
from ml_platform.releases.compute import PROMOTED, ROLLED_BACK
from ml_platform.releases.store import PROMOTIONS, AliasState, alias_state

AT_ONCE = 1000
"""How many events of a kind are read in one look; the others are read in the next."""


@dataclass(frozen=True)
class Scope:
    """What one webhook is told of, in the declared graph: gated assets, and models with their crons."""

    spec: WebhookSpec
    lineage: Lineage
    gated: Collection[str]
    crons: Mapping[str, str]

    def wants(self, event: Event, asset: str) -> bool:
        named = any(fnmatchcase(asset, pattern) for pattern in self.spec.assets)
        return event in self.spec.events and named

    def refused_by(self, asset: str) -> list[str]:
        """Gated assets that an asset's checks refuse, directly or not."""
        return sorted(key for key in self.gated if key != asset and self._reaches(key, asset))

    def reads(self, key: str, partition: str, asset: str) -> bool:
        """Does a partition of an asset depend on the same partition of another one?"""
        read = self.lineage.upstream_partitions(key, partition).get(asset)
        return (
            self.lineage.node(key).clip((partition, partition)) is not None
            and read is not None
            and read[0] <= partition <= read[1]
        )

    def _reaches(self, key: str, asset: str) -> bool:
        seen, pending = {key}, [key]
        while pending:
            node = self.lineage.nodes.get(pending.pop())
            above = {u.key for u in node.upstream} - seen if node is not None else set[str]()
            seen |= above
            pending += above
        return asset in seen


def refused_since(instance: dg.DagsterInstance, scope: Scope, after: int) -> tuple[list[Happening], int]:
    """Gated steps that refused to run, of runs that failed after a position, and the position up to which was read."""
    found: list[Happening] = []
    read = events_after(instance, DagsterEventType.RUN_FAILURE, after)
    steps = {key.replace("/", "__"): key for key in scope.gated if scope.wants("model_not_updated", key)}
    for entry in read.values() if steps else ():
        run = instance.get_run_by_id(entry.run_id)
        if run is None:  # somebody deleted it
            continue
        partition, at = run.tags.get("dagster/partition"), time_of(entry.timestamp)
        for step, text in errors(instance, entry.run_id, refusals=True).items():
            if step in steps:
                found.append(
                    not_updated(instance, steps[step], partition, text, run_id=entry.run_id, happened_at=at)
                )
    return found, max(read, default=after)


def changed_since(lake: Lake, scope: Scope, after: int, *, began: dt.datetime) -> tuple[list[Happening], int]:
    """Promotions and rollbacks of which the ledger has a commit after a version, and its newest version.

    All since the first look are given, whoever's clock recorded them; those that were told are known by their keys.
    """
    commits = lake.table(f"ledgers/{PROMOTIONS.name}").commits_after(after)
    if not commits:
        return [], after
    entries = [entry for entry in PROMOTIONS.entries(lake) if entry["recorded_at"] >= began]
    wanted = [e for e in entries if scope.wants("release_changed", f"releases/{e['release']}")]
    return [_changed(entry) for entry in wanted], commits[-1]["version"]


def moved_aliases(
    settings: Settings, scope: Scope, known: Mapping[str, str], now: dt.datetime
) -> tuple[list[Happening], dict[str, str]]:
    """Champion aliases that somebody moved without the ledger, of releases that have one; and where all moved ones are.

    What was told before, and is as it was then, is not told again. A registry that does not answer tells nothing.
    """
    found: list[Happening] = []
    moved: dict[str, str] = {}
    for key in sorted(scope.lineage.nodes):
        stage, _, name = key.partition("/")
        if stage != "releases" or not scope.wants("release_changed", key):
            continue
        try:
            state = alias_state(settings, name)
        except StoreError:
            moved |= {name: known[name]} if name in known else {}
            continue
        if state.state == "moved":
            moved[name] = str(state.alias)
            if known.get(name) != moved[name]:
                found.append(_moved(state, now))
    return found, moved


def not_updated(
    instance: dg.DagsterInstance,
    asset: str,
    partition: str | None,
    text: str,
    *,
    happened_at: dt.datetime,
    run_id: str = "",
) -> Happening:
    """A model, or a release, that was not made, with the refusal or another reason in words.

    The same words are another happening once it was made in between.
    """
    made = latest_materializations(instance, asset, [partition]).get(partition)
    return Happening(
        "model_not_updated",
        asset,
        asset,
        headline="Not updated: {where}",
        words=text,
        identity=(partition, without_runs(text), None if made is None else str(made)),
        happened_at=happened_at,
        partition=partition,
        run_id=run_id,
    )


def errors(instance: dg.DagsterInstance, run_id: str, *, refusals: bool = False) -> dict[str, str]:
    """What the failed steps of a run said, by step: the refusal in words, or the innermost error.

    With `refusals`, only of steps that refused to run; a failed check of a step's own is no refusal.
    """
    failures = instance.get_records_for_run(run_id, of_type=DagsterEventType.STEP_FAILURE).records
    said: dict[str, str] = {}
    for record in failures:
        event = record.event_log_entry.get_dagster_event()
        failure = event.step_failure_data
        by_hand = failure.user_failure_data
        own_check = by_hand is not None and "failed_partitions" in by_hand.metadata
        if not refusals or (refusal_of(failure) and not own_check):
            said[event.step_key or ""] = words_of(failure)
    return said


def _changed(entry: Mapping[str, Any]) -> Happening:
    release, version, previous = entry["release"], entry["version"], entry["previous"]
    before = f"version {previous}" if previous is not None else "none"
    recorded_at: dt.datetime = entry["recorded_at"]
    back = entry["action"] == ROLLED_BACK
    return Happening(
        "release_changed",
        f"releases/{release} at {recorded_at.isoformat()}",
        f"releases/{release}",
        headline=(
            f"Release {'rolled back' if back else 'changed'}: {{where}} is version {version}, before: {before}"
        ),
        words=(
            f"releases/{release}: the champion of model {entry['model']} is version {version}; before: {before}.\n"
            f"{'It was rolled back. ' if back else ''}"
            f"By {entry['actor']}: {entry['reason']}"
        ),
        identity=(str(version), str(previous)),
        happened_at=recorded_at,
        details={
            "release": release,
            "model": entry["model"],
            "action": entry["action"] or PROMOTED,
            "from": previous,
            "to": version,
            "actor": entry["actor"],
            "reason": entry["reason"],
        },
    )


def _moved(state: AliasState, now: dt.datetime) -> Happening:
    return Happening(
        "release_changed",
        f"releases/{state.release} alias",
        f"releases/{state.release}",
        headline="Champion moved behind the ledger's back: {where}",
        words=state.in_words(),
        identity=(str(state.alias), str(state.recorded), now.isoformat()),
        happened_at=now,
        details={"release": state.release, "action": "moved", "from": state.recorded, "to": state.alias},
    )


def events_after(
    instance: dg.DagsterInstance, kind: DagsterEventType, after: int
) -> Mapping[int, EventLogEntry]:
    """The events of a kind after a position, by their positions: so many as one look reads."""
    return instance.event_log_storage.get_logs_for_all_runs_by_log_id(after, kind, limit=AT_ONCE)


def time_of(timestamp: float) -> dt.datetime:
    """When an event was, in UTC."""
    return dt.datetime.fromtimestamp(timestamp, dt.UTC)
