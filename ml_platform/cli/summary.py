"""The demo's summary: shown to people, and kept in the home so that a finished demo is not run again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from ml_platform.gates.evaluations import latest_states
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Node
from ml_platform.kernel.settings import Settings


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Rows, model, gates, where each second went, and what to open next."""
    model, bad, drifted = summary["model"], summary["corrupted"], summary["drifted"]
    table = Table(title="What is there now", title_justify="left", show_header=False)
    table.add_row("events", f"{summary['rows']:,} in {summary['partitions']} daily partitions")
    table.add_row(
        f"model of {model['partition']}",
        f"AUC ROC {model['auc_roc']:.3f}, average precision {model['average_precision']:.3f}, "
        f"precision {model['precision']:.3f}, recall {model['recall']:.3f}",
    )
    table.add_row(
        f"{bad['partition']} corrupted",
        f"{_refused(bad)}; delivered again: {_champion(bad)}",
    )
    table.add_row(
        f"{drifted['partition']} drifted",
        f"{_refused(drifted)}; accepted: {_champion(drifted)}",
    )
    table.add_row("one prediction", f"score {summary['prediction']['score']:.4f}")
    for name, counts in summary["gates"].items():
        table.add_row(f"gate {name}", _counted(counts))
    console.print(table)
    times = Table(title="Where the time went", title_justify="left", show_header=False)
    for name, seconds in summary["stages"].items():
        times.add_row(name, f"{seconds:.1f} s")
    times.add_row("[bold]total", f"[bold]{summary['total_s']:.1f} s, at most {summary['peak_mb']:,} MB")
    console.print(times)
    console.print(f"Next: [bold]make dev[/] opens the Dagster UI on {summary['home']}", highlight=False)


def _refused(day: Mapping[str, Any]) -> str:
    return f"model refused, champion {'unchanged' if day['champion_unchanged'] else 'CHANGED'}"


def _champion(day: Mapping[str, Any]) -> str:
    return f"version {day['afterwards']['champion']} is champion"


def _counted(counts: Mapping[str, int]) -> str:
    if not any(counts.values()):
        return "not evaluated yet"
    failed = f", [red]{counts['failed']} failed[/]" if counts["failed"] else ""
    return f"{counts['passed']} passed{failed}"


def keep_summary(settings: Settings, summary: Mapping[str, Any]) -> None:
    """Keep the summary of a finished demo in its home."""
    _path(settings).write_text(json.dumps(summary, indent=2))


def existing_summary(settings: Settings) -> dict[str, Any] | None:
    """The summary of a demo that was finished in this home, or None."""
    return json.loads(_path(settings).read_text()) if _path(settings).exists() else None


def gate_results(instance: dg.DagsterInstance, assets: Mapping[str, Node]) -> dict[str, dict[str, int]]:
    """How many partitions of each blocking check of some assets passed and failed, by their latest evaluation."""
    results: dict[str, dict[str, int]] = {}
    for key, node in sorted(assets.items()):
        for check in (check.name for check in node.blocking_checks):
            found = latest_states(instance, key, check)
            states = [passed for day, passed in found.items() if (day is not None) == node.partitioned]
            results[f"{key} {check}"] = {"passed": sum(states), "failed": len(states) - sum(states)}
    return results


def read_progress(settings: Settings) -> dict[str, Any]:
    """What an unfinished demo in this home has shown so far, by step."""
    path = settings.root / "demo-progress.json"
    return json.loads(path.read_text()) if path.exists() else {}


def keep_progress(settings: Settings, progress: Mapping[str, Any]) -> None:
    """Keep what the demo has shown, so that it can go on after it was interrupted."""
    settings.prepare()
    unfinished = settings.root / "demo-progress.unfinished"
    unfinished.write_text(json.dumps(progress))
    unfinished.replace(settings.root / "demo-progress.json")


def require_same_options(settings: Settings, options: Mapping[str, Any]) -> None:
    """Raise InputError when the demo that this home has begun was asked for something else."""
    progress = read_progress(settings)
    wanted = json.loads(json.dumps(options))
    if progress.setdefault("options", wanted) != wanted:
        raise InputError(
            f"{settings.root} holds a demo with {progress['options']}; {wanted} was asked for. Nothing was changed; "
            "give the same options, start over with --reset, or set ML_PLATFORM_HOME to another folder"
        )
    keep_progress(settings, progress)


def _path(settings: Settings) -> Path:
    return settings.root / "demo.json"
