"""Measures scores against labels.

Apart from `compute.py`, because releases measure too: a champion and its challenger, on the same rows.
"""
# scikit-learn has no types.
# pyright: standard

import numpy as np

from ml_platform.kernel.errors import InputError
from ml_platform.models.compute import Array, binary_labels
from ml_platform.models.errors import errors
from ml_platform.models.spec import ModelSpec
from ml_platform.training_sets.store import Arrays


def measure(spec: ModelSpec, rows: Arrays, scores: Array) -> dict[str, float]:
    """Every metric of a model on labelled rows with their scores (n,), by name; one without a value is left out.

    Raises InputError where `evaluate` and `errors` do.
    """
    if spec.task == "regression":
        return errors(rows.labels, scores)
    found = evaluate(rows.labels, scores, threshold=spec.threshold)
    for wanted in spec.entity_precision_at_k:
        entities = rows.entities[wanted.entity]
        found[wanted.metric] = entity_precision_at_k(entities, rows.days, rows.labels, scores, k=wanted.k)
    return found


def evaluate(labels: Array, scores: Array, *, threshold: float) -> dict[str, float]:
    """Measure scores (n,) against labels 0 and 1 (n,): ranking, and what alerts at the threshold are worth.

    `precision` and `recall` are of rows with `score >= threshold`, in float64; precision of no rows is 0.
    Raises InputError for labels of one class, where an AUC has no value, or scores that are not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels, scores = labels_and_scores(labels, scores)
    alerts = scores >= threshold
    hits = int(labels[alerts].sum())
    return {
        "auc_roc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "precision": hits / max(1, int(alerts.sum())),
        "recall": hits / int(labels.sum()),
        "positives": float(labels.sum()),
        "rows": float(len(labels)),
    }


def measurable(spec: ModelSpec, rows: Arrays) -> bool:
    """Whether rows can be measured: there are some, and of classes some are positive and some are not."""
    if spec.task == "regression":
        return len(rows.labels) > 0
    return 0 < int(rows.labels.sum()) < len(rows.labels)


def positives(spec: ModelSpec, rows: Arrays) -> int | None:
    """How many rows are positive; None of numbers, which all tell as much."""
    return int(rows.labels.sum()) if spec.task == "classification" else None


def labels_and_scores(labels: Array, scores: Array) -> tuple[Array, Array]:
    """Return labels as int64 and scores as float64, or raise InputError if they cannot be judged."""
    if labels.shape != scores.shape or not np.isfinite(scores).all():
        raise InputError(
            f"Evaluation needs a finite score per label; labels {labels.shape}, scores {scores.shape} came, "
            f"{(~np.isfinite(scores)).sum()} not finite. Nothing was evaluated. Score the labelled rows."
        )
    return binary_labels(labels, what="Evaluation"), scores.astype(np.float64)


def entity_precision_at_k(entities: Array, days: Array, labels: Array, scores: Array, *, k: int) -> float:
    """Mean over the days of the share of the k highest scored entities that have a positive on that day.

    All arrays are (n,): entity numbers (-1 for none: such rows are left out), days, labels and scores. An entity is
    ranked by its highest score of the day; of equal scores the lower number comes first. An entity found on a
    day, among its top k and with a positive, leaves the days after. A day with fewer than k entities is still
    divided by k. This is the "card precision top-k" of Le Borgne, Siblini, Lebichot and Bontempi (2022),
    Reproducible Machine Learning for Credit Card Fraud Detection, chapter "Performance metrics".
    """
    found: set[int] = set()
    shares = []
    for today in np.unique(days):
        of_today = (days == today) & (entities >= 0)
        numbers, place = np.unique(entities[of_today], return_inverse=True)
        highest, positive = np.full(len(numbers), -np.inf), np.zeros(len(numbers), bool)
        np.maximum.at(highest, place, scores[of_today])
        np.logical_or.at(positive, place, labels[of_today] == 1)
        left = ~np.isin(numbers, list(found))
        top = np.lexsort((numbers[left], -highest[left]))[:k]
        hits = numbers[left][top][positive[left][top]]
        found |= set(hits.tolist())
        shares.append(len(hits) / k)
    return float(np.mean(shares))
