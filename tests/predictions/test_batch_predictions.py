"""A day's batch scores are what the service would have answered, by whoever is champion, and nobody else."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from ml_platform.features.spec import FeatureViewSpec
from ml_platform.features.store import EventDays, entity_rows_sql
from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.expectations import Expectation
from ml_platform.kernel.settings import settings
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import published
from ml_platform.model_registry import registry
from ml_platform.online.store import apply_registry, publish_snapshot
from ml_platform.predictions import store
from ml_platform.predictions.compute import Version
from ml_platform.predictions.spec import BatchPredictionsSpec
from ml_platform.serving.compute import Answer
from ml_platform.serving.versions import load
from tests.built import CUSTOMERS, NEXT_DAY, Platform, changed_column, day_of_transactions
from tests.redis_server import RedisServer, redis
from tests.support import LAST_DAY, of_fraud

__all__ = ["redis"]

ASSET = "predictions/fraud"
TWO_DAYS_BEFORE, DAY_BEFORE = "2018-06-24", "2018-06-25"
VIEWS = ("customer_spending", "terminal_risk")


def spec_of(platform: Platform) -> BatchPredictionsSpec:
    return platform.catalog.get(BatchPredictionsSpec, "fraud", wanted_by="a test")


def events_of(platform: Platform, day: str) -> list[dict[str, Any]]:
    """The events of a day as requests, each with its id and time."""
    service = spec_of(platform).service(platform.catalog)
    asked = entity_rows_sql(service, platform.catalog, platform.lake, EventDays(day, day))
    return platform.query(f"SELECT * FROM ({asked}) ORDER BY transaction_id").to_pylist()


def scores_of(platform: Platform, day: str) -> list[dict[str, Any]]:
    return platform.query(f"FROM ({platform.scan(ASSET, day)}) ORDER BY transaction_id").to_pylist()


def staged(platform: Platform, version: Version, day: str) -> list[dict[str, Any]]:
    """What some version answers for a day; nothing is published."""
    with connect(platform.settings) as connection:
        store.stage(connection, platform.settings, spec_of(platform), platform.catalog, version, [day])
        return connection.sql(f"FROM {store.STAGED}").to_arrow_table().to_pylist()


def under(version: Version, *, missing: str, ttl_seconds: int) -> Version:
    """The same version under another policy."""
    views = tuple(view.model_copy(update={"ttl_seconds": ttl_seconds}) for view in version.contract.views)
    contract = version.contract.model_copy(update={"missing": missing, "views": views})
    return replace(version, scorer=replace(version.scorer, contract=contract))


@pytest.fixture(scope="module")
def scored(shared: Platform) -> Platform:
    """The module's platform, whose last day the champion has scored."""
    shared.make(ASSET, DAY_BEFORE, LAST_DAY)
    return shared


@pytest.fixture
def at_its_time(
    scored: Platform, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mapping[int, Answer]]:
    """What the service answers for each event of the last day, alone and at its time, from Redis."""
    redis.flush()
    monkeypatch.setenv("ML_PLATFORM_ONLINE_STORE", redis.url)
    here, catalog = settings().prepare(), scored.catalog
    apply_registry(here, catalog)
    champion = registry.champion(here, "fraud")
    assert champion is not None
    loaded = load(here, champion)
    answers: dict[int, Answer] = {}
    for day, hours in ((TWO_DAYS_BEFORE, range(1)), (DAY_BEFORE, range(1, 24))):
        for view in of_fraud(FeatureViewSpec):
            publish_snapshot(here, view, day, content_hash="any", run_id="a test")
        for event in events_of(scored, LAST_DAY):
            if event["event_timestamp"].hour in hours:
                online, at = loaded.features.read([event]), since_epoch(event["event_timestamp"])
                answers[event["transaction_id"]] = loaded.scorer.score([event], online, at=at)
    yield answers
    monkeypatch.undo()
    apply_registry(scored.settings, catalog)


def test_every_event_is_scored_as_the_service_answers_it_at_its_time(
    scored: Platform, at_its_time: Mapping[int, Answer]
) -> None:
    rows = scores_of(scored, LAST_DAY)
    assert [row["transaction_id"] for row in rows] == sorted(at_its_time)
    for row in rows:
        answer = at_its_time[row["transaction_id"]]
        assert (row["score"], row["alert"], row["outcome"]) == (
            answer.scores[0],
            answer.alerts[0],
            answer.outcomes[0],
        )
        for view in answer.views:
            time = row[f"{view.name}_timestamp"]
            assert (since_epoch(time) if time else None, row[f"{view.name}_state"]) == (
                view.times[0],
                view.states[0],
            )
    assert len({row["score"] for row in rows}) > 100


