"""K8sRunLauncher and k8s_job_executor run the declared assets, each step in a pod of its own."""

from collections.abc import Iterator

import dagster as dg
import pytest

from ml_platform.cli.story import corrupted
from ml_platform.cli.throw_away import no_waiting_for_the_disk
from ml_platform.kernel.settings import settings
from ml_platform.notifications.events import errors
from ml_platform.sources.feed import write_delivery
from tests.built import day_of_transactions
from tests.k8s.api import Object
from tests.k8s.loopback import NAMESPACE, Cluster, running
from tests.support import land, land_simulated

TRANSACTIONS, LABELS, MODEL = "sources/transactions", "sources/fraud_labels", "models/fraud"
NEW = "features/customer_spending"  # nothing else here runs it
DAYS = ("2018-06-23", "2018-06-24", "2018-06-25")
BAD = "2018-06-26"
RUN = "run"
DEFAULT = ("500m-2", "2Gi-4Gi")
NEVER_AGAIN_AND_GONE_AFTER_A_DAY = (0, 86400)
DECLARED = ("0.75-0.75", "3Gi-3Gi")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster in whose lake a few days have landed, of which the last is bad."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_PLATFORM_HOME", str(home))
        patch.setenv("ML_PLATFORM_EXECUTOR", "k8s")
        patch.setenv("POD_NAMESPACE", NAMESPACE)
        here = settings().prepare()
        land_simulated(here, DAYS[0], DAYS[-1])
        bad = write_delivery(corrupted(day_of_transactions(BAD), "terminal_id"), home / "bad.parquet")
        land(here, bad)
        with no_waiting_for_the_disk(), running(home) as found:
            yield found
            assert found.api.asked <= found.api.allowed, "dagster-k8s asks for what the Role does not allow"


def made(cluster: Cluster, asset: str) -> set[str]:
    return set(cluster.instance.get_materialized_partitions(dg.AssetKey(asset.split("/"))))


def resources(cluster: Cluster, run: str) -> dict[str, tuple[str, str]]:
    """Cores and memory of the pods of a run, its own and each asset's, as request-limit."""
    return {job_of(job): cores_and_memory(job) for job in cluster.jobs(run)}


def job_of(job: Object) -> str:
    """What a Job was posted for: an asset, or the run."""
    return job["metadata"]["labels"].get("dagster/op", RUN).replace("__", "/")


def cores_and_memory(job: Object) -> tuple[str, str]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    return f"{requests['cpu']}-{limits['cpu']}", f"{requests['memory']}-{limits['memory']}"


def endings(cluster: Cluster, run: str) -> set[tuple[int, int]]:
    """How often Kubernetes tries a Job of a run again, and after how many seconds it removes it."""
    specs = [job["spec"] for job in cluster.jobs(run)]
    return {(spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) for spec in specs}


def limits_told(cluster: Cluster, run: str) -> set[str]:
    """The memory limits that the steps of a run found in their settings."""
    begin = "memory limit "
    return {text.removeprefix(begin) for text in cluster.messages(run) if text.startswith(begin)}


def test_assets_are_made_by_a_pod_for_the_run_and_one_for_each_step_with_what_it_declares(
    cluster: Cluster,
) -> None:
    run = cluster.submit(TRANSACTIONS, LABELS, day=DAYS[0])
    cluster.dequeue()
    assert cluster.finished(run) is dg.DagsterRunStatus.SUCCESS, cluster.told()
    assert made(cluster, TRANSACTIONS) == made(cluster, LABELS) == {DAYS[0]}
    assert resources(cluster, run) == {RUN: DEFAULT, TRANSACTIONS: DECLARED, LABELS: DEFAULT}
    assert limits_told(cluster, run) == {"1843MiB", "2GB"}
    assert endings(cluster, run) == {NEVER_AGAIN_AND_GONE_AFTER_A_DAY}
    assert not cluster.api.alive()


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")  # Dagster's own
def test_what_an_asset_declares_reaches_its_step_in_a_backfill_too(cluster: Cluster) -> None:
    [run] = cluster.backfill(TRANSACTIONS, DAYS[1:])
    cluster.dequeue()
    assert cluster.finished(run) is dg.DagsterRunStatus.SUCCESS, cluster.told()
    assert made(cluster, TRANSACTIONS) >= set(DAYS[1:])
    assert resources(cluster, run) == {RUN: DEFAULT, TRANSACTIONS: DECLARED}
    assert limits_told(cluster, run) == {"1843MiB"}
    assert endings(cluster, run) == {NEVER_AGAIN_AND_GONE_AFTER_A_DAY}


def test_a_failed_blocking_check_fails_the_run_and_closes_the_gate_below(cluster: Cluster) -> None:
    run = cluster.submit(TRANSACTIONS, day=BAD)
    cluster.dequeue()
    assert cluster.finished(run) is dg.DagsterRunStatus.FAILURE
    assert BAD not in made(cluster, TRANSACTIONS)
    below = cluster.submit(MODEL, day=BAD)
    cluster.dequeue()
    assert cluster.finished(below) is dg.DagsterRunStatus.FAILURE
    assert made(cluster, MODEL) == set()
    [refused] = errors(cluster.instance, below, refusals=True).values()
    assert f"{MODEL} [{BAD}] is refused" in refused
    assert (
        f"{TRANSACTIONS} [{BAD}] quality: 260 of 867 rows break it (required: terminal_id not null" in refused
    )


def test_a_second_run_of_an_asset_waits_and_terminating_the_first_leaves_no_job_pod_or_process(
    cluster: Cluster,
) -> None:
    with cluster.steps_held():
        first, second = cluster.submit(NEW, day=DAYS[0]), cluster.submit(NEW, day=DAYS[0])
        cluster.dequeue()
        assert cluster.jobs(second) == [], "the limit holds for the first runs of a pool too"
        cluster.wait(lambda: bool(limits_told(cluster, first)))
        cluster.dequeue()
        assert cluster.status(second) is dg.DagsterRunStatus.QUEUED
        assert len(cluster.api.alive()) == 2
        cluster.terminate(first)
        assert cluster.finished(first) is dg.DagsterRunStatus.CANCELED
        cluster.wait(lambda: not cluster.api.alive())
        assert cluster.left_of(first) == []
        assert ("", "pods", "delete") in cluster.api.asked
        assert made(cluster, NEW) == set()
    cluster.dequeue()
    assert resources(cluster, second) == {RUN: DEFAULT}, "it was launched as soon as the first had ended"
