"""A home of its own for a benchmark: data landed and published the way that users do it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import dagster as dg

from ml_platform import declarations
from ml_platform.cli.instance import Runner, RunReport, open_instance
from ml_platform.defs.resources import resources
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.sources.landing import ingest
from ml_platform.sources.spec import SourceSpec
from tests.support import compiled

FIRST_DAY, LAST_DAY = "2018-04-01", "2018-09-30"
SOURCES = ("transactions", "fraud_labels")
HANDBOOK = Path(__file__).parent / "handbook"
PLATFORM = declarations.defs_folder()


@dataclass(frozen=True)
class Home:
    """The platform's own sources, with the views and models of a folder of declarations, below one root."""

    root: Path
    declared: Path = HANDBOOK

    @cached_property
    def settings(self) -> Settings:
        return Settings(home=self.root).prepare()

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_uri)

    @cached_property
    def catalog(self) -> Catalog:
        own = declarations.load(self.declared)
        platform = declarations.load()
        sources = {key: spec for key, spec in platform.specs.items() if key[0] is SourceSpec}
        return Catalog({**sources, **own.specs})

    def land(self, *files: Path) -> None:
        """Land the files for both sources: transactions, and the labels that are in the same rows."""
        for name in SOURCES:
            spec = self.catalog.get(SourceSpec, name, wanted_by="a benchmark")
            for file in files:
                ingest(self.settings, spec, file)

    def make(
        self, *assets: str, first: str | None = FIRST_DAY, last: str | None = LAST_DAY
    ) -> dict[str, Any]:
        """Materialize assets through Dagster, a range in one run; metadata of the last one's last partition."""
        report = self.run(*assets, first=first, last=last)
        if not report.success:
            raise SystemExit(f"{', '.join(assets)} {first or ''} … {last or ''}: {report.error}")
        return report.metadata(assets[-1])

    def run(self, *assets: str, first: str | None, last: str | None) -> RunReport:
        """The same where a refusal may be what is wanted."""
        return self._runner.run(assets, first, last)

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._runner.instance

    def publish_sources(self, first: str = FIRST_DAY, last: str = LAST_DAY) -> None:
        self.make(*(f"sources/{name}" for name in SOURCES), first=first, last=last)

    def make_inputs(self, asset: str, partition: str) -> None:
        """Materialize everything upstream of an asset's partition, exactly the days that lead to it."""
        lineage = self.catalog.lineage
        wanted = lineage.upstream_partitions(asset, partition)
        reads = {key: [upstream.key for upstream in lineage.node(key).upstream] for key in wanted}
        for key in TopologicalSorter(reads).static_order():
            first, last = wanted[key]
            self.make(key, first=first, last=last)

    def files(self, asset: str) -> list[str]:
        """The data files of a published table, for whoever reads them without the platform."""
        return self.lake.table(asset).files()

    @cached_property
    def _runner(self) -> Runner:
        return Runner(open_instance(self.settings), self._definitions.resolve_implicit_global_asset_job_def())

    @cached_property
    def _definitions(self) -> dg.Definitions:
        given = {"environment": dg.ResourceDefinition.hardcoded_resource(self.settings)}
        return dg.Definitions(
            assets=compiled(self.catalog), resources={**(resources().resources or {}), **given}
        )


def listed(files: Sequence[str]) -> str:
    """Files as a list in SQL."""
    return "[" + ", ".join(f"'{file}'" for file in files) + "]"