def test_a_day_says_who_scored_it_and_how_many_alerts_there_were(scored: Platform) -> None:
    rows, told = scores_of(scored, LAST_DAY), scored.newest_metadata(ASSET, LAST_DAY)
    champion = registry.champion(scored.settings, "fraud")
    assert champion is not None
    assert {(row["version"], row["run_id"]) for row in rows} == {(champion.version, champion.run_id)}
    assert told["model"] == f"fraud version {champion.version}"
    assert told["alerts"] == sum(row["alert"] for row in rows)
    assert told["dagster/partition_row_count"] == len(rows) == len(events_of(scored, LAST_DAY))


def test_what_is_too_old_is_served_left_out_or_rejected_by_the_contract(scored: Platform) -> None:
    _, version = store.champion(scored.settings, "fraud")
    old = {
        missing: staged(scored, under(version, missing=missing, ttl_seconds=60), LAST_DAY)
        for missing in ("serve_stale", "default", "reject")
    }
    fresh = scores_of(scored, LAST_DAY)
    assert all(row[f"{view}_state"] == "stale" for rows in old.values() for row in rows for view in VIEWS)
    assert [row["score"] for row in old["serve_stale"]] == [row["score"] for row in fresh]
    assert [row["score"] for row in old["default"]] != [row["score"] for row in fresh]
    assert {(row["outcome"], row["score"], row["alert"]) for row in old["reject"]} == {
        ("rejected", None, None)
    }


def test_scoring_again_changes_nothing_and_another_champion_makes_another_version(platform: Platform) -> None:
    platform.make(ASSET, LAST_DAY)
    first, before = platform.hashes(ASSET), scores_of(platform, LAST_DAY)
    platform.make(ASSET, LAST_DAY)
    assert platform.hashes(ASSET) == first
    assert scores_of(platform, LAST_DAY) == before

    platform.make("models/fraud", LAST_DAY)
    registry.set_champion(platform.settings, "fraud", 2)
    platform.make(ASSET, LAST_DAY)
    after = scores_of(platform, LAST_DAY)
    assert platform.hashes(ASSET) != first
    assert {row["version"] for row in after} == {2}
    assert [row["score"] for row in after] == [row["score"] for row in before]  # trained on the same rows


def test_without_a_champion_or_its_evidence_nothing_is_scored(platform: Platform) -> None:
    client = registry.client(platform.settings)
    client.delete_registered_model_alias("fraud", registry.CHAMPION)
    said = platform.refused(ASSET, LAST_DAY)
    assert "a champion of model 'fraud' is required; there is none. Nothing was scored" in said

    registry.set_champion(platform.settings, "fraud", 1)
    for file in (platform.settings.root / "mlflow" / "artifacts").rglob("contract.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "gate_evidence": {}}))
    assert "evidence that it was trained behind its gates is required" in platform.refused(ASSET, LAST_DAY)
    assert published(platform.lake, ASSET) == {}


def test_scores_that_break_an_expectation_are_refused(platform: Platform) -> None:
    spec = spec_of(platform)
    strict = spec.model_copy(update={"expectations": (Expectation(column="score", between=(0.999999, 1.0)),)})
    assert "between" in platform.refused(ASSET, LAST_DAY, changed=[strict])
    assert published(platform.lake, ASSET) == {}


def test_a_day_whose_events_or_snapshots_are_not_published_is_refused(shared: Platform) -> None:
    said = shared.refused(ASSET, NEXT_DAY)
    assert f"published partitions of sources/transactions are required; {NEXT_DAY} have none" in said


def test_snapshots_of_another_definition_are_refused_and_those_only_described_otherwise_are_not(
    platform: Platform,
) -> None:
    declared = platform.catalog.get(FeatureViewSpec, "customer_spending", wanted_by="a test")
    first, *others = declared.aggregations
    large_only = first.model_copy(update={"where": "amount > 50"})
    other = declared.model_copy(update={"aggregations": (large_only, *others)})
    platform.make(CUSTOMERS, DAY_BEFORE, changed=[other])
    for changed in ([], [other]):
        said = platform.refused(ASSET, LAST_DAY, changed=changed)
        assert f"fraud version 1 reads {CUSTOMERS} under declaration {declared.digest()}" in said
    assert published(platform.lake, ASSET) == {}

    described = declared.model_copy(update={"description": "The same in other words."})
    assert described.digest() != declared.digest()
    platform.make(CUSTOMERS, TWO_DAYS_BEFORE, DAY_BEFORE, changed=[described])
    platform.make(ASSET, LAST_DAY, changed=[described])


def test_an_event_of_keys_that_nobody_has_seen_is_scored_without_their_features(platform: Platform) -> None:
    rows = day_of_transactions(NEXT_DAY)
    customers = rows.column("customer_id").to_pylist()
    customers[0] = 99_999_999
    platform.deliver("transactions", changed_column(rows, "customer_id", customers))
    platform.make("sources/transactions", NEXT_DAY)
    platform.make(ASSET, NEXT_DAY)
    first, *others = scores_of(platform, NEXT_DAY)
    assert (first["customer_spending_timestamp"], first["customer_spending_state"]) == (None, "missing")
    assert first["outcome"] == "scored" and 0 <= first["score"] <= 1
    assert all(row["customer_spending_state"] == "fresh" for row in others)
