"""The daily automation of the declared assets: one tick starts the chain, and it goes on to the release."""

import datetime as dt

import dagster as dg
import pytest

from ml_platform import declarations
from ml_platform.gates.outcomes import Evaluation
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.kernel.lineage import Lineage
from ml_platform.kernel.partitions import key_range

# Dagster's own default of `evaluate_automation_conditions` is beta.
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
NEWEST = "2018-10-02"
BEFORE, AFTER = (dt.datetime(2026, 11, 20, hour, 30, tzinfo=dt.UTC) for hour in (5, 6))
MODEL, RELEASE = "models/fraud", "releases/fraud"
FRAUD = (
    "sources/transactions",
    "features/terminal_risk",
    "drift_profiles/fraud",
    "training_sets/fraud",
    MODEL,
)
DEMAND = (
    "sources/slots",
    "features/region_demand",
    "drift_profiles/demand",
    "training_sets/demand",
    "models/demand",
)


@pytest.fixture
def reported() -> dg.DagsterInstance:
    """An instance on which every day that the newest model of each use case reaches was made and passed."""
    instance = dg.DagsterInstance.ephemeral()
    lineage = declarations.load().lineage
    for model in (MODEL, "models/demand"):
        for asset, keys in lineage.upstream_partitions(model, NEWEST).items():
            for key in key_range(*keys):
                report(instance, lineage, asset, key)
    return instance


def report(
    instance: dg.DagsterInstance, lineage: Lineage, asset: str, partition: str | None, *, passed: bool = True
) -> None:
    """Tell the event log that a partition was made, and how its checks ended."""
    key = dg.AssetKey(asset.split("/"))
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))
    target = materialization_targets(instance, key, [partition])[partition]
    for check in lineage.node(asset).blocking_checks:
        judged = Evaluation(check.name, passed, declared=check.digest)
        report_evaluation(instance, evaluation_event(key, partition, judged, target))


def chain(instance: dg.DagsterInstance, *, failing: str | None = None) -> list[str]:
    """What a day's automation requests, in its order, when everything that it requests is made at once."""
    from ml_platform.definitions import defs

    lineage, definitions = declarations.load().lineage, defs()
    first = dg.evaluate_automation_conditions(definitions, instance, evaluation_time=BEFORE)
    requested: list[str] = []
    cursor = first.cursor
    for minutes in range(12):
        at = AFTER + dt.timedelta(minutes=minutes)
        tick = dg.evaluate_automation_conditions(definitions, instance, evaluation_time=at, cursor=cursor)
        cursor = tick.cursor
        for key in sorted(lineage.nodes):
            for partition in tick.get_requested_partitions(dg.AssetKey(key.split("/"))):
                requested.append(key if partition is None else f"{key} {partition}")
                report(instance, lineage, key, partition, passed=key != failing)
    return requested


def test_one_tick_a_day_leads_to_a_new_release_of_each_use_case(reported: dg.DagsterInstance) -> None:
    requested = chain(reported)
    expected = [f"{key} {NEWEST}" for key in (*FRAUD, *DEMAND)]
    assert [entry for entry in expected if entry not in requested] == []
    for name in ("fraud", "demand"):
        assert requested.index(f"models/{name} {NEWEST}") < requested.index(f"releases/{name}")
        assert requested.index(f"drift_profiles/{name} {NEWEST}") < requested.index(f"models/{name} {NEWEST}")
    assert len(requested) == len(set(requested))


def test_a_drifted_day_requests_no_model_and_holds_up_no_other_use_case(
    reported: dg.DagsterInstance,
) -> None:
    requested = chain(reported, failing="drift_profiles/fraud")
    assert f"drift_profiles/fraud {NEWEST}" in requested
    released = [entry for entry in requested if entry.startswith(("models", "releases"))]
    assert released == [f"models/demand {NEWEST}", "releases/demand"]


def test_batch_predictions_wait_for_the_day_and_for_no_release(reported: dg.DagsterInstance) -> None:
    requested = chain(reported, failing="drift_profiles/fraud")
    assert RELEASE not in requested
    assert f"predictions/fraud {NEWEST}" in requested
    assert requested.index(f"predictions/fraud {NEWEST}") > requested.index(f"sources/transactions {NEWEST}")
