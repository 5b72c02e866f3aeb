"""`ml-platform stale`: which published partitions late data or other declarations have re-opened, and what to run."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ml_platform.cli.completing import assets
from ml_platform.cli.output import Json, say, telling_errors
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import contiguous, spans
from ml_platform.kernel.settings import Settings, settings

if TYPE_CHECKING:  # they take a second that completion does not have
    import pyarrow as pa

    from ml_platform.gates.stale import Candidate, Declared, Stale
    from ml_platform.kernel.catalog import Catalog
    from ml_platform.lake.inputs import Inputs


def stale(
    asset: Annotated[
        str | None,
        typer.Argument(
            help="An asset, such as `features/NAME`; default: all that are published.", autocompletion=assets
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List published partitions that a full rebuild would make otherwise, with the reason and what to run.

    Late events, corrections and late labels re-open the partitions that they
    change, and no other: what became known after a partition's end does not
    count for it. Partitions whose inputs have changed are computed again
    without publishing anything, and those that come out the same are recorded
    as current.

    Only what is stale now is listed; what reads it is named as what may
    follow, and is listed once the others are rebuilt. Exit code 0 when nothing
    is stale, 1 when something is.
    """
    from ml_platform import declarations
    from ml_platform.gates.stale import followers
    from ml_platform.lake.inputs import Inputs
    from ml_platform.lake.tables import Lake

    console = Console(stderr=as_json)
    here = settings()
    with telling_errors(console):
        catalog = declarations.load()
        inputs = Inputs.now(Lake(here.lake_uri), catalog.lineage)
        chosen = _chosen(list(declared_assets(catalog, here)), asset)
        found = find_stale(inputs, chosen, console)
    partitions = _by_asset(found)
    follow = followers(inputs, partitions)
    commands = [line for declared in chosen for line in to_run(declared, partitions.get(declared.key, ()))]
    _tell(console, found, follow, commands)
    if as_json:
        print(
            json.dumps({"stale": [entry.__dict__ for entry in found], "may_follow": follow, "run": commands})
        )
    raise typer.Exit(1 if found else 0)


def find_stale(inputs: "Inputs", assets: "Sequence[Declared]", console: Console) -> "list[Stale]":
    """Stale partitions of assets; candidates are computed again, with progress for people."""
    from ml_platform.gates.stale import Reasons, candidates, confirm, work

    others: dict[str, list[Candidate]] = {}
    unsure: list[tuple[Declared, list[Candidate]]] = []
    for declared in assets:
        found = candidates(inputs, declared)
        others[declared.key] = [candidate for candidate in found if candidate.redeclared]
        unsure += [(declared, asked) for asked in work(declared, found)]
    for declared, asked in track(
        unsure, "computing again", console=console, transient=True, disable=not console.is_terminal
    ):
        others[declared.key] += confirm(inputs.lake, declared, asked)
    reasons = Reasons.of(inputs) if any(others.values()) else None
    return [
        entry
        for declared in assets
        if reasons is not None
        for entry in reasons.grouped(declared, others[declared.key])
    ]


def declared_assets(catalog: "Catalog", here: Settings) -> "Iterator[Declared]":
    """Every asset with published partitions as it is declared, each after what it reads."""
    from ml_platform.compiler import AssetComponent
    from ml_platform.drift_profiles import component as drift_profiles
    from ml_platform.drift_profiles.spec import DriftProfileSpec
    from ml_platform.features import component as features
    from ml_platform.features.spec import FeatureViewSpec
    from ml_platform.feedback import component as feedback
    from ml_platform.feedback.spec import FeedbackSpec
    from ml_platform.gates.stale import Declared, in_order
    from ml_platform.lake.tables import Lake
    from ml_platform.sources import component as sources
    from ml_platform.sources.spec import SourceSpec
    from ml_platform.sources.store import landed_inputs
    from ml_platform.training_sets import component as training_sets
    from ml_platform.training_sets.spec import TrainingSetSpec

    stages: Mapping[Any, tuple[type[AssetComponent], Callable[..., pa.Table]]] = {
        SourceSpec: (sources.Source, sources.computed),
        FeatureViewSpec: (features.FeatureView, features.computed),
        DriftProfileSpec: (drift_profiles.DriftProfile, drift_profiles.computed),
        TrainingSetSpec: (training_sets.TrainingSet, training_sets.computed),
    }
    specs: dict[str, Any] = {spec.key: spec for kind in stages for spec in catalog.all(kind)}
    of_feedback = {
        found.key: found
        for spec in catalog.all(FeedbackSpec)
        for found in feedback.declared(spec, catalog, here)
    }
    for key in in_order(catalog.lineage):
        if key in of_feedback:
            yield of_feedback[key]
        if key not in specs:
            continue
        spec = specs[key]
        component, computed = stages[type(spec)]
        landed = landed_inputs(Lake(here.lake_uri), spec.name) if isinstance(spec, SourceSpec) else None
        asked = partial(computed, spec, catalog, here)
        yield Declared(key, spec.digest(), asked, landed, component.one_run_per_range)


def to_run(declared: "Declared", partitions: Sequence[str]) -> list[str]:
    """The commands that materialize partitions of an asset: one for each range that is made in one run."""
    runs = contiguous(partitions) if declared.one_run_per_range else [[key] for key in partitions]
    return [
        f"dg launch --assets {declared.key} --partition {run[0]}"
        if len(run) == 1
        else f"dg launch --assets {declared.key} --partition-range {run[0]}...{run[-1]}"
        for run in runs
    ]


def _chosen(assets: "Sequence[Declared]", key: str | None) -> "Sequence[Declared]":
    if key is None:
        return assets
    chosen = [declared for declared in assets if declared.key == key]
    if not chosen:
        known = ", ".join(sorted(declared.key for declared in assets))
        raise InputError(f"an asset with published partitions is required: {known}; got {key!r}")
    return chosen


def _by_asset(found: "Sequence[Stale]") -> dict[str, list[str]]:
    partitions: dict[str, list[str]] = {}
    for entry in found:
        partitions.setdefault(entry.asset, []).extend(entry.partitions)
    return partitions


def _tell(
    console: Console, found: "Sequence[Stale]", follow: Mapping[str, Sequence[str]], commands: Sequence[str]
) -> None:
    if not found:
        console.print("nothing is stale")
        return
    table = Table("asset", "partitions", "why")
    for entry in found:
        table.add_row(entry.asset, spans(entry.partitions), entry.reason)
    console.print(table)
    lines = [f"may follow: {asset} [{spans(keys)}]" for asset, keys in follow.items()]
    lines += ["To rebuild them, in this order:", *(f"  {command}" for command in commands)]
    say(console, "\n".join(lines))
