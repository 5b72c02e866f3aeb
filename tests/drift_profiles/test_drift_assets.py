"""Drift through the assets: what is refused stays refused, what is accepted stays accepted."""

import datetime as dt
from typing import Any

import dagster as dg
import pytest
from sqlglot import exp

from ml_platform import declarations
from ml_platform.cli.story import scaled
from ml_platform.defs.fraud.sources.transactions.simulator import simulate
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.features.aggregation import Aggregation
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.gates.acceptances import Acceptance, accept
from ml_platform.gates.guard import closed_gates
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.tables import Lake
from ml_platform.sources.feed import write_delivery
from ml_platform.sources.landing import ingest
from ml_platform.sources.spec import SourceSpec
from ml_platform.sources.store import valid_digests
from tests.built import Platform
from tests.support import FIRST_DAY, FIRST_PROFILE, LAST_DAY, SCALE, made, run_asset

PROFILE = "drift_profiles/fraud"
DRIFTED = dt.date.fromisoformat(LAST_DAY) + dt.timedelta(days=1)
pytestmark = pytest.mark.timeout(300)


def deliver_source(
    here: Settings, date: dt.date, *, factor: float, again: bool = False, known_at: str | None = None
) -> None:
    """Land a day with amounts times a factor, in the place of what landed for it before if it comes again."""
    rows = scaled(simulate(first_day=date, last_day=date, scale=SCALE), "tx_amount", by=factor)
    source = declarations.load().get(SourceSpec, "transactions", wanted_by="test")
    path = write_delivery(rows, here.root / "simulated" / f"{date}-{factor}.parquet")
    before = valid_digests(Lake(here.lake_uri), source.name)[-2] if again else None
    ingest(here, source, path, replaces=before, known_at=known_at)


def deliver(
    here: Settings, instance: dg.DagsterInstance, date: dt.date, *, factor: float, again: bool = False
) -> None:
    """Land a day with amounts times a factor, and materialize what a profile of it reads."""
    deliver_source(here, date, factor=factor, again=again)
    for key in ("sources/transactions", "features/customer_spending", "features/terminal_risk"):
        made(instance, key, str(date))


def let_through(here: Settings, instance: dg.DagsterInstance, date: dt.date, *, new_regime: bool) -> None:
    """Accept a drifted day."""
    acceptance = Acceptance(PROFILE, "drift", str(date), "prices went up", "tester", new_regime)
    accept(instance, Lake(here.lake_uri), acceptance)


def verdicts(here: Settings, partition: str) -> list[dict[str, Any]]:
    """What is kept of a day's verdict."""
    table = Lake(here.lake_uri).table(f"{PROFILE}_decisions")
    found = table.answer(exp.select("*"))
    return [row for row in found if str(row["partition_date"]) == partition]


def test_an_accepted_day_stays_accepted_and_stays_out_of_references(
    built_home: Settings, built_instance: dg.DagsterInstance
) -> None:
    deliver(built_home, built_instance, DRIFTED, factor=1.2)
    refused = run_asset(built_instance, PROFILE, str(DRIFTED))
    assert not refused.success
    assert "amount: ks" in refused.error
    lineage = declarations.load().lineage
    assert closed_gates(built_instance, lineage, "models/fraud", str(DRIFTED))[0].asset == PROFILE
    let_through(built_home, built_instance, DRIFTED, new_regime=False)
    assert PROFILE not in {
        g.asset for g in closed_gates(built_instance, lineage, "models/fraud", str(DRIFTED))
    }

    made(built_instance, PROFILE, str(DRIFTED))
    assert PROFILE not in {
        g.asset for g in closed_gates(built_instance, lineage, "models/fraud", str(DRIFTED))
    }

    after = str(DRIFTED + dt.timedelta(days=1))
    deliver(built_home, built_instance, DRIFTED + dt.timedelta(days=1), factor=1.2)
    assert not run_asset(built_instance, PROFILE, after).success
    (kept,) = verdicts(built_home, after)
    assert len(kept["reference_days"]) == 28 and str(DRIFTED) not in kept["reference_days"]

    deliver(built_home, built_instance, DRIFTED, factor=3.0, again=True)  # other rows than those accepted
    assert not run_asset(built_instance, PROFILE, str(DRIFTED)).success
    let_through(built_home, built_instance, DRIFTED, new_regime=False)
    assert PROFILE not in {
        g.asset for g in closed_gates(built_instance, lineage, "models/fraud", str(DRIFTED))
    }


def test_a_day_without_published_events_is_refused_rather_than_not_judged(
    built_home: Settings, built_instance: dg.DagsterInstance
) -> None:
    refused = run_asset(built_instance, PROFILE, LAST_DAY, str(DRIFTED))
    assert not refused.success
    assert f"sources/transactions are required; {DRIFTED} have none" in refused.error


def test_a_profile_of_rows_that_are_no_longer_published_closes_the_model(
    built_home: Settings, built_instance: dg.DagsterInstance
) -> None:
    last, lineage = dt.date.fromisoformat(LAST_DAY), declarations.load().lineage
    lake = Lake(built_home.lake_uri)
    assert closed_gates(built_instance, lineage, "models/fraud", LAST_DAY, lake=lake) == []
    corrected = last - dt.timedelta(days=10)
    deliver_source(
        built_home, corrected, factor=1.5, known_at=f"{corrected + dt.timedelta(days=1)} 00:00:00+00:00"
    )
    made(built_instance, "sources/transactions", str(corrected))
    closed = {g.asset: g for g in closed_gates(built_instance, lineage, "models/fraud", LAST_DAY, lake=lake)}
    assert closed[PROFILE].reason == "other_inputs"
    assert str(corrected) in closed[PROFILE].partitions
    assert "no longer the published ones" in run_asset(built_instance, "models/fraud", LAST_DAY).error


