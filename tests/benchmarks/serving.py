"""One request is the features of two views and a prediction: our service against what one would assemble.

`python -m tests.benchmarks.serving [--data PATH.parquet] [--seconds 5] [--json]`

Ours is `ml-platform serve` with one worker, an API key, and every prediction logged. The stock pair is `feast serve`
for the features and `mlflow models serve` for the same model, one worker each; a client asks the one and then the
other. `feast serve` alone predicts nothing. All stand on one registry and one Redis on this machine, answer for the
same events, and are asked by the same load generator in turn, over 1, 8 and 32 connections that are kept. A figure is
the median of the runs; errors are those of all runs. `p99_still_ms` is the p99 of the requests during which the
hypervisor stole no processor time from this machine, and `still` their share: one rule for every side. Before, the
scores of ours and of the pair are compared, to the rounding of float32.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks import sides
from tests.benchmarks.load import Generator, Load, Side, generator
from tests.benchmarks.measure import report
from tests.benchmarks.processes import Server
from tests.benchmarks.released import Released, released, released_arguments

CONNECTIONS = (1, 8, 32)
_COMPARED = 20
_ROUNDING = 2**-22
"""What scores may differ by: MLflow's model adds up its trees in as many threads as there are cores, in float32."""


def main() -> None:
    """Start all servers on one released platform, and load them in turn."""
    parser = released_arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of load in each run (default: 5)")
    options = parser.parse_args()
    with released(options) as platform, tempfile.TemporaryDirectory(prefix="servers-") as folder:
        result = measure(platform, Path(folder), options)
    report(_shown(result), result, as_json=options.json)


def measure(platform: Released, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Load every side over so many connections in turn; figures, scores compared, and how ours stands."""
    with ExitStack() as stack:
        ours = stack.enter_context(sides.our_service(platform, folder))
        feast = stack.enter_context(sides.feast_server(platform, folder))
        mlflow = stack.enter_context(sides.mlflow_server(platform, folder))
        asked = {
            "ours": sides.by_ours(ours, platform),
            "stock_pair": sides.by_stock_pair(feast, mlflow, platform),
            "feast_serve": sides.by_feast(feast, platform),
        }
        found = [sides.scores(asked[side], rows=_COMPARED) for side in ("ours", "stock_pair")]
        equal = all(abs(ours - theirs) <= _ROUNDING for ours, theirs in zip(*found, strict=True))
        loads = in_turn(asked, stack.enter_context(generator()), ours, options)
    figures = {side: {str(n): figure(found) for n, found in by.items()} for side, by in loads.items()}
    return {**figures, "equal": equal, "compared": _COMPARED, "against": compared(figures)}


def in_turn(
    asked: Mapping[str, Side], process: Generator, ours: Server, options: argparse.Namespace
) -> dict[str, dict[int, list[Load]]]:
    """The runs of every side: A B C A B C …, for each number of connections."""
    found: dict[str, dict[int, list[Load]]] = {side: {n: [] for n in CONNECTIONS} for side in asked}
    for connections in CONNECTIONS:
        for _ in range(options.runs):
            for side, calls in asked.items():
                load = process.load(calls, connections=connections, seconds=options.seconds)
                found[side][connections].append(load)
                if side == "ours":
                    sides.wait_until_logged(ours)  # nobody else pays for what ours left to write
    return found


def figure(loads: list[Load]) -> dict[str, Any]:
    """Medians of some runs, and all errors."""
    answered = [load for load in loads if load.p50_ms is not None and load.p99_ms is not None]
    figures: dict[str, Any] = {"rps": round(statistics.median(load.rps for load in loads), 1)}
    for name in ("p50_ms", "p99_ms", "p99_still_ms", "still"):
        values = [found for load in answered if (found := getattr(load, name)) is not None]
        figures[name] = round(statistics.median(values), 3) if values else None
    figures["errors"] = sum(load.errors for load in loads)
    told = [words for load in loads for words in load.told]
    return {**figures, **({"told": told[0]} if told else {})}


def compared(figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By number of connections: how many times the throughput of the others ours has, and which share of their p99."""
    return {
        number: {
            "times_pair": _ratio(ours["rps"], figures["stock_pair"][number]["rps"]),
            "p99_of_pair": _ratio(ours["p99_ms"], figures["stock_pair"][number]["p99_ms"]),
            "p99_still_of_pair": _ratio(ours["p99_still_ms"], figures["stock_pair"][number]["p99_still_ms"]),
            "times_feast": _ratio(ours["rps"], figures["feast_serve"][number]["rps"]),
        }
        for number, ours in figures["ours"].items()
    }


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 3) if ours is not None and theirs else None


def _shown(result: Mapping[str, Any]) -> list[dict[str, object]]:
    return [
        {"side": side, "connections": number, **{name: figures.get(name) for name in _SHOWN}}
        for number in map(str, CONNECTIONS)
        for side in ("ours", "stock_pair", "feast_serve")
        for figures in [result[side][number]]
    ]


_SHOWN = ("rps", "p50_ms", "p99_ms", "p99_still_ms", "still", "errors")

if __name__ == "__main__":
    main()
