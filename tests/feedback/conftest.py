"""A built platform whose champion has answered the transactions of two days: a quiet one, and a bad one."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from ml_platform.feedback.spec import FeedbackSpec
from ml_platform.gates.evaluations import history
from ml_platform.serving.logged import LoggedBatch
from tests.built import NEXT_DAY, Platform, day_of_transactions, opened_copy
from tests.feedback.predictions import Service

QUIET, BAD = NEXT_DAY, (dt.date.fromisoformat(NEXT_DAY) + dt.timedelta(days=1)).isoformat()
LOG, OUTCOMES, PERFORMANCE = (
    f"feedback/fraud_{what}" for what in ("prediction_log", "outcomes", "performance")
)
A_DAY_LATE = dt.timedelta(days=1)


@dataclass(frozen=True)
class World:
    """A platform, what was delivered for the quiet day, and what the service answered when it happened."""

    platform: Platform
    service: Service
    rows: pa.Table
    batches: list[LoggedBatch]

    def evaluation(self, asset: str, check: str, day: str) -> dg.AssetCheckEvaluation:
        """What a check said last of a day."""
        (found,) = history(self.platform.instance, asset, check, [day], limit=1)
        assert found.event is not None
        evaluation = found.event.asset_check_evaluation
        assert evaluation is not None
        return evaluation

    def said(self, asset: str, check: str, day: str) -> dict[str, Any]:
        """Its metadata, and whether it passed."""
        found = self.evaluation(asset, check, day)
        return {"passed": found.passed, **{name: value.value for name, value in found.metadata.items()}}

    def deliver_labels(self, rows: pa.Table, day: str, *, known_at: str | None = None) -> None:
        self.platform.deliver("fraud_labels", rows, known_at=known_at)
        self.platform.make("sources/fraud_labels", day)


def declared(platform: Platform, **changed: object) -> FeedbackSpec:
    """The declared feedback, some of it otherwise."""
    spec = platform.catalog.get(FeedbackSpec, "fraud", wanted_by="a test")
    return FeedbackSpec.model_validate({**spec.model_dump(by_alias=True, mode="json"), **changed})


@pytest.fixture(scope="module")
def world(built_once: Path) -> Iterator[World]:
    """The transactions of the quiet day were answered and logged, and came to be labelled."""
    with opened_copy(built_once) as platform:
        rows = day_of_transactions(QUIET)
        service = Service(platform)
        batches = service.answer(rows)
        service.log(batches)
        platform.deliver("transactions", rows)
        platform.make("sources/transactions", QUIET)
        for day, delivered in ((QUIET, rows), (BAD, day_of_transactions(BAD))):
            platform.deliver("fraud_labels", delivered)
            platform.make("sources/fraud_labels", day)
        platform.make(LOG, "2018-06-26", QUIET)
        yield World(platform, service, rows, batches)
