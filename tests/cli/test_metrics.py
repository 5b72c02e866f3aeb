"""What Prometheus is told of the asset side: by a built home, by what happens to it, and when stores are broken."""

import datetime as dt
import math
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from ml_platform.asset_metrics.collector import Reading, StoreCollector
from ml_platform.asset_metrics.declared import Declared
from ml_platform.asset_metrics.lake import notifications
from ml_platform.asset_metrics.readings import EVENT_LOG, LAKE, MODEL_REGISTRY
from ml_platform.cli.story import corrupted
from ml_platform.drift_profiles.metrics import DRIFT_METRICS
from ml_platform.feedback.performance import PERFORMANCE
from ml_platform.feedback.spec import FeedbackSpec
from ml_platform.feedback.store import publish
from ml_platform.gates.outcomes import Evaluation
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.kernel.partitions import PARTITION_COLUMN, complete_at
from ml_platform.kernel.settings import PROJECT_ROOT, Settings
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.notifications.compute import Message
from ml_platform.notifications.store import record
from ml_platform.releases.store import history
from ml_platform.sources.feed import write_delivery
from tests.built import CUSTOMERS, NEXT_DAY, Platform, day_of_transactions
from tests.commands import invoke, words
from tests.releases.test_releases import declared, released
from tests.support import LAST_DAY, all_assets

TRANSACTIONS, PROFILE, RELEASE = "sources/transactions", "drift_profiles/fraud", "releases/fraud"
Told = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command sets for MLflow is of its own process, and here of one test."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")


def parsed(text: str) -> Told:
    """Every series of an exposition by its name and labels, without the prefix that all have; each comes once."""
    found: Told = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation.endswith(".") and family.type == "gauge", family
        for sample in family.samples:
            series = (sample.name.removeprefix("ml_platform_"), tuple(sorted(sample.labels.items())))
            assert sample.name.startswith("ml_platform_") and series not in found
            found[series] = sample.value
    return found


def told() -> Told:
    result = invoke("metrics", "--once")
    assert result.exit_code == 0, result.output
    return parsed(result.stdout)


