"""How an answer is told: the score and decision of every row, and what its values were worth."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

from ml_platform.kernel.durations import EPOCH
from ml_platform.models.contract import Contract
from ml_platform.serving.compute import Answer, ViewState

_MICROS = 1_000_000
ALERT, NO_ALERT = "alert", "no_alert"


@lru_cache(maxsize=4096)
def instant(micros: int) -> str:
    """A time in microseconds since 1970 as people and parsers read it; snapshots share few of them."""
    return (EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


class Telling:
    """Tells the answers of one version: what every answer says alike is made once."""

    def __init__(self, contract: Contract, *, version: int, run_id: str) -> None:
        self._head = {"model": contract.model, "version": version, "run_id": run_id}
        self._declared = {view.name: {"declaration": view.declaration} for view in contract.views}
        self._features = {view.name: view.features for view in contract.views}
        self._service = contract.feature_service
        self._event = contract.event.name
        self._missing_is_null = contract.missing != "reject"
        self._stale_is_null = contract.missing == "default"

    def document(
        self,
        answer: Answer,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[str],
        *,
        as_of: int,
        request_id: str,
        trace_id: str,
    ) -> dict[str, Any]:
        """The answer to a request, as JSON can have it."""
        return self._head | {
            "as_of": instant(as_of),
            "request_id": request_id,
            "trace_id": trace_id,
            "features": self._declared,
            "predictions": self.predictions(answer, rows, ids, at=as_of),
        }

    def features(
        self,
        values: Mapping[str, Sequence[Any]],
        views: Sequence[ViewState],
        rejected: Sequence[bool],
        keys: Sequence[Mapping[str, Any]],
        *,
        as_of: int,
        request_id: str,
        trace_id: str,
    ) -> dict[str, Any]:
        """Features alone, as JSON can have them."""
        return (
            {"service": self._service}
            | self._head
            | {
                "as_of": instant(as_of),
                "request_id": request_id,
                "trace_id": trace_id,
                "features": self._declared,
                "rows": [
                    {
                        "keys": key,
                        "outcome": "rejected" if rejected[i] else "served",
                        "values": {
                            name: None if rejected[i] else column[i] for name, column in values.items()
                        },
                        **self.worth(views, i, at=as_of),
                    }
                    for i, key in enumerate(keys)
                ],
            }
        )

    def predictions(
        self, answer: Answer, rows: Sequence[Mapping[str, Any]], ids: Sequence[str], *, at: int
    ) -> list[dict[str, Any]]:
        """One object for every row, in the order in which they were asked for."""
        return [
            {
                "prediction_id": ids[i],
                "event": rows[i].get(self._event),
                "outcome": answer.outcomes[i],
                "score": answer.scores[i],
                "decision": decision(answer.alerts[i]),
                **self.worth(answer.views, i, at=at),
            }
            for i in range(len(rows))
        ]

    def worth(self, views: Sequence[ViewState], row: int, *, at: int) -> dict[str, Any]:
        """How old the values of a row are, and which of them were missing, too old, or answered with none."""
        ages: dict[str, Any] = {}
        missing: list[str] = []
        stale: list[str] = []
        for view in views:
            time, state = view.times[row], view.states[row]
            ages[view.name] = {
                "timestamp": None if time is None else instant(time),
                "age_seconds": None if time is None else (at - time) / _MICROS,
                "state": state,
            }
            if state == "missing":
                missing += self._features[view.name]
            elif state == "stale":
                stale += self._features[view.name]
        defaulted = (missing if self._missing_is_null else []) + (stale if self._stale_is_null else [])
        return {"views": ages, "missing": missing, "defaulted": defaulted, "stale": stale}


def decision(alert: bool | None) -> str | None:
    """What follows from a score; None where there is none."""
    return None if alert is None else ALERT if alert else NO_ALERT
