"""How fast features are read as of each transaction, and whether every value is right.

`python -m tests.benchmarks.point_in_time --data PATH.parquet [--rows N] [--memory-limit 512MB] [--json]`

Two views of six features each, one row per transaction and no ttl, are read for transactions as entity rows. With
`--rows` the first N transactions ask, and the other side is Feast's own DuckDB store, over the same views through
the same API. Without, all transactions ask, and the other sides are two hand-written `ASOF LEFT JOIN`s in DuckDB
and two `join_asof`s in polars. `ours_late_s` is our read as known at the time when one feature row in a hundred
was created hours or days late. With `--memory-limit` results are not held but written batch by batch.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64, Int64
from feast.value_type import ValueType

from tests.benchmarks.measure import arguments, in_turn, peak_mb, report, run_side

OURS = "ml_platform.features.offline_store.DuckDBPointInTimeOfflineStore"
DAYS = (1, 7, 30)
VIEWS = {
    "customer": [f"customer_{what}_{days}d" for days in DAYS for what in ("count", "mean")],
    "terminal": [f"terminal_{what}_{days}d" for days in DAYS for what in ("count", "fraud_rate")],
}
KEYS = {view: f"{view}_id" for view in VIEWS}
FEATURES = [name for names in VIEWS.values() for name in names]


def main() -> None:
    """Prepare the inputs, time the sides in turn, take their peaks, and compare every value."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--rows", type=int, help="the first N transactions as entity rows; compares with Feast's own store"
    )
    parser.add_argument("--memory-limit", help="DuckDB's limit for ours and the SQL, such as 512MB; streams")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="fetch_arrow_table", category=DeprecationWarning)  # in ibis
    if options.side:
        run_side(sides(Inputs(options.prepared, options.memory_limit), options)[options.side])
        return
    with tempfile.TemporaryDirectory(prefix="point-in-time-") as folder:
        inputs = Inputs(Path(folder), options.memory_limit)
        inputs.prepare(options.data, options.rows)
        measure(inputs, options)


def measure(inputs: "Inputs", options: argparse.Namespace) -> None:
    """Run all sides and print what came out."""
    work = sides(inputs, options)
    timed = in_turn(work, runs=options.runs)
    others = [side for side in work if side not in ("ours", "late")]
    results = {side: inputs.table(result) for side, result in timed.results.items()}
    equal = all(same(results["ours"], results[other]) for other in others)
    peaks = {side: peak_mb(side, "--prepared", str(inputs.folder)) for side in work}
    seconds = {f"{name}_s": timed.seconds.get(name) for name in ("ours", "stock", "sql", "polars")}
    result: dict[str, Any] = {"rows": len(inputs.entity_rows), "way": inputs.way, **seconds}
    result |= {"ratio": over(seconds["stock_s"], seconds["ours_s"])}
    result |= {f"{name}_peak_mb": peaks.get(name) for name in ("ours", "stock", "sql", "polars")}
    result |= {"equal": equal and results["ours"]["transaction_id"].equals(inputs.transaction_ids)}
    result |= {"answered": 1 - results["ours"]["customer_count_1d"].null_count / len(inputs.entity_rows)}
    if "late" in work:
        result |= {"ours_over_sql": over(seconds["ours_s"], seconds["sql_s"])}
        result |= {"ours_late_s": timed.seconds["late"], "ours_late_peak_mb": peaks["late"]}
        result |= {"late_equal": same(*inputs.sampled(results["late"]))}
        result |= {"late_changed_rows": changed(results["ours"], results["late"])}
    rows = [
        {
            "side": s,
            "seconds": timed.seconds[s],
            "ours is faster by": over(timed.seconds[s], timed.seconds["ours"]),
        }
        | {"peak MB": peaks[s]}
        for s in work
    ]
    report(rows, result, as_json=options.json)


