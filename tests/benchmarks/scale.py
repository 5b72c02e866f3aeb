"""What ten times the data costs: features of every day, made and published, at two sizes of the simulated world.

`python -m tests.benchmarks.scale [--factor 10] [--data PATH.parquet] [--json]`

Both views of the platform are materialized for all 183 days through Dagster, in one run: computed, audited, hashed,
committed. Base is the handbook's size, from the simulator or from `--data`; `peak_mb` is that of a process of its
own that does the larger work.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.defs.fraud.sources.transactions.simulator import simulate
from ml_platform.kernel.partitions import ONE_DAY, day
from tests.benchmarks.home import FIRST_DAY, LAST_DAY, PLATFORM, Home
from tests.benchmarks.measure import arguments, in_turn, peak_mb, report, run_side

VIEWS = ("features/customer_spending", "features/terminal_risk")
DAYS_A_FILE = 30


def main() -> None:
    """Publish the sources at both sizes, each in a home of its own, and time the features of both in turn."""
    parser = arguments(__doc__, data_required=False)
    parser.add_argument("--factor", type=float, default=10.0, help="size of the larger world (default: 10)")
    options = parser.parse_args()
    if options.side:
        run_side(sides(options.prepared)[options.side])
        return
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        root = Path(folder)
        prepare(root / "base", [options.data] if options.data else simulated(root, 1.0))
        prepare(root / "scaled", simulated(root, options.factor))
        measure(root, options)


def measure(root: Path, options: argparse.Namespace) -> None:
    """Run both sizes and print what came out."""
    work = sides(root)
    seconds = in_turn(work, runs=options.runs).seconds
    rows = {side: published_rows(root / side) for side in work}
    result = {
        "base_s": seconds["base"],
        "scaled_s": seconds["scaled"],
        "factor": options.factor,
        "times": round(seconds["scaled"] / seconds["base"], 2),
        "peak_mb": peak_mb("scaled", "--prepared", str(root)),
        "rows": rows,
    }
    report(
        [{"size": s, "seconds": seconds[s], "transactions": rows[s]} for s in work],
        result,
        as_json=options.json,
    )


def sides(root: Path) -> dict[str, Callable[[], None]]:
    """The same work at both sizes."""
    return {side: partial(features, Home(root / side, PLATFORM)) for side in ("base", "scaled")}


def features(home: Home) -> None:
    """Both views, for all days, made again as if for the first time."""
    for view in VIEWS:
        home.make(view)


def prepare(root: Path, files: list[Path]) -> None:
    """Land and publish the sources."""
    home = Home(root, PLATFORM)
    home.land(*files)
    home.publish_sources()


def simulated(root: Path, scale: float) -> list[Path]:
    """Deliveries of a simulated world, a month in each."""
    files: list[Path] = []
    first = day(FIRST_DAY)
    while first <= day(LAST_DAY):
        last = min(first + (DAYS_A_FILE - 1) * ONE_DAY, day(LAST_DAY))
        rows: pa.Table = simulate(first_day=first, last_day=last, scale=scale)
        files.append(root / f"{scale:g}-{first}.parquet")
        pq.write_table(rows, files[-1])
        first = last + ONE_DAY
    return files


def published_rows(root: Path) -> int:
    """Transactions that the features were made of."""
    files = Home(root, PLATFORM).files("sources/transactions")
    return sum(pq.ParquetFile(file).metadata.num_rows for file in files)


if __name__ == "__main__":
    main()
