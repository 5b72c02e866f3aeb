"""How long windowed features of every transaction take, against SQL, polars and pandas written by hand.

`python -m tests.benchmarks.windows --data PATH.parquet [--json]`

Customers' counts and means over 1, 7 and 30 days, the transaction included; terminals' counts and fraud rates over
the same windows, which end seven days before. Every side reads the published tables of both sources and makes
both tables in memory, ordered by day, key and id. Ours is what materializing a view computes, late events and
corrections included; the others assume that there are none. Each side has a process for itself, as it would where it
is used: pandas leaves gigabytes to whoever comes next.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ml_platform.features.component import computed
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.partitions import day, day_range, key_of
from tests.benchmarks.home import FIRST_DAY, LAST_DAY, Home, listed
from tests.benchmarks.measure import arguments, in_turn, report

VIEWS = {"customer_windows": "customer_id", "terminal_windows": "terminal_id"}
WINDOWS = (1, 7, 30)
DAYS = [key_of(date) for date in day_range(day(FIRST_DAY), day(LAST_DAY))]
Tables = dict[str, pa.Table]


def main() -> None:
    """Publish the sources in a home of its own, time all sides in turn, and compare every value."""
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="windows-") as folder:
        home = Home(Path(folder))
        home.land(options.data)
        home.publish_sources()
        measure(home, options)


def measure(home: Home, options: argparse.Namespace) -> None:
    """Run all sides and print what came out."""
    timed = in_turn(sides(home), runs=options.runs, apart=True)
    ours = timed.results["ours"]
    differing = {side: differences(ours, found) for side, found in timed.results.items() if side != "ours"}
    seconds = timed.seconds
    result = {f"{side}_s": seconds[side] for side in seconds}
    result |= {
        "rows": ours["customer_windows"].num_rows,
        "equal": not any(differing.values()),
        "differing": differing,
    }
    result |= {
        f"over_{side}": round(seconds["ours"] / seconds[side], 2) for side in seconds if side != "ours"
    }
    report([{"side": side, "seconds": seconds[side]} for side in seconds], result, as_json=options.json)


def sides(home: Home) -> Mapping[str, Callable[[], Tables]]:
    """Every way of computing both views."""
    transactions, labels = home.files("sources/transactions"), home.files("sources/fraud_labels")
    return {
        "ours": partial(ours, home.root),
        "sql": partial(by_sql, home.settings.memory_limit, transactions, labels),
        "polars": partial(by_polars, transactions, labels),
        "pandas": partial(by_pandas, transactions, labels),
    }


def ours(root: Path) -> Tables:
    """Both views as they would be published."""
    home = _opened(root)
    specs = [home.catalog.get(FeatureViewSpec, name, wanted_by="a benchmark") for name in VIEWS]
    return {spec.name: computed(spec, home.catalog, home.settings, DAYS) for spec in specs}


@cache
def _opened(root: Path) -> Home:
    """The home in this process: its declarations are read once."""
    return Home(root)


def by_sql(memory_limit: str, transactions: list[str], labels: list[str]) -> Tables:
    """One query for each view, with integer times, whose frames DuckDB searches faster than those of intervals."""
    rows = f"SELECT *, epoch_us(event_timestamp) AS us FROM read_parquet({listed(transactions)})"
    labelled = f"({rows}) LEFT JOIN read_parquet({listed(labels)}) l USING (transaction_id)"
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{memory_limit}'; SET enable_progress_bar = false")
        customers = _windows_sql("customer", "amount", rows=f"({rows})", delay=0)
        terminals = _windows_sql("terminal", "is_fraud", rows=labelled, delay=7)
        return {
            "customer_windows": connection.sql(customers).to_arrow_table(),
            "terminal_windows": connection.sql(terminals).to_arrow_table(),
        }


def _windows_sql(entity: str, value: str, *, rows: str, delay: int) -> str:
    columns = [
        f"count(transaction_id) OVER w{days} AS n{days}, avg({value}) OVER w{days} AS mean{days}"
        for days in WINDOWS
    ]
    micros = 86_400_000_000
    end = f"{delay * micros + 1} PRECEDING" if delay else "CURRENT ROW"
    windows = [
        f"w{days} AS (PARTITION BY {entity}_id ORDER BY us RANGE BETWEEN {(delay + days) * micros} PRECEDING AND {end})"
        for days in WINDOWS
    ]
    return (
        f"SELECT {entity}_id, transaction_id, {', '.join(columns)} FROM {rows} WINDOW {', '.join(windows)} "
        f"ORDER BY us // {micros}, {entity}_id, transaction_id"
    )


def by_polars(transactions: list[str], labels: list[str]) -> Tables:
    """One `rolling` for each window, over rows that are sorted once for each view."""
    columns = ["transaction_id", "event_timestamp", "customer_id", "terminal_id", "amount"]
    rows = pl.read_parquet(transactions, columns=columns)
    truth = pl.read_parquet(labels, columns=["transaction_id", "is_fraud"])
    customers = _rolling(rows, "customer_id", "amount", delay=0)
    terminals = _rolling(
        rows.join(truth, on="transaction_id", how="left"), "terminal_id", "is_fraud", delay=7
    )
    return {"customer_windows": customers.to_arrow(), "terminal_windows": terminals.to_arrow()}


def _rolling(rows: pl.DataFrame, key: str, value: str, *, delay: int) -> pl.DataFrame:
    rows = rows.sort(key, "event_timestamp", "transaction_id")
    found = [rows.select(key, "transaction_id", "event_timestamp")]
    for days in WINDOWS:
        windowed = rows.rolling(
            index_column="event_timestamp",
            period=f"{days}d",
            offset=f"-{days + delay}d" if delay else None,
            group_by=key,
            closed="left" if delay else "both",
        )
        counted = windowed.agg(
            pl.col("transaction_id").count().alias(f"n{days}"), pl.col(value).mean().alias(f"mean{days}")
        )
        found.append(counted.select(f"n{days}", f"mean{days}"))
    ordered = pl.concat(found, how="horizontal").sort(
        pl.col("event_timestamp").dt.date(), key, "transaction_id"
    )
    return ordered.drop("event_timestamp")


def by_pandas(transactions: list[str], labels: list[str]) -> Tables:
    """`groupby.rolling` over sorted rows; what a delay leaves out is subtracted, as the handbook does."""
    columns = ["transaction_id", "event_timestamp", "customer_id", "terminal_id", "amount"]
    rows = pd.concat([pd.read_parquet(file, columns=columns) for file in transactions])
    truth = pd.concat([pd.read_parquet(file, columns=["transaction_id", "is_fraud"]) for file in labels])
    customers = _grouped(rows, "customer_id", "amount", delay=0)
    terminals = _grouped(
        rows.merge(truth, on="transaction_id", how="left"), "terminal_id", "is_fraud", delay=7
    )
    return {
        "customer_windows": pa.Table.from_pandas(customers, preserve_index=False),
        "terminal_windows": pa.Table.from_pandas(terminals, preserve_index=False),
    }


def _grouped(rows: pd.DataFrame, key: str, value: str, *, delay: int) -> pd.DataFrame:
    rows = rows.sort_values([key, "event_timestamp", "transaction_id"], ignore_index=True)
    closed = "left" if delay else "both"
    grouped = rows.set_index("event_timestamp").groupby(key)[value]

    def totals(days: int) -> tuple[np.ndarray, np.ndarray]:
        windows = grouped.rolling(f"{days}D", closed=closed)
        return np.nan_to_num(windows.count().to_numpy()), np.nan_to_num(windows.sum().to_numpy())

    found = {key: rows[key], "transaction_id": rows["transaction_id"]}
    before = totals(delay) if delay else (0.0, 0.0)
    for days in WINDOWS:
        count, total = totals(days + delay)
        count, total = count - before[0], total - before[1]
        with np.errstate(invalid="ignore"):
            found |= {f"n{days}": count, f"mean{days}": np.where(count > 0, total / count, np.nan)}
    table = _ties_alike(pd.DataFrame(found), rows, key) if not delay else pd.DataFrame(found)
    order = [rows["event_timestamp"].dt.floor("D"), rows[key], rows["transaction_id"]]
    return table.iloc[np.lexsort([column.to_numpy() for column in reversed(order)])]


def _ties_alike(found: pd.DataFrame, rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """Rows of one key and time get what the last of them has: pandas counts only those that come before a row."""
    tied = rows.duplicated([key, "event_timestamp"], keep=False)
    values = found.columns.drop([key, "transaction_id"])
    found.loc[tied, values] = (
        found[tied].groupby([rows[key], rows["event_timestamp"]])[values].transform("last")
    )
    return found


def differences(ours: Tables, theirs: Tables) -> dict[str, int]:
    """Values of each view that are not the same, to nine digits; views without any are left out."""
    found = {view: _differing(ours[view], theirs[view], key) for view, key in VIEWS.items()}
    return {view: count for view, count in found.items() if count}


def _differing(ours: pa.Table, theirs: pa.Table, key: str) -> int:
    mine = [name for name in ours.column_names if name not in (key, "transaction_id", *_NOT_FEATURES)]
    count, mean = mine[:3], mine[3:]
    pairs = [(key, key), ("transaction_id", "transaction_id")]
    pairs += [(name, f"n{days}") for name, days in zip(count, WINDOWS, strict=True)]
    pairs += [(name, f"mean{days}") for name, days in zip(mean, WINDOWS, strict=True)]
    return sum(_unequal(ours.column(a), theirs.column(b)) for a, b in pairs)


def _unequal(mine: pa.ChunkedArray, theirs: pa.ChunkedArray) -> int:
    a, b = (pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy() for column in (mine, theirs))
    return (
        len(a) if len(a) != len(b) else int(np.sum(~np.isclose(a, b, rtol=1e-9, atol=1e-7, equal_nan=True)))
    )


_NOT_FEATURES = ("event_timestamp", "created_timestamp", "partition_date")


if __name__ == "__main__":
    main()
