"""Releases as assets: the champion alias moves only to a version with evidence, and the ledger says why."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from ml_platform.compiler import AssetComponent, Step
from ml_platform.gates import guard
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import day
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.models.compute import predict_onnx
from ml_platform.models.evaluation import measure
from ml_platform.models.spec import ModelSpec
from ml_platform.releases import store
from ml_platform.releases.spec import ReleaseSpec
from ml_platform.training_sets import store as training_sets


class Release(AssetComponent):
    """The champion of a model: its newest version, once it is not worse than the one before."""

    spec_type = ReleaseSpec
    kinds = frozenset({"mlflow"})
    gated = True
    spec: ReleaseSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)


def materialize(spec: ReleaseSpec, step: Step) -> list[Outcome]:
    """Promote the newest version of the model, if every gate up to it is open and it is not worse."""
    settings: Settings = step.resources.environment
    model = spec.model_spec(step.catalog)
    candidate = newest_version(step, settings, model)
    lake = Lake(settings.lake_uri)
    guard.require_open(
        step.context.instance,
        step.catalog.lineage,
        model.key,
        day(candidate.partition),
        itself=True,
        lake=lake,
    )
    _require_current(lake, model.training_set_spec(step.catalog).key, candidate)
    champion = registry.champion(settings, model.name)
    evaluation = compare(spec, settings, step.catalog, candidate, champion)
    if not evaluation.passed:
        return [Outcome(None, published=False, evaluations=(evaluation,))]
    evidence = {
        "partition": candidate.partition,
        "training_set": candidate.tags.get("training_set"),
        "dagster_run": step.run_id,
        "comparison": evaluation.observed,
    }
    if champion is None or champion.version != candidate.version:
        store.promote(settings, spec.name, candidate, reason="newest version, gates open", evidence=evidence)
    previous = champion.version if champion else None
    step.log.info("%s: champion is version %s (before: %s)", spec.key, candidate.version, previous)
    metadata = {
        "champion": candidate.version,
        "previous": previous if previous is not None else "none",
        "partition": candidate.partition,
        "comparison": evaluation.observed,
    }
    return [Outcome(None, published=True, evaluations=(evaluation,), metadata=metadata)]


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


def compare(
    spec: ReleaseSpec,
    settings: Settings,
    catalog: Catalog,
    candidate: registry.Registered,
    champion: registry.Registered | None,
) -> Evaluation:
    """Score candidate and champion on the candidate's own test rows and compare the declared metric."""
    model = spec.model_spec(catalog)
    bound = f"{model.metric} at most {spec.margin:g} below the champion's on the same test rows"
    if champion is None or champion.version == candidate.version:
        return Evaluation("not_worse_than_champion", passed=True, observed="no other champion", bound=bound)
    rows = model.training_set_spec(catalog)
    manifest = training_sets.read_manifest(settings, rows, candidate.partition)
    test = training_sets.read_arrays(settings, rows, candidate.partition, manifest)["test"]
    features = registry.load_document(settings, champion, "contract.json")["features"]
    comparable = tuple(features) == test.names
    if comparable:
        mine, theirs = (_score(settings, model, version, test) for version in (candidate, champion))
    else:
        mine, theirs = (_logged(settings, v, model.metric) for v in (candidate, champion))
    return Evaluation(
        "not_worse_than_champion",
        passed=mine >= theirs - spec.margin,
        observed=(
            f"{model.metric} {mine:.4f} of version {candidate.version}, "
            f"{theirs:.4f} of champion {champion.version}"
            f"{'' if comparable else ', each on its own test rows: they read different features'}"
        ),
        bound=bound,
        metadata={"candidate": mine, "champion": theirs},
    )


def _score(
    settings: Settings, model: ModelSpec, version: registry.Registered, test: training_sets.Arrays
) -> float:
    """The declared metric of a version on test rows."""
    scores = predict_onnx(registry.load_onnx(settings, version), test.features)
    return measure(model, test, scores)[model.metric]


def _logged(settings: Settings, version: registry.Registered, metric: str) -> float:
    """A metric as it was measured when a version was trained."""
    found = registry.metrics(settings, version)
    if metric not in found:
        raise InputError(
            f"{version.name} version {version.version}: {metric} is required to compare versions that read different "
            f"features, and it was trained before the model declared it ({', '.join(sorted(found))}). Nothing was "
            f"promoted; compare by one of these, or train both again"
        )
    return found[metric]
