"""The cluster's queue limits a pool before its first run, and leaves a limit that somebody has set."""

from pathlib import Path

import dagster as dg
import yaml
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.dagster_run import RunOpConcurrency
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from tests.k8s.cluster import K8S

ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="anything")), "all"),
    "job",
)


def test_a_pool_has_its_limit_once_a_run_is_submitted_and_a_limit_that_was_set_stays(tmp_path: Path) -> None:
    told = yaml.safe_load((K8S / "base" / "dagster" / "dagster.yaml").read_text())
    kept = ("run_coordinator", "concurrency", "telemetry")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({key: told[key] for key in kept}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("set", 4)
        pools = RunOpConcurrency(
            root_key_counts={}, has_unconstrained_root_nodes=False, all_pools={"new", "set"}
        )
        run = instance.add_run(
            dg.DagsterRun(job_name="job", remote_job_origin=ORIGIN, run_op_concurrency=pools)
        )
        instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=None))  # type: ignore[arg-type]
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits == {"new": 1, "set": 4}
