"""Dagster asked as its UI asks: the GraphQL requests of its buttons, and the daemon's code that carries them out."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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


class Buttons(ABC):
    """What the buttons of the UI ask for, wherever it is asked."""

    @abstractmethod
    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The data that a GraphQL request is answered with."""

    @property
    @abstractmethod
    def repository(self) -> dict[str, str]:
        """The selector of the one code location."""

    def launch(
        self, *assets: str, day: str | None = None, checks: bool = True, tags: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The button: one run of assets, for a day, with their checks or without; what it is answered."""
        parameters = self.execution(*assets, day=day, checks=checks, tags=tags)
        answer = self.ask(LAUNCH_PIPELINE_EXECUTION_MUTATION, {"executionParams": parameters})
        return answer["launchPipelineExecution"]

    def launch_job(
        self, name: str, config: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The button of the launchpad: a run of a job of one op of its name; what it is answered."""
        parameters = {
            "selector": {**self.repository, "pipelineName": name},
            "runConfigData": {"ops": {name: {"config": dict(config)}}},
            "executionMetadata": {"tags": listed(tags or {})},
        }
        answer = self.ask(LAUNCH_PIPELINE_EXECUTION_MUTATION, {"executionParams": parameters})
        return answer["launchPipelineExecution"]

    def execution(
        self, *assets: str, day: str | None = None, checks: bool = True, tags: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """What a run of assets is launched with."""
        selector: dict[str, Any] = {
            **self.repository,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": asset.split("/")} for asset in assets],
        }
        if not checks:
            selector["assetCheckSelection"] = []
        given = {**({"dagster/partition": day} if day is not None else {}), **(tags or {})}
        return {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": listed(given)}}

    def request_backfill(
        self, asset: str, days: Sequence[str], tags: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The button for several days; what it is answered. The daemon carries it out."""
        parameters = {
            "assetSelection": [{"path": asset.split("/")}],
            "partitionNames": list(days),
            "tags": listed(tags or {}),
        }
        return self.ask(LAUNCH_PARTITION_BACKFILL_MUTATION, {"backfillParams": parameters})[
            "launchPartitionBackfill"
        ]


def listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as GraphQL takes them."""
    return [{"key": key, "value": value} for key, value in tags.items()]


@dataclass(frozen=True)
class DagsterUi(Buttons):
    """A Dagster instance with one code location, asked in this process."""

    workspace: WorkspaceProcessContext

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.workspace.instance

    def launch_backfill(self, asset: str, days: Sequence[str]) -> str:
        """A backfill that the daemon has carried out; its id."""
        answer = self.request_backfill(asset, days)
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        self.carry_out_backfills()
        return answer["backfillId"]

    def carry_out_backfills(self) -> None:
        """One round of the daemon that launches the runs of backfills."""
        list(execute_backfill_iteration(self.workspace, logging.getLogger("backfill")))

    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        return execute_dagster_graphql(self.workspace.create_request_context(), query, variables).data

    @property
    def repository(self) -> dict[str, str]:
        (location,) = self.workspace.create_request_context().code_locations
        (repository,) = location.get_repositories()
        return {"repositoryLocationName": location.name, "repositoryName": repository}
