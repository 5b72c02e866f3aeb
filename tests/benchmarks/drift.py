"""How often the drift gate cries wolf, and how often it sees one: every stable day, and the same days with a shift.

`python -m tests.benchmarks.drift --data PATH.parquet [--without-evidently] [--json]`

Sources, features and the drift profile are made as users make them. Every day from 2018-06-06 on is stable: what fails
there is a false alarm. Then shifts are made in the source rows of each day (`shifts.py`), the platform computes the
features of that day, and the gate judges it against the 28 days before. Shifts that are named by what the platform
promises are made on every day; other sizes, and values lost of each feature in turn, on every third.

Beside it stands Evidently's data-drift preset as it comes, on the same rows, columns and reference: a day is alarmed
when any column drifts. It judges all stable days, and each named shift on every third day, in the columns that the
shift changes. Ours is timed with what it reads from the lake, Evidently without: it has all rows in memory.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.drift_profiles.sequence import Columns
from ml_platform.training_sets.label_drift import DayCount
from tests.benchmarks.by_evidently import Evidently, Question, ask_all, version
from tests.benchmarks.drift_days import (
    LOST,
    Data,
    Key,
    detections,
    judged_once,
    label_detections,
    prepared,
    shifted_labels,
)
from tests.benchmarks.home import PLATFORM, Home
from tests.benchmarks.measure import arguments, report, show
from tests.benchmarks.shifts import FRAUDS, SHIFTS, ShiftedHome, changed_features

Shifted = Mapping[Key, Mapping[str, Columns]]
NAMED = {shift.name: shift.named for shift in (*SHIFTS, FRAUDS)}


def main() -> None:
    """Publish everything in a home of its own, judge all days by both, and print what was found."""
    parser = arguments(__doc__)
    parser.add_argument("--without-evidently", action="store_true", help="judge by ours alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        home = Home(Path(folder) / "stable", PLATFORM)
        home.land(options.data)
        result = measure(prepared(home), Path(folder), options)
    tell(result, as_json=options.json)


def measure(data: Data, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Judge stable and shifted days by both."""
    shifted_home = ShiftedHome(data.home, folder / "shifted")
    shifted = {
        (shift.name, size): shifted_home.days(
            data.profile, shift, size, data.judged if size == shift.named else data.some
        )
        for shift in SHIFTS
        for size in shift.sizes
    }
    labels = shifted_labels(data, shifted_home)
    found, alarms = detections(data, shifted)
    of_labels, label_alarms = label_detections(data, labels)
    result = ours(data, found | of_labels, alarms, label_alarms)
    timed = data.judged[:: max(1, len(data.judged) // options.runs)][: options.runs]
    if options.without_evidently:
        seconds = [_seconds(data, key) for key in (timed[0], *timed)][1:]
        return result | {"ours_s_per_day": _median(seconds), "evidently": None}
    tables = folder / "tables"
    write_tables(data, shifted, labels, tables)
    return result | beside_evidently(data, shifted, tables, timed)


def ours(
    data: Data, found: Mapping[Key, Sequence[bool]], alarms: Sequence[str], label_alarms: Sequence[str]
) -> dict[str, Any]:
    """Our rates: of false alarms with what they are known to, and of what was found by shift and size."""
    by_size: dict[str, dict[str, float]] = {}
    for (name, size), failed in found.items():
        by_size.setdefault(name, {})[f"{size:g}"] = _rate(sum(failed), len(failed))
    lost = by_size.pop("lost")
    return {
        "days": len(data.judged),
        **alarm_rate(len(alarms), len(data.judged)),
        "label_false_alarm_rate": _rate(len(label_alarms), len(data.judged)),
        "detection": {f"{name} {size:g}": by_size[name][f"{size:g}"] for name, size in NAMED.items()},
        "detection_by_size": by_size,
        "detection_days": {"named": len(data.judged), "other sizes": len(data.some)},
        "lost_by_feature": {"share": LOST, **{data.gated[int(n)]: rate for n, rate in lost.items()}},
    }


def beside_evidently(data: Data, shifted: Shifted, tables: Path, timed: Sequence[str]) -> dict[str, Any]:
    """Its verdicts on the same days, and the times of both in turn."""
    stable = [_question(data, key, "stable", "stable", data.gated) for key in data.judged]
    named = [
        _question(data, key, shift.name, "stable", changed)
        for shift in SHIFTS
        for changed in [changed_features(data.columns, shifted[shift.name, shift.named], data.gated)]
        for key in data.some
    ]
    labels = [_question(data, key, "labels", "labels", ["is_fraud"]) for key in data.judged]
    doubled = [_question(data, key, FRAUDS.name, "labels", ["is_fraud"]) for key in data.some]
    ours_s, theirs_s, whole = _timed(data, tables, timed)
    asked = [*stable, *named, *labels, *doubled]
    drifted = dict(zip(((q.table, q.day) for q in asked), ask_all(tables, asked), strict=True))
    if any(drifted["stable", key] != count for key, count in whole.items()):
        raise SystemExit(f"the whole preset counts {whole} drifted columns, its metric alone something else")

    def alarms(table: str, days: Sequence[str]) -> int:
        return sum(drifted[table, key] > 0 for key in days)

    theirs = {
        "version": version(),
        **alarm_rate(alarms("stable", data.judged), len(data.judged)),
        "label_false_alarm_rate": _rate(alarms("labels", data.judged), len(data.judged)),
        "detection": {
            f"{name} {size:g}": _rate(alarms(name, data.some), len(data.some)) for name, size in NAMED.items()
        },
        "detection_days": len(data.some),
        "s_per_day": theirs_s,
    }
    return {"ours_s_per_day": ours_s, "times_faster": round(theirs_s / ours_s, 1), "evidently": theirs}


def _timed(data: Data, tables: Path, days: Sequence[str]) -> tuple[float, float, dict[str, int]]:
    """Seconds a day of both, on the same days in turn, after one day that warms up; and what it found on them."""
    mine, theirs, found = list[float](), list[float](), dict[str, int]()
    with Evidently(tables) as evidently:
        for key in (days[0], *days):
            answer = evidently.ask(_question(data, key, "stable", "stable", data.gated, whole=True))
            mine.append(_seconds(data, key))
            theirs.append(answer["seconds"])
            found[key] = answer["drifted"]
    return _median(mine[1:]), _median(theirs[1:]), found


def _seconds(data: Data, key: str) -> float:
    start = time.perf_counter()
    judged_once(data, key)
    return time.perf_counter() - start


def _question(
    data: Data, key: str, table: str, reference: str, columns: Sequence[str], *, whole: bool = False
) -> Question:
    return Question(key, data.before(key), columns, table, reference, whole)


def write_tables(
    data: Data, shifted: Shifted, labels: Mapping[float, Sequence[DayCount]], folder: Path
) -> None:
    """Everything that Evidently is asked about, as Parquet files with a column for the day."""
    folder.mkdir()
    _write(folder / "stable.parquet", data.columns, data.gated)
    for shift in SHIFTS:
        _write(folder / f"{shift.name}.parquet", shifted[shift.name, shift.named], data.gated)
    for name, counts in (("labels", labels[1.0]), (FRAUDS.name, labels[FRAUDS.named])):
        flags = {
            count.day: {"is_fraud": (np.arange(count.rows) < count.positives).astype(np.float32)}
            for count in counts
            if count.day in data.columns
        }
        _write(folder / f"{name}.parquet", flags, ["is_fraud"])


def _write(path: Path, days: Mapping[str, Columns], names: Sequence[str]) -> None:
    columns = {name: np.concatenate([found[name] for found in days.values()]) for name in names}
    rows = [len(found[names[0]]) for found in days.values()]
    pq.write_table(pa.table({**columns, "day": np.repeat(list(days), rows)}), path)


def _rate(count: int, days: int) -> float:
    return round(count / days, 4)


def alarm_rate(alarms: int, days: int) -> dict[str, Any]:
    """The rate of false alarms, and between what it lies with 95 percent confidence.

    Clopper, C. and Pearson, E. S. (1934), The use of confidence or fiducial limits, Biometrika 26, 404-413.
    """
    from scipy.stats import beta

    low = beta.ppf(0.025, alarms, days - alarms + 1) if alarms else 0.0
    high = beta.ppf(0.975, alarms + 1, days - alarms) if alarms < days else 1.0
    interval = [round(float(low), 4), round(float(high), 4)]
    return {
        "false_alarms": alarms,
        "false_alarm_rate": _rate(alarms, days),
        "false_alarm_interval_95": interval,
    }


def _median(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds), 4)


def tell(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print both side by side, what was found by shift and size, and by feature that lost values."""
    theirs = result["evidently"] or {"detection": {}}
    rows = [
        {"": "false alarms", "ours": _alarms_told(result), "Evidently": _alarms_told(theirs)},
        {"": "seconds a day", "ours": result["ours_s_per_day"], "Evidently": theirs.get("s_per_day")},
    ]
    rows += [
        {"": f"found: {name}", "ours": rate, "Evidently": theirs["detection"].get(name)}
        for name, rate in result["detection"].items()
    ]
    by_size = [
        {"shift": name, "size": size, "found": rate, "named": "yes" if float(size) == NAMED[name] else ""}
        for name, sizes in result["detection_by_size"].items()
        for size, rate in sizes.items()
    ]
    lost = result["lost_by_feature"]
    by_feature = [
        {f"{lost['share']:.0%} of values lost of": f, "found": lost[f]} for f in lost if f != "share"
    ]
    if not as_json:
        show(by_size)
        show(by_feature)
    report(rows, result, as_json=as_json)


def _alarms_told(side: Mapping[str, Any]) -> str | None:
    if "false_alarm_rate" not in side:
        return None
    low, high = side["false_alarm_interval_95"]
    return f"{side['false_alarm_rate']:.1%} (95% between {low:.1%} and {high:.1%})"


if __name__ == "__main__":
    main()
