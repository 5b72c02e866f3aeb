"""Dagster asked as its UI asks: the GraphQL requests of its buttons, and the daemon's code that carries them out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.client.query import (
    LAUNCH_PARTITION_BACKFILL_MUTATION,
    LAUNCH_PIPELINE_EXECUTION_MUTATION,
)
from dagster_graphql.test.utils import execute_dagster_graphql


@dataclass(frozen=True)
class DagsterUi:
    """A Dagster instance with one code location."""

    workspace: WorkspaceProcessContext

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.workspace.instance

    def launch(self, *assets: str, day: str, checks: bool = True) -> dict[str, Any]:
        """The button: one run of assets for a day, with their checks or without; what it is answered."""
        selector: dict[str, Any] = {
            **self._repository(),
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": asset.split("/")} for asset in assets],
        }
        if not checks:
            selector["assetCheckSelection"] = []
        tags = [{"key": "dagster/partition", "value": day}]
        parameters = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
        answer = self.ask(LAUNCH_PIPELINE_EXECUTION_MUTATION, {"executionParams": parameters})
        return answer["launchPipelineExecution"]

    def launch_backfill(self, asset: str, days: Sequence[str]) -> str:
        """The same for several days, as a backfill that the daemon has carried out; its id."""
        parameters = {"assetSelection": [{"path": asset.split("/")}], "partitionNames": list(days)}
        answer = self.ask(LAUNCH_PARTITION_BACKFILL_MUTATION, {"backfillParams": parameters})
        assert answer["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer
        list(execute_backfill_iteration(self.workspace, logging.getLogger("backfill")))
        return answer["launchPartitionBackfill"]["backfillId"]

    def ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that a GraphQL request is answered with."""
        return execute_dagster_graphql(self.workspace.create_request_context(), query, variables).data

    def _repository(self) -> dict[str, str]:
        (location,) = self.workspace.create_request_context().code_locations
        (repository,) = location.get_repositories()
        return {"repositoryLocationName": location.name, "repositoryName": repository}