def sides(inputs: "Inputs", options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """The ways to do the work, by name."""
    ours = inputs.store(OURS, "", known_at=True, **inputs.limits)
    found: dict[str, Callable[[], Any]] = {"ours": lambda: inputs.read(ours)}
    if options.rows:
        stock = inputs.store("duckdb", "")
        return found | {"stock": lambda: inputs.read(stock)}
    late = inputs.store(OURS, "_late", known_at=True, **inputs.limits)
    found |= {"sql": inputs.by_sql}
    if not options.memory_limit:
        found |= {"polars": inputs.by_polars}
    return found | {"late": lambda: inputs.read(late)}


@dataclass(frozen=True)
class Inputs:
    """What all sides read: Parquet files in one folder, and the limit that DuckDB has."""

    folder: Path
    memory_limit: str | None

    @property
    def way(self) -> str:
        """How results are taken."""
        return "to_arrow_reader" if self.memory_limit else "to_arrow"

    @property
    def limits(self) -> dict[str, str]:
        """Settings of DuckDB that keep a side within the limit."""
        spill = {"temp_directory": str(self.folder / "spill")}
        return {"memory_limit": self.memory_limit, **spill} if self.memory_limit else {}

    @cached_property
    def entity_rows(self) -> pd.DataFrame:
        """The transactions that ask, as users have them: a pandas frame."""
        return pd.read_parquet(self.folder / "entity_rows.parquet")

    @property
    def transaction_ids(self) -> pa.ChunkedArray:
        """The order of the entity rows."""
        return pa.chunked_array([pa.array(self.entity_rows["transaction_id"])])

    def path(self, view: str) -> str:
        """The file of a view's rows."""
        return str(self.folder / f"{view}.parquet")

    def prepare(self, data: Path, rows: int | None) -> None:
        """Write feature rows for every transaction, the same with late rows, and the entity rows."""
        connection = connect()
        connection.execute(f"CREATE VIEW transactions AS FROM read_parquet('{data}')")
        late = "CASE WHEN id % 100 = 7 THEN id % 72 + 1 ELSE 0 END"
        for view, query in {"customer": CUSTOMER_ROWS, "terminal": TERMINAL_ROWS}.items():
            names = ", ".join([KEYS[view], "event_timestamp", *VIEWS[view]])
            connection.execute(f"CREATE TEMP TABLE {view} AS {query}")
            for suffix, hours in {"": "0", "_late": late}.items():
                created = f"event_timestamp + to_hours({hours}) AS created"
                selected = f"SELECT {names}, {created} FROM {view} ORDER BY event_timestamp"
                connection.execute(f"COPY ({selected}) TO '{self.path(view + suffix)}' (FORMAT parquet)")
        limit = f"LIMIT {rows}" if rows else ""
        selected = (
            "SELECT transaction_id, tx_datetime::TIMESTAMPTZ AS event_timestamp, customer_id, terminal_id, "
            f"tx_amount FROM transactions ORDER BY transaction_id {limit}"
        )
        connection.execute(f"COPY ({selected}) TO '{self.path('entity_rows')}' (FORMAT parquet)")

    def store(self, kind: str, suffix: str, **settings: Any) -> FeatureStore:
        """A Feast store over the views whose files end in a suffix."""
        name = f"{kind.rpartition('.')[2].lower()}{suffix}"
        config: dict[str, Any] = {
            "project": "benchmark",
            "provider": "local",
            "registry": str(self.folder / f"{name}_registry.db"),
            "online_store": None,
            "offline_store": {"type": kind, **settings},
            "entity_key_serialization_version": 3,
        }
        store = FeatureStore(config=RepoConfig(**config))
        store.apply([thing for view in VIEWS for thing in declared(view, self.path(view + suffix))])
        return store

    def read(self, store: FeatureStore) -> pa.Table | Path:
        """All features for all entity rows, the way users ask."""
        names = [f"{view}:{name}" for view, features in VIEWS.items() for name in features]
        job = store.get_historical_features(entity_df=self.entity_rows, features=names)
        return self.written(job.to_arrow_reader()) if self.memory_limit else job.to_arrow()  # type: ignore[attr-defined]

    def by_sql(self) -> pa.Table | Path:
        """Two ASOF joins written by hand; their rows come in no order."""
        with connect(**self.limits) as connection:
            connection.register("entity_rows", self.entity_rows)
            joined = connection.sql(self.asof_sql())
            return self.written(joined.to_arrow_reader()) if self.memory_limit else joined.to_arrow_table()

    def asof_sql(self) -> str:
        """The statement of `by_sql`."""
        joins, values = [], []
        for view, names in VIEWS.items():
            key = KEYS[view]
            values += [f"{view}.{name}" for name in names]
            on = f"e.{key} = {view}.{key} AND e.event_timestamp >= {view}.event_timestamp"
            joins.append(f"ASOF LEFT JOIN read_parquet('{self.path(view)}') {view} ON {on}")
        return f"SELECT e.*, {', '.join(values)} FROM entity_rows e {' '.join(joins)}"

    def by_polars(self) -> pa.Table:
        """Two `join_asof`s."""
        joined = pl.from_pandas(self.entity_rows).sort("event_timestamp")
        for view, names in VIEWS.items():
            rows = pl.read_parquet(self.path(view), columns=[KEYS[view], "event_timestamp", *names])
            joined = joined.join_asof(
                rows.sort("event_timestamp"),
                on="event_timestamp",
                by=KEYS[view],
                check_sortedness=False,
            )
        return joined.to_arrow()

    def written(self, batches: pa.RecordBatchReader) -> Path:
        """The rows in a file, written batch by batch."""
        path = Path(tempfile.mkstemp(suffix=".parquet", dir=self.folder)[1])
        with pq.ParquetWriter(path, batches.schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return path

    def table(self, result: pa.Table | Path) -> pa.Table:
        """The result of a side in memory."""
        return pq.read_table(result) if isinstance(result, Path) else result

    def sampled(self, answers: pa.Table) -> tuple[pa.Table, pa.Table]:
        """One answer in a hundred as known at its time, and the same by trying every row of the key."""
        with connect() as connection:
            connection.register("answers", answers)
            sample = connection.sql("FROM answers WHERE transaction_id % 100 = 0").to_arrow_table()
            connection.register("sample", sample)
            joined = "SELECT transaction_id FROM sample"
            for view, names in VIEWS.items():
                best = (
                    f"SELECT e.transaction_id, arg_max({{{', '.join(f'{n}: v.{n}' for n in names)}}}, "
                    f"v.event_timestamp) AS best FROM sample e JOIN read_parquet('{self.path(view + '_late')}') v "
                    f"ON e.{KEYS[view]} = v.{KEYS[view]} AND greatest(v.event_timestamp, v.created) <= "
                    f"e.event_timestamp GROUP BY ALL"
                )
                both = f"({joined}) LEFT JOIN ({best}) USING (transaction_id)"
                joined = f"SELECT * EXCLUDE best, unnest(best) FROM {both}"
            return sample, connection.sql(joined).to_arrow_table()


def connect(**settings: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection in UTC."""
    connection = duckdb.connect(config=dict(settings))
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def declared(view: str, path: str) -> tuple[Entity, FeatureView]:
    """A view of the rows in a file, and its entity."""
    key = KEYS[view]
    entity = Entity(name=view, join_keys=[key], value_type=ValueType.INT64)
    types = {name: Int64 if "count" in name else Float64 for name in VIEWS[view]}
    source = FileSource(
        name=view, path=path, timestamp_field="event_timestamp", created_timestamp_column="created"
    )
    schema = [Field(name=name, dtype=kind) for name, kind in {key: Int64, **types}.items()]
    return entity, FeatureView(name=view, entities=[entity], schema=schema, source=source, ttl=timedelta(0))


def same(ours: pa.Table, others: pa.Table) -> bool:
    """Whether all features of all transactions are equal, bit by bit, in whatever order the others come."""
    by_id = [("transaction_id", "ascending")]
    ours, others = ours.sort_by(by_id), others.sort_by(by_id)
    return all(
        ours[name].combine_chunks().equals(others[name].cast(ours[name].type).combine_chunks())
        for name in ["transaction_id", *FEATURES]
    )


def changed(ours: pa.Table, late: pa.Table) -> int:
    """Rows whose answer is another one where rows are late: without any, late rows would prove nothing."""
    differs = " OR ".join(f"o.{name} IS DISTINCT FROM l.{name}" for name in FEATURES)
    with duckdb.connect() as connection:
        connection.register("ours", ours).register("late", late)
        query = f"SELECT count(*) FROM ours o JOIN late l USING (transaction_id) WHERE {differs}"
        return connection.sql(query).fetchall()[0][0]


def over(longer: float | None, shorter: float | None) -> float | None:
    """The ratio of two times, where both were taken."""
    return round(longer / shorter, 2) if longer and shorter else None


def windows(what: Mapping[str, str], *, key: str, delay: int) -> str:
    """SQL of feature rows over windows that end `delay` days before each transaction, and include it if 0.

    A row is stamped one second after its transaction, so that a transaction is answered by those before it.
    """
    columns = [f"{text} OVER w{days} AS {name}_{days}d" for days in DAYS for name, text in what.items()]
    frames = [
        f"w{days} AS (PARTITION BY {key} ORDER BY tx_datetime RANGE BETWEEN INTERVAL {days + delay} DAY PRECEDING "
        f"AND INTERVAL {delay} DAY PRECEDING)"
        for days in DAYS
    ]
    return (
        f"SELECT {key}, transaction_id AS id, (tx_datetime + INTERVAL 1 SECOND)::TIMESTAMPTZ AS event_timestamp, "
        f"{', '.join(columns)} FROM transactions WINDOW {', '.join(frames)}"
    )


CUSTOMER_ROWS = windows(
    {"customer_count": "count(*)", "customer_mean": "avg(tx_amount)"}, key="customer_id", delay=0
)
TERMINAL_ROWS = windows(
    {"terminal_count": "count(*)", "terminal_fraud_rate": "avg(tx_fraud)"}, key="terminal_id", delay=7
)

if __name__ == "__main__":
    main()