def value(found: Told, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def state(found: Told, asset: str, check: str) -> str:
    """The state of a blocking check, which is exactly one."""
    labels = {"asset": asset, "check": check, "blocking": "true"}
    values = {
        name: value(found, "asset_check_state", **labels, state=name)
        for name in ("passed", "failed", "never")
    }
    (current,) = (name for name, value in values.items() if value == 1)
    assert sorted(values.values()) == [0, 0, 1]
    return current


def up(found: Told) -> dict[str, float]:
    return {labels[0][1]: value for (name, labels), value in found.items() if name == "up"}


def names(found: Told) -> set[str]:
    return {name for name, _ in found}


def ends(partition: str) -> float:
    return complete_at(partition).timestamp()


ALL_UP = {EVENT_LOG: 1, LAKE: 1, MODEL_REGISTRY: 1}


def test_a_built_home_is_told_as_its_stores_have_it(
    shared: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_SERVING__AT", f"{NEXT_DAY}T06:00:00Z")
    found = told()
    assert up(found) == ALL_UP
    nodes = shared.catalog.lineage.nodes
    built = {
        asset: node
        for asset, node in nodes.items()
        if group(asset) != "demand"
        and not asset.startswith(("predictions/", "feedback/"))  # follow a release
    }
    assert {"online/feature_registry", "models/fraud"} <= set(built)
    for asset, node in built.items():
        made = shared.instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
        assert made is not None
        assert value(found, "asset_last_materialization_timestamp_seconds", asset=asset) == pytest.approx(
            made.timestamp, abs=1e-3
        )
        assert (
            "asset_newest_partition_timestamp_seconds",
            (("asset", asset),),
        ) in found or not node.partitioned
        for check in node.blocking_checks:
            assert state(found, asset, check.name) == "passed"
            assert value(found, "asset_check_failed_partitions", asset=asset, check=check.name) == 0
    assert value(found, "asset_newest_partition_timestamp_seconds", asset="models/fraud") == ends(LAST_DAY)
    for store in ("offline", "online"):
        where = {"view": "customer_spending", "store": store}
        assert value(found, "feature_snapshot_timestamp_seconds", **where) == ends(LAST_DAY)
        assert value(found, "feature_snapshot_age_seconds", **where) == 6 * 3600  # by the clock of the replay
    assert value(found, "feature_ttl_seconds", view="customer_spending") == 3 * 24 * 3600
    assert value(found, "notifications_waiting", webhook="on_call") == 0
    assert value(found, "asset_refused_partitions", asset=TRANSACTIONS) == 0


def test_another_use_case_of_the_same_location_that_nobody_made_is_told_as_never_made(
    shared: Platform,
) -> None:
    found = told()
    unmade = {a: node for a, node in shared.catalog.lineage.nodes.items() if group(a) == "demand"}
    assert {"sources/slots", "online/place_demand", "models/demand", "releases/demand"} <= set(unmade)
    for asset, node in unmade.items():
        assert value(found, "asset_last_materialization_timestamp_seconds", asset=asset) == 0
        assert value(found, "asset_last_failure_timestamp_seconds", asset=asset) == 0
        for check in node.blocking_checks:
            assert state(found, asset, check.name) == "never"
            assert value(found, "asset_check_closing_partitions", asset=asset, check=check.name) == 0
    assert value(found, "model_champion_version", model="demand") == 0
    assert value(found, "release_alias_state", release="demand", state="agrees") == 1


def group(asset: str) -> str | None:
    """What Dagster shows an asset among: its use case, or its stage."""
    return all_assets().asset_layer.asset_graph.get(dg.AssetKey(asset.split("/"))).group_name


def test_drift_is_told_as_it_was_gated(shared: Platform) -> None:
    found = told()
    rows = shared.query(f"SELECT * FROM ({shared.scan(DRIFT_METRICS, LAST_DAY)})").to_pylist()
    assert len(rows) == 17
    for row in rows:
        asset = f"{row['stage']}/{row['name']}"
        feature = {"asset": asset, "feature": row["feature"], "statistic": row["statistic_name"]}
        assert value(found, "asset_drift_statistic", **feature) == row["statistic"]
        bound = found.get(("asset_drift_bound", tuple(sorted(feature.items()))))
        assert bound == (row["bound"] if row["gated"] else None)
        assert value(found, "asset_drift_breached", asset=asset, feature=row["feature"]) == 0
        assert value(found, "asset_drift_partition_timestamp_seconds", asset=asset) == ends(LAST_DAY)
    assert [row["feature"] for row in rows if not row["gated"]] == ["is_weekend"]


def test_the_document_has_every_metric_and_no_other(platform: Platform) -> None:
    measured(platform, LAST_DAY, value=0.5)
    text = (PROJECT_ROOT / "docs" / "metrics.md").read_text()
    listed = re.findall(r"^\| `ml_platform_(\w+)` \| ([^|]*)", text, re.MULTILINE)
    labels = {name: {label for label, _ in of_series} for name, of_series in told()}
    without_values = {name: re.sub(r"\(.*?\)", "", said) for name, said in listed}
    assert {name: set(re.findall(r"\w+", said)) for name, said in without_values.items()} == labels


def test_the_champion_is_told_with_when_it_was_promoted(shared: Platform) -> None:
    found = told()
    (promotion,) = history(shared.settings, "fraud")
    assert value(found, "model_champion_version", model="fraud") == 1
    promoted = value(found, "model_champion_promoted_timestamp_seconds", model="fraud")
    assert promoted == promotion["recorded_at"].timestamp()
    assert value(found, "release_alias_state", release="fraud", state="agrees") == 1
    assert value(found, "release_alias_state", release="fraud", state="moved") == 0


def test_nothing_that_was_ever_made_is_told_as_never_and_infinitely_old(home: Settings) -> None:
    found = told()
    assert up(found) == ALL_UP
    assert value(found, "asset_last_materialization_timestamp_seconds", asset=TRANSACTIONS) == 0
    assert value(found, "asset_newest_partition_timestamp_seconds", asset=TRANSACTIONS) == 0
    assert state(found, TRANSACTIONS, "quality") == "never"
    where = {"view": "terminal_risk", "store": "online"}
    assert value(found, "feature_snapshot_age_seconds", **where) == math.inf
    assert value(found, "feature_snapshot_timestamp_seconds", **where) == 0
    assert value(found, "model_champion_version", model="fraud") == 0
    assert "asset_drift_statistic" not in names(found)
    assert "model_champion_promoted_timestamp_seconds" not in names(found)


def test_a_refused_day_is_told_until_a_good_delivery_takes_its_place(platform: Platform) -> None:
    newest, last = "asset_newest_partition_timestamp_seconds", "asset_last_materialization_timestamp_seconds"
    before = told()
    good = day_of_transactions(NEXT_DAY)
    wrong = platform.deliver("transactions", corrupted(good, "terminal_id"))
    platform.refused(TRANSACTIONS, NEXT_DAY)
    found = told()
    assert state(found, TRANSACTIONS, "quality") == "failed"
    assert value(found, "asset_check_failed_partitions", asset=TRANSACTIONS, check="quality") == 1
    assert value(found, "asset_refused_partitions", asset=TRANSACTIONS) == 1
    assert value(found, newest, asset=TRANSACTIONS) == ends(LAST_DAY)
    assert value(found, last, asset=TRANSACTIONS) == value(before, last, asset=TRANSACTIONS)

    file = write_delivery(good, platform.settings.root / "good.parquet")
    assert invoke("ingest", "transactions", str(file), "--replaces", wrong.digest).exit_code == 0
    platform.make(TRANSACTIONS, NEXT_DAY)
    platform.make(CUSTOMERS, NEXT_DAY)
    found = told()
    assert state(found, TRANSACTIONS, "quality") == "passed"
    assert value(found, "asset_check_failed_partitions", asset=TRANSACTIONS, check="quality") == 0
    assert value(found, "asset_refused_partitions", asset=TRANSACTIONS) == 0
    assert value(found, newest, asset=TRANSACTIONS) == ends(NEXT_DAY)
    assert value(found, last, asset=TRANSACTIONS) > value(before, last, asset=TRANSACTIONS)
    snapshots = {
        store: value(found, "feature_snapshot_timestamp_seconds", view="customer_spending", store=store)
        for store in ("offline", "online")
    }
    assert snapshots == {"offline": ends(NEXT_DAY), "online": ends(LAST_DAY)}


def test_an_older_day_that_fails_is_counted_and_the_state_stays_that_of_the_newest(
    platform: Platform,
) -> None:
    evaluate(platform, PROFILE, "2018-06-20", passed=False)
    found = told()
    assert state(found, PROFILE, "drift") == "passed"
    assert value(found, "asset_check_failed_partitions", asset=PROFILE, check="drift") == 1
    evaluate(platform, PROFILE, LAST_DAY, passed=False)
    assert state(told(), PROFILE, "drift") == "failed"
    evaluate(platform, PROFILE, LAST_DAY, passed=True)
    evaluate(platform, PROFILE, "2018-06-20", passed=True)
    found = told()
    assert state(found, PROFILE, "drift") == "passed"
    assert value(found, "asset_check_failed_partitions", asset=PROFILE, check="drift") == 0


def test_a_day_that_fails_closes_gates_as_long_as_something_reads_it(platform: Platform) -> None:
    bad, later = "2018-06-20", "2018-10-01"
    assert Declared.now().partitions_read(later)[PROFILE][0] > LAST_DAY
    check = {"asset": PROFILE, "check": "drift"}
    evaluate(platform, PROFILE, bad, passed=False)
    assert bad in platform.refused("models/fraud", LAST_DAY)
    assert value(told(), "asset_check_closing_partitions", **check) == 1
    evaluate(platform, PROFILE, bad, passed=True)  # as when it is accepted or overridden
    assert value(told(), "asset_check_closing_partitions", **check) == 0
    evaluate(platform, PROFILE, bad, passed=False)
    evaluate(platform, PROFILE, later, passed=True)
    found = told()
    assert value(found, "asset_check_failed_partitions", **check) == 1
    assert value(found, "asset_check_closing_partitions", **check) == 0


def evaluate(platform: Platform, asset: str, partition: str, *, passed: bool) -> None:
    """Store another evaluation of a partition, as a way out or a recheck does."""
    key = dg.AssetKey(asset.split("/"))
    targets = materialization_targets(platform.instance, key, [partition, LAST_DAY])
    target = targets.get(partition, targets[LAST_DAY])
    report_evaluation(
        platform.instance,
        evaluation_event(
            key, partition, Evaluation("drift", passed, observed="seen", bound="required"), target
        ),
    )


def test_a_promotion_is_told_and_so_is_an_alias_that_somebody_moved_without_the_ledger(
    platform: Platform,
) -> None:
    other = declared(parameters={"max_iter": 30, "max_features": 0.5, "random_state": 2})
    platform.make("models/fraud", LAST_DAY, changed=[other])
    platform.make(RELEASE, changed=[released(margin=1.0)])
    first, second = history(platform.settings, "fraud")
    found = told()
    assert value(found, "model_champion_version", model="fraud") == 2
    promoted = value(found, "model_champion_promoted_timestamp_seconds", model="fraud")
    assert promoted == second["recorded_at"].timestamp() > first["recorded_at"].timestamp()
    assert value(found, "release_alias_state", release="fraud", state="agrees") == 1

    registry.set_champion(platform.settings, "fraud", 1)
    found = told()
    assert value(found, "model_champion_version", model="fraud") == 1
    assert value(found, "release_alias_state", release="fraud", state="moved") == 1
    assert value(found, "release_alias_state", release="fraud", state="agrees") == 0
    assert "model_champion_promoted_timestamp_seconds" not in names(found)


def test_an_asset_whose_run_broke_is_told_with_when_and_one_that_was_refused_is_not(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = "asset_last_failure_timestamp_seconds"
    before, began = told(), time.time()
    platform.deliver("transactions", corrupted(day_of_transactions(NEXT_DAY), "terminal_id"))
    platform.refused(TRANSACTIONS, NEXT_DAY)
    assert value(told(), failures, asset=TRANSACTIONS) == 0

    with monkeypatch.context() as patch:
        patch.setattr("ml_platform.releases.component.challenge", breaks)
        assert not platform.run(RELEASE).success
    died = platform.instance.create_run_for_job(
        all_assets(), asset_selection=frozenset({dg.AssetKey(["drift_profiles", "fraud"])})
    )
    platform.instance.report_run_failed(died)
    found = told()
    assert began < value(found, failures, asset=RELEASE) <= value(found, failures, asset=PROFILE)
    assert value(found, failures, asset=TRANSACTIONS) == value(found, failures, asset=CUSTOMERS) == 0
    assert value(found, "runs", status="failure") == value(before, "runs", status="failure") + 3
    assert value(found, "runs", status="success") == value(before, "runs", status="success") > 0


def breaks(*_: object, **__: object) -> None:
    raise ConnectionError("the store went away")


def test_the_performance_of_the_newest_measured_day_is_told_by_version(platform: Platform) -> None:
    measured(platform, "2018-06-25", value=0.25)
    measured(platform, LAST_DAY, value=0.5)
    found = told()
    version = {"feedback": "fraud", "model": "fraud", "version": "1", "role": "champion", "days": "7"}
    metric = {"metric": "average_precision"}
    assert value(found, "model_performance", **version, **metric) == 0.5
    assert value(found, "model_performance_at_evaluation", **version, **metric) == 0.75
    assert ("model_performance", tuple(sorted({**version, "metric": "roc_auc"}.items()))) not in found
    measured_at = value(
        found, "model_performance_partition_timestamp_seconds", feedback="fraud", model="fraud"
    )
    assert measured_at == ends(LAST_DAY)


def measured(platform: Platform, day: str, *, value: float) -> None:
    """Publish the performance of version 1 on a day: one metric that could be measured, and one that could not."""
    spec = platform.catalog.get(FeedbackSpec, "fraud", wanted_by="a test")
    of_day = {"version": 1, "role": "champion", "days": 7, PARTITION_COLUMN: dt.date.fromisoformat(day)}
    rows = [
        {**of_day, "metric": "average_precision", "value": value, "evaluation": 0.75},
        {**of_day, "metric": "roc_auc", "value": None, "evaluation": None},
    ]
    publish(
        platform.lake,
        spec.performance_key,
        pa.Table.from_pylist(rows, schema=PERFORMANCE),
        days=[day],
        declaration="",
        inputs={day: ""},
        run_id="",
    )


def test_messages_that_no_webhook_has_taken_are_counted(home: Settings) -> None:
    lake, now = Lake(home.lake_uri), dt.datetime.now(dt.UTC)
    for number in range(3):
        about = {"event": "test", "about": "test", "title": "t", "text": "t", "asset": "", "happened_at": now}
        message = Message.model_validate({"id": str(number), **about})
        record(lake, "on_call", message, status="pending", answer="HTTP 503")
        if number == 0:
            record(lake, "on_call", message, status="sent", answer="HTTP 200")
    declared = Declared.now()
    collector = StoreCollector([Reading((LAKE,), lambda: notifications(declared, home))])
    assert value(scraped(collector), "notifications_waiting", webhook="on_call") == 2


ONLY = {
    EVENT_LOG: {
        "asset_last_materialization_timestamp_seconds",
        "asset_newest_partition_timestamp_seconds",
        "asset_check_state",
        "asset_check_failed_partitions",
        "asset_check_closing_partitions",
    },
    LAKE: {
        "feature_snapshot_timestamp_seconds",
        "feature_snapshot_age_seconds",
        "feature_ttl_seconds",
        "asset_drift_statistic",
        "asset_drift_bound",
        "asset_drift_breached",
        "asset_drift_partition_timestamp_seconds",
        "notifications_waiting",
    },
    MODEL_REGISTRY: {"model_champion_version"},
}
"""What is told as long as one store answers; the others need two."""
RUNS = {"asset_last_failure_timestamp_seconds", "runs"}
"""What is told of Dagster's runs: in SQLite they are in another file than the events."""
BOTH = {
    (LAKE, EVENT_LOG): {"asset_refused_partitions"},
    (MODEL_REGISTRY, LAKE): {"model_champion_promoted_timestamp_seconds", "release_alias_state"},
}


@pytest.mark.parametrize("broken", [EVENT_LOG, LAKE, MODEL_REGISTRY])
def test_a_store_that_does_not_answer_is_told_as_down_and_the_others_all_the_same(
    shared: Platform, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shared.settings.root
    if broken == MODEL_REGISTRY:
        monkeypatch.setenv("ML_PLATFORM_MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        found = told()
    elif broken == LAKE:
        with spoiled(sorted((root / "lake" / "ledgers" / "publications" / "_delta_log").iterdir())):
            found = told()
        unreadable = {name for name in ONLY[LAKE] if name.startswith("feature_")}
        assert names(found) & ONLY[LAKE] == ONLY[LAKE] - unreadable  # other tables of it are there
    else:
        with spoiled([root / "dagster" / "history" / "runs" / "index.db"]):
            found = told()
    assert up(found) == {**ALL_UP, broken: 0}
    told_of = names(found) - {"up"}
    assert told_of - ONLY[LAKE] == (
        set().union(*(ONLY[store] for store in ONLY if store not in (broken, LAKE)))
        | set().union(*(both for stores, both in BOTH.items() if broken not in stores))
        | RUNS
    )
    assert broken == LAKE or told_of >= ONLY[LAKE]


@contextmanager
def spoiled(files: Sequence[Path]) -> Iterator[None]:
    """Files that are no longer what they should be, until the end of the block."""
    whole = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(b"not what it was " * 64)
    yield
    for path, content in whole.items():
        path.write_bytes(content)


def gauge(name: str) -> list[Metric]:
    return [GaugeMetricFamily(f"ml_platform_{name}", "A number.", value=1)]


def scraped(collector: StoreCollector) -> Told:
    of_its_own = CollectorRegistry()
    of_its_own.register(collector)
    return parsed(generate_latest(of_its_own).decode())


def test_a_store_that_hangs_is_waited_for_once_and_asked_again_when_it_has_answered() -> None:
    asked, released = list[str](), threading.Event()

    def hanging() -> list[Metric]:
        asked.append("slow")
        assert len(asked) != 2 or released.wait(60)
        return gauge("slow")

    readings = [
        Reading(("slow",), hanging),
        Reading(("quick",), lambda: gauge("quick")),
        Reading(("quick", "slow"), lambda: gauge("both")),
    ]
    collector = StoreCollector(readings, patience_s=1, fresh_s=0.0)
    assert up(scraped(collector)) == {"slow": 1, "quick": 1}
    began = time.monotonic()
    for _ in range(3):
        found = scraped(collector)
        assert up(found) == {"slow": 0, "quick": 1} and names(found) == {"up", "quick"}
    assert time.monotonic() - began < 30 and asked == ["slow"] * 2
    released.set()
    deadline = time.monotonic() + 30
    while up(found := scraped(collector)) != {"slow": 1, "quick": 1}:
        assert time.monotonic() < deadline
    assert names(found) == {"up", "quick", "slow", "both"}


def test_who_scrapes_more_often_asks_the_stores_no_more_often() -> None:
    asked = list[str]()

    def counted() -> list[Metric]:
        asked.append("store")
        if len(asked) == 2:
            raise OSError("no route to host")
        return gauge("one")

    collector = StoreCollector([Reading(("store",), counted)], fresh_s=600)
    assert [up(scraped(collector)) for _ in range(3)] == [{"store": 1}] * 3
    assert asked == ["store"]
    collector = StoreCollector([Reading(("store",), counted)], fresh_s=600)
    assert [up(scraped(collector)) for _ in range(3)] == [{"store": 0}] * 3  # nor what does not answer
    assert asked == ["store"] * 2


def test_a_file_for_the_textfile_collector_is_replaced_whole(shared: Platform, tmp_path: Path) -> None:
    file = tmp_path / "textfiles" / "ml_platform.prom"
    assert invoke("metrics", "--textfile", str(file)).exit_code == 0
    inode, first = file.stat().st_ino, parsed(file.read_text())
    assert invoke("metrics", "--textfile", str(file)).exit_code == 0
    assert file.stat().st_ino != inode and parsed(file.read_text()).keys() == first.keys()
    assert file.stat().st_mode & 0o444 == 0o444  # node_exporter is another user
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--textfile", "metrics.txt"], "a name that ends in .prom is required"),
        (["--once", "--textfile", "metrics.prom"], "either --once or --textfile is required, not both"),
        (["--textfile", "/dev/null/metrics.prom"], "a file that can be written is required"),
        (["--host", "192.0.2.1"], "an address that is free and of this machine is required"),
    ],
)
def test_what_cannot_be_told_is_refused_in_words(shared: Platform, arguments: list[str], said: str) -> None:
    result = invoke("metrics", *arguments)
    assert result.exit_code == 1
    assert said in words(result.stderr)


def test_the_exporter_answers_scrapes_until_it_is_stopped(shared: Platform) -> None:
    command = [str(Path(sys.executable).with_name("ml-platform")), "metrics", "--port", "0"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True) as exporter:
        assert exporter.stderr is not None
        (url,) = re.findall(r"http://\S+/metrics", exporter.stderr.readline())
        with urllib.request.urlopen(url, timeout=30) as answer:
            found = parsed(answer.read().decode())
        exporter.send_signal(signal.SIGTERM)
        assert exporter.wait(30) == 0
    assert up(found) == ALL_UP
    assert value(found, "model_champion_version", model="fraud") == 1
