"""What a training set was built from, as data: enough to build it again when everything around it has changed.

Apart from `store.py`, which reads and builds, because a manifest outlives both: it travels with every model that
was trained on the set, and is read by code, and next to declarations, of another time.
"""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
from pydantic import ValidationError

from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec, OnDemandFeaturesSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of, source_digest
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import complete_at, key_range, within
from ml_platform.kernel.project import OWN
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.spec import NamedSpec
from ml_platform.lake.engine import connect
from ml_platform.lake.inputs import as_known
from ml_platform.lake.ledger import publications_by_asset
from ml_platform.lake.tables import Lake
from ml_platform.sources.spec import SourceSpec
from ml_platform.training_sets.recorded_functions import importable, source_text
from ml_platform.training_sets.spec import TrainingSetSpec

_KINDS: tuple[type[NamedSpec], ...] = (
    TrainingSetSpec,
    FeatureServiceSpec,
    FeatureViewSpec,
    OnDemandFeaturesSpec,
    SourceSpec,
)
_CODE = ("kernel", "lake", "sources", "features", "training_sets")
_LIBRARIES = ("duckdb", "deltalake", "feast", "numpy", "pyarrow")


@dataclass(frozen=True)
class Input:
    """One input of a set, pinned: its table's version, and the data files of exactly the days that are read.

    Files are relative to the lake's root; `partitions` has the content hash of each day as known at the set's time.
    """

    asset: str
    table_version: int
    files: tuple[str, ...]
    partitions: Mapping[str, str]

    def uris(self, lake: Lake) -> tuple[str, ...]:
        """The data files where they are."""
        return tuple(f"{_root(lake)}{file}" for file in self.files)


def published_inputs(spec: TrainingSetSpec, catalog: Catalog, lake: Lake, partition: str) -> dict[str, Input]:
    """What is published now of every input of a partition, pinned before anything is read.

    The ledger is read first: what is published in between makes the manifest name older content than was read,
    which is then refused as outdated, and never newer content.
    """
    known = publications_by_asset(lake)
    read = catalog.lineage.direct_partitions(spec.key, (partition, partition))
    inputs: dict[str, Input] = {}
    for asset in (upstream.key for upstream in spec.nodes(catalog)[0].upstream):
        table, keys = lake.table(asset), read.get(asset)
        version = table.version()
        if version is None:
            raise StoreError(
                f"{spec.key}: published rows of {asset} are required and there are none; materialize it"
            )
        files = table.files(version=version, where=within(keys)) if keys is not None else []
        wanted = key_range(*keys) if keys is not None else []
        mine = known.get(asset, {})
        inputs[asset] = Input(
            asset,
            version,
            tuple(file.removeprefix(_root(lake)) for file in files),
            {key: as_known(mine[key], complete_at(partition)) for key in wanted if key in mine},
        )
    return inputs


def declarations_of(spec: TrainingSetSpec, catalog: Catalog) -> dict[str, NamedSpec]:
    """Every declaration that decides the rows' values, as `Kind/name`."""
    service = spec.service(catalog)
    views = service.view_specs(catalog)
    sources = [
        service.source,
        spec.labels,
        *(v.source for v in views),
        *(v.labels for v in views if v.labels),
    ]
    declared: Sequence[NamedSpec] = [
        spec,
        service,
        *views,
        *service.on_demand_specs(catalog),
        *(catalog.get(SourceSpec, name, wanted_by=spec.key) for name in dict.fromkeys(sources)),
    ]
    return {f"{_kind_name(type(found))}/{found.name}": found for found in declared}


def declaration_digests(spec: TrainingSetSpec, catalog: Catalog) -> dict[str, str]:
    """Digest of every declaration, and of every on-demand function's source, that decides the rows' values."""
    digests = {key: found.digest() for key, found in declarations_of(spec, catalog).items()}
    functions = [found.function for found in spec.service(catalog).on_demand_specs(catalog)]
    return {**digests, **{path: source_digest(path) for path in functions}}


def recipe(
    settings: Settings, spec: TrainingSetSpec, catalog: Catalog, inputs: Mapping[str, Input]
) -> dict[str, Any]:
    """The part of a manifest that a rebuild needs: declarations, functions, code, and inputs down to the files."""
    lake = Lake(settings.lake_uri)
    on_demand = spec.service(catalog).on_demand_specs(catalog)
    return {
        "declarations": declaration_digests(spec, catalog),
        "specs": {key: found.as_declared() for key, found in declarations_of(spec, catalog).items()},
        "functions": {found.function: source_text(found) for found in on_demand},
        "code": code(),
        "inputs": [
            {
                "asset": found.asset,
                "table_version": found.table_version,
                "files": list(found.files),
                "sha256": _file_digests(settings, lake, found.files),
                "partitions": dict(found.partitions),
            }
            for found in inputs.values()
        ],
    }