def test_a_new_regime_is_what_later_days_are_compared_with(
    built_home: Settings, built_instance: dg.DagsterInstance
) -> None:
    later = [DRIFTED + dt.timedelta(days=days) for days in (1, 2)]
    deliver(built_home, built_instance, DRIFTED, factor=1.2)
    assert not run_asset(built_instance, PROFILE, str(DRIFTED)).success
    let_through(built_home, built_instance, DRIFTED, new_regime=True)
    deliver(built_home, built_instance, later[0], factor=1.2)
    made(built_instance, PROFILE, str(later[0]))
    deliver(built_home, built_instance, later[1], factor=1.0)
    assert not run_asset(built_instance, PROFILE, str(later[1])).success


def test_the_statistics_of_every_judged_feature_are_in_the_metrics_table(built_home: Settings) -> None:
    table = Lake(built_home.lake_uri).table("drift_metrics")
    with connect(built_home) as connection:
        rows = connection.execute(
            "SELECT stage, name, count(DISTINCT feature), min(status), max(partition_date) "
            f"FROM ({table.scan()}) GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
    last = dt.date.fromisoformat(LAST_DAY)
    assert rows[0] == ("drift_profiles", "fraud", 16, "passed", last)
    assert [row[:3] for row in rows[1:]] == [("training_sets", "fraud", 1)]


def test_the_statistics_of_labels_name_the_day_that_was_judged(built_home: Settings) -> None:
    table = Lake(built_home.lake_uri).table("drift_metrics")
    with connect(built_home) as connection:
        ((partition, day, feature, status, statistic, rate),) = connection.execute(
            "SELECT partition_date, day, feature, status, statistic, rate "
            f"FROM ({table.scan()}) WHERE stage = 'training_sets'"
        ).fetchall()
    assert (str(partition), day, feature) == (LAST_DAY, partition - dt.timedelta(days=7), "is_fraud")
    assert status == "passed" and 0.5 < statistic < 1.5 and 0 < rate < 0.1


def test_an_evaluation_says_which_days_it_compared_with_and_the_same_reference_has_the_same_id(
    built_home: Settings, built_instance: dg.DagsterInstance
) -> None:
    before, (kept,) = verdicts(built_home, "2018-06-25"), verdicts(built_home, LAST_DAY)
    assert kept["reference_days"] == [str(DRIFTED - dt.timedelta(days=29 - n)) for n in range(28)]
    assert kept["reference"] != before[0]["reference"]
    made(built_instance, PROFILE, LAST_DAY)
    assert verdicts(built_home, LAST_DAY) == [kept]
    records = built_instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey(PROFILE.split("/")), "drift"), limit=1
    )
    evaluation = records[0].evaluation
    assert evaluation is not None
    assert evaluation.metadata["reference"].value == kept["reference"]
    assert evaluation.metadata["reference_days"].value == "2018-05-29 … 2018-06-25"


def test_under_consecutive_the_first_breach_passes_and_is_shown_and_the_second_fails(
    platform: Platform,
) -> None:
    spec = declarations.load().get(DriftProfileSpec, "fraud", wanted_by="test")
    changed = [spec.model_copy(update={"consecutive": 2})]
    first, second = str(DRIFTED), str(DRIFTED + dt.timedelta(days=1))
    for date in (first, second):
        deliver(platform.settings, platform.instance, dt.date.fromisoformat(date), factor=1.2)
    platform.make(PROFILE, first, changed=changed)
    (kept,) = verdicts(platform.settings, first)
    assert (kept["status"], "amount" in kept["breached"]) == ("passed", True)
    assert "amount: ks" in kept["reason"] and "1 in a row (2 fail a day)" in kept["reason"]
    said = platform.refused(PROFILE, second, changed=changed)
    assert "amount: ks" in said and "2 in a row (2 fail a day)" in said
    (kept,) = verdicts(platform.settings, second)
    assert first not in kept["reference_days"]


def test_a_feature_that_days_before_do_not_have_is_no_drift_and_says_what_to_make_again(
    platform: Platform,
) -> None:
    view = platform.catalog.get(FeatureViewSpec, "customer_spending", wanted_by="a test")
    highest = Aggregation(column="amount", function="max", windows=("7d",), named="customer_highest_amount")
    changed = [view.model_copy(update={"aggregations": (*view.aggregations, highest)})]
    platform.make("features/customer_spending", FIRST_DAY, LAST_DAY, changed=changed)
    before = verdicts(platform.settings, LAST_DAY)
    said = platform.refused(PROFILE, LAST_DAY, changed=changed)
    assert "rows with customer_highest_amount_7d are required of 2018-05-29 … 2018-06-25" in said
    assert "dg launch --assets drift_profiles/fraud --partition-range 2018-05-29...2018-06-25" in said
    assert verdicts(platform.settings, LAST_DAY) == before
    late = (dt.date.fromisoformat(LAST_DAY) - dt.timedelta(days=1)).isoformat()
    platform.make(PROFILE, FIRST_PROFILE, late, changed=changed)
    platform.make(PROFILE, LAST_DAY, changed=changed)
    (kept,) = verdicts(platform.settings, LAST_DAY)
    assert kept["status"] == "passed" and "customer_highest_amount_7d" in kept["columns"]
