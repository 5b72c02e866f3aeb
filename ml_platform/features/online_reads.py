"""Reads what the online store has for some keys, without Feast's registry: who asks says what the views are.

Feast is imported when a store is opened, and not before.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_platform.features.feast_import import load_feast
from ml_platform.features.store import store_config
from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureView

OnlineRow = tuple[int, list[Any]] | None
"""An entity's row of a view: its event time in microseconds since 1970 UTC and its values; None where there is none."""

Key = tuple[int | str, ...]
"""The values of a view's join keys, in their order."""

_KEYS = 10_000  # in one query of SQLite, which takes 32,766


@dataclass(frozen=True)
class ViewKeys:
    """What is read of one view: values of its join keys, and features, whose order the values have."""

    view: "FeatureView"
    join_keys: tuple[str, ...]
    keys: Sequence[Key]
    features: Sequence[str]


class OnlineReads:
    """The online store of this environment, open for reads; threads may read at once.

    Raises StoreError where the embedded store was never made; what a store itself raises comes as it is.
    """

    def __init__(self, settings: Settings) -> None:
        load_feast()
        from feast import RepoConfig
        from feast.infra.online_stores.helpers import get_online_store_from_config

        self._config = RepoConfig(
            **store_config(settings), repo_path=settings.declared_in.root / "feature_repo"
        )
        self._embedded = None if settings.redis_url else settings.online_store_path
        self._patience = settings.serving.online_timeout_seconds
        self._shared = get_online_store_from_config(self._config.online_store)
        self._mine = threading.local()

    def read(self, wanted: Sequence[ViewKeys]) -> list[list[OnlineRow]]:
        """The rows of each view for its keys, in their order; of Redis, in one round trip for all views."""
        if self._embedded is None:
            return self._shared.read_views(self._config, wanted)  # pyright: ignore[reportAttributeAccessIssue]
        store = self._own_store()
        return [
            [
                _row(row, asked.features)
                for keys in _portions(asked.keys)
                for row in self._ask(store, asked, keys)
            ]
            for asked in wanted
        ]

    def _ask(self, store: Any, asked: ViewKeys, keys: Sequence[Key]) -> Any:
        wanted = [_entity_key(asked.join_keys, key) for key in keys]
        return store.online_read(self._config, asked.view, wanted, list(asked.features))

    def _own_store(self) -> Any:
        """The embedded store as this thread alone has it open.

        Feast's has one connection. Shared by threads that always have a query open, it would go on seeing the file
        as the first of them did; so would one to a file that is no longer there.
        """
        from feast.infra.online_stores.helpers import get_online_store_from_config

        assert self._embedded is not None
        try:
            file = self._embedded.stat().st_ino
        except FileNotFoundError as err:
            raise StoreError(
                f"an online store at {self._embedded} is required; there is none. Materialize online/feature_registry "
                f"and the views, or set ML_PLATFORM_ONLINE_STORE to the Redis that has them"
            ) from err
        if getattr(self._mine, "file", None) != file:
            store: Any = get_online_store_from_config(self._config.online_store)
            store._get_conn(self._config).execute(f"PRAGMA busy_timeout = {round(self._patience * 1000)}")
            self._mine.store, self._mine.file = store, file
        return self._mine.store


def plain_value(found: Any) -> Any:
    """The Python value of one of Feast's; None for one that is not set."""
    kind = found.WhichOneof("val") if found is not None else None
    return None if kind in (None, "null_val") else getattr(found, kind)


def _row(row: tuple[Any, Any], features: Sequence[str]) -> OnlineRow:
    time, values = row
    if time is None or values is None:
        return None
    return since_epoch(time), [plain_value(values.get(name)) for name in features]


def _entity_key(join_keys: Sequence[str], key: Key) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    values = [Value(int64_val=one) if isinstance(one, int) else Value(string_val=one) for one in key]
    return EntityKey(join_keys=join_keys, entity_values=values)


def _portions(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    for start in range(0, len(keys), _KEYS):
        yield keys[start : start + _KEYS]
