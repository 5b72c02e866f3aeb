"""What is wrong with predictions is found, told, and asked to be mended; nothing is refused because of it."""

from dataclasses import replace

import dagster as dg
import pyarrow as pa
import pytest

from ml_platform.defs.resources import resources
from ml_platform.feedback.component import retraining_sensor
from ml_platform.feedback.retraining import wish
from tests.built import CUSTOMERS, TERMINALS, changed_column
from tests.feedback.conftest import A_DAY_LATE, BAD, LOG, OUTCOMES, PERFORMANCE, QUIET, World, declared
from tests.feedback.predictions import with_score, with_values
from tests.support import compiled

PLANTED = 3
ALONE = {"window": "1d", "minimum_positives": 3}


@pytest.fixture(scope="module")
def bad(world: World) -> World:
    """The events are answered again a day later: scores upside down, and three of them from another value."""
    here = world.platform
    batches = [
        with_score(replace(batch, prediction_ids=[f"late-{i}"]), 1 - batch.answer.scores[0])  # pyright: ignore
        for i, batch in enumerate(world.service.answer(world.rows, late=A_DAY_LATE))
    ]
    for i in range(PLANTED):
        batches[i] = with_values(batches[i], customer_mean_amount_7d=1234.5)
    world.service.log(batches)
    for view in (CUSTOMERS, TERMINALS):  # published, and never brought online
        here.make(view, QUIET)
    here.make(LOG, BAD)
    return world


def test_a_value_that_is_not_the_published_one_is_found_and_named(bad: World) -> None:
    said = bad.said(LOG, "online_offline_consistency", BAD)
    assert (said["passed"], said["status"], said["mismatches"]) == (False, "failed", PLANTED)
    assert f"customer_mean_amount_7d: {PLANTED} of {bad.rows.num_rows} differ" in said["observed"]
    assert "prediction late-" in said["observed"]
    differs = {row.data["feature"]: row.data["mismatches"] for row in said["features"].records}
    assert {name for name, count in differs.items() if count} == {"customer_mean_amount_7d"}


def test_an_older_snapshot_than_was_due_is_late_and_not_wrong(bad: World) -> None:
    late = bad.platform.newest_metadata(LOG, BAD)
    hours_after_publication = bad.rows.num_rows  # all but those of the first hour of the day
    assert 0 < late["late_customer_spending"] <= hours_after_publication
    assert bad.platform.newest_metadata(LOG, QUIET)["late_customer_spending"] == 0


def test_scores_that_are_not_what_they_were_are_prediction_drift(bad: World) -> None:
    said = bad.said(LOG, "prediction_drift", BAD)
    assert (said["passed"], said["status"]) == (False, "failed")
    assert said["reference"].startswith("scores of 2018-")


def test_drift_is_a_warning_of_a_run_that_succeeds(bad: World) -> None:
    evaluation = bad.evaluation(LOG, "prediction_drift", BAD)
    assert (evaluation.blocking, evaluation.severity.value) == (False, "WARN")
    assert BAD in bad.platform.materialized(LOG)


def test_requests_unlike_the_training_rows_are_training_drift(bad: World) -> None:
    day = "2018-06-29"
    amounts = [10 * value for value in bad.rows.column("tx_amount").to_pylist()]
    rows = changed_column(bad.rows, "tx_amount", amounts)
    batches = bad.service.answer(rows, late=2 * A_DAY_LATE)
    bad.service.log([replace(batch, prediction_ids=[f"dear-{i}"]) for i, batch in enumerate(batches)])
    bad.platform.make(LOG, day)
    said = bad.said(LOG, "training_drift", day)
    assert not said["passed"] and "amount: ks" in said["observed"]
    assert bad.said(LOG, "online_offline_consistency", day)["passed"]


@pytest.fixture(scope="module")
def worse(bad: World) -> World:
    """The bad day's outcomes are known: its events are those of the day before."""
    bad.platform.make(LOG, "2018-06-26")
    bad.platform.make(OUTCOMES, "2018-06-26", BAD)
    bad.platform.make(PERFORMANCE, BAD, changed=[declared(bad.platform, **ALONE)])
    return bad


