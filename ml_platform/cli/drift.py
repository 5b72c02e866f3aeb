"""`ml-platform drift …`: what to do about drift, and what the rows of some days looked like."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ml_platform.cli import reports
from ml_platform.cli.completing import assets
from ml_platform.cli.output import Json, Reason, say, telling_errors
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import day, day_range, key_of, spans
from ml_platform.kernel.settings import settings

drift_app = typer.Typer(help="What to do about drift.", no_args_is_help=True)
drift_app.command()(reports.report)

_WIDE = 160  # a file or a pipe has no edge that the table would have to fit into
_SHOWN = ("missing", "mean", "stddev", "min", "q05", "q50", "q95", "max")


@drift_app.command()
def accept(
    asset: Annotated[
        str,
        typer.Argument(
            help="A drift profile or training set, such as `drift_profiles/NAME`.", autocompletion=assets
        ),
    ],
    partition: Annotated[str, typer.Argument(help="The refused day, such as 2018-10-02.")],
    reason: Reason,
    new_regime: Annotated[
        bool, typer.Option(help="Later days are compared with accepted days from this one on.")
    ] = False,
) -> None:
    """Let one drifted day through for good; it stays out of references.

    With a new regime, later days that failed are judged again by it at once;
    exit code 1 when some fail by it too.
    """
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.drift_profiles.component import accept_drift
    from ml_platform.gates.acceptances import Acceptance
    from ml_platform.gates.asked import drift_check_of

    console = Console()
    here = settings()
    with telling_errors(console):
        catalog = declarations.load()
        check = drift_check_of(catalog.lineage, asset)
        acceptance = Acceptance(asset, check, partition, reason, here.who, new_regime)
        with open_instance(here) as instance:
            again = accept_drift(instance, catalog, here, acceptance, tell=lambda words: say(console, words))
    raise typer.Exit(0 if all(outcome.passed for outcome in again) else 1)


@drift_app.command()
def profile(
    name: reports.Profile,
    first: Annotated[str, typer.Option("--from", help="The first day, such as 2018-06-04.")],
    last: Annotated[str, typer.Option("--to", help="The last day, included.")],
    as_json: Json = False,
) -> None:
    """Merge the whylogs profiles of days into one, and print its statistics: a week is the merge of its days.

    Counts, minimum, maximum and mean are those of all rows; quantiles and unique values are estimates, as good as
    in the profile of one day.
    """
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = _WIDE
    with telling_errors(console):
        found = _merged(name, first, last)
    days = spans(found["days"])
    console.print(f"drift_profiles/{found['profile']} [{days}], {found['rows']:,} rows", highlight=False)
    if found["missing_days"]:
        console.print(
            f"without {spans(found['missing_days'])}, which have no published profile", highlight=False
        )
    console.print(_table(found["features"]))
    if as_json:
        print(json.dumps(found))


def _merged(name: str, first: str, last: str) -> dict[str, Any]:
    """The statistics of a profile's days, which of them there are, and which there are not."""
    from ml_platform import declarations
    from ml_platform.drift_profiles.profile import merge, summary
    from ml_platform.drift_profiles.spec import DriftProfileSpec
    from ml_platform.drift_profiles.store import read_profiles
    from ml_platform.lake.tables import Lake

    spec = declarations.load().get(
        DriftProfileSpec, name.removeprefix("drift_profiles/"), wanted_by="drift profile"
    )
    wanted = _days(first, last)
    profiles = read_profiles(Lake(settings().lake_uri), spec.key, first=first, last=last)
    if not profiles:
        raise InputError(
            f"{spec.key}: published profiles of days from {first} to {last} are required; there are none. Materialize "
            f"{spec.key} for them first"
        )
    features = summary(merge(list(profiles.values()))).to_pylist()
    return {
        "profile": spec.name,
        "days": list(profiles),
        "missing_days": [key for key in wanted if key not in profiles],
        "rows": max(feature["count"] for feature in features),
        "features": features,
    }


def _days(first: str, last: str) -> list[str]:
    """The keys of a range of days; InputError for what is no range."""
    try:
        found = [key_of(date) for date in day_range(day(first), day(last))]
    except ValueError:
        found = []
    if not found:
        raise InputError(
            f"--from and --to require two days, such as 2018-06-04 and 2018-06-10, the first one first; got {first!r} "
            f"and {last!r}"
        )
    return found


def _table(features: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("feature", style="bold")
    for name in (*_SHOWN, "unique, about"):
        table.add_column(name, justify="right")
    for feature in features:
        shown = [_text(feature[name]) for name in (*_SHOWN, "unique_estimate")]
        table.add_row(feature["feature"], *shown)
    return table


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
