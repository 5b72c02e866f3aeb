"""`ml-platform releases …`: who was champion when and why, and back to a champion before."""

import importlib
import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ml_platform.cli.completing import names_of
from ml_platform.cli.output import COULD_NOT_RUN, Json, Reason, say, telling_errors
from ml_platform.kernel.settings import Settings, settings

if TYPE_CHECKING:  # they take a second that completion does not have
    from ml_platform.kernel.catalog import Catalog
    from ml_platform.releases.spec import ReleaseSpec

releases_app = typer.Typer(
    help="Who is champion, since when and why; and how to go back.", no_args_is_help=True
)
_STORAGES = ("event_log", "local_compute_log_manager", "root", "runs", "schedules", "sql")
_IMPORTED = (
    "dagster._daemon",
    *(f"dagster._core.storage.{name}" for name in _STORAGES),
    "feast.repo_operations",
    "mlflow.artifacts",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "sqlglot.generators.duckdb",
    "upath",
)

Name = Annotated[str, typer.Argument(help="Name of a declared release.", autocompletion=names_of("Release"))]


@releases_app.command(name="list")
def list_releases(
    name: Annotated[
        str | None,
        typer.Argument(help="A declared release; default: all of them.", autocompletion=names_of("Release")),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show who was champion, when, by whom and why, newest last. Exit code 1 when an alias is not where it should be.

    The champion of now is marked. An alias that was moved behind the ledger's
    back (in the MLflow UI, say) is told first, with the ways out; so is a move
    that was interrupted.
    """
    from ml_platform import declarations
    from ml_platform.releases import store
    from ml_platform.releases.spec import ReleaseSpec

    console = Console(stderr=as_json)
    with telling_errors(console, exit_code=COULD_NOT_RUN):
        here, catalog = settings().prepare(), declarations.load()
        wanted = catalog.all(ReleaseSpec) if name is None else [_declared(catalog, name)]
        states = {spec: store.alias_state(here, spec.name, model=spec.model) for spec in wanted}
        histories = {spec: store.history(here, spec.name) for spec in wanted}
    for spec, state in states.items():
        if state.state != "agrees":
            console.print(Text(state.in_words(), style="bold red"), soft_wrap=True)
        nobody = f"{spec.key}: nobody was ever promoted"
        table = _table(spec, histories[spec], champion=state.recorded)
        console.print(table if histories[spec] else nobody, highlight=False)
    if as_json:
        shown = [_as_data(spec, states[spec], histories[spec]) for spec in wanted]
        print(json.dumps({"releases": shown}))
    raise typer.Exit(0 if all(state.state == "agrees" for state in states.values()) else 1)


@releases_app.command()
def rollback(
    name: Name,
    reason: Reason,
    to: Annotated[
        int | None, typer.Option(help="A champion of the past; default: the one before the current one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a champion of the past champion again: model version and contract, in one step.

    Without --to it is the champion before the current one, by the ledger; a
    second rollback goes further back. What is rolled back from is withdrawn:
    the daily release does not promote it again, and goes on with the next
    newer version.

    It is refused, and nothing changed (exit code 2), when there is no such
    champion, its version or evidence is gone, or the feature definitions that
    it was trained on are no longer those that are declared and online: it
    would answer, and wrongly.
    """
    from ml_platform.releases.by_hand import rollback as go_back

    _moved(
        lambda here, catalog, spec, tell: go_back(
            here, catalog, spec, to=to, reason=reason, actor=here.who, tell=tell
        ),
        name,
        as_json=as_json,
    )


@releases_app.command()
def promote(
    name: Name,
    to: Annotated[int, typer.Option(help="The version of the model.")],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Make a version champion although no release did: the way out where a comparison refuses it.

    Also for a version that was rolled back from, and to keep an alias that
    somebody moved by hand. The version needs the evidence of its gates, and
    features that are online; it is not compared with the champion.
    """
    from ml_platform.releases.by_hand import promote as go_on

    _moved(
        lambda here, catalog, spec, tell: go_on(
            here, catalog, spec, to=to, reason=reason, actor=here.who, tell=tell
        ),
        name,
        as_json=as_json,
    )


def _moved(move: "Callable[[Settings, Catalog, ReleaseSpec, Any], Any]", name: str, *, as_json: bool) -> None:
    """Move a champion, say so at once, show it in Dagster, and tell the seconds that it took."""
    from ml_platform import declarations
    from ml_platform.cli.instance import open_instance
    from ml_platform.releases.component import report_move

    console = Console(stderr=as_json)
    with telling_errors(console, exit_code=COULD_NOT_RUN):
        _import_libraries()
        started = time.perf_counter()
        here, catalog = settings().prepare(), declarations.load()
        spec = _declared(catalog, name)

        def tell(moved: Any) -> None:
            say(console, moved.in_words())
            with open_instance(here) as instance:
                report_move(instance, catalog, spec, moved)

        moved = move(here, catalog, spec, tell)
        seconds = time.perf_counter() - started
    say(console, f"contract {moved.entry['contract']}; done in {seconds:.2f} s")
    if as_json:
        told = {**_told(moved.entry), "finished": moved.finished, "seconds": round(seconds, 3)}
        print(json.dumps(told))


def _import_libraries() -> None:
    """Import what takes seconds, and is else imported on the way, so that what is timed is work."""
    from ml_platform.model_registry.connection import quiet_imports

    with quiet_imports():
        for name in _IMPORTED:
            importlib.import_module(name)


def _declared(catalog: "Catalog", name: str) -> "ReleaseSpec":
    from ml_platform.releases.spec import ReleaseSpec

    return catalog.get(ReleaseSpec, name, wanted_by="releases")


def _told(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A move for machines: everything, with its evidence as an object."""
    at = entry.get("recorded_at")
    return {
        **{key: value for key, value in entry.items() if key != "recorded_at"},
        "evidence": json.loads(entry["evidence"] or "{}"),
        **({"recorded_at": at.isoformat()} if at is not None else {}),
    }


def _as_data(spec: "ReleaseSpec", state: Any, history: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "release": spec.name,
        "model": spec.model,
        "champion": state.recorded,
        "alias": state.alias,
        "state": state.state,
        "history": [_told(entry) for entry in history],
    }


def _table(spec: "ReleaseSpec", history: list[dict[str, Any]], *, champion: int | None) -> Table:
    table = Table(title=f"releases/{spec.name}: champions of model {spec.model}", title_justify="left")
    for column in ("when (UTC)", "what", "version", "from", "by", "why", "on what evidence"):
        table.add_column(column, overflow="fold")
    for i, entry in enumerate(history):
        newest = i == len(history) - 1 and entry["version"] == champion
        evidence = json.loads(entry["evidence"] or "{}")
        cells = [
            f"{entry['recorded_at']:%Y-%m-%d %H:%M}",
            entry["action"],
            f"{entry['version']}{' ◀ champion' if newest else ''}",
            str(entry["previous"] or "–"),
            entry["actor"],
            entry["reason"],
            str(evidence.get("comparison") or f"gates of {evidence.get('partition', 'unknown')}"),
        ]
        table.add_row(*map(Text, cells), style="bold" if newest else None)
    return table
