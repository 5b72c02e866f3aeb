"""A candidate is measured against the champion: on the same test rows, in each slice, calibrated, and in time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_platform.gates.outcomes import Evaluation
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.models.calibration import calibration
from ml_platform.models.compute import Array, predict_onnx
from ml_platform.models.evaluation import measurable, measure, positives
from ml_platform.models.latency import Latency, latency
from ml_platform.models.resampling import difference, seed_of
from ml_platform.models.slices import masks, part_of
from ml_platform.models.spec import ModelSpec
from ml_platform.releases.compute import ALL_ROWS, Compared
from ml_platform.releases.spec import CALIBRATED, IN_TIME, NOT_WORSE, ReleaseSpec
from ml_platform.training_sets import store as training_sets
from ml_platform.training_sets.store import Arrays


@dataclass(frozen=True)
class Challenge:
    """A candidate on its own test rows, and the champion that it challenges, if there is another."""

    spec: ReleaseSpec
    model: ModelSpec
    candidate: registry.Registered
    champion: registry.Registered | None
    rows: Arrays
    onnx: bytes
    scores: Array
    seed: int

    def evaluations(self, settings: Settings) -> tuple[Evaluation, ...]:
        """One evaluation of each class of checks that the release declares."""
        found = [not_worse_than_champion(self, settings), within_latency_budget(self)]
        if self.spec.calibration_bound is not None:
            found.append(calibrated(self, bound=self.spec.calibration_bound))
        return tuple(found)


def challenge(
    spec: ReleaseSpec,
    settings: Settings,
    catalog: Catalog,
    candidate: registry.Registered,
    champion: registry.Registered | None,
) -> Challenge:
    """Read the candidate's test rows and score them with it."""
    model = spec.model_spec(catalog)
    declared = model.training_set_spec(catalog)
    manifest = training_sets.read_manifest(settings, declared, candidate.partition)
    rows = training_sets.read_arrays(settings, declared, manifest)["test"]
    onnx = registry.load_onnx(settings, candidate)
    other = champion if champion is not None and champion.version != candidate.version else None
    seed = seed_of(manifest["content_hash"], candidate.version, other.version if other else None)
    return Challenge(spec, model, candidate, other, rows, onnx, predict_onnx(onnx, rows.features), seed)


def not_worse_than_champion(challenge: Challenge, settings: Settings) -> Evaluation:
    """Compare the declared metric on all test rows and on every slice."""
    spec, model = challenge.spec, challenge.model
    rule = {"confidence": spec.confidence, "minimum_positives": spec.minimum_positives}
    beyond = "below" if model.sign > 0 else "above"
    bound = (
        f"{model.metric} at most {spec.margin:g} {beyond} the champion's on the same test rows"
        f"{f', at most {spec.slice_margin:g} in each slice' if model.slices else ''}, {spec.confidence:.0%} sure"
    )
    if challenge.champion is None:
        return Evaluation(NOT_WORSE, passed=True, observed="no other champion", bound=bound)
    compared, note = _compared(challenge, challenge.champion, settings)
    failed = [found for found in compared if found.verdict(**rule) == "failed"]
    told = [compared[0], *(found for found in failed if not found.whole)]
    words = "; ".join(found.in_words(minimum_positives=spec.minimum_positives) for found in told)
    versions = f"version {challenge.candidate.version} against champion {challenge.champion.version}"
    return Evaluation(
        NOT_WORSE,
        passed=not failed,
        observed=f"{versions}: {words}{note}",
        bound=bound,
        metadata={"comparisons": [found.as_data(**rule) for found in compared]},
    )


def calibrated(challenge: Challenge, *, bound: float) -> Evaluation:
    """Judge how far the candidate's scores are from probabilities."""
    found = calibration(challenge.rows.labels, challenge.scores)
    return Evaluation(
        CALIBRATED,
        passed=found.error <= bound,
        observed=f"expected calibration error {found.error:.4f} of version {challenge.candidate.version}",
        bound=f"at most {bound:g}",
        metadata={"calibration_error": found.error, "brier_score": found.brier_score},
    )


def within_latency_budget(challenge: Challenge) -> Evaluation:
    """Time the candidate on single rows, on the machine that releases it."""
    found: Latency = latency(challenge.onnx, challenge.rows.features)
    budget = challenge.model.latency_budget_ms
    return Evaluation(
        IN_TIME,
        passed=found.p99_ms <= budget,
        observed=(
            f"version {challenge.candidate.version} scores one row in {found.p50_ms:.3f} ms, "
            f"99 of 100 in {found.p99_ms:.3f} ms"
        ),
        bound=f"99 of 100 in {budget:g} ms",
        metadata={"latency_p50_ms": found.p50_ms, "latency_p99_ms": found.p99_ms},
    )


def _compared(
    challenge: Challenge, champion: registry.Registered, settings: Settings
) -> tuple[list[Compared], str]:
    """Both versions on all rows, then slice by slice; and what is to be said about how that was done."""
    features: Sequence[str] = registry.load_document(settings, champion, "contract.json")["features"]
    names = challenge.rows.names
    if not set(features) <= set(names):
        return [
            _as_logged(challenge, champion, settings)
        ], ", each on its own test rows: they read other features"
    theirs_of = np.ascontiguousarray(challenge.rows.features[:, [names.index(name) for name in features]])
    theirs = predict_onnx(registry.load_onnx(settings, champion), theirs_of)
    everything = [_on_rows(challenge, ALL_ROWS, challenge.rows, challenge.scores, theirs)]
    chosen = masks(challenge.model.slices, challenge.rows)
    slices = [
        _on_rows(challenge, name, part_of(challenge.rows, mask), challenge.scores[mask], theirs[mask])
        for name, mask in chosen.items()
    ]
    return everything + slices, ""


def _on_rows(challenge: Challenge, name: str, rows: Arrays, mine: Array, theirs: Array) -> Compared:
    """Both versions on the same rows, with how their difference varies over draws of these."""
    model = challenge.model
    margin = challenge.spec.margin if name == ALL_ROWS else challenge.spec.slice_margin
    about: Mapping[str, Any] = {
        "rows_of": name,
        "metric": model.metric,
        "margin": margin,
        "rows": len(rows.labels),
        "positives": positives(model, rows),
        "sign": model.sign,
    }
    if not measurable(model, rows):
        return Compared(**about, candidate=None, champion=None)
    values = [measure(model, rows, scores).get(model.metric) for scores in (mine, theirs)]
    varies = difference(model, rows, mine, theirs, margin=margin, seed=challenge.seed)
    return Compared(**about, candidate=values[0], champion=values[1], difference=varies)


def _as_logged(challenge: Challenge, champion: registry.Registered, settings: Settings) -> Compared:
    """The metric of both as it was measured when they were trained: rows that one cannot read are not shared."""
    metric = challenge.model.metric
    mine, theirs = (_logged(settings, version, metric) for version in (challenge.candidate, champion))
    model, rows = challenge.model, challenge.rows
    return Compared(
        ALL_ROWS,
        metric,
        challenge.spec.margin,
        len(rows.labels),
        positives(model, rows),
        candidate=mine,
        champion=theirs,
        sign=model.sign,
    )


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
