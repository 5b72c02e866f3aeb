"""The handbook's declarations say its protocol, and its table comes out of any data in its columns."""

import datetime as dt

from ml_platform.defs.fraud.sources.transactions.simulator import simulate
from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.kernel.partitions import day, key_range
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import published
from ml_platform.sources.feed import write_delivery
from ml_platform.training_sets.spec import TrainingSetSpec
from tests.benchmarks.handbook.features.transaction_calendar.on_demand import transaction_calendar
from tests.benchmarks.handbook_table import DAY, METRICS, MODELS, TRAINING_SET, table
from tests.benchmarks.home import Home


def test_a_week_is_tested_that_begins_two_weeks_after_the_week_that_is_learnt_from(home: Settings) -> None:
    catalog = Home(home.root).catalog
    split = catalog.get(TrainingSetSpec, "handbook", wanted_by="a test").split(
        dt.date.fromisoformat(DAY), catalog
    )
    assert split.train == (dt.date(2018, 7, 25), dt.date(2018, 7, 31))
    assert split.test == (dt.date(2018, 8, 8), dt.date(2018, 8, 14))


def test_the_models_read_the_fifteen_features_of_the_baseline(home: Settings) -> None:
    catalog = Home(home.root).catalog
    service = catalog.get(FeatureServiceSpec, "handbook_baseline", wanted_by="a test")
    assert len(service.feature_names(catalog)) == 15


def test_night_ends_at_seven_and_the_weekend_on_monday() -> None:
    times = ["2018-07-27T23:59:59", "2018-07-28T00:00:00", "2018-07-29T06:59:59", "2018-07-30T07:00:00"]
    seconds = [int(dt.datetime.fromisoformat(f"{time}+00:00").timestamp()) for time in times]
    assert transaction_calendar({"transaction_time": seconds}) == {
        "is_weekend": [0.0, 1.0, 1.0, 0.0],
        "is_night": [0.0, 1.0, 1.0, 0.0],
    }


def test_the_table_comes_from_the_days_that_the_training_set_needs(home: Settings) -> None:
    bench = Home(home.root)
    needed = bench.catalog.lineage.upstream_partitions(TRAINING_SET, DAY)
    first, last = needed["sources/transactions"]
    rows = simulate(first_day=day(first) - dt.timedelta(days=1), last_day=day(last), scale=0.1)
    bench.land(write_delivery(rows, home.root / "simulated.parquet"))
    found = table(bench)
    assert found["rows"]["train"] > found["rows"]["test"] > 1000
    assert 10 < found["rows"]["test_fraud"] < found["rows"]["test"]
    assert list(found["models"]) == list(MODELS)
    for metrics in found["models"].values():
        assert list(metrics) == list(METRICS)
        assert 0.5 < metrics["auc_roc"] < 1 and 0 < metrics["card_precision_at_100"] < 1
    days = key_range(first, last)
    assert sorted(published(bench.lake, "sources/transactions")) == days
