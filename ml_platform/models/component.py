"""Models as assets: trained only behind open gates, registered only when ONNX answers as the estimator does."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import numpy as np

from ml_platform.compiler import AssetComponent, Step
from ml_platform.gates import guard
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.partitions import complete_at
from ml_platform.kernel.settings import Settings
from ml_platform.lake.inputs import as_known
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.models.assessment import Assessment, assess
from ml_platform.models.card import DOCUMENT, render, summary
from ml_platform.models.card_facts import Measured, facts
from ml_platform.models.compute import (
    ParityReport,
    build_estimator,
    parity,
    predict_onnx,
    to_onnx,
    train,
)
from ml_platform.models.contract import contract, self_test_rows
from ml_platform.models.evaluation import measure
from ml_platform.models.plots import error_plot, forecast_plot, precision_recall_plot, reliability_plot
from ml_platform.models.resampling import seed_of
from ml_platform.models.spec import ModelSpec
from ml_platform.training_sets import store as training_sets
from ml_platform.training_sets.manifest import declaration_digests


class Model(AssetComponent):
    """An estimator trained on a training set and registered in MLflow as ONNX, with its contract."""

    spec_type = ModelSpec
    kinds = frozenset({"scikitlearn", "mlflow", "onnx"})
    resources = frozenset({"environment", "mlflow"})
    one_run_per_range = False
    gated = True
    code = ("models.compute", "models.contract", "models.evaluation")
    spec: ModelSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)

    def cron(self, catalog: Catalog) -> str:
        return self.spec.retrain


@dataclass(frozen=True)
class Trained:
    """A trained estimator as ONNX, measured on the test split."""

    onnx: bytes
    metrics: Mapping[str, float]
    parity: ParityReport
    scores: np.ndarray
    test: training_sets.Arrays


def materialize(spec: ModelSpec, step: Step) -> list[Outcome]:
    """Train and register the versions of the given partitions."""
    return [_materialize_day(spec, step, partition) for partition in step.partitions]


def fit(spec: ModelSpec, arrays: Mapping[str, training_sets.Arrays]) -> Trained:
    """Train the declared estimator, convert it to ONNX, and measure both on the test split."""
    rows, test = arrays["train"], arrays["test"]
    preprocessing = [step.model_dump() for step in spec.preprocessing]
    estimator = build_estimator(
        spec.estimator, spec.parameters, preprocessing=preprocessing, numbers=spec.task == "regression"
    )
    fitted = train(estimator, rows.features, rows.labels)
    onnx = to_onnx(fitted, rows.features, rows.names)
    scores = predict_onnx(onnx, test.features)
    return Trained(
        onnx,
        measure(spec, test, scores),
        parity(fitted, onnx, test.features, tolerance=spec.parity_tolerance),
        scores,
        test,
    )


def _materialize_day(spec: ModelSpec, step: Step, partition: str) -> Outcome:
    settings: Settings = step.resources.environment
    rows = spec.training_set_spec(step.catalog)
    manifest = training_sets.read_manifest(settings, rows, partition)
    _require_current(step, spec, manifest)
    arrays = training_sets.read_arrays(settings, rows, manifest)
    with registry.partition_run(step.resources.mlflow, name=f"{spec.name} {partition}") as run_id:
        trained = fit(spec, arrays)
        step.log.info("%s [%s]: %s", spec.key, partition, _in_words(trained.metrics))
        evaluation = _parity_evaluation(spec, trained.parity)
        if not evaluation.passed:
            return Outcome(partition, published=False, evaluations=(evaluation,))
        seed = seed_of(manifest["content_hash"], spec.digest())
        assessed = assess(
            spec, trained.test, trained.scores, trained.onnx, metrics=trained.metrics, seed=seed
        )
        lake = Lake(settings.lake_uri)
        guard.require_open(step.context.instance, step.catalog.lineage, spec.key, partition, lake=lake)
        candidate = _candidate(spec, step, manifest, trained, assessed, run_id=run_id)
        version = registry.register(step.resources.mlflow, candidate, run_id=run_id)
        known = facts(spec, step, manifest, Measured(assessed.document(), trained.parity), version)
        card = render(known)
        registry.describe(step.resources.mlflow, version, text=card, short=summary(known), name=DOCUMENT)
    return Outcome(
        partition=partition,
        published=True,
        evaluations=(evaluation,),
        metadata={
            "model": f"{version.name} version {version.version}",
            "version": version.version,
            "mlflow_run": run_id,
            "training_set": manifest["content_hash"],
            **_shown(assessed),
            **_shown_pictures(candidate.pictures),
            "model_card": dg.MetadataValue.md(card),
        },
        data_version=digest_of([manifest["content_hash"], spec.digest()]),
    )


def _require_current(step: Step, spec: ModelSpec, manifest: Mapping[str, Any]) -> None:
    """Refuse a training set that was built from what is no longer published, or no longer declared so."""
    lake = Lake(step.resources.environment.lake_uri)
    declared = declaration_digests(spec.training_set_spec(step.catalog), step.catalog)
    before: Mapping[str, str] = manifest["declarations"]
    cut = complete_at(manifest["partition"])
    outdated = [
        f"the declaration of {name}"
        for name in sorted(declared.keys() | before.keys())
        if declared.get(name) != before.get(name)
    ]
    for entry in manifest["inputs"]:
        known = published(lake, entry["asset"])
        outdated += [
            f"{entry['asset']} [{key}]"
            for key, digest in entry["partitions"].items()
            if key not in known or as_known(known[key], cut) != digest
        ]
    if outdated:
        raise dg.Failure(
            f"{spec.key} [{manifest['partition']}] is refused: since its training set was built, these have changed: "
            f"{', '.join(outdated[:5])}{' …' if len(outdated) > 5 else ''}. Nothing was changed. "
            f"Way out: materialize training_sets/{spec.training_set} {manifest['partition']}, then this model",
            metadata={"outdated_inputs": len(outdated)},
            allow_retries=False,
        )


def _candidate(
    spec: ModelSpec,
    step: Step,
    manifest: Mapping[str, Any],
    trained: Trained,
    assessed: Assessment,
    *,
    run_id: str,
) -> registry.Candidate:
    partition, content = manifest["partition"], manifest["content_hash"]
    return registry.Candidate(
        registered_name=step.resources.environment.registered_name(spec.name),
        onnx=trained.onnx,
        feature_names=trained.test.names,
        parameters={"estimator": spec.estimator, **spec.parameters, "training_set": content},
        metrics=assessed.numbers,
        tags={
            "partition": partition,
            "training_set": content,
            "declaration": spec.digest(),
            "dagster_run": step.run_id,  # dagster-mlflow finds its parent run by `dagster_run_id`
        },
        documents={
            "contract.json": _contract(spec, step, partition, trained, run_id=run_id),
            "evaluation.json": assessed.document(),
            "manifest.json": manifest,
        },
        pictures=_pictures(spec, partition, trained, assessed),
    )


def _contract(
    spec: ModelSpec, step: Step, partition: str, trained: Trained, *, run_id: str
) -> Mapping[str, Any]:
    """What serving is told with the version, and on what evidence it was trained."""
    evidence = {
        "dagster_run": step.run_id,
        "gates": sorted(step.catalog.lineage.upstream_partitions(spec.key, partition)),
        "onnx_parity": {"rows": trained.parity.rows, "max_difference": trained.parity.max_difference},
    }
    rows = self_test_rows(trained.test.features, trained.scores)
    return contract(
        spec,
        step.catalog,
        onnx=trained.onnx,
        run_id=run_id,
        partition=partition,
        self_test=rows,
        evidence=evidence,
    )


def _pictures(spec: ModelSpec, partition: str, trained: Trained, assessed: Assessment) -> dict[str, bytes]:
    title, labels, scores = f"{spec.name} {partition}", trained.test.labels, trained.scores
    if assessed.calibration is None:
        return {
            "forecasts.png": forecast_plot(labels, scores, title=title),
            "errors.png": error_plot(labels, scores, title=title),
        }
    return {
        "precision_recall.png": precision_recall_plot(labels, scores, threshold=spec.threshold, title=title),
        "reliability.png": reliability_plot(assessed.calibration, title=title),
    }


def _parity_evaluation(spec: ModelSpec, report: ParityReport) -> Evaluation:
    return Evaluation(
        check="onnx_parity",
        passed=report.passed,
        observed=(
            f"{spec.estimator}: {report.rows_over_tolerance:,} of {report.rows:,} test rows differ, "
            f"at most by {report.max_difference:.2g}"
        ),
        bound=f"no row differs by more than {report.tolerance:g}",
        metadata={"rows": report.rows, "max_difference": report.max_difference},
    )


def _shown(assessed: Assessment) -> dict[str, Any]:
    """What was measured, as the UI shows it."""
    found = assessed.document()
    return {
        **{name: round(value, 6) for name, value in assessed.numbers.items()},
        "intervals": found["metrics"],
        "slices": found["slices"],
        "latency": found["latency"],
    }


def _shown_pictures(pictures: Mapping[str, bytes]) -> dict[str, dg.MetadataValue]:
    """PNGs as Markdown that the UI shows in place, by their names."""
    found = {name.removesuffix(".png"): base64.b64encode(png).decode() for name, png in pictures.items()}
    return {
        name: dg.MetadataValue.md(f"![{name.replace('_', ' ')}](data:image/png;base64,{encoded})")
        for name, encoded in found.items()
    }


def _in_words(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
