"""What people do about gates and champions, as jobs of the UI: each does what the command of its name does.

The ledger names who launched the run (`gates/actors.py`). A job runs in one process or pod, and is not tried again by
itself: a rollback that is repeated would go back further.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field

from ml_platform import declarations
from ml_platform.drift_profiles.component import accept_drift as let_through
from ml_platform.gates.acceptances import Acceptance
from ml_platform.gates.actors import actor_of
from ml_platform.gates.asked import check_of, drift_check_of, end_of, node_of, partition_of, partitions_of
from ml_platform.gates.overrides import Override, override_each
from ml_platform.gates.overrides import end_override as close_again
from ml_platform.kernel.errors import PlatformError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.releases import by_hand
from ml_platform.releases.component import report_move
from ml_platform.releases.spec import ReleaseSpec

_REASON = "Why. The ledger keeps it for ever, with who launched this run."
_CHECK = "The check that closes the gate, such as `drift`; may be left out where the asset has only one."


class OverrideGate(dg.Config):
    """Which gate opens, and for how long."""

    asset: str = Field(
        description="The asset whose check closes the gate, such as `drift_profiles/NAME`; see `ml-platform gate "
        "status`."
    )
    check: str | None = Field(default=None, description=_CHECK)
    partitions: list[str] = Field(
        default=[],
        description="The days whose gates open, such as [2018-10-02]. Or leave them out and say a range. All of them "
        "have to be closed and published; else nothing is opened.",
    )
    first: str | None = Field(
        default=None, description="The first published day of a range, such as 2018-10-01."
    )
    last: str | None = Field(default=None, description="The last published day of a range, included.")
    until: str | None = Field(
        default=None,
        description="When the gate closes again: 2018-10-05, or 2018-10-05T12:00 (UTC). Or say `hours`.",
    )
    hours: float | None = Field(
        default=None, description="For how many hours from now, such as 12. Or say `until`."
    )
    reason: str = Field(description=_REASON)


class EndOverride(dg.Config):
    """Which override ends now."""

    asset: str = Field(description="The asset that was overridden, such as `drift_profiles/NAME`.")
    check: str | None = Field(default=None, description=_CHECK)
    partition: str = Field(description="The day that was overridden, such as 2018-10-02.")
    reason: str = Field(description=_REASON)


class AcceptDrift(dg.Config):
    """Which drifted day is let through for good."""

    asset: str = Field(description="A drift profile or training set, such as `drift_profiles/NAME`.")
    partition: str = Field(description="The day that failed, such as 2018-10-02.")
    new_regime: bool = Field(
        default=False,
        description="Whether later days are compared with accepted days from this one on; those that failed are judged "
        "again by it at once.",
    )
    reason: str = Field(description=_REASON)


class Promote(dg.Config):
    """Which version becomes champion although no release made it so."""

    release: str = Field(description="The declared release: NAME of `releases/NAME`.")
    to: int = Field(description="The version of the model. It needs the evidence of its gates.")
    reason: str = Field(description=_REASON)


class Rollback(dg.Config):
    """Which champion of the past is champion again."""

    release: str = Field(description="The declared release: NAME of `releases/NAME`.")
    to: int | None = Field(
        default=None, description="A champion of the past; left out, the one before the current one."
    )
    reason: str = Field(description=_REASON)


@dg.definitions
def jobs() -> dg.Definitions:
    """A job for each way out that people may take in the UI."""
    return dg.Definitions(
        jobs=[_job(op) for op in (override_gate, end_override, accept_drift, promote, rollback)]
    )


@dg.op(required_resource_keys={"environment"})
def override_gate(context: dg.OpExecutionContext, config: OverrideGate) -> None:
    """Let models through closed gates for a while. Nothing is published by it, and they close on their own."""
    here, actor = _where_and_who(context)
    now, lake = dt.datetime.now(dt.UTC), Lake(here.lake_uri)
    with _refusing():
        node = node_of(declarations.load().lineage, config.asset)
        there = sorted(published(lake, node.key)) if config.first or config.last else ()
        days = partitions_of(node, config.partitions, (config.first, config.last), published=there)
        until, check = end_of(config.until, config.hours, now=now), check_of(node, config.check)
        asked = [Override(node.key, check, key, until, config.reason, actor) for key in dict.fromkeys(days)]
        for one, gate in zip(asked, override_each(context.instance, lake, asked, now=now), strict=True):
            context.log.info(
                "%s: open until %s by %s; it was closed by: %s", one.where, until, actor, gate.in_words()
            )


@dg.op(required_resource_keys={"environment"})
def end_override(context: dg.OpExecutionContext, config: EndOverride) -> None:
    """Close a gate again before its override ends by itself."""
    here, actor = _where_and_who(context)
    with _refusing():
        node = node_of(declarations.load().lineage, config.asset)
        day, now = partition_of(node, config.partition), dt.datetime.now(dt.UTC)
        asked = Override(node.key, check_of(node, config.check), day, now, config.reason, actor)
        close_again(context.instance, Lake(here.lake_uri), asked)
    context.log.info("%s: its override was ended by %s", asked.where, actor)


@dg.op(required_resource_keys={"environment"})
def accept_drift(context: dg.OpExecutionContext, config: AcceptDrift) -> None:
    """Let one drifted day through for good; it stays out of references."""
    here, actor = _where_and_who(context)
    with _refusing():
        catalog = declarations.load()
        check = drift_check_of(catalog.lineage, config.asset)
        acceptance = Acceptance(
            config.asset, check, config.partition, config.reason, actor, config.new_regime
        )
        let_through(context.instance, catalog, here, acceptance, tell=context.log.info)


@dg.op(required_resource_keys={"environment"})
def promote(context: dg.OpExecutionContext, config: Promote) -> None:
    """Make a version champion although no release did: the way out where a comparison refuses it."""
    _move(context, by_hand.promote, config)


@dg.op(required_resource_keys={"environment"})
def rollback(context: dg.OpExecutionContext, config: Rollback) -> None:
    """Make a champion of the past champion again: model version and contract, in one step."""
    _move(context, by_hand.rollback, config)


def _move(
    context: dg.OpExecutionContext, move: Callable[..., by_hand.Moved], config: Promote | Rollback
) -> None:
    here, actor = _where_and_who(context)
    with _refusing():
        catalog = declarations.load()
        spec = catalog.get(ReleaseSpec, config.release, wanted_by="releases")

        def tell(moved: by_hand.Moved) -> None:
            context.log.info(moved.in_words())
            report_move(context.instance, catalog, spec, moved)

        move(here, catalog, spec, to=config.to, reason=config.reason, actor=actor, tell=tell)


def _where_and_who(context: dg.OpExecutionContext) -> tuple[Settings, str]:
    here: Settings = context.resources.environment
    return here, actor_of(context.run.tags, here)


@contextmanager
def _refusing() -> Iterator[None]:
    """What the platform refuses fails the run with that one message, which trying again would not change."""
    try:
        yield
    except PlatformError as err:
        raise dg.Failure(str(err), allow_retries=False) from err


def _job(op: dg.OpDefinition) -> dg.JobDefinition:
    tags: dict[str, Any] = {"dagster/max_retries": "0"}
    graph = dg.GraphDefinition(f"{op.name}_graph", node_defs=[op], description=op.description)
    return graph.to_job(op.name, executor_def=dg.in_process_executor, tags=tags)