def test_labels_are_found_of_events_of_the_day_before(worse: World) -> None:
    assert worse.platform.newest_metadata(OUTCOMES, BAD)["counted"] == worse.rows.num_rows


def test_a_version_that_is_worse_than_it_was_has_concept_drift(worse: World) -> None:
    said = worse.said(PERFORMANCE, "concept_drift", BAD)
    assert (said["passed"], said["status"]) == (False, "failed")
    assert f"version {worse.service.champion.version}: average_precision 0.0" in said["observed"]
    assert BAD in worse.platform.materialized(PERFORMANCE)


def test_concept_drift_asks_for_the_newest_day_to_be_trained(worse: World) -> None:
    here = worse.platform
    spec = declared(here, retrain=["concept_drift"])
    assert wish(here.instance, here.settings, spec, here.catalog).partition == QUIET
    sensor = retraining_sensor(spec, here.catalog)
    defs = dg.Definitions(compiled(here.catalog), sensors=[sensor], resources=resources().resources)
    context = dg.build_sensor_context(
        instance=here.instance,
        resources={"environment": here.settings},
        repository_def=defs.get_repository_def(),
    )
    with context:
        (asked,) = sensor.evaluate_tick(context).run_requests or ()
    assert asked.partition_key == QUIET
    selected = {key.to_user_string() for key in asked.asset_selection or ()}
    assert selected == {"training_sets/fraud", "models/fraud"}


def test_each_kind_of_drift_asks_where_it_is_declared_and_found(worse: World) -> None:
    here = worse.platform
    found = {
        kind: wish(here.instance, here.settings, declared(here, retrain=[kind]), here.catalog)
        for kind in ("prediction_drift", "training_drift", "concept_drift")
    }
    assert {kind: asked.partition for kind, asked in found.items()} == dict.fromkeys(found, QUIET)
    assert all(asked.because.startswith(f"{kind} on 2018-06-") for kind, asked in found.items())
    every = wish(here.instance, here.settings, declared(here, retrain=list(found)), here.catalog)
    assert every.because == ", ".join(asked.because for asked in found.values())


def test_training_is_asked_for_only_where_it_is_declared(worse: World) -> None:
    from ml_platform.compiler import component_of

    here = worse.platform
    assert component_of(declared(here)).sensors(here.catalog) == []
    assert len(component_of(declared(here, retrain=["concept_drift"])).sensors(here.catalog)) == 1


def test_without_drift_on_the_newest_day_nothing_is_trained(worse: World) -> None:
    here = worse.platform
    here.make(PERFORMANCE, BAD, changed=[declared(here, window="1d", minimum_positives=1000)])
    asked = wish(here.instance, here.settings, declared(here, retrain=["concept_drift"]), here.catalog)
    assert (asked.partition, asked.because) == (None, "none of concept_drift was found on the newest day")


def test_a_snapshot_that_was_corrected_after_it_was_read_is_no_mismatch(world: World) -> None:
    here, day = world.platform, "2018-06-26"
    customer = world.batches[0].rows[0]["customer_id"]
    one: pa.Table = here.delivered().slice(0, 1)
    late = {
        "transaction_id": 900_000_001,
        "customer_id": customer,
        "tx_amount": 77.0,
        "tx_datetime": one.column("tx_datetime")[0].as_py().replace(month=6, day=26),
    }
    for name, value in late.items():
        one = changed_column(one, name, [value])
    here.deliver("transactions", one)
    here.make("sources/transactions", day)
    before = here.hashes(CUSTOMERS)[day]
    here.make(CUSTOMERS, day)
    assert here.hashes(CUSTOMERS)[day] != before
    here.make(LOG, QUIET)
    said = world.said(LOG, "online_offline_consistency", QUIET)
    assert (said["passed"], said["mismatches"]) == (True, 0)
    assert here.newest_metadata(LOG, QUIET)["corrected_customer_spending"] > 0
