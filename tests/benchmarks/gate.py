"""How long it takes to know whether models may be trained after a day, and whether the answer is always the same.

`python -m tests.benchmarks.gate --data PATH.parquet [--runs 100] [--json]`

One evaluation is from the lake to the decision: the day's model-feature rows are compared with the 28 days before, and
the guard reads the evaluation of every check of every day that leads to the day's model. A recheck is the same as
`gate recheck` and `gate status` do it: with the day's report, statistics, verdict and a line in the ledger written, and
an evaluation told to Dagster. Making is all of the profile: a Dagster run that computes the features of the day's
events, profiles, compares and publishes them; then the guard. All are done with the day as it came, and with amounts
times 1.2. Imports and first runs are not timed. Every number of every verdict, and every word of the guard, has to be
the same each time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from sqlglot import exp

from ml_platform.compiler import component_of
from ml_platform.drift_profiles.component import judge_days, read_columns
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.drift_profiles.store import JudgedDay, read_days
from ml_platform.gates.acceptances import accepted
from ml_platform.gates.guard import ClosedGate, closed_gates
from ml_platform.gates.recheck import Recheck, recheck
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, day, key_of
from ml_platform.lake.ledger import published
from ml_platform.sources.landing import ingest
from ml_platform.sources.spec import SourceSpec
from tests.benchmarks.home import LAST_DAY, PLATFORM, Home, listed
from tests.benchmarks.measure import arguments, report

PROFILE, MODEL, DAY = "drift_profiles/fraud", "models/fraud", LAST_DAY
EVALUATED, RECHECKED, MADE = 100, 20, 10
FACTOR = 1.2


def main() -> None:
    """Make everything that leads to the model of one day in a home of its own, and evaluate that day many times."""
    parser = arguments(__doc__)
    parser.set_defaults(runs=EVALUATED)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        home = Home(Path(folder), PLATFORM)
        home.land(options.data)
        home.make_inputs(MODEL, DAY)
        result = measure(home, options)
    report(_shown(result), result, as_json=options.json)


def measure(home: Home, options: argparse.Namespace) -> dict[str, Any]:
    """Both days' times and answers."""
    as_it_came = _answers(home, options.runs)
    make_dearer(home, options.data)
    sides = {"as it came": as_it_came, f"amounts times {FACTOR}": _answers(home, options.runs)}
    judged = exp.select("feature").distinct().where("gated AND stage = 'drift_profiles'")
    return {
        "features": len(home.lake.table("drift_metrics").answer(judged)),
        **{name: as_it_came[name] for name in ("evaluate_s", "recheck_s", "make_s")},
        "decisions_equal": all(side["equal"] == side["of"] for side in sides.values()),
        "evaluations": sides,
    }


def _answers(home: Home, runs: int) -> dict[str, Any]:
    """Make, recheck and evaluate the day again and again: times, and how many answers were that of the first."""
    seconds, equal = dict[str, float](), list[bool]()
    for name, work, times in (
        ("make", make, MADE),
        ("recheck", rechecked, RECHECKED),
        ("evaluate", evaluate, runs),
    ):
        taken, answers = _timed(home, work, times)
        seconds[f"{name}_s"] = round(statistics.median(taken), 4)
        equal += [answer == answers[0] for answer in answers]
    closed = [replace(gate, run_id="").in_words() for gate in guarded(home)]
    return {**seconds, "equal": sum(equal), "of": len(equal), "closed": closed}


def _timed(home: Home, work: Callable[[Home], Any], times: int) -> tuple[list[float], list[dict[str, Any]]]:
    """Seconds of each time after a first that warms up, and every answer."""
    seconds, answers = list[float](), [_answer(home, work(home))]
    for _ in range(times):
        start = time.perf_counter()
        found = work(home)
        seconds.append(time.perf_counter() - start)
        answers.append(_answer(home, found))
    return seconds, answers


def evaluate(home: Home) -> tuple[JudgedDay, list[ClosedGate]]:
    """Judge the day's rows as the profile does, and ask the guard; nothing is written."""
    spec = home.catalog.get(DriftProfileSpec, "fraud", wanted_by="a benchmark")
    days = read_days(home.settings, spec.key, [DAY], read_columns(spec, home.catalog))
    contents = {DAY: published(home.lake, spec.key)[DAY].content_hash}
    judged, _ = judge_days(
        spec, home.catalog, home.settings, days, contents, accepted(home.lake, spec.key, "drift")
    )
    return judged[DAY], guarded(home)


def rechecked(home: Home) -> list[ClosedGate]:
    """Judge what is published of the day, and ask the guard what keeps the model from being made."""
    component = component_of(home.catalog.declaring(PROFILE))
    asked = Recheck(home.catalog.node(PROFILE), (DAY,), "measured", home.settings.who)
    recheck(
        home.instance,
        home.lake,
        asked,
        lambda keys: component.rechecked(home.catalog, home.settings, keys),
    )
    return guarded(home)


def make(home: Home) -> list[ClosedGate]:
    """Make the day's profile through Dagster, and ask the guard."""
    home.run(PROFILE, first=DAY, last=DAY)
    return guarded(home)


def guarded(home: Home) -> list[ClosedGate]:
    """What keeps the day's model from being made."""
    return closed_gates(home.instance, home.catalog.lineage, MODEL, DAY, lake=home.lake)


def _answer(home: Home, found: list[ClosedGate] | tuple[JudgedDay, list[ClosedGate]]) -> dict[str, Any]:
    """What the guard said, every number of the verdict, and of the day's evaluation as the lake has it."""
    judged, closed = found if isinstance(found, tuple) else (None, found)
    of_day = exp.column(PARTITION_COLUMN).eq(exp.cast(exp.Literal.string(DAY), "date"))
    metrics = home.lake.table("drift_metrics").answer(exp.select("*").where(of_day))
    return {
        "closed": [replace(gate, run_id="").in_words() for gate in closed],
        "judged": judged,
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
    return [
        {
            "the day": name,
            "evaluate, s": side["evaluate_s"],
            "recheck, s": side["recheck_s"],
            "make, s": side["make_s"],
            "same answer": f"{side['equal']} of {side['of']}",
            "the gate is": "closed" if side["closed"] else "open",
        }
        for name, side in result["evaluations"].items()
    ]


if __name__ == "__main__":
    main()
