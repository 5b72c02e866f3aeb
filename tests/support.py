"""Runs assets as a person would, and builds the small platform that tests start from."""

import datetime as dt
import shutil
import sqlite3
import warnings
from functools import cache
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import dagster as dg

from ml_platform import declarations
from ml_platform.cli.instance import Runner, RunReport, open_instance
from ml_platform.compiler import compile_asset, component_of
from ml_platform.defs.fraud.sources.transactions.simulator import simulate
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.spec import NamedSpec
from ml_platform.sources.feed import write_delivery
from ml_platform.sources.landing import ingest
from ml_platform.sources.spec import SourceSpec

FIRST_DAY = "2018-04-01"
LAST_DAY = "2018-06-26"
FIRST_PROFILE = "2018-05-09"
SCALE = 0.1


S = TypeVar("S", bound=NamedSpec)


def of_fraud(kind: type[S]) -> list[S]:
    """Every declaration of one kind that is of the reference use case."""
    catalog = declarations.load()
    return [spec for spec in catalog.all(kind) if catalog.use_case(spec) == "fraud"]


@cache
def all_assets() -> dg.JobDefinition:
    """The job of all declared assets, loaded once per process."""
    from ml_platform.definitions import defs

    return defs().resolve_implicit_global_asset_job_def()


def selected(selection: str) -> set[str]:
    """Keys of the declared assets that a selection of Dagster's finds, as people write it in the UI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # of how Dagster itself reads one
        found = dg.AssetSelection.from_string(selection).resolve(all_assets().asset_layer.asset_graph)
    return {key.to_user_string() for key in found}


def compiled(catalog: Catalog) -> list[dg.AssetsDefinition]:
    """Every asset that a catalog declares."""
    components = [component_of(spec) for spec in catalog.specs.values()]
    return [compile_asset(plan, catalog) for found in components for plan in found.plans(catalog)]


def run_asset(
    instance: dg.DagsterInstance, key: str, first: str | None = None, last: str | None = None
) -> RunReport:
    """Materialize one asset: without partition, for partition `first`, or for the range `first … last` in one run."""
    return Runner(instance, all_assets()).run([key], first, last)


def made(
    instance: dg.DagsterInstance, key: str, first: str | None = None, last: str | None = None
) -> RunReport:
    """Materialize one asset where nothing may go wrong."""
    report = run_asset(instance, key, first, last)
    assert report.success, f"{key} {first or ''} {last or ''}: {report.error}"
    return report


def land_simulated(settings: Settings, first: str, last: str, *, scale: float = SCALE) -> Path:
    """Simulate days of transactions and land them for both sources; the delivered file."""
    rows = simulate(first_day=dt.date.fromisoformat(first), last_day=dt.date.fromisoformat(last), scale=scale)
    path = write_delivery(rows, settings.root / "simulated" / f"{first}_{last}.parquet")
    land(settings, path)
    return path


def land(settings: Settings, path: Path) -> None:
    """Land one file of transactions for both sources that are made of it."""
    for source in of_fraud(SourceSpec):
        ingest(settings, source, path)


def build_platform(settings: Settings) -> None:
    """Materialize everything up to a release, of simulated days."""
    land_simulated(settings, FIRST_DAY, LAST_DAY)
    release_landed(settings)


def release_landed(settings: Settings) -> None:
    """Materialize up to a release: sources and features, online, profiles, one model on the last day."""
    with open_instance(settings) as instance:
        for key in ("sources/transactions", "sources/fraud_labels"):
            made(instance, key, FIRST_DAY, LAST_DAY)
        made(instance, "online/feature_registry")
        for view in ("customer_spending", "terminal_risk"):
            made(instance, f"features/{view}", FIRST_DAY, LAST_DAY)
            made(instance, f"online/{view}", FIRST_DAY, LAST_DAY)
        made(instance, "drift_profiles/fraud", FIRST_PROFILE, LAST_DAY)
        made(instance, "training_sets/fraud", LAST_DAY)
        made(instance, "models/fraud", LAST_DAY)
        made(instance, "releases/fraud")


def copied_home(home: Path) -> Path:
    """A copy of a home beside it that refers to itself, as if it had been built there."""
    copy = home.with_name(uuid4().hex[: len(home.name)])
    assert len(str(copy)) == len(str(home)), "serialized registry entries hold paths with their length"
    shutil.copytree(home, copy)
    for database in (copy / "feast" / "registry.db", copy / "mlflow" / "mlflow.db"):
        _replace_in_database(database, str(home), str(copy))
    for text in (copy / "mlflow").rglob("MLmodel"):
        text.write_text(text.read_text().replace(str(home), str(copy)))
    return copy


def _replace_in_database(database: Path, old: str, new: str) -> None:
    """Replace a path in every text and binary value of a SQLite database."""
    with sqlite3.connect(database) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                found = connection.execute(
                    f'SELECT rowid, "{column}" FROM "{table}" WHERE instr(CAST("{column}" AS BLOB), ?) > 0',
                    (old.encode(),),
                ).fetchall()
                changed = [(_replaced(value, old, new), row) for row, value in found]
                connection.executemany(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', changed)
    connection.close()


def _replaced(value: str | bytes, old: str, new: str) -> str | bytes:
    return value.replace(old, new) if isinstance(value, str) else value.replace(old.encode(), new.encode())
