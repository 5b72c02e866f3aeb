"""How every benchmark measures: its options, times of sides in turn, peaks of fresh processes, what it prints.

A side is one way of doing the work. All sides of a benchmark are timed in one process, or each in one that is kept
for it, where one would leave gigabytes to the others; the peak of each is that of a fresh process of its own, for which
the benchmark is started again with `--side`. A benchmark looks like this:

    options = arguments(__doc__).parse_args()
    sides = {"ours": lambda: ours(options.data), "sql": lambda: by_sql(options.data)}
    if options.side:
        run_side(sides[options.side])
        return
    timed = in_turn(sides, runs=options.runs)
    result = {f"{side}_s": seconds for side, seconds in timed.seconds.items()}
    result |= {f"{side}_peak_mb": peak_mb(side) for side in sides}
    report([{"side": side, "seconds": timed.seconds[side]} for side in sides], result, as_json=options.json)
"""

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

_MB = 1_000_000


@dataclass(frozen=True)
class Timed:
    """Median wall seconds of each side, and what each returned last."""

    seconds: dict[str, float]
    results: dict[str, Any]


def arguments(about: str | None, *, data_required: bool = True) -> argparse.ArgumentParser:
    """A parser with what all benchmarks understand; add to it what one of them needs.

    `--side` and `--prepared` are not for people: they start the process that one side's peak is taken of, and
    tell it where the benchmark has put the inputs that all sides share.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--data", type=_file, required=data_required, help="Parquet file in the handbook's columns"
    )
    parser.add_argument("--runs", type=_positive, default=3, help="runs of each side (default: 3)")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--prepared", type=Path, help=argparse.SUPPRESS)
    return parser


def in_turn(sides: Mapping[str, Callable[[], Any]], runs: int = 3, *, apart: bool = False) -> Timed:
    """Run each side once to warm it, then all sides in turn (A B A B …), and take the median of each.

    What a side returned before is dropped before it runs again, and no side pays for what another has left. With
    `apart` each has a process for itself; what it does and what it returns can be pickled then.
    """
    with ExitStack() as stack:
        places = {side: stack.enter_context(_apart()) if apart else Place() for side in sides}
        for side, work in sides.items():
            places[side].run(work)
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(runs):
            for side, work in sides.items():
                seconds[side].append(places[side].run(work))
        medians = {side: round(statistics.median(taken), 6) for side, taken in seconds.items()}
        return Timed(medians, {side: place.result() for side, place in places.items()})


class Place:
    """Where a side runs, and what it returned last."""

    def __init__(self) -> None:
        self._result: Any = None

    def run(self, work: Callable[[], Any]) -> float:
        """Wall seconds of the work."""
        self._result = None
        _give_back()
        start = time.perf_counter()
        self._result = work()
        return time.perf_counter() - start

    def result(self) -> Any:
        return self._result


class OtherProcess(Place):
    """The same in a process that is there for one side alone."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def run(self, work: Callable[[], Any]) -> float:
        return self._pool.submit(_run_here, work).result()

    def result(self) -> Any:
        return self._pool.submit(_result_here).result()


@contextmanager
def _apart() -> Iterator[OtherProcess]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield OtherProcess(pool)


_HERE = Place()


def _run_here(work: Callable[[], Any]) -> float:
    return _HERE.run(work)


def _result_here() -> Any:
    return _HERE.result()


def _give_back() -> None:
    """Free what is no longer used, in the allocators too.

    DuckDB's gives pages back only when it is next asked for some: after a side that held gigabytes, opening a
    database takes a tenth of a second of the kernel's time, whoever opens it.
    """
    gc.collect()
    duckdb.connect().close()


def run_side(work: Callable[[], Any]) -> None:
    """Run one side in this process, and print its peak for `peak_mb`, which started the process."""
    kept = work()  # alive while the peak is read: a result counts even if nobody looks at it
    print(json.dumps({"peak_mb": round(own_peak_mb(), 1)}))
    del kept


def peak_mb(side: str, *more: str) -> float:
    """Peak resident memory, in MB of 10^6 bytes, of a fresh process that runs one side.

    The process is this benchmark's own command with `--side` and `more` added. It includes the imports.
    """
    command = [sys.executable, *sys.orig_argv[1:], "--side", side, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"side {side!r} failed in a process of its own ({' '.join(command)}):\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]


def own_peak_mb() -> float:
    """Peak resident memory of this process so far, in MB.

    Linux hands `ru_maxrss` on to a child, even through exec: a child of a large parent would look as large. The
    high-water mark of the process's own memory does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / _MB for line in lines if line.startswith("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MB


def report(rows: Sequence[Mapping[str, object]], result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a small table for people on stderr, unless only JSON is wanted, and the result as the last line."""
    if rows and not as_json:
        show(rows)
    print(json.dumps(result, allow_nan=False))


def show(rows: Sequence[Mapping[str, object]]) -> None:
    """Print a small table for people on stderr."""
    table = Table(*dict.fromkeys(name for row in rows for name in row))
    for row in rows:
        table.add_row(*(_text(row.get(str(column.header))) for column in table.columns))
    Console(stderr=True).print(table)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"a Parquet file is required; there is none at {text}")
    return path.resolve()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is required; got {text!r}")
    return int(text)
