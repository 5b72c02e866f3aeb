"""Brings a view online as it is declared now: what of it is missing or stale, the registry, the newest snapshot."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rich.console import Console

from ml_platform.cli.instance import Runner
from ml_platform.cli.stale import declared_assets, find_stale
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError, PlatformError
from ml_platform.kernel.partitions import contiguous
from ml_platform.kernel.settings import Settings
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.online.spec import OnlineStoreSpec


@dataclass(frozen=True)
class Step:
    """One asset that was made, of which partitions, and how many seconds it took."""

    asset: str
    first: str | None
    last: str | None
    seconds: float


def bring_online(
    settings: Settings, catalog: Catalog, view: FeatureViewSpec, console: Console
) -> Iterator[Step]:
    """Make a view and publish it, step by step.

    Raises InputError for a view that is not declared online, and PlatformError with the words of the run that failed
    or was refused: then nothing that is online has changed.
    """
    store = _store_of(view, catalog)
    lake, runner = Lake(settings.lake_uri), Runner.of(settings)
    for run in _runs(unmade(settings, catalog, view, console), published(lake, view.key)):
        yield _made(runner, console, view.key, run[0], run[-1])
    newest = max(published(lake, view.key), default=None)
    if newest is None:
        raise InputError(
            f"{view.key}: a published partition of {catalog.lineage.node(view.key).upstream[0].key} is required to "
            f"make it of; there is none. Nothing was made; materialize it first"
        )
    yield _made(runner, console, store.registry_key)
    yield _made(runner, console, f"online/{view.name}", newest)


def unmade(settings: Settings, catalog: Catalog, view: FeatureViewSpec, console: Console) -> list[str]:
    """Partitions of a view that its source has and it has not, and those that would be made otherwise now."""
    inputs = Inputs.now(Lake(settings.lake_uri), catalog.lineage)
    declared = [found for found in declared_assets(catalog, settings) if found.key == view.key]
    stale = {key for entry in find_stale(inputs, declared, console) for key in entry.partitions}
    node, source = catalog.lineage.node(view.key), view.sources(catalog)[0]
    missing = inputs.publications.get(source.key, {}).keys() - inputs.publications.get(view.key, {}).keys()
    return sorted(stale | {key for key in missing if node.clip((key, key)) is not None})


def _runs(wanted: Collection[str], there: Collection[str]) -> list[list[str]]:
    """The ranges that are made in one run each: of what is made again the newest alone and first.

    Where that one is refused, the others would be too, and are left as they are.
    """
    newest = [key for key in wanted if key in there][-1:]
    return [*([newest] if newest else []), *contiguous(sorted({*wanted} - {*newest}))]


def _store_of(view: FeatureViewSpec, catalog: Catalog) -> OnlineStoreSpec:
    """The declared store that publishes a view."""
    for store in catalog.all(OnlineStoreSpec):
        if view in store.view_specs(catalog):
            return store
    raise InputError(
        f"{view.key}: a view that is declared online is required; it is not. Nothing was made; declare "
        f"`online: true`, or make it offline alone: dg launch --assets {view.key}"
    )


def _made(
    runner: Runner, console: Console, asset: str, first: str | None = None, last: str | None = None
) -> Step:
    started = time.perf_counter()
    with console.status(asset):
        report = runner.run([asset], first, last)
    if not report.success:
        raise PlatformError(f"{asset} was not made, and nothing was changed online.\n{report.error}")
    return Step(asset, first, last or first, round(time.perf_counter() - started, 1))
