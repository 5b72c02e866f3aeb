"""Reads plain features from Feast's online store, for the keys of a batch, as a version's contract names them.

The views are made from the contract and not from Feast's registry: what was agreed on at training is what is read,
no registry is asked while a request waits, and whoever can write to the registry runs nothing here.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_platform.features.online_reads import OnlineReads, OnlineRow, ViewKeys
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.models.contract import Contract, ViewContract
from ml_platform.serving.compute import ViewRows

if TYPE_CHECKING:
    from feast import FeatureView


class OnlineFeatures:
    """The online store of this environment, open for the reads of one contract.

    Threads may read at once. A store that cannot be reached, or does not answer in time, is a StoreError.
    """

    def __init__(self, settings: Settings, contract: Contract) -> None:
        self._store = OnlineReads(settings)  # loads Feast
        self._views = [
            (view, _feast_view(view), tuple(key.name for key in view.keys)) for view in contract.views
        ]

    def read(self, keys: Sequence[Mapping[str, Any]]) -> list[ViewRows]:
        """The rows of every view, in the contract's order, for some entity keys; each key is asked for once."""
        asked = [[tuple([key[name] for name in names]) for key in keys] for *_, names in self._views]
        numbers = [_numbered(mine) for mine in asked]
        wanted = [
            ViewKeys(found, names, list(distinct), view.features)
            for (view, found, names), distinct in zip(self._views, numbers, strict=True)
        ]
        answers = self._answers(wanted)
        return [
            _view_rows(view, [rows[distinct[key]] for key in mine])
            for (view, *_), mine, distinct, rows in zip(self._views, asked, numbers, answers, strict=True)
        ]

    def _answers(self, wanted: Sequence[ViewKeys]) -> list[list[OnlineRow]]:
        try:
            return self._store.read(wanted)
        except StoreError:
            raise
        except Exception as err:  # whichever store it is, its client has errors of its own
            raise StoreError(
                f"the online store is required and did not answer: {type(err).__name__}: {err}. Nothing was scored; "
                f"see that it runs and can be reached from here"
            ) from err


def _numbered(keys: Sequence[Any]) -> dict[Any, int]:
    """Each key once, with its place among them."""
    return {key: i for i, key in enumerate(dict.fromkeys(keys))}


def _view_rows(view: ViewContract, rows: Sequence[OnlineRow]) -> ViewRows:
    return ViewRows(
        times=[None if row is None else row[0] for row in rows],
        values={
            name: [None if row is None else row[1][i] for row in rows] for i, name in enumerate(view.features)
        },
    )


def _feast_view(view: ViewContract) -> "FeatureView":
    from feast import Entity, FeatureView, Field, ValueType

    from ml_platform.features.feast_objects import FEAST_TYPES

    kinds = {"int64": ValueType.INT64, "string": ValueType.STRING}
    entities = [
        Entity(name=key.entity, join_keys=[key.name], value_type=kinds[key.type]) for key in view.keys
    ]
    schema = [
        Field(name=name, dtype=FEAST_TYPES[kind])
        for name, kind in zip(view.features, view.types, strict=True)
    ]
    return FeatureView(name=view.name, entities=entities, schema=schema)
