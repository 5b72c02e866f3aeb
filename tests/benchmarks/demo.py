"""How long the product's main job takes, by stage: `python -m tests.benchmarks.demo [--data PATH] [--json]`."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the demo several times, each in a new home and process, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a file in the handbook's columns; default: the simulator")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    options = parser.parse_args()
    summaries = [run_once(options.data) for _ in range(options.runs)]
    stages = {name: median(s["stages"][name] for s in summaries) for name in summaries[0]["stages"]}
    result: dict[str, Any] = {
        "total_s": median(s["total_s"] for s in summaries),
        "stages": stages,
        "peak_mb": max(s["peak_mb"] for s in summaries),
        "rows": summaries[0]["rows"],
        "runs": options.runs,
        "model": {name: summaries[0]["model"][name] for name in ("auc_roc", "average_precision")},
    }
    if not options.json:
        for name, seconds in [*stages.items(), ("total", result["total_s"])]:
            print(f"{name:16} {seconds:8.1f} s")
    print(json.dumps(result))


def run_once(data: str | None) -> dict[str, Any]:
    """One demo, as a user starts it; its summary."""
    command = [str(Path(sys.executable).with_name("ml-platform")), "demo", "--json"]
    if data:
        command += ["--source", data]
    with tempfile.TemporaryDirectory(prefix="demo-") as home:
        done = subprocess.run(
            command, env={**os.environ, "ML_PLATFORM_HOME": home}, capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def median(values: Any) -> float:
    """The median, to a tenth."""
    return round(statistics.median(values), 1)


if __name__ == "__main__":
    main()
