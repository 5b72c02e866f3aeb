"""Whether our service stays as it is under steady load: memory flat, no error, no prediction lost.

`python -m tests.benchmarks.soak [--minutes 10] [--data PATH.parquet] [--json]`

`ml-platform serve` with one worker is asked half as often as it can answer, over 8 connections. Resident memory is
that of its processes, at the start when a warm-up at the same rate is over; `rss_mb` are the readings between. In the
end the rows of the prediction log in the lake are counted against the answers that the load generator got.
"""

import argparse
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ml_platform.lake.engine import connect
from ml_platform.lake.tables import Lake
from ml_platform.serving.logged import log_table
from tests.benchmarks import sides
from tests.benchmarks.load import Load, generator
from tests.benchmarks.measure import report
from tests.benchmarks.processes import Server
from tests.benchmarks.released import MODEL, Released, released, released_arguments

CONNECTIONS = 8
_FINDS_RATE_S, _WARM_S, _LOOKS_EVERY_S = 5.0, 20.0, 5.0
_READINGS = 20


def main() -> None:
    """Serve a released platform, and ask it for so many minutes."""
    parser = released_arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of steady load (default: 10)")
    parser.add_argument("--rate", type=float, help="requests a second; default: half of what it can answer")
    options = parser.parse_args()
    with released(options) as platform, tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = measure(platform, Path(folder), options)
    rows = [{name: value for name, value in result.items() if name not in ("rss_mb", "told")}]
    report(rows, result, as_json=options.json)


def measure(platform: Released, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Find the rate, warm up, ask, and count."""
    with sides.our_service(platform, folder) as server, generator() as process:
        side = sides.by_ours(server, platform)
        most = process.load(side, connections=CONNECTIONS, seconds=_FINDS_RATE_S, warm=0.0)
        rate = options.rate or most.rps / 2
        warm = process.start(side, connections=CONNECTIONS, seconds=_WARM_S, warm=0.0, rate=rate).result()
        start = server.rss_mb()
        seconds = options.minutes * 60
        asked = process.start(side, connections=CONNECTIONS, seconds=seconds, warm=0.0, rate=rate)
        readings = watched(server, asked)
        load, end = asked.result(), server.rss_mb()
        sides.wait_until_logged(server)
        lost = int(sides.told(server, "log_lost"))
    answered = most.answered + warm.answered + load.answered
    return {
        "minutes": options.minutes,
        "rate": round(rate, 1),
        "requests": load.answered + load.errors,
        "errors": most.errors + warm.errors + load.errors,
        "lost": lost,
        "rss_start_mb": start,
        "rss_end_mb": end,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "answered": answered,
        "logged": logged(platform),
        "rss_mb": readings[:: max(1, len(readings) // _READINGS)],
        "told": [*most.told, *warm.told, *load.told],
    }


def watched(server: Server, asked: "Future[Load]") -> list[float]:
    """Resident memory every few seconds, until the load is over."""
    found = list[float]()
    while not asked.done():
        found.append(server.rss_mb())
        time.sleep(_LOOKS_EVERY_S)
    return found


def logged(platform: Released) -> int:
    """Rows of the prediction log, each prediction once."""
    table = Lake(platform.settings.lake_uri).table(log_table(MODEL))
    with connect(platform.settings) as connection:
        rows = connection.sql(f"SELECT count(DISTINCT prediction_id) FROM ({table.scan()})")
        return rows.to_arrow_table().column(0)[0].as_py()


if __name__ == "__main__":
    main()
