"""Everything that is declared and made, by name, to read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ml_platform import declarations
from ml_platform.drift_profiles.metrics import DRIFT_METRICS
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.kernel.settings import Settings, settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.model_registry.named import named_version
from ml_platform.sdk.features import Features
from ml_platform.sdk.models import Model
from ml_platform.sdk.query import query
from ml_platform.sdk.rows import Rows
from ml_platform.training_sets import store as training_sets
from ml_platform.training_sets.spec import TrainingSetSpec


@dataclass(frozen=True)
class TrainingSet:
    """Rows that a model was, or would be, trained and tested on, and the manifest that rebuilds them."""

    rows: Rows
    manifest: Mapping[str, Any]


class Platform:
    """Read access to one environment: its settings are those of the process, with another home if one is given.

    Every method names what it wants as declarations do; a name that is not declared is an error with near ones.
    """

    def __init__(self, home: Path | str | None = None) -> None:
        self.settings: Settings = (settings() if home is None else Settings(home=Path(home))).prepare()

    @cached_property
    def catalog(self) -> Catalog:
        """Everything that is declared."""
        return declarations.load()

    def tables(self) -> list[str]:
        """Names of all tables of the lake, as `sql` takes them, such as `features.NAME`."""
        return [name.replace("/", ".") for name in Lake(self.settings.lake_uri).table_names()]

    def sql(self, text: str) -> Rows:
        """The answer to a query over tables of the lake, each at its newest version or `AT (VERSION => 3)`."""
        return Rows(query(self.settings, text))

    def features(self, name: str) -> Features:
        """A feature view or feature service, to ask for its features at rows of keys and times."""
        views = {spec.name: spec for spec in self.catalog.all(FeatureViewSpec)}
        if name in views:
            return Features(self.settings, self.catalog, views[name])
        spec = self.catalog.get(FeatureServiceSpec, name, wanted_by=f"features({name!r})")
        return Features(self.settings, self.catalog, spec)

    def training_set(self, name: str, version: str | None = None) -> TrainingSet:
        """The rows of a training set: of its newest partition, or of the one that `version` names.

        `MODEL@ALIAS` or `MODEL@NUMBER` as version is what that model version was trained on, built again from its
        manifest if it is not published any more.
        """
        spec = self.catalog.get(TrainingSetSpec, name, wanted_by=f"training_set({name!r})")
        if version is not None and "@" in version:
            return self._trained_on(spec, version)
        known = published(Lake(self.settings.lake_uri), spec.key)
        partition = version or max(known, default=None)
        if partition is None or partition not in known:
            raise InputError(
                f"training_set({name!r}): a published partition is required ({', '.join(sorted(known)) or 'none yet'})"
                f", or a model version such as {name}@champion; got {version!r}"
            )
        manifest = training_sets.read_manifest(self.settings, spec, partition)
        return TrainingSet(Rows(training_sets.read_rows(self.settings, spec, manifest)), manifest)

    def model(self, name: str, alias: str | int = registry.CHAMPION) -> Model:
        """A version of a model by alias, such as `champion`, or by number."""
        return Model(self.settings, named_version(self.settings, f"{name}@{alias}"))

    def drift(self, name: str) -> Rows:
        """How far each feature of a drift profile was from its reference, day by day, and what its bound was."""
        spec = self.catalog.get(DriftProfileSpec, name, wanted_by=f"drift({name!r})")
        stage, name = spec.key.split("/")
        found = self.sql(
            f"SELECT * FROM {DRIFT_METRICS} WHERE stage = '{stage}' AND name = '{name}' "
            f"ORDER BY {PARTITION_COLUMN}, feature"
        )
        if not len(found):
            raise InputError(
                f"drift({name!r}): a day that was judged is required; none was. Materialize {spec.key}"
            )
        return found

    def _trained_on(self, spec: TrainingSetSpec, version: str) -> TrainingSet:
        registered = named_version(self.settings, version)
        manifest = registry.load_document(self.settings, registered, "manifest.json")
        if manifest["training_set"] != spec.name:
            raise InputError(
                f"training_set({spec.name!r}): a version that was trained on it is required; {version} was trained on "
                f"{manifest['training_set']!r}"
            )
        known = published(Lake(self.settings.lake_uri), spec.key).get(manifest["partition"])
        if known is not None and known.content_hash == manifest["content_hash"]:
            return TrainingSet(Rows(training_sets.read_rows(self.settings, spec, manifest)), manifest)
        return TrainingSet(Rows(training_sets.rebuild(self.settings, manifest).rows), manifest)
