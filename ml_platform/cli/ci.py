"""`ml-platform ci`: every asset and every check on a declared sample slice, in an instance that is thrown away."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ml_platform.cli.output import Json, say, telling_what_could_not_run, write_text

if TYPE_CHECKING:  # they load Dagster
    from ml_platform.cli.ci_report import Report
    from ml_platform.cli.ci_run import Made
    from ml_platform.cli.ci_slice import Job
    from ml_platform.cli.instance import Runner

_MARKS = {"passed": "[green]✓[/]", "failed": "[red]✗[/]", "error": "[red]![/]", "skipped": "[yellow]-[/]"}


_JUNIT, _SUMMARY = Path(".ml_platform/ci/junit.xml"), Path(".ml_platform/ci/summary.md")


def ci(
    junit: Annotated[Path, typer.Option(help="JUnit XML goes to this file.")] = _JUNIT,
    summary: Annotated[Path, typer.Option(help="The Markdown summary goes to this file.")] = _SUMMARY,
    data: Annotated[
        list[str] | None,
        typer.Option(help="SOURCE=PATH: files, folders or globs to land for a source instead of its sample."),
    ] = None,
    keep: Annotated[bool, typer.Option(help="Leave the instance where it is, to look at it.")] = False,
    keep_failed: Annotated[bool, typer.Option(help="Leave it only if something did not pass.")] = False,
    as_json: Json = False,
) -> None:
    """Materialize the declared sample slice in an instance of its own, and run every check of every asset.

    The slice is declared in defs/ci.yaml. Nothing outside of a temporary folder
    is read or written, wherever the environment says that the lake, MLflow or
    Feast's registry are; the folder is removed at the end. What reads an asset
    that failed is skipped, and everything else is run.

    Exit code 0 when all passed, 1 when a check failed, 2 when it could not run:
    definitions that do not load, a sample without rows, or an asset that broke
    before its checks could say anything.
    """
    console = Console(stderr=as_json)
    report = _reported(
        console, data or (), _Files(junit, summary, as_json), keep=keep, keep_failed=keep_failed
    )
    if report.kept:
        say(console, f"kept: ML_PLATFORM_HOME={report.kept} ml-platform dev")
    say(console, f"{report.verdict}: {report.in_words}\nwritten: {junit}, {summary}")
    raise typer.Exit(report.exit_code)


@dataclass(frozen=True)
class _Files:
    """Where a report goes; with `as_json` to standard output too."""

    junit: Path
    summary: Path
    as_json: bool

    def write(self, report: "Report") -> None:
        from ml_platform.cli import ci_report

        write_text(self.junit, ci_report.junit(report).decode())
        write_text(self.summary, ci_report.markdown(report))
        if self.as_json:
            print(json.dumps(report.as_dict()))


def _reported(
    console: Console, data: Sequence[str], files: _Files, *, keep: bool, keep_failed: bool
) -> "Report":
    """What was found, once it is written; what could not run is written too, and ends the command."""
    from ml_platform.cli.ci_report import Report

    started = time.perf_counter()

    def failed(text: str) -> None:
        files.write(Report(could_not_run=text, seconds=time.perf_counter() - started))

    def kept(report: Report) -> bool:
        return keep or (keep_failed and report.exit_code != 0)

    with telling_what_could_not_run(console, failed):
        report = checked(console, data, keep=kept)
        files.write(report)
    return report


def checked(console: Console, data: Sequence[str], *, keep: "Callable[[Report], bool]") -> "Report":
    """Land the sample in a throw-away home, make every asset once, and tell how each ended."""
    from ml_platform import declarations
    from ml_platform.cli.ci_report import Report
    from ml_platform.cli.ci_sample import given_files, land_sample, load_sample
    from ml_platform.cli.ci_slice import jobs
    from ml_platform.cli.instance import Runner
    from ml_platform.cli.throw_away import throw_away_home
    from ml_platform.kernel.partitions import key_of

    started = time.perf_counter()
    folder = declarations.defs_folder()
    catalog, sample, given = declarations.load(folder), load_sample(folder), given_files(data)
    first, last = key_of(sample.first), key_of(sample.last)
    with throw_away_home() as home:
        with console.status("definitions"):
            runner = Runner.of(home.settings)
            wanted = jobs(runner.job, catalog.lineage, first, last)
        with runner.instance:
            with console.status("sample"):
                rows = land_sample(home.settings, catalog, sample, folder, given)
            console.print(f"  {_MARKS['passed']} sample: {rows:,} rows of {first} … {last}", highlight=False)
            assets = tuple(_made(console, runner, wanted))
        report = Report(f"{first} … {last}", rows, assets, time.perf_counter() - started)
        home.keep = keep(report)
        return replace(report, kept=str(home.settings.root)) if home.keep else report


def _made(console: Console, runner: "Runner", wanted: "Sequence[Job]") -> "Iterator[Made]":
    """Make every asset, and show what is being made."""
    from ml_platform.cli.ci_run import run
    from ml_platform.kernel.partitions import spans

    found = run(runner, wanted)
    for job in wanted:
        what = f"{job.asset}[dim] {spans(job.partitions)}[/]"
        with console.status(what):
            made = next(found)
        mark, time_taken = _MARKS[made.status], f"[dim]{made.seconds:.1f} s[/]"
        console.print(f"  {mark} {what} {time_taken}", highlight=False, soft_wrap=True)
        if made.status != "passed":
            console.print(escape(made.text), style="yellow", highlight=False, soft_wrap=True)
        yield made
