"""A small world of payments with late labels: deliveries, rebuilds, what is stale, and a fresh lake to compare with.

sources/payments, sources/labels (known two days after the payment)
 └── features/spending (customers, 1 and 3 days), features/risk (labels 2 to 4 days before the snapshot)
"""

import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from ml_platform.cli.stale import declared_assets, find_stale
from ml_platform.compiler import Step, component_of
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec
from ml_platform.gates.stale import Stale, in_order
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import contiguous, key_range, shifted
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.spec import NamedSpec
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.sources.landing import ingest
from ml_platform.sources.spec import SourceSpec
from ml_platform.training_sets.spec import TrainingSetSpec

FIRST, LAST = "2018-04-01", "2018-04-12"
PAYMENTS, LABELS = "sources/payments", "sources/labels"
SPENDING, RISK = "features/spending", "features/risk"
HEADERS = {"payments": "id,event_timestamp,customer_id,amount,note", "labels": "id,event_timestamp,fraud"}


def specs(**payments: Any) -> list[NamedSpec]:
    """The declarations, with changes to the source of payments."""
    time = {"type": "timestamp"}
    columns = {
        "id": {"type": "int64"},
        "event_timestamp": time,
        "customer_id": {"type": "int64"},
        "amount": {"type": "double"},
        "note": {"type": "string", "nullable": True},
    }
    source = {
        "name": "payments",
        "event_id": "id",
        "columns": columns,
        "start": FIRST,
        "end": LAST,
        **payments,
    }
    labels = {
        "name": "labels",
        "event_id": "id",
        "columns": {"id": {"type": "int64"}, "event_timestamp": time, "fraud": {"type": "int64"}},
        "start": FIRST,
        "end": LAST,
        "arrival": "2d",
        "maturity": "2d",
    }
    spending = {"column": "amount", "windows": ["1d", "3d"]}
    view: dict[str, Any] = {"entity": "customer", "source": "payments", "ttl": "3d"}
    return [
        SourceSpec.model_validate(source),
        SourceSpec.model_validate(labels),
        FeatureViewSpec.model_validate(
            {
                **view,
                "name": "spending",
                "aggregations": [{**spending, "function": f} for f in ("count", "sum")],
            }
        ),
        FeatureViewSpec.model_validate(
            {
                **view,
                "name": "risk",
                "labels": "labels",
                "aggregations": [{"column": "fraud", "function": "mean", "windows": ["2d"], "delay": "2d"}],
            }
        ),
    ]


def by_event() -> FeatureViewSpec:
    """What a customer paid in three days, with and without the payment itself, for every payment."""
    paid = {"column": "amount", "function": "sum", "windows": ["3d"]}
    aggregations = [paid, {**paid, "include_current": True, "named": "with_itself"}]
    view = {"name": "paid", "entity": "customer", "source": "payments", "accuracy": "event", "ttl": "1d"}
    return FeatureViewSpec.model_validate({**view, "aggregations": aggregations})


def consumers() -> list[NamedSpec]:
    """A profile and a training set of the payments."""
    service = {"name": "scoring", "source": "payments", "views": ["spending", "risk"]}
    rows = {"name": "fraud", "feature_service": "scoring", "labels": "labels", "label": "fraud"}
    return [
        FeatureServiceSpec.model_validate(service),
        DriftProfileSpec.model_validate({"name": "fraud", "feature_service": "scoring"}),
        TrainingSetSpec.model_validate({**rows, "train": "1d", "test": "1d"}),
    ]


@dataclass
class World:
    """One home with its declarations, and every file that was delivered to it."""

    settings: Settings
    specs: Sequence[NamedSpec] = field(default_factory=specs)
    files: list[tuple[str, str, str | None]] = field(default_factory=list)
    last: str = LAST

    @property
    def catalog(self) -> Catalog:
        return Catalog({(type(spec), spec.name): spec for spec in self.specs})

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_uri)

    def inputs(self) -> Inputs:
        return Inputs.now(self.lake, self.catalog.lineage)

    def deliver(self, source: str, lines: Iterable[str], *, known_at: str | None = None) -> None:
        """Land a CSV file for a source."""
        path = self.settings.root / f"{len(self.files)}.csv"
        path.write_text("\n".join([HEADERS[source], *lines]) + "\n")
        ingest(
            self.settings, self.catalog.get(SourceSpec, source, wanted_by="a test"), path, known_at=known_at
        )
        self.files.append((source, path.read_text(), known_at))

    def make(self, asset: str, partitions: Iterable[str]) -> None:
        """Materialize partitions of an asset, without Dagster around it."""
        spec = next(spec for spec in self.specs if getattr(spec, "key", None) == asset)
        context: Any = SimpleNamespace(
            resources=SimpleNamespace(environment=self.settings),
            log=logging.getLogger("step"),
            run=SimpleNamespace(run_id="a run"),
        )
        for run in contiguous(partitions):
            component_of(spec).work(Step(context, tuple(run), self.catalog))

    def make_all(self) -> None:
        """Materialize everything that the declared days have."""
        for asset in in_order(self.catalog.lineage):
            self.make(asset, self.partitions(asset))

    def partitions(self, asset: str) -> list[str]:
        """Partitions of an asset that are complete when the last day is: a label source's are complete late."""
        node = self.catalog.node(asset)
        _, last = node.cadence.covering((self.last, self.last))
        return key_range(str(node.first), shifted(last, -node.lag))

    def stale(self) -> list[Stale]:
        """What the command finds stale now; what it confirms to be current is recorded."""
        assets = list(declared_assets(self.catalog, self.settings))
        return find_stale(self.inputs(), assets, Console(file=io.StringIO()))

    def stale_days(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for entry in self.stale():
            found.setdefault(entry.asset, set()).update(entry.partitions)
        return found

    def settle(self) -> dict[str, set[str]]:
        """Rebuild what is stale until nothing is; all that was rebuilt, by asset."""
        rebuilt: dict[str, set[str]] = {}
        for _ in range(len(self.catalog.lineage.nodes)):
            found = self.stale_days()
            for asset, partitions in found.items():
                self.make(asset, partitions)
                rebuilt.setdefault(asset, set()).update(partitions)
        assert not found, "what was rebuilt in order is current"
        return rebuilt

    def hashes(self) -> dict[str, dict[str, str]]:
        """Content hash by asset and partition."""
        return {
            asset: {key: found.content_hash for key, found in published(self.lake, asset).items()}
            for asset in in_order(self.catalog.lineage)
        }

    def rebuilt_in(self, folder: Path) -> dict[str, dict[str, str]]:
        """The hashes that a full rebuild of the same deliveries gives in a fresh lake."""
        fresh = World(Settings(home=folder).prepare(), self.specs, last=self.last)
        for source, text, known_at in self.files:
            fresh.deliver(source, text.splitlines()[1:], known_at=known_at)
        fresh.make_all()
        return fresh.hashes()


def differing(
    before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]
) -> dict[str, set[str]]:
    """Partitions whose hash is another, by asset."""
    found = {
        asset: {key for key, _ in dict(before[asset]).items() ^ dict(after[asset]).items()}
        for asset in before
    }
    return {asset: keys for asset, keys in found.items() if keys}
