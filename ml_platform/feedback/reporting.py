"""What was found of a day, as checks and the UI tell it: sentences, numbers and tables. Nothing here blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from ml_platform.feedback.drift import VersionDrift, worst
from ml_platform.feedback.findings import Consistency
from ml_platform.feedback.performance import ConceptDrift
from ml_platform.feedback.spec import (
    CONCEPT_DRIFT,
    CONSISTENCY,
    PREDICTION_DRIFT,
    TRAINING_DRIFT,
    FeedbackSpec,
)
from ml_platform.gates.outcomes import Evaluation
from ml_platform.gates.tables import table
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.lake.engine import database
from ml_platform.training_sets.spec import Task

Metadata = Mapping[str, Any]


def consistency_evaluation(found: Consistency) -> Evaluation:
    """Whether what predictions saw is what the offline tables have."""
    status = "not_judged" if not found.predictions else "failed" if found.mismatches else "passed"
    return Evaluation(
        check=CONSISTENCY,
        passed=not found.mismatches,
        observed=found.in_words(),
        bound="every logged value is that of the published table at the logged snapshot",
        metadata={
            "status": status,
            "predictions": found.predictions,
            "mismatches": found.mismatches,
            "features": table([asdict(feature) for feature in found.features]),
            "views": table([asdict(view) for view in found.views]),
        },
        blocking=False,
    )


def prediction_drift(spec: FeedbackSpec, found: Sequence[VersionDrift]) -> Evaluation:
    """Whether a day's scores are those of the days before."""
    return _drift(PREDICTION_DRIFT, f"scores within {spec.score_bound:g}", found)


def training_drift(spec: FeedbackSpec, found: Sequence[VersionDrift]) -> Evaluation:
    """Whether a day's logged features are those that the version was trained on."""
    bound = f"features within {spec.feature_bound:g}, missing shares within {spec.missing_bound:g}"
    return _drift(TRAINING_DRIFT, bound, found)


def concept_drift_evaluation(spec: FeedbackSpec, found: Sequence[ConceptDrift]) -> Evaluation:
    """Whether each version is as good as when it was evaluated."""
    failed = [one for one in found if one.status == "failed"]
    told = failed or found
    return Evaluation(
        check=CONCEPT_DRIFT,
        passed=not failed,
        observed="; ".join(f"version {one.version}: {one.reason}" for one in told) or "no outcomes",
        bound=f"surely no more than {spec.margin:g} worse than when it was evaluated",
        metadata={
            "status": "failed"
            if failed
            else "passed"
            if any(o.status == "passed" for o in found)
            else "not_judged",
            "versions": table([_compared(one) for one in found]),
        },
        blocking=False,
    )


def counts(rows: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """By day, how many predictions each version made in each role, and what became of them."""
    query = f"""
SELECT CAST({PARTITION_COLUMN} AS VARCHAR) AS day, version, role, count(*) AS predictions,
    count(event_id) AS with_event, count(*) FILTER (outcome = 'rejected') AS rejected,
    count(*) FILTER (alert) AS alerts, avg(score) AS mean_score
FROM rows GROUP BY ALL ORDER BY ALL"""
    return _by_day(query, rows)


def log_metadata(counted: Sequence[Metadata], found: Consistency) -> Metadata:
    """What the log asset shows of a day: its versions, and how fresh the features were that they read."""
    return {
        "versions": table(counted),
        "mismatches": found.mismatches,
        **{f"late_{view.view}": view.late for view in found.views},
        **{f"corrected_{view.view}": view.corrected for view in found.views},
    }


def outcomes_metadata(rows: pa.Table, task: Task) -> dict[str, Metadata]:
    """By day, how many predictions found their label, and why others did not."""
    labels = (
        "avg(label) FILTER (counted) AS mean_label"
        if task == "regression"
        else "coalesce(sum(label) FILTER (counted), 0)::BIGINT AS positives"
    )
    query = f"""
SELECT CAST({PARTITION_COLUMN} AS VARCHAR) AS day, count(*) AS predictions, count(*) FILTER (counted) AS counted,
    count(*) FILTER (event_id IS NULL) AS without_event,
    count(*) FILTER (event_id IS NOT NULL AND label IS NULL) AS without_label,
    count(*) FILTER (score IS NULL) AS rejected,
    count(*) FILTER (label IS NOT NULL AND score IS NOT NULL AND NOT counted) AS repeated,
    {labels}
FROM rows GROUP BY ALL ORDER BY ALL"""
    return {key: found for key, (found,) in _by_day(query, rows).items()}


def performance_metadata(rows: pa.Table, key: str) -> Metadata:
    """What the performance asset shows of a day: every metric of every version."""
    mine = [row for row in rows.to_pylist() if str(row[PARTITION_COLUMN]) == key]
    return {"performance": table([{k: v for k, v in row.items() if k != PARTITION_COLUMN} for row in mine])}


def _drift(check: str, bound: str, found: Sequence[VersionDrift]) -> Evaluation:
    status = worst(found)
    told = [one for one in found if one.decision.status == "failed"] or list(found)
    return Evaluation(
        check=check,
        passed=status != "failed",
        observed="; ".join(f"version {one.version}: {one.decision.reason}" for one in told)
        or "no predictions",
        bound=bound,
        metadata={
            "status": status,
            "reference": "; ".join(dict.fromkeys(one.reference for one in found)) or "none",
            "features": table(
                [_distance(one, feature) for one in found for feature in one.decision.features]
            ),
        },
        blocking=False,
    )


def _distance(found: VersionDrift, feature: Any) -> dict[str, Any]:
    return {
        "version": found.version,
        "feature": feature.feature,
        "statistic": feature.statistic_name,
        "distance": feature.statistic,
        "bound": feature.bound,
        "p_adjusted": feature.p_adjusted,
        "missing_share": feature.missing_share,
        "reference_missing_share": feature.reference_missing_share,
        "breached": feature.breached,
        "reason": feature.reason,
    }


def _compared(found: ConceptDrift) -> dict[str, Any]:
    measure, loss = found.measure, found.measure.loss
    return {
        "version": found.version,
        "status": found.status,
        "metric": measure.metric,
        "value": measure.value,
        "low": measure.interval.low if measure.interval else None,
        "high": measure.interval.high if measure.interval else None,
        "evaluation": measure.evaluation.get("value"),
        "loss_low": loss.low if loss else None,
        "loss_high": loss.high if loss else None,
        "rows": measure.rows,
        "positives": measure.positives,
    }


def _by_day(query: str, rows: pa.Table) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    with database() as connection:
        connection.register("rows", rows)
        for row in connection.sql(query).to_arrow_table().to_pylist():
            found.setdefault(row.pop("day"), []).append(row)
    return found
