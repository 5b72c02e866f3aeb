"""A range of days computed in one query has the rows that each day has alone, however early or late rows were known."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.features.component import computed
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.gates.publishing import Staged, publish
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.tables import Lake
from ml_platform.sources.spec import SourceSpec

START = dt.datetime(2018, 6, 1, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
DAYS = [str((START + number * DAY).date()) for number in range(6)]


def source(name: str, column: str) -> SourceSpec:
    columns = {name: {"type": "int64"} for name in ("payment_id", column)}
    times = {name: {"type": "timestamp"} for name in ("event_timestamp", "created_timestamp")}
    declared = {"name": name, "event_id": "payment_id", "start": DAYS[0], "columns": columns | times}
    return SourceSpec.model_validate(declared)


PAYMENTS, FRAUDS = source("payments", "payer_id"), source("frauds", "is_fraud")
VIEW = FeatureViewSpec.model_validate(
    {
        "name": "payers",
        "entity": "payer",
        "source": "payments",
        "ttl": "3d",
        "aggregations": [{"column": "payment_id", "function": "count", "windows": ["2d"]}],
    }
)
SOURCES = {(SourceSpec, spec.name): spec for spec in (PAYMENTS, FRAUDS)}
CATALOG = Catalog({**SOURCES, (FeatureViewSpec, VIEW.name): VIEW})
TIME = pa.timestamp("us", "UTC")


def published(
    home: Path, *rows: tuple[int, int, dt.datetime, dt.datetime], of: SourceSpec = PAYMENTS
) -> Settings:
    """A home in which a source's rows of all days are published: id, payer or fraud, event time, created time."""
    settings = Settings(home=home).prepare()
    ids, values, events, created = zip(*rows, strict=True)
    given = {
        "payment_id": ids,
        list(of.columns)[1]: values,
        "event_timestamp": pa.array(events, TIME),
        "created_timestamp": pa.array(created, TIME),
        PARTITION_COLUMN: [event.date() for event in events],
    }
    with connect(settings) as connection:
        connection.register("given", pa.table(given))
        connection.execute(f"CREATE TEMP TABLE staged AS FROM given ORDER BY {PARTITION_COLUMN}, payment_id")
        staged = Staged(of.key, tuple(DAYS), connection.sql("FROM staged"), {}, of.digest(), versions=True)
        publish(Lake(settings.lake_uri), staged, run_id="run")
    return settings


def counts(settings: Settings, days: list[str]) -> list[tuple[Any, ...]]:
    rows = computed(VIEW, CATALOG, settings, days).to_pylist()
    return [(str(row[PARTITION_COLUMN]), row["payer_id"], row["payment_id_count_2d"]) for row in rows]


@pytest.mark.parametrize("known", [-30 * DAY, -HOUR, 0 * HOUR, HOUR, 2 * DAY], ids=str)
def test_a_range_is_what_its_days_are_alone(tmp_path: Path, known: dt.timedelta) -> None:
    first, later = START + 5 * HOUR, START + 3 * DAY + 5 * HOUR
    settings = published(tmp_path, (1, 7, first, first), (2, 8, later, later + known))
    alone = [row for day in DAYS for row in counts(settings, [day])]
    assert counts(settings, DAYS) == alone
    since = max(later, later + known)
    rows_of_8 = [day for day, payer, _ in alone if payer == 8]
    assert rows_of_8 == [day for day in DAYS if day >= str(since.date())]


def rates(settings: Settings, days: list[str]) -> list[float | None]:
    """Shares of fraud over three days, that end a day before, of the only payer."""
    rate = {"column": "is_fraud", "function": "mean", "windows": ["3d"], "delay": "1d", "named": "rate"}
    view = FeatureViewSpec.model_validate({**VIEW.model_dump(), "labels": "frauds", "aggregations": [rate]})
    catalog = Catalog({**SOURCES, (FeatureViewSpec, view.name): view})
    return computed(view, catalog, settings, days).column("rate_3d").to_pylist()


def test_days_that_read_no_label_need_none(tmp_path: Path) -> None:
    paid = START + 5 * HOUR
    settings = published(tmp_path, (1, 7, paid, paid))
    assert rates(settings, DAYS[:1]) == [None]
    with pytest.raises(InputError, match="published partitions of sources/frauds are required"):
        rates(settings, DAYS[:2])
    published(tmp_path, (1, 1, paid, paid + HOUR), of=FRAUDS)
    assert rates(settings, DAYS[:2]) == [None, 1.0]


def test_a_label_at_another_time_than_its_event_is_refused(tmp_path: Path) -> None:
    paid = START + 5 * HOUR
    settings = published(tmp_path, (1, 7, paid, paid), (2, 7, paid, paid))
    published(tmp_path, (1, 0, paid, paid + DAY), (2, 1, paid + DAY, paid + DAY), of=FRAUDS)
    with pytest.raises(InputError, match="its event's time is required; another time has the label of 2"):
        rates(settings, DAYS)


def test_a_day_alone_refuses_what_a_range_with_it_does(tmp_path: Path) -> None:
    paid, later = START + 5 * HOUR, START + 4 * DAY + 5 * HOUR
    settings = published(tmp_path, (1, 7, paid, paid), (2, 7, later, later))
    published(tmp_path, (1, 1, paid, paid), (2, 1, paid + DAY, paid + DAY), of=FRAUDS)
    for days in (DAYS[4:5], DAYS[4:]):  # read payment 2, which is in no window of theirs
        with pytest.raises(InputError, match="another time has the label of 2"):
            rates(settings, days)


def test_keys_from_before_a_sources_start_have_no_rows(tmp_path: Path) -> None:
    early, later = START + 5 * HOUR, START + 4 * DAY + 5 * HOUR
    settings = published(tmp_path, (1, 7, early, early), (2, 8, later, later))
    begun = PAYMENTS.model_copy(update={"start": dt.date.fromisoformat(DAYS[3])})
    catalog = Catalog({(SourceSpec, begun.name): begun, (FeatureViewSpec, VIEW.name): VIEW})
    for days in (DAYS[4:5], DAYS[3:]):
        assert set(computed(VIEW, catalog, settings, days).column("payer_id").to_pylist()) == {8}
