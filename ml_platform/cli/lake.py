"""`ml-platform lake …`: keeps the lake's tables quick to read, and removes what nobody needs any more."""

import json
import os
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import track
from rich.table import Table

from ml_platform.cli.output import Json, telling_errors
from ml_platform.kernel.addresses import without_password
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.settings import Settings, settings
from ml_platform.lake.maintenance import Compacted, Needed, Vacuum, plan_vacuum
from ml_platform.lake.maintenance import compact as merge_files
from ml_platform.lake.maintenance import vacuum as remove_files
from ml_platform.lake.tables import Lake

lake_app = typer.Typer(
    help="Keep the lake's tables quick to read, and free what nobody needs.", no_args_is_help=True
)


@lake_app.command()
def compact(
    tables: Annotated[
        list[str] | None,
        typer.Argument(help="Tables, such as `features/NAME` or `ledgers/publications`; default: all."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Merge the small files of each partition into larger ones, so that reading them takes less time.

    Rows, content hashes and old versions stay as they are, and others may read
    and write meanwhile. What the small files took is freed by a later
    `ml-platform lake vacuum`. Worth it now and then for tables that grow by
    small commits: the ledgers, and what `ingest` has landed.
    """
    console = Console(stderr=as_json)
    found = Lake(settings().lake_uri)
    with telling_errors(console):
        names = found.table_names()
        unknown = sorted(set(tables or ()) - set(names))
        if unknown:
            raise InputError(f"tables of this lake are required: {', '.join(names) or 'none'}; got {unknown}")
        chosen = sorted(set(tables or names))
        progress = track(chosen, "merging", console=console, transient=True, disable=not console.is_terminal)
        results = [merge_files(found, name) for name in progress]
    _tell_compacted(console, results)
    if as_json:
        print(json.dumps({"compacted": [asdict(result) for result in results]}))


@lake_app.command()
def vacuum(
    older_than: Annotated[
        str,
        typer.Option(
            help="Files that were replaced less long ago stay, for who still reads them: a number and s, m, h or d."
        ),
    ] = "7d",
    dry_run: Annotated[bool, typer.Option(help="Say what would be removed; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove data files that no table needs any more, and never one that a registered model was trained from.

    A file stays if the newest version of its table has it, or a version that
    the manifest of any version of any registered model names, so that every
    model's training set can be built again. Training sets that no model was
    trained on do not count. When the model registry or one manifest cannot be
    read, nothing is removed.

    Leftovers of processes that were killed go too, unless the bound is shorter
    than an hour: then they may belong to a process that is writing now.
    """
    console = Console(stderr=as_json)
    here = settings()
    found = Lake(here.lake_uri)
    with telling_errors(console):
        bound = _duration(older_than)
        with console.status("asking which files models need"):
            manifests = _manifests(here)
        with console.status("looking for files that nobody needs"):
            planned = plan_vacuum(found, Needed.of(manifests), bound.timedelta())
        if not dry_run:
            work = [plan for plan in planned if plan.files]
            for plan in track(
                work, "removing", console=console, transient=True, disable=not console.is_terminal
            ):
                remove_files(found, plan)
    summary = _summary(planned, models=len(manifests), older_than=str(bound), dry_run=dry_run)
    _tell_vacuumed(console, planned, summary)
    if as_json:
        print(json.dumps(summary))


def _duration(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as err:
        raise InputError(f"--older-than {err}") from err


def _manifests(here: Settings) -> dict[str, dict[str, Any]]:
    """The manifest of every registered model version, by the model's name and number.

    Raises StoreError when one cannot be read, and when the registry does not know a model that was released
    from this lake: then it is another registry, and says nothing about what this lake is needed for.
    """
    from ml_platform.model_registry.registry import manifests
    from ml_platform.releases.store import PROMOTIONS

    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"
    )  # MLflow's own 7 are four minutes of silence
    try:
        known = {(found.name, found.version): manifest for found, manifest in manifests(here.prepare())}
    except StoreError as err:
        raise StoreError(f"{err}. Nothing was removed") from err
    released = {entry["model"]: entry["version"] for entry in PROMOTIONS.entries(Lake(here.lake_uri))}
    strangers = [
        f"{model} version {version}" for model, version in released.items() if (model, version) not in known
    ]
    if strangers:
        raise StoreError(
            f"{without_password(here.tracking_uri)}: the registry that models of this lake were released in is "
            f"required; this one does not know {', '.join(strangers)}. Nothing was removed; set "
            f"ML_PLATFORM_MLFLOW_TRACKING_URI to the right one"
        )
    return {f"model {name} version {version}": manifest for (name, version), manifest in known.items()}


def _summary(planned: list[Vacuum], *, models: int, older_than: str, dry_run: bool) -> dict[str, Any]:
    columns = ("files", "bytes", "kept_files", "kept_bytes")
    return {
        "dry_run": dry_run,
        "older_than": older_than,
        "model_versions": models,
        **{name: sum(getattr(plan, name) for plan in planned) for name in columns},
        "tables": [
            {"table": plan.table, **{name: getattr(plan, name) for name in columns}} for plan in planned
        ],
    }


def _tell_compacted(console: Console, results: list[Compacted]) -> None:
    table = _table("files", "after", "size", "after")
    merged = [found for found in results if found.files_after != found.files_before]
    for found in merged:
        files = (f"{found.files_before:,}", f"{found.files_after:,}")
        table.add_row(found.table, *files, decimal(found.bytes_before), decimal(found.bytes_after))
    if merged:
        console.print(table)
    before, after = sum(r.files_before for r in results), sum(r.files_after for r in results)
    console.print(
        f"{len(merged)} of {len(results)} tables had files to merge: {before:,} files before, {after:,} now.",
        soft_wrap=True,
        highlight=False,
    )


def _tell_vacuumed(console: Console, planned: list[Vacuum], summary: dict[str, Any]) -> None:
    freed = "would be freed" if summary["dry_run"] else "freed"
    table = _table(freed, "size", "kept for models", "size")
    for plan in planned:
        if plan.files or plan.kept_files:
            kept = (f"{plan.kept_files:,}", decimal(plan.kept_bytes))
            table.add_row(plan.table, f"{plan.files:,}", decimal(plan.bytes), *kept)
    if table.row_count:
        console.print(table)
    console.print(
        f"{summary['files']:,} files, {decimal(summary['bytes'])}, {freed}: replaced more than "
        f"{summary['older_than']} ago and needed by nobody. {summary['kept_files']:,} files, "
        f"{decimal(summary['kept_bytes'])}, are kept only because {summary['model_versions']} model version(s) "
        f"were trained from them.",
        soft_wrap=True,
        highlight=False,
    )


def _table(*columns: str) -> Table:
    table = Table(box=None)
    table.add_column("table", style="bold", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    return table
