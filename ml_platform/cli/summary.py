"""The demo's summary for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


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
        f"model refused, champion unchanged; delivered again: {_champion(bad)}",
    )
    table.add_row(
        f"{drifted['partition']} drifted",
        f"model refused, champion unchanged; accepted: {_champion(drifted)}",
    )
    table.add_row("one prediction", f"score {summary['prediction']['score']:.4f}")
    for name, counts in summary["gates"].items():
        failed = f", [red]{counts['failed']} failed[/]" if counts["failed"] else ""
        table.add_row(f"gate {name}", f"{counts['passed']} passed{failed}")
    console.print(table)
    times = Table(title="Where the time went", title_justify="left", show_header=False)
    for name, seconds in summary["stages"].items():
        times.add_row(name, f"{seconds:.1f} s")
    times.add_row("[bold]total", f"[bold]{summary['total_s']:.1f} s, at most {summary['peak_mb']:,} MB")
    console.print(times)
    console.print(f"Next: [bold]make dev[/] opens the Dagster UI on {summary['home']}", highlight=False)


def _champion(day: Mapping[str, Any]) -> str:
    return f"version {day['afterwards']['champion']} is champion"
