"""The demo's days: what is delivered on each, good, corrupted or drifted."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import ONE_DAY
from ml_platform.kernel.settings import Settings
from ml_platform.lake.snapshots import literal_path
from ml_platform.sources.feed import deliver, write_delivery
from ml_platform.sources.landing import expand
from ml_platform.sources.spec import EVENT_TIME, Feed, SourceSpec

_WEEK = dt.timedelta(days=7)


@dataclass(frozen=True)
class Deliveries:
    """Where the demo's files come from: the declared feed, or files of the same columns."""

    source: SourceSpec
    folder: Path
    feed: Feed
    paths: tuple[str, ...] = ()

    def history(self, settings: Settings, first: dt.date, days: int) -> list[Path]:
        """The files with the demo's past."""
        if self.paths:
            return expand(self.paths)
        last = first + (days - 1) * ONE_DAY
        return [deliver(settings, self.feed, self.source.cadence.of_days(first, last))]

    def good(self, settings: Settings, date: dt.date) -> pa.Table:
        """A good delivery of one day: simulated, or, for files, the same weekday a week before under new ids."""
        if not self.paths:
            return pq.read_table(self.history(settings, date, 1)[0])
        names = self.source.file_columns()
        time, event_id = names[EVENT_TIME], names[self.source.event_id]
        read = ", ".join(literal_path(str(path)) for path in expand(self.paths))
        lowest = dt.datetime.combine(date - _WEEK, dt.time())
        with duckdb.connect() as connection:
            rows = connection.sql(
                f'SELECT * REPLACE ("{time}" + INTERVAL 7 DAY AS "{time}", '
                f'"{event_id}" + 1000000000 AS "{event_id}") FROM read_parquet([{read}]) '
                f"WHERE \"{time}\" >= '{lowest}' AND \"{time}\" < '{lowest + dt.timedelta(days=1)}' ORDER BY 1"
            ).to_arrow_table()
        if rows.num_rows == 0:
            raise InputError(
                f"{self.paths}: rows on {date - _WEEK} are required to make the day {date}; there are none"
            )
        return rows

    def write(self, rows: pa.Table, name: str) -> Path:
        """Write one delivery; the same rows always give the same file."""
        return write_delivery(rows, self.folder / f"{name}.parquet")


def corrupted(rows: pa.Table, column: str) -> pa.Table:
    """Three of ten rows lose a value that every row must have."""
    return _changed(rows, column, f'CASE WHEN row_number() OVER () % 10 >= 3 THEN "{column}" END')


def scaled(rows: pa.Table, column: str, *, by: float) -> pa.Table:
    """Every value of a column times a factor."""
    return _changed(rows, column, f'"{column}" * {by!r}::DOUBLE')


def _changed(rows: pa.Table, column: str, value: str) -> pa.Table:
    with duckdb.connect() as connection:
        connection.register("delivery", rows)
        return connection.sql(f'SELECT * REPLACE ({value} AS "{column}") FROM delivery').to_arrow_table()