def code() -> dict[str, str]:
    """Digest of the platform's code that makes rows, and versions of the libraries that it runs on."""
    digest = hashlib.sha256()
    for path in sorted(found for part in _CODE for found in (OWN.root / "ml_platform" / part).rglob("*.py")):
        digest.update(f"{path.relative_to(OWN.root)}\0".encode() + path.read_bytes())
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"ml_platform": digest.hexdigest()[:16], **versions}


def recorded_inputs(manifest: Mapping[str, Any]) -> dict[str, Input]:
    """The inputs that a manifest names."""
    return {
        entry["asset"]: Input(
            entry["asset"], entry["table_version"], tuple(entry["files"]), dict(entry["partitions"])
        )
        for entry in manifest["inputs"]
    }


def require_files(settings: Settings, manifest: Mapping[str, Any]) -> None:
    """Raise StoreError, with its name, for a data file that is gone or has other bytes than were read."""
    lake = Lake(settings.lake_uri)
    for entry in manifest["inputs"]:
        found = _file_digests(settings, lake, entry["files"])
        changed = [file for file, digest in entry["sha256"].items() if found.get(file) != digest]
        if changed:
            raise StoreError(
                f"{_root(lake)}{changed[0]}: the bytes that the manifest names are required (SHA-256 "
                f"{entry['sha256'][changed[0]][:12]}); the file has others ({len(changed)} such files). "
                f"Nothing was rebuilt; restore the file from a backup"
            )


@contextmanager
def recorded_catalog(manifest: Mapping[str, Any]) -> Iterator[Catalog]:
    """The declarations that a manifest carries, and nothing else, until the end of the block.

    On-demand functions that have changed since are those of then (see `recorded_functions`). Raises StoreError
    for a manifest without declarations, or with other ones than its digests say.
    """
    if "specs" not in manifest:
        raise StoreError(
            f"training set {manifest['training_set']!r} [{manifest['partition']}]: a manifest with declarations is "
            f"required to rebuild it; this one was written before manifests had them"
        )
    specs = {(type(spec), spec.name): spec for spec in map(_parse, *_checked_specs(manifest))}
    with importable(manifest["functions"], manifest["declarations"]) as paths:
        for key, spec in specs.items():
            if isinstance(spec, OnDemandFeaturesSpec):
                specs[key] = spec.model_copy(update={"function": paths[spec.function]})
        yield Catalog(specs)


def _checked_specs(manifest: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """Names and dumps of the declarations, each with the digest that the manifest has for it."""
    specs: Mapping[str, Any] = manifest["specs"]
    changed = [key for key, dump in specs.items() if digest_of(dump) != manifest["declarations"].get(key)]
    if changed:
        raise StoreError(
            f"training set {manifest['training_set']!r} [{manifest['partition']}]: declarations with the digests of "
            f"the manifest are required; {changed} have others: the manifest was changed after it was written"
        )
    return list(specs), list(specs.values())


def _parse(key: str, dump: Any) -> NamedSpec:
    """One declaration from its dump."""
    kind = next((kind for kind in _KINDS if _kind_name(kind) == key.partition("/")[0]), None)
    if kind is None:
        raise StoreError(
            f"{key}: a declaration of {[_kind_name(k) for k in _KINDS]} is required in a manifest"
        )
    try:
        return kind.model_validate(dump)
    except ValidationError as err:
        raise StoreError(
            f"{key}: this version of the platform cannot read the declaration as it was recorded; rebuild with the "
            f"version of then: {err}"
        ) from err


def _kind_name(kind: type[NamedSpec]) -> str:
    return kind.__name__.removesuffix("Spec")


def _file_digests(settings: Settings, lake: Lake, files: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each data file; StoreError names the first that is not there."""
    digests: dict[str, str] = {}
    with connect(settings) as connection:
        for file in files:
            try:
                found = connection.execute(_SHA256, [f"{_root(lake)}{file}"]).fetchall()
            except duckdb.IOException:
                found = []
            if not found:  # a local file that is not there is no row, and no error
                raise StoreError(
                    f"{_root(lake)}{file}: this data file is required by the manifest and is not there. Nothing was "
                    f"read; restore it from a backup, and let vacuum keep the files of registered models"
                )
            digests[file] = found[0][0]
    return digests


def _root(lake: Lake) -> str:
    return f"{lake.root.rstrip('/')}/"


_SHA256 = "SELECT sha256(content) FROM read_blob(?)"
