"""Reads plain features from Feast's online store, for the keys of a batch, as a version's contract names them.

The views are made from the contract and not from Feast's registry: what was agreed on at training is what is read,
no registry is asked while a request waits, and whoever can write to the registry runs nothing here.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_platform.features.store import store_config
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import PROJECT_ROOT, Settings
from ml_platform.models.contract import Contract, ViewContract
from ml_platform.serving.compute import ViewRows

if TYPE_CHECKING:
    from feast import FeatureView

_MICROS = 1_000_000


class OnlineFeatures:
    """The online store of this environment, open for the reads of one contract.

    Threads may read at once. A store that cannot be reached, or does not answer in time, is a StoreError.
    """

    def __init__(self, settings: Settings, contract: Contract) -> None:
        from feast import RepoConfig
        from feast.infra.online_stores.helpers import get_online_store_from_config

        self._config = RepoConfig(**store_config(settings), repo_path=PROJECT_ROOT / "feature_repo")
        self._store = get_online_store_from_config(self._config.online_store)
        self._views = [(view, _feast_view(view)) for view in contract.views]

    def read(self, keys: Sequence[Mapping[str, Any]]) -> list[ViewRows]:
        """The rows of every view, in the contract's order, for some entity keys: one round trip for each view."""
        try:
            return [self._read(view, found, keys) for view, found in self._views]
        except Exception as err:  # whichever store it is, its client has errors of its own
            raise StoreError(
                f"the online store is required and did not answer: {type(err).__name__}: {err}. Nothing was scored; "
                f"see that it runs and can be reached from here"
            ) from err

    def _read(self, view: ViewContract, found: "FeatureView", keys: Sequence[Mapping[str, Any]]) -> ViewRows:
        wanted = [_entity_key(view, key[view.join_key]) for key in keys]
        rows = self._store.online_read(self._config, found, wanted, list(view.features))
        times: list[int | None] = []
        values: dict[str, list[Any]] = {name: [] for name in view.features}
        for time, row in rows:
            known = row is not None and time is not None and time.timestamp() > 0
            times.append(round(time.timestamp() * _MICROS) if known and time is not None else None)
            for name in view.features:
                values[name].append(_value(row.get(name)) if known and row is not None else None)
        return ViewRows(times, values)


def _feast_view(view: ViewContract) -> "FeatureView":
    from feast import Entity, FeatureView, Field, ValueType

    from ml_platform.features.feast_objects import FEAST_TYPES

    kind = ValueType.INT64 if view.key_type == "int64" else ValueType.STRING
    entity = Entity(name=view.entity, join_keys=[view.join_key], value_type=kind)
    schema = [
        Field(name=name, dtype=FEAST_TYPES[kind])
        for name, kind in zip(view.features, view.types, strict=True)
    ]
    return FeatureView(name=view.name, entities=[entity], schema=schema)


def _entity_key(view: ViewContract, key: Any) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    value = Value(int64_val=key) if view.key_type == "int64" else Value(string_val=key)
    return EntityKey(join_keys=[view.join_key], entity_values=[value])


def _value(found: Any) -> Any:
    """The Python value of one of Feast's; None for one that is not set."""
    kind = found.WhichOneof("val") if found is not None else None
    return None if kind in (None, "null_val") else getattr(found, kind)
