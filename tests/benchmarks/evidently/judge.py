"""Judges days by Evidently's data-drift preset as it comes; in an environment of its own (`requirements.txt`).

`python judge.py FOLDER` reads every Parquet file of the folder, each with a column `day`. Then one JSON object a line
comes in (`table` and `day` to judge, `reference` table and days, `columns`, `whole`) and one goes out: how many columns
drifted, and the seconds that it took. The whole preset makes a report; which columns drifted is counted by one of its
metrics, so without `whole` that metric alone is asked, which takes a third of the time.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import Report
from evidently.metrics.column_statistics import DriftedColumnsCount
from evidently.presets import DataDriftPreset

Tables = dict[str, dict[str, pd.DataFrame]]


def main() -> None:
    """Answer every line."""
    tables = {path.stem: days_of(pd.read_parquet(path)) for path in Path(sys.argv[1]).glob("*.parquet")}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(tables, json.loads(line))), flush=True)


def days_of(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of a table by day."""
    return {str(day): found.drop(columns="day") for day, found in rows.groupby("day")}


def answer(tables: Tables, asked: dict[str, Any]) -> dict[str, Any]:
    """Judge one day; only Evidently's own work is timed."""
    columns = asked["columns"]
    day = tables[asked["table"]][asked["day"]][columns]
    past = tables[asked["reference"]]
    reference = pd.concat([past[key][columns] for key in asked["reference_days"]], ignore_index=True)
    metric = DataDriftPreset() if asked["whole"] else DriftedColumnsCount()
    start = time.perf_counter()
    found = Report([metric]).run(day, reference).dict()
    seconds = time.perf_counter() - start
    (drifted,) = (
        m["value"]["count"] for m in found["metrics"] if m["metric_name"].startswith("DriftedColumnsCount")
    )
    return {"drifted": int(drifted), "seconds": seconds}


if __name__ == "__main__":
    main()
