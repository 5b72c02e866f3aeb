"""The run queue of an instance that limits pools, such as a cluster's."""

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator as StockCoordinator
from dagster._core.run_coordinator import SubmitRunContext


class QueuedRunCoordinator(StockCoordinator):
    """Dagster's own, in which the instance's default limit holds from a pool's first runs on.

    Dagster 1.13 reads which pools have a limit before it gives new ones the default: all runs that wait when the daemon
    first meets a pool are launched at once.
    """

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        self._limit(context.dagster_run)
        return super().submit_run(context)

    def _limit(self, run: dg.DagsterRun) -> None:
        wanted = run.run_op_concurrency.all_pools if run.run_op_concurrency else None
        if not wanted or self._instance.global_op_concurrency_default_limit is None:
            return
        storage = self._instance.event_log_storage
        # One that somebody has set would be set back to the default.
        for pool in set(wanted) - {known.name for known in storage.get_pool_limits()}:
            storage.initialize_concurrency_limit_to_default(pool)
