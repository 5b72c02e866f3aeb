"""Views of two features, by a text and by two keys, whose snapshots a test writes itself; published as assets are."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger
from multiprocessing.synchronize import Barrier
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from ml_platform.compiler import Step
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import DAILY, cadence_of, complete_at, day
from ml_platform.kernel.settings import Settings, settings
from ml_platform.lake.content_hash import content_hash
from ml_platform.lake.ledger import Publication, publish_partitions
from ml_platform.lake.tables import Lake
from ml_platform.online.component import publish
from ml_platform.online.store import apply_registry
from ml_platform.sources.spec import SourceSpec

Values = tuple[int, float | None]
"""How many payments, and how much on average: nothing where there were none."""

SOURCE = SourceSpec.model_validate(
    {
        "name": "payments",
        "event_id": "payment_id",
        "columns": {
            "payment_id": {"type": "int64"},
            "event_timestamp": {"type": "timestamp"},
            "wallet_id": {"type": "string"},
            "region_id": {"type": "int64"},
            "kind": {"type": "string"},
            "amount": {"type": "double"},
        },
        "start": "2018-06-01",
    }
)
VIEW = FeatureViewSpec.model_validate(
    {
        "name": "wallet_payments",
        "entity": "wallet",
        "source": "payments",
        "sql": "SELECT 1",
        "columns": {"payments": "int64", "mean_amount": "double"},
        "look_back": "7d",
        "online": True,
        "ttl": "3d",
    }
)
OF_PAIRS = FeatureViewSpec.model_validate(
    {
        **VIEW.model_dump(exclude={"entity"}),
        "name": "region_kind_payments",
        "entities": ["region", "kind"],
        "join_keys": {"kind": "kind"},
    }
)
CATALOG = Catalog(
    {(SourceSpec, SOURCE.name): SOURCE, **{(FeatureViewSpec, view.name): view for view in (VIEW, OF_PAIRS)}}
)
Key = tuple[int | str, ...]


@dataclass(frozen=True)
class SmallWorld:
    """A home with the small views, and what tests do with them: with the one by a text, if they name none."""

    settings: Settings

    def prepare(self) -> "SmallWorld":
        """Let Feast's registry and online store know the views."""
        apply_registry(self.settings, CATALOG)
        return self

    def write(self, partition: str, rows: Mapping[str, Values]) -> str:
        """Publish a snapshot offline; its content hash."""
        return self.write_of(VIEW, partition, {(key,): values for key, values in rows.items()})

    def write_of(self, view: FeatureViewSpec, partition: str, rows: Mapping[Key, Values]) -> str:
        """The same of any of the views."""
        at, cadence = complete_at(partition), cadence_of(partition)
        own = day(partition) if cadence == DAILY else partition
        table = pa.table(
            {
                **{name: pa.array([key[i] for key in rows]) for i, name in enumerate(view.entity_keys)},
                "event_timestamp": pa.array([at] * len(rows), pa.timestamp("us", "UTC")),
                "created_timestamp": pa.array([at] * len(rows), pa.timestamp("us", "UTC")),
                "payments": pa.array([count for count, _ in rows.values()], pa.int64()),
                "mean_amount": pa.array([mean for _, mean in rows.values()], pa.float64()),
                cadence.column: pa.array([own] * len(rows)),
            }
        )
        digest = content_hash(table)
        made = Publication(view.key, partition, digest, len(rows), 0, view.digest(), "a test")
        publish_partitions(Lake(self.settings.lake_uri), table, [made])
        return digest

    def publish(self, *partitions: str, view: FeatureViewSpec = VIEW) -> Mapping[str, Any]:
        """Bring snapshots online as the asset does; what it says of the newest of them."""
        resources = SimpleNamespace(environment=self.settings)
        run = SimpleNamespace(run_id="a test")
        context: Any = SimpleNamespace(resources=resources, log=getLogger("a test"), run=run)
        outcomes = publish(view, Step(context, partitions, CATALOG))
        return next(found.metadata for found in outcomes if found.partition == max(partitions))


def time_of_snapshot(partition: str) -> int:
    """The time of a snapshot of a day or an hour, in microseconds since 1970."""
    return (complete_at(partition) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def publish_in_this_process(partition: str, ready: Barrier | None = None) -> None:
    """What a process of its own does: it brings a snapshot online in the environment's home, once all are ready."""
    world = SmallWorld(settings().prepare())
    if ready is not None:
        import feast  # noqa: F401 (which takes seconds, and longer for one than for the other)

        ready.wait(timeout=300)
    world.publish(partition)
