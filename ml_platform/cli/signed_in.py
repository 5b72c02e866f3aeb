"""What a person may ask of Dagster's webserver, and what carries their name afterwards."""

from typing import Any, cast

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext

from ml_platform.gates.actors import USER

_REPORTING_USER = "dagster/reporting_user"
"""Dagster's own tag of an event that somebody reported by hand."""


class SignedInWorkspace(WorkspaceProcessContext):
    """The workspace of a webserver; whoever `header` does not name may only look. Without a header nobody is named."""

    def __init__(self, *args: Any, header: str | None, **kwargs: Any) -> None:
        self._header = header
        super().__init__(*args, **kwargs)

    def create_request_context(self, source: object | None = None) -> WorkspaceRequestContext:
        person = named_by(source, self._header) if self._header is not None else None
        return _Request(
            instance=self._instance if person is None else _asked_by(person, self._instance),
            current_workspace=self.get_current_workspace(),
            process_context=self,
            version=self.version,
            source=source,
            read_only=self.read_only or (self._header is not None and person is None),
            person=person,
        )


def named_by(source: object | None, header: str) -> str | None:
    """Whom a request's header names; nobody where it is missing, empty or there twice."""
    headers = getattr(source, "headers", None)
    values = [value.strip() for value in headers.getlist(header)] if headers is not None else []
    return values[0] or None if len(values) == 1 else None


class _Request(WorkspaceRequestContext):
    """One request, and who asks."""

    def __init__(self, *args: Any, person: str | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._person = person

    def get_reporting_user_tags(self) -> dict[str, str]:
        return {_REPORTING_USER: self._person} if self._person is not None else {}


def _asked_by(person: str, instance: dg.DagsterInstance) -> dg.DagsterInstance:
    return cast("dg.DagsterInstance", _Asked(person, instance))


class _Asked:
    """The instance as one person asks it: the runs and backfills that start through it carry their name.

    All that Dagster's API launches goes through these three methods, whatever the mutation is called, and a client's
    own tag of that name is replaced before the run is queued or the daemon can see the backfill.
    """

    def __init__(self, person: str, instance: dg.DagsterInstance) -> None:
        self._tags, self._instance = {USER: person}, instance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # Dagster asks what it is given
        return type(self._instance)

    def submit_run(self, run_id: str, workspace: WorkspaceRequestContext) -> dg.DagsterRun:
        self._instance.add_run_tags(run_id, self._tags)
        return self._instance.submit_run(run_id, workspace)

    def add_backfill(self, partition_backfill: PartitionBackfill) -> None:
        self._instance.add_backfill(self._named(partition_backfill))

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        resumed = partition_backfill.status == BulkActionStatus.REQUESTED
        self._instance.update_backfill(self._named(partition_backfill) if resumed else partition_backfill)

    def _named(self, backfill: PartitionBackfill) -> PartitionBackfill:
        return backfill._replace(tags={**backfill.tags, **self._tags})
