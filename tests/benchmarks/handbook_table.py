"""The table of the fraud detection handbook, through ingest, features, training set and models.

`python -m tests.benchmarks.handbook_table --data PATH.parquet [--json]`

Everything is declared below `handbook/`: a week to learn from, a week to test on and a week between them, without
customers that are known as compromised on a test day. The sources are published, views and training set are
made and models are trained behind their gates, as users do it, for the days that one training set needs.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.home import Home
from tests.benchmarks.measure import arguments, report

TRAINING_SET = "training_sets/handbook"
DAY = "2018-08-21"  # the labels of the last test day, a week before, are known
MODELS = ("logistic_regression", "random_forest")
METRICS = {
    "auc_roc": "auc_roc",
    "average_precision": "average_precision",
    "card_precision_at_100": "customer_precision_at_100",
}


def main() -> None:
    """Make the training set and the models in a home of their own, and print what was measured."""
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="handbook-") as folder:
        home = Home(Path(folder))
        home.land(options.data)
        result = table(home)
    report(_shown(result), result, as_json=options.json)


def table(home: Home) -> dict[str, Any]:
    """Counts of the training set and metrics of the models, from landed data."""
    home.make_inputs(TRAINING_SET, DAY)
    made = home.make(TRAINING_SET, first=DAY, last=DAY)
    models = {name: home.make(f"models/{name}", first=DAY, last=DAY) for name in MODELS}
    return {
        "rows": _counts(made["rows"]),
        "models": {
            name: {shown: metrics[metric] for shown, metric in METRICS.items()}
            for name, metrics in models.items()
        },
    }


def _counts(rows: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Rows and frauds of each side."""
    return {
        "train": rows["train"]["rows"],
        "train_fraud": rows["train"]["positives"],
        "test": rows["test"]["rows"],
        "test_fraud": rows["test"]["positives"],
    }


def _shown(result: Mapping[str, Any]) -> list[dict[str, object]]:
    """The result for people: a line for each metric and count, a column for each model."""
    models = result["models"]
    metrics = [{"": shown, **{name: models[name][shown] for name in models}} for shown in METRICS]
    counts = [{"": side, **dict.fromkeys(models, f"{count:,}")} for side, count in result["rows"].items()]
    return [*metrics, *counts]


if __name__ == "__main__":
    main()
