"""Predictions of a day's events as the service makes and logs them: the champion, the online store, the log."""

import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.settings import ServingSettings
from ml_platform.model_registry import registry
from ml_platform.models.contract import Contract, read_contract
from ml_platform.serving.compute import Answer, Scorer, ViewRows, scorer
from ml_platform.serving.log import PredictionLog
from ml_platform.serving.logged import LoggedBatch, Role
from ml_platform.serving.store import OnlineFeatures
from tests.built import Platform

Changed = Callable[[LoggedBatch], LoggedBatch]


class Service:
    """What the service is to feedback: it answers events one by one, and logs what it answered."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        found = registry.champion(platform.settings, "fraud")
        assert found is not None
        self.champion = found

    @cached_property
    def contract(self) -> Contract:
        document = registry.load_document(self.platform.settings, self.champion, "contract.json")
        return read_contract(document, of="the champion")

    @cached_property
    def scorer(self) -> Scorer:
        return scorer(self.contract, registry.load_onnx(self.platform.settings, self.champion))

    def answer(
        self, rows: pa.Table, *, role: Role = "champion", late: dt.timedelta = dt.timedelta(seconds=1)
    ) -> list[LoggedBatch]:
        """Score delivered transactions, each as a request of its own a moment after it happened."""
        events = [_request(row) for row in rows.to_pylist()]
        online = OnlineFeatures(self.platform.settings, self.contract).read(events)
        return [
            self._logged(event, _of_row(online, i), role, since_epoch(event["at"] + late))
            for i, event in enumerate(events)
        ]

    def log(self, batches: Sequence[LoggedBatch]) -> None:
        """Write batches to the prediction log, as a worker of the service that ends."""
        here = self.platform.settings.model_copy(update={"serving": ServingSettings(log_queue=1_000_000)})
        with closing(PredictionLog(here)) as log:
            for batch in batches:
                log.offer(batch)
        assert (log.lost, log.written) == (0, sum(map(len, batches)))

    def _logged(self, event: dict[str, Any], online: list[ViewRows], role: Role, at: int) -> LoggedBatch:
        return LoggedBatch(
            contract=self.contract,
            version=self.champion.version,
            run_id=self.champion.run_id,
            role=role,
            request_id=f"request-{event['transaction_id']}",
            trace_id="",
            as_of=at,
            prediction_ids=[f"{role}-{event['transaction_id']}"],
            rows=[event],
            answer=self.scorer.score([event], online, at=at),
        )


def with_values(batch: LoggedBatch, **values: float | None) -> LoggedBatch:
    """A batch of one row that saw other values of features than it was scored with."""
    seen = batch.answer.features.copy()
    for name, value in values.items():
        seen[0, batch.contract.features.index(name)] = np.nan if value is None else value
    return replace(batch, answer=replace(batch.answer, features=seen))


def with_score(batch: LoggedBatch, score: float) -> LoggedBatch:
    """A batch of one row that was answered another score."""
    answer: Answer = replace(batch.answer, scores=[score], alerts=[score >= batch.contract.threshold])
    return replace(batch, answer=answer)


def _request(row: dict[str, Any]) -> dict[str, Any]:
    """A delivered transaction as its request names it."""
    at = row["tx_datetime"].replace(tzinfo=dt.UTC)
    return {
        "transaction_id": row["transaction_id"],
        "customer_id": row["customer_id"],
        "terminal_id": row["terminal_id"],
        "amount": row["tx_amount"],
        "transaction_time": since_epoch(at) // 1_000_000,
        "at": at,
    }


def _of_row(online: Sequence[ViewRows], i: int) -> list[ViewRows]:
    return [ViewRows([v.times[i]], {name: [values[i]] for name, values in v.values.items()}) for v in online]
