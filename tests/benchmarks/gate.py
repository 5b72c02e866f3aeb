"""How long it takes to know whether models may be trained after a day, and whether the answer is always the same.

`python -m tests.benchmarks.gate --data PATH.parquet [--runs 100] [--json]`

One evaluation materializes the drift profile of one day through Dagster (features as known at each event, whylogs
profile, comparison with the 28 days before, all of it published and recorded), then asks the guard whether the model
of that day may be made: it reads the evaluation of every check of every day that leads to the model. That is done
`--runs` times with the day as it came, and as often with amounts times 1.2; imports and first runs are not timed.
Every number of every evaluation, and every word of the answer, has to be the same each time.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from sqlglot import exp

from ml_platform.gates.guard import ClosedGate, closed_gates
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, day, key_of
from ml_platform.sources.landing import ingest
from ml_platform.sources.spec import SourceSpec
from tests.benchmarks.home import LAST_DAY, PLATFORM, Home, listed
from tests.benchmarks.measure import arguments, report

PROFILE, MODEL, DAY = "drift_profiles/fraud", "models/fraud", LAST_DAY
TIMES = 100
FACTOR = 1.2


def main() -> None:
    """Make everything that leads to the model of one day in a home of its own, and evaluate that day many times."""
    parser = arguments(__doc__)
    parser.set_defaults(runs=TIMES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        home = Home(Path(folder), PLATFORM)
        home.land(options.data)
        home.make_inputs(MODEL, DAY)
        result = measure(home, options)
    report(_shown(result), result, as_json=options.json)


def measure(home: Home, options: argparse.Namespace) -> dict[str, Any]:
    """Both days' times and answers."""
    as_it_came = _evaluated(home, options.runs)
    make_dearer(home, options.data)
    dearer = _evaluated(home, options.runs)
    judged = exp.select("feature").distinct().where("gated AND stage = 'drift_profiles'")
    sides = {"as it came": as_it_came, f"amounts times {FACTOR}": dearer}
    return {
        "features": len(home.lake.table("drift_metrics").answer(judged)),
        "evaluate_s": as_it_came["seconds"],
        "decisions_equal": all(side["equal"] == options.runs for side in sides.values()),
        "runs": options.runs,
        "evaluations": sides,
    }


def _evaluated(home: Home, runs: int) -> dict[str, Any]:
    """Evaluate the day so many times after a first that warms up: times, and how many answers were the same."""
    first, seconds, equal = _answer(home, evaluate(home)), list[float](), 0
    for _ in range(runs):
        start = time.perf_counter()
        closed = evaluate(home)
        seconds.append(time.perf_counter() - start)
        equal += _answer(home, closed) == first
    return {
        "seconds": round(statistics.median(seconds), 4),
        "slowest_s": round(max(seconds), 4),
        "equal": equal,
        "closed": first["closed"],
    }


def evaluate(home: Home) -> list[ClosedGate]:
    """Materialize the profile of the day, and ask the guard what keeps the model from being made."""
    home.run(PROFILE, first=DAY, last=DAY)
    return closed_gates(home.instance, home.catalog.lineage, MODEL, day(DAY), lake=home.lake)


def _answer(home: Home, closed: list[ClosedGate]) -> dict[str, Any]:
    """What the guard said, and every number of the day's evaluation as the lake has it."""
    of_day = exp.column(PARTITION_COLUMN).eq(exp.cast(exp.Literal.string(DAY), "date"))
    metrics = home.lake.table("drift_metrics").answer(exp.select("*").where(of_day))
    return {
        "closed": [replace(gate, run_id="").in_words() for gate in closed],
        "verdict": home.lake.table(f"{PROFILE}_decisions").answer(exp.select("*").where(of_day)),
        "metrics": sorted(metrics, key=lambda row: (row["stage"], row["feature"])),
    }


def make_dearer(home: Home, data: Path) -> None:
    """Deliver the day again with other amounts, known when it was complete, and publish it."""
    with duckdb.connect() as connection:
        rows = connection.sql(
            f"SELECT * REPLACE (tx_amount * {FACTOR} AS tx_amount) FROM read_parquet({listed([str(data)])}) "
            f"WHERE CAST(tx_datetime AS DATE) = '{DAY}'"
        ).to_arrow_table()
    path = home.root / "dearer.parquet"
    pq.write_table(rows, path)
    source = home.catalog.get(SourceSpec, "transactions", wanted_by="a benchmark")
    ingest(home.settings, source, path, known_at=f"{key_of(day(DAY) + ONE_DAY)} 00:00:00+00:00")
    home.make("sources/transactions", first=DAY, last=DAY)


def _shown(result: dict[str, Any]) -> list[dict[str, object]]:
    runs = result["runs"]
    return [
        {
            "the day": name,
            "seconds": side["seconds"],
            "slowest": side["slowest_s"],
            "same answer": f"{side['equal']} of {runs}",
            "the gate is": "closed" if side["closed"] else "open",
        }
        for name, side in result["evaluations"].items()
    ]


if __name__ == "__main__":
    main()
