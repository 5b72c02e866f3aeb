"""Rows that were read, in whichever library they are worked on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ml_platform.kernel.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_SHOWN = 20


@dataclass(frozen=True)
class Rows:
    """An Arrow table, and the same as a pandas or polars frame; libraries that know Arrow take it as it is."""

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return self.table.column_names

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self.table

    def pandas(self) -> "pd.DataFrame":
        """The rows as a pandas frame."""
        return self.table.to_pandas()

    def polars(self) -> "pl.DataFrame":
        """The rows as a polars frame; InputError where polars is not installed, which the platform does not need."""
        try:
            import polars as pl
        except ImportError as err:
            raise InputError(
                "polars is required for this and is not installed; pip install polars, or take .arrow() or .pandas()"
            ) from err
        found = pl.from_arrow(self.table)
        assert isinstance(found, pl.DataFrame)
        return found

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        columns = ", ".join(f"{field.name}: {field.type}" for field in self.table.schema)
        return f"{len(self):,} rows ({columns})"

    def _repr_html_(self) -> str:
        """The first rows as a notebook shows them."""
        shown = self.table.slice(0, _SHOWN).to_pandas().to_html(index=False, border=0)
        more = f"<p>… of {len(self):,} rows</p>" if len(self) > _SHOWN else ""
        return f"{shown}{more}"


def arrow_of(frame: Any) -> pa.Table:
    """An Arrow table of a frame of any library; InputError for what is none."""
    import pandas as pd

    try:
        if isinstance(frame, pd.DataFrame):
            return pa.Table.from_pandas(frame, preserve_index=False)
        return pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as err:
        raise InputError(
            f"rows are required as an Arrow table, a pandas or polars frame, or a dict of columns; got "
            f"{type(frame).__name__}: {err}"
        ) from err
