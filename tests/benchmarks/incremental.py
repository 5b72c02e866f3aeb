"""What one day costs when much history lies before it: one day of snapshots, early and late, and all days.

`python -m tests.benchmarks.incremental --data PATH.parquet [--json]`

Both views of the platform are materialized through Dagster, in one run: day 70 alone, day 180 alone, all 183 days;
`computing` has the same without Dagster, audit and commit. The rows of a day alone must be those of all days.
"""

import argparse
import datetime as dt
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.features.component import computed
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, day, day_range, key_of
from ml_platform.lake.content_hash import content_hash
from ml_platform.lake.ledger import published
from tests.benchmarks.home import FIRST_DAY, LAST_DAY, PLATFORM, Home
from tests.benchmarks.measure import arguments, in_turn, report

VIEWS = ("customer_spending", "terminal_risk")
DAYS = [key_of(date) for date in day_range(day(FIRST_DAY), day(LAST_DAY))]


def main() -> None:
    """Publish the sources in a home of its own, time one day and all days in turn, and compare their rows."""
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="incremental-") as folder:
        home = Home(Path(folder), PLATFORM)
        home.land(options.data)
        home.publish_sources()
        measure(home, options)


def measure(home: Home, options: argparse.Namespace) -> None:
    """Run all sides and print what came out."""
    work = {"day70": [nth(70)], "day180": [nth(180)], "full": DAYS}
    made = in_turn({side: partial(materialize, home, days) for side, days in work.items()}, options.runs)
    timed = in_turn({side: partial(snapshots, home, days) for side, days in work.items()}, options.runs)
    full = timed.results["full"]
    hashes = [published_after(home, days) for days in work.values()]
    equal = all(found == hashes[0] for found in hashes) and all(
        content_hash(timed.results[side][view]) == content_hash(of_day(full[view], work[side][0]))
        for side in ("day70", "day180")
        for view in VIEWS
    )
    result = {**ratios(made.seconds), "computing": ratios(timed.seconds), "equal": equal}
    rows = [{"work": s, "materialized, s": made.seconds[s], "computed, s": timed.seconds[s]} for s in work]
    report(rows, result, as_json=options.json)


def ratios(seconds: Mapping[str, float]) -> dict[str, float]:
    """Times, and how they relate."""
    return {
        **{f"{side}_s": taken for side, taken in seconds.items()},
        "day180_over_day70": round(seconds["day180"] / seconds["day70"], 3),
        "full_over_day180": round(seconds["full"] / seconds["day180"], 1),
    }


def materialize(home: Home, days: list[str]) -> None:
    """Make both views for some days in one run."""
    home.make(*(f"features/{name}" for name in VIEWS), first=days[0], last=days[-1])


def published_after(home: Home, days: list[str]) -> dict[str, str]:
    """The content hash of every day that is published once some of them are made again."""
    materialize(home, days)
    return {
        f"{name} {partition}": publication.content_hash
        for name in VIEWS
        for partition, publication in published(home.lake, f"features/{name}").items()
    }


def nth(number: int) -> str:
    """The partition of the n-th day."""
    return key_of(day(FIRST_DAY) + (number - 1) * ONE_DAY)


def snapshots(home: Home, days: list[str]) -> dict[str, pa.Table]:
    """Both views' rows of some days, as they would be published."""
    specs = [home.catalog.get(FeatureViewSpec, name, wanted_by="a benchmark") for name in VIEWS]
    return {spec.name: computed(spec, home.catalog, home.settings, days) for spec in specs}


def of_day(rows: pa.Table, partition: str) -> pa.Table:
    """The rows of one day."""
    return rows.filter(pc.equal(rows.column(PARTITION_COLUMN), dt.date.fromisoformat(partition)))


if __name__ == "__main__":
    main()
