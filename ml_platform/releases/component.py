"""Releases as assets: the champion alias moves only to a version with evidence, and the ledger says why."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from ml_platform.compiler import AssetComponent, Step
from ml_platform.gates import guard
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.gates.recording import materialization_targets, report_outcomes
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.models.spec import ModelSpec
from ml_platform.releases import store
from ml_platform.releases.by_hand import Moved
from ml_platform.releases.challenge import challenge
from ml_platform.releases.compute import ROLLED_BACK, standing
from ml_platform.releases.spec import ReleaseSpec


class Release(AssetComponent):
    """The champion of a model: its newest version, once it is not worse than the one before."""

    spec_type = ReleaseSpec
    kinds = frozenset({"mlflow"})
    gated = True
    code = ("models.resampling", "releases.challenge", "releases.compute")
    spec: ReleaseSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)


def materialize(spec: ReleaseSpec, step: Step) -> list[Outcome]:
    """Promote the newest version of the model, if every gate up to it is open and it is not worse."""
    settings: Settings = step.resources.environment
    model = spec.model_spec(step.catalog)
    candidate = newest_version(step, settings, model)
    with store.moving(settings, spec.name):
        state = _agreed(spec, step, settings)
        champion = registry.champion(settings, spec.model)
        undone = standing(store.history(settings, spec.name)).withdrawn.get(candidate.version)
        if undone is not None and champion is not None:
            return [_kept(spec, step, champion, candidate, undone)]
        _require_evidence(spec, step, settings, candidate)
        judged = challenge(spec, settings, step.catalog, candidate, champion)
        evaluations = judged.evaluations(settings)
        if not all(evaluation.passed for evaluation in evaluations):
            return [_refused(spec, candidate, evaluations)]
        evidence = {
            "partition": candidate.partition,
            "training_set": candidate.tags.get("training_set"),
            "dagster_run": step.run_id,
            "comparison": evaluations[0].observed,
            "checks": {evaluation.check: evaluation.observed for evaluation in evaluations},
        }
        if champion is None or champion.version != candidate.version:
            reason = "newest version, gates open"
            entry = store.move(settings, state, candidate, actor=step.actor, reason=reason, evidence=evidence)
            store.settle(settings, entry)
    return [_promoted(spec, step, champion, candidate, evaluations)]


def report_move(instance: dg.DagsterInstance, catalog: Catalog, spec: ReleaseSpec, moved: Moved) -> None:
    """Show in Dagster what a person did to the champion: a materialization that no run made, and its checks."""
    key, entry = dg.AssetKey(spec.key.split("/")), moved.entry
    metadata = {
        "champion": entry["version"],
        "previous": entry["previous"] if entry["previous"] is not None else "none",
        "action": entry["action"],
        "actor": entry["actor"],
        "reason": entry["reason"],
        "contract": entry["contract"],
    }
    instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))
    by_hand = f"{entry['action']} by {entry['actor']}: {entry['reason']}"
    evaluations = tuple(
        Evaluation(check.name, True, by_hand, "a person's decision", metadata, check.digest)
        for check in catalog.node(spec.key).blocking_checks
    )
    targets = materialization_targets(instance, key, [None])
    report_outcomes(instance, key, [Outcome(None, published=True, evaluations=evaluations)], targets)


def _agreed(spec: ReleaseSpec, step: Step, settings: Settings) -> store.AliasState:
    """Ledger and alias, once they agree on the champion; Failure when somebody moved the alias without the ledger."""
    state = store.alias_state(settings, spec.name, model=spec.model)
    if state.state == "moved":
        raise dg.Failure(state.in_words(), metadata={"alias": str(state.alias)}, allow_retries=False)
    if state.state == "unfinished" and state.newest is not None:
        step.log.warning("%s", state.in_words())
        store.follow(settings, state.newest)
        store.settle(settings, state.newest)
    return replace(state, alias=state.recorded, state="agrees")


def _require_evidence(
    spec: ReleaseSpec, step: Step, settings: Settings, candidate: registry.Registered
) -> None:
    """Refuse a version that a gate has closed for since, or whose training set is another one now."""
    model, lake = spec.model_spec(step.catalog), Lake(settings.lake_uri)
    guard.require_open(
        step.context.instance,
        step.catalog.lineage,
        model.key,
        candidate.partition,
        itself=True,
        lake=lake,
    )
    _require_current(lake, model.training_set_spec(step.catalog).key, candidate)


def _kept(
    spec: ReleaseSpec,
    step: Step,
    champion: registry.Registered,
    candidate: registry.Registered,
    undone: Mapping[str, Any],
) -> Outcome:
    """The champion stays, because somebody went back from the newest version."""
    went_back = "rolled back" if undone["action"] == ROLLED_BACK else "went back"
    said = (
        f"version {candidate.version} is not promoted again: {undone['actor']} {went_back} from it to version "
        f"{undone['version']}: {undone['reason']}; champion {champion.version} stays until there is a newer version, "
        f"or ml-platform releases promote {spec.name} --to {candidate.version} --reason '…'"
    )
    step.log.warning("%s: %s", spec.key, said)
    checks = step.catalog.node(spec.key).blocking_checks
    evaluations = tuple(Evaluation(check.name, passed=True, observed=said) for check in checks)
    shown = {"champion": champion.version, "previous": champion.version, "withdrawn": candidate.version}
    return Outcome(None, published=True, evaluations=evaluations, metadata={**shown, "comparison": said})


def _refused(
    spec: ReleaseSpec, candidate: registry.Registered, evaluations: tuple[Evaluation, ...]
) -> Outcome:
    """The champion stays, and the refusal says how a person can decide otherwise."""
    way = f"to promote it all the same: ml-platform releases promote {spec.name} --to {candidate.version} --reason '…'"
    told = tuple(e if e.passed else replace(e, bound=f"{e.bound}; {way}") for e in evaluations)
    return Outcome(None, published=False, evaluations=told)


def _promoted(
    spec: ReleaseSpec,
    step: Step,
    champion: registry.Registered | None,
    candidate: registry.Registered,
    evaluations: tuple[Evaluation, ...],
) -> Outcome:
    previous = champion.version if champion else None
    step.log.info("%s: champion is version %s (before: %s)", spec.key, candidate.version, previous)
    measured = {name: value for e in evaluations for name, value in e.metadata.items()}
    metadata = {
        "champion": candidate.version,
        "previous": previous if previous is not None else "none",
        "partition": candidate.partition,
        "comparison": evaluations[0].observed,
        **measured,
    }
    return Outcome(None, published=True, evaluations=evaluations, metadata=metadata)


def _require_current(lake: Lake, training_set: str, candidate: registry.Registered) -> None:
    """Refuse a version whose training set was built again, with other rows, since it was trained."""
    known = published(lake, training_set).get(candidate.partition)
    trained_on = candidate.tags.get("training_set")
    if known is None or known.content_hash != trained_on:
        raise dg.Failure(
            f"{candidate.name} version {candidate.version} is refused: it was trained on {training_set} "
            f"{candidate.partition} with content {trained_on}, and {known.content_hash if known else 'nothing'} is "
            f"published there now. The champion is unchanged. Way out: materialize models/{candidate.name} "
            f"{candidate.partition}, then release again",
            allow_retries=False,
        )


def newest_version(step: Step, settings: Settings, model: ModelSpec) -> registry.Registered:
    """The version that the newest materialized partition of the model registered."""
    instance, key = step.context.instance, dg.AssetKey(model.key.split("/"))
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION
    )
    newest = max(latest, default=None)
    number = None if newest is None else _registered_by(instance, key, latest[newest])
    versions = [] if number is None else registry.versions(settings, model.name)
    found = [version for version in versions if version.version == number]
    if not found:
        raise InputError(
            f"a materialized partition of {model.key} with a registered version is required; there is none for "
            f"{newest or 'any day'}. Nothing was promoted; materialize {model.key} first"
        )
    return found[0]


def _registered_by(instance: dg.DagsterInstance, key: dg.AssetKey, storage_id: int) -> Any:
    """The version that a materialization names.

    Another one of its partition was never judged: a run registered it and died before it could say so.
    """
    wanted = dg.AssetRecordsFilter(key, storage_ids=[storage_id])
    (record,) = instance.fetch_materializations(wanted, limit=1).records
    made = record.asset_materialization
    return made.metadata["version"].value if made is not None and "version" in made.metadata else None
