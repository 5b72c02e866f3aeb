"""The rows that ask for features: a pandas frame, a SQL query, or every key and event time of a range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.errors import FeastEntityDFMissingColumnsError
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df

from ml_platform.features.feast_sources import answer_type, describe
from ml_platform.features.point_in_time import ENTITY_ROWS
from ml_platform.features.view_reads import Times, microseconds
from ml_platform.kernel.errors import InputError
from ml_platform.lake.dialect import quoted

_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class EntityRelation:
    """Entity rows as `entity_rows` of one connection.

    `carried` are SQL columns that the join hands on; a frame in memory is not carried but put beside the
    answer, which has its order. `key_columns` names the SQL column of each join key.
    """

    names: tuple[str, ...]
    carried: tuple[str, ...]
    key_columns: Mapping[str, str]
    times: Times
    frame: pa.Table | None


@dataclass(frozen=True)
class Outline:
    """What entity rows look like: their columns, which one is the event time, and the times they span."""

    names: tuple[str, ...]
    time: str
    times: Times


class EntityRows(Protocol):
    """Rows that ask for features."""

    def outline(self, connection: duckdb.DuckDBPyConnection) -> Outline:
        """Their columns and times, without a join."""
        ...

    def relation(self, connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> EntityRelation:
        """Make the rows known to a connection as `entity_rows`, with the join keys."""
        ...


@dataclass(frozen=True)
class FrameRows:
    """Entity rows in memory: a table with its times in UTC microseconds, and the name of the event time."""

    table: pa.Table
    time: str

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "FrameRows":
        """Entity rows from a pandas frame; naive times are UTC, text and mixed zones are parsed to UTC.

        Raises Feast's inference error if there is no event time, InputError if a column has no Arrow type.
        """
        time = infer_event_timestamp_from_entity_df(dict(frame.dtypes))
        repeated = frame.columns[frame.columns.duplicated()].tolist()
        if repeated:
            raise InputError(f"columns of the entity frame must have distinct names; repeated: {repeated}")
        if not pd.api.types.is_datetime64_any_dtype(frame[time]):
            frame = frame.assign(**{time: _parsed(pd.Series(frame[time]))})
        try:
            table = pa.Table.from_pandas(frame, preserve_index=False)
        except pa.ArrowException as err:
            raise InputError(f"the entity frame needs columns of one type each: {err}") from err
        columns = [_utc(column) if pa.types.is_timestamp(column.type) else column for column in table.columns]
        return cls(pa.table(columns, names=table.column_names), time)

    @cached_property
    def micros(self) -> pa.ChunkedArray:
        """The event times."""
        return self.table.column(self.time).cast(pa.int64())

    @cached_property
    def times(self) -> Times:
        bounds = pc.call_function("min_max", [self.micros]).as_py()
        return Times(bounds["min"], bounds["max"])

    def outline(self, connection: duckdb.DuckDBPyConnection | None = None) -> Outline:
        """Their columns and times; needs no connection."""
        return Outline(tuple(self.table.column_names), self.time, self.times)

    def relation(self, connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> EntityRelation:
        """Hand the row numbers, times and keys to the connection, without copies. Raises if a key is missing."""
        require_columns(self.table.column_names, keys)
        key_columns = {key: f"j{i}" for i, key in enumerate(keys)}
        columns = {"r": pa.array(np.arange(self.table.num_rows)), "t": self.micros}
        columns |= {column: self.table.column(key) for key, column in key_columns.items()}
        connection.register(ENTITY_ROWS, pa.table(columns))
        return EntityRelation(tuple(self.table.column_names), (), key_columns, self.times, self.table)


@dataclass(frozen=True)
class QueryRows:
    """Entity rows as a SQL query, run once per retrieval."""

    query: str

    def outline(self, connection: duckdb.DuckDBPyConnection) -> Outline:
        """Their columns and times, from a run of the query of its own."""
        columns = self._columns(connection)
        time = _event_time(columns)
        moment = microseconds(quoted(time), columns[time], up=False)
        bounds = f"SELECT min({moment}), max({moment}) FROM ({self._text})"
        return Outline(tuple(columns), time, Times(*connection.execute(bounds).fetchall()[0]))

    def relation(self, connection: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> EntityRelation:
        """Run the query into a temporary table, which spills to disk like any other."""
        columns = self._columns(connection)
        require_columns(list(columns), keys)
        time = _event_time(columns)
        aliases = {name: f"c{i}" for i, name in enumerate(columns)}
        moment = microseconds(quoted(time), columns[time], up=False)
        exact = {name: _carried(name, kind) for name, kind in columns.items()} | {
            time: f"make_timestamptz({moment})"
        }
        values = [f"{value} AS {aliases[name]}" for name, value in exact.items()]
        selected = ", ".join(["row_number() OVER () - 1 AS r", f"{moment} AS t", *values])
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {ENTITY_ROWS} AS SELECT {selected} FROM ({self._text})"
        )
        first, last = connection.execute(f"SELECT min(t), max(t) FROM {ENTITY_ROWS}").fetchall()[0]
        key_columns = {key: aliases[key] for key in keys}
        return EntityRelation(tuple(columns), tuple(aliases.values()), key_columns, Times(first, last), None)

    @property
    def _text(self) -> str:
        return self.query.strip().rstrip(";") + "\n"  # the query may end in a comment

    def _columns(self, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
        return describe(connection, self._text)


def require_columns(columns: Sequence[str], keys: Sequence[str]) -> None:
    """Raise Feast's error for entity rows that lack a join key."""
    missing = set(keys) - set(columns)
    if missing:
        raise FeastEntityDFMissingColumnsError(set(keys), missing)


def _parsed(values: pd.Series) -> pd.Series:
    return pd.to_datetime(values, utc=True, format="mixed")


def _utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times in UTC microseconds, rounded down; without a zone they are UTC."""
    column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    if column.type.unit == "ns":
        column = pc.call_function("floor_temporal", [column], pc.RoundTemporalOptions(unit="microsecond"))
    return column.cast(_TIME)


def _carried(name: str, kind: str) -> str:
    cast = answer_type(None, kind)
    return quoted(name) if cast is None else f"CAST({quoted(name)} AS {cast})"


def _event_time(columns: Mapping[str, str]) -> str:
    """The event time by Feast's rule: the column of that name, else the only time."""
    times, other = np.dtype("datetime64[us]"), np.dtype(object)
    return infer_event_timestamp_from_entity_df(
        {name: times if kind.startswith("TIMESTAMP") else other for name, kind in columns.items()}
    )
