"""Parts of labelled rows, chosen by declared predicates over their features."""

from collections.abc import Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from ml_platform.kernel.errors import DeclarationError
from ml_platform.lake.engine import database
from ml_platform.models.compute import Array
from ml_platform.models.spec import Slice
from ml_platform.training_sets.store import Arrays

_ROW = "_row"  # no feature has such a name


def masks(slices: Sequence[Slice], rows: Arrays) -> dict[str, Array]:
    """Which rows (n,) are in each slice, by its name; a missing feature is null, as it was before training.

    Raises DeclarationError, with the slice's name, for a predicate that the engine cannot run.
    """
    if not slices:
        return {}
    columns = {
        name: pa.array(
            rows.features[:, i], from_pandas=True
        )  # NaN becomes null: in SQL it is above every number
        for i, name in enumerate(rows.names)
    }
    table = pa.table({_ROW: np.arange(len(rows.labels)), **columns})
    with database() as connection:
        connection.register("rows_of_slices", table)
        return {part.name: _mask(connection, part, rows) for part in slices}


def part_of(rows: Arrays, mask: Array) -> Arrays:
    """The rows of a mask (n,)."""
    return replace(
        rows,
        features=rows.features[mask],
        labels=rows.labels[mask],
        days=rows.days[mask],
        entities={entity: numbers[mask] for entity, numbers in rows.entities.items()},
    )


def _mask(connection: duckdb.DuckDBPyConnection, part: Slice, rows: Arrays) -> Array:
    query = f"SELECT {_ROW} FROM rows_of_slices WHERE ({part.where})"
    try:
        chosen = connection.sql(query).to_arrow_table().column(0).to_numpy()
    except duckdb.Error as err:
        raise DeclarationError(
            f"slice {part.name!r}: a SQL predicate over features is required; the engine refuses {part.where!r}: {err} "
            f"Nothing was measured; correct `where`"
        ) from err
    mask = np.zeros(len(rows.labels), bool)
    mask[chosen] = True
    return mask
