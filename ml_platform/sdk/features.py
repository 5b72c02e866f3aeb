"""Features of a view or service at any rows of keys and times, as training would see them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec
from ml_platform.features.store import declared_store, service_rows
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.partitions import EVENT_TIME
from ml_platform.kernel.settings import Settings
from ml_platform.lake.snapshots import literal_path
from ml_platform.lake.tables import Lake
from ml_platform.sdk.rows import Rows, arrow_of


@dataclass(frozen=True)
class Features:
    """One declared feature view, or a whole feature service."""

    settings: Settings
    catalog: Catalog
    spec: FeatureViewSpec | FeatureServiceSpec

    @property
    def names(self) -> list[str]:
        """The features, in order."""
        if isinstance(self.spec, FeatureServiceSpec):
            return self.spec.feature_names(self.catalog)
        return [feature.name for feature in self.spec.features(self.catalog)]

    @property
    def asked_with(self) -> list[str]:
        """The columns that rows need: join keys, `event_timestamp`, and what a request would bring."""
        keys = dict.fromkeys(key for view in self._views for key in view.entity_keys)
        request = self.spec.request_fields(self.catalog) if isinstance(self.spec, FeatureServiceSpec) else {}
        return list(dict.fromkeys([*keys, EVENT_TIME, *request]))

    def at(self, frame: Any) -> Rows:
        """The rows of a frame with the features that were known at the time of each, in the frame's order.

        `frame` is an Arrow table, a pandas or polars frame, or a dict of columns, with the columns `asked_with` and any
        others, which are carried along; times without a zone are UTC. Point-in-time rules are those of training: no
        value that was not available yet, or was older than its ttl. Features of a service are float32.
        """
        rows = arrow_of(frame)
        if missing := [name for name in self.asked_with if name not in rows.column_names]:
            raise InputError(
                f"{self.spec.name}: rows with the columns {', '.join(self.asked_with)} are required; "
                f"{', '.join(missing)} did not come, but {', '.join(rows.column_names) or 'none'}. Nothing was read"
            )
        if taken := sorted(set(self._made) & set(rows.column_names)):
            raise InputError(
                f"{self.spec.name}: rows without its features are required; {', '.join(taken)} came with them. "
                f"Rename or leave them out"
            )
        with tempfile.TemporaryDirectory(dir=self.settings.spill_folder) as folder:
            path = Path(folder) / "rows.parquet"
            pq.write_table(rows, path)
            return Rows(self._read(f"SELECT * FROM read_parquet({literal_path(str(path))})"))

    @property
    def _views(self) -> Sequence[FeatureViewSpec]:
        return (
            self.spec.view_specs(self.catalog) if isinstance(self.spec, FeatureServiceSpec) else [self.spec]
        )

    @property
    def _made(self) -> list[str]:
        """The features that are read or computed; request values are given."""
        given = self.spec.request_features if isinstance(self.spec, FeatureServiceSpec) else ()
        return [name for name in self.names if name not in given]

    def _read(self, rows: str) -> pa.Table:
        versions = {view.key: Lake(self.settings.lake_uri).table(view.key).version() for view in self._views}
        if unmade := sorted(asset for asset, version in versions.items() if version is None):
            raise StoreError(f"{', '.join(unmade)}: published features are required; materialize them first")
        known = {asset: version for asset, version in versions.items() if version is not None}
        if isinstance(self.spec, FeatureServiceSpec):
            return pa.Table.from_batches(
                service_rows(self.settings, self.catalog, self.spec, rows, versions=known)
            )
        with declared_store(self.settings, self.catalog, versions=known) as store:
            names = [f"{self.spec.name}:{feature}" for feature in self.names]
            return store.get_historical_features(entity_df=rows, features=names).to_arrow()
