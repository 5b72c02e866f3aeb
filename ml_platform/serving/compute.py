"""Scores rows by a version's contract: the same columns, function and model as in training.

Pure work on what was read: who asks, and where features come from, is not known here. The service gives it what the
online store has, the batch asset what point-in-time reads gave; both get the same answer for the same values.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ml_platform.kernel.digest import source_digest
from ml_platform.kernel.errors import StoreError
from ml_platform.models.compute import onnx_session, predict_onnx
from ml_platform.models.contract import Contract, OnDemandContract, ViewContract

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # pyright: ignore[reportMissingTypeStubs]

State = Literal["fresh", "stale", "missing"]
Outcome = Literal["scored", "rejected"]
Times = int | Sequence[int]
"""A time in microseconds since 1970 UTC for all rows of a batch, or one for each."""
Function = Callable[[dict[str, Any]], Mapping[str, Sequence[Any]]]

_MICROS = 1_000_000
_SELF_TEST_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ViewRows:
    """What was read of one view for the keys of a batch, in the batch's order.

    `times` are the event times of the rows in microseconds since 1970 UTC, None where there is no row. `values` are
    by feature, in the contract's order; None where there is no value.
    """

    times: Sequence[int | None]
    values: Mapping[str, Sequence[Any]]

    def part(self, rows: slice) -> "ViewRows":
        """The same of some of the rows."""
        return ViewRows(self.times[rows], {name: values[rows] for name, values in self.values.items()})


@dataclass(frozen=True)
class ViewState:
    """Of one view, for every row of a batch: when its values are of (microseconds), and how they stand to the ttl.

    `missing`: there is no row for the key; `stale`: the row is older than the ttl.
    """

    name: str
    times: Sequence[int | None]
    states: Sequence[State]

    def part(self, rows: slice) -> "ViewState":
        """The same of some of the rows."""
        return ViewState(self.name, self.times[rows], self.states[rows])


@dataclass(frozen=True)
class Answer:
    """What n rows were answered: their features (n, k), scores, and what was not as it should be.

    A rejected row has no score, and no row of a model of numbers is an alert or none. Features are in the contract's
    order, before they become float32 for the model; NaN is what is missing, and what is older than the ttl and was not
    served.
    """

    features: npt.NDArray[np.float64]
    views: Sequence[ViewState]
    outcomes: Sequence[Outcome]
    scores: Sequence[float | None]
    alerts: Sequence[bool | None]

    def part(self, rows: slice) -> "Answer":
        """The same of some of the rows."""
        return Answer(
            features=self.features[rows],
            views=[view.part(rows) for view in self.views],
            outcomes=self.outcomes[rows],
            scores=self.scores[rows],
            alerts=self.alerts[rows],
        )


@dataclass(frozen=True)
class Scorer:
    """One model version, ready to score."""

    contract: Contract
    session: "InferenceSession"
    functions: Mapping[str, Function]

    def score(self, rows: Sequence[Mapping[str, Any]], online: Sequence[ViewRows], *, at: Times) -> Answer:
        """Score rows of request values with what was read for them, as of a time, or of a time for each."""
        values, views = self.values(online, at=at)
        columns = {name: [row[name] for row in rows] for name in self.contract.request} | values
        for function in self.contract.on_demand:
            columns |= self._on_demand(function, columns)
        features = _as_features([columns[name] for name in self.contract.features])
        rejected = self.rejected(views, len(rows))
        scores = predict_onnx(self.session, features.astype(np.float32, order="C")).tolist()
        return Answer(
            features=features,
            views=views,
            outcomes=["rejected" if no else "scored" for no in rejected],
            scores=[None if no else score for no, score in zip(rejected, scores, strict=True)],
            alerts=self._alerts(scores, rejected),
        )

    def _alerts(self, scores: Sequence[float], rejected: Sequence[bool]) -> list[bool | None]:
        threshold = self.contract.threshold
        if threshold is None:
            return [None] * len(scores)
        return [None if no else score >= threshold for no, score in zip(rejected, scores, strict=True)]

    def values(
        self, online: Sequence[ViewRows], *, at: Times
    ) -> tuple[dict[str, Sequence[Any]], list[ViewState]]:
        """Features of views by name as they are served by the policy, None where they are not, and how they stand."""
        views = [_state(view, read, at) for view, read in zip(self.contract.views, online, strict=True)]
        columns: dict[str, Sequence[Any]] = {}
        keep_stale = self.contract.missing == "serve_stale"
        for read, state in zip(online, views, strict=True):
            left_out = [s == "missing" or (s == "stale" and not keep_stale) for s in state.states]
            if any(left_out):
                pairs = {name: zip(values, left_out, strict=True) for name, values in read.values.items()}
                columns |= {name: [None if no else v for v, no in pair] for name, pair in pairs.items()}
            else:
                columns |= read.values
        return columns, views

    def self_test(self) -> None:
        """Score the rows that came with the version; StoreError when one is not what it was in training."""
        tests = self.contract.self_test
        if not tests:
            raise StoreError(
                f"{self.contract.model}: rows to test the version with are required; it has none"
            )
        rows = np.array([[np.nan if v is None else v for v in test.features] for test in tests], np.float32)
        scores = predict_onnx(self.session, rows)
        expected = np.array([test.score for test in tests])
        worst = float(np.max(np.abs(scores - expected) / np.maximum(1, np.abs(expected))))
        if not worst <= _SELF_TEST_TOLERANCE:
            raise StoreError(
                f"{self.contract.model}: the scores of training are required of its self-test rows; they differ by up "
                f"to {worst:.3g}. The version is not served; see which file or library changed"
            )

    def _on_demand(
        self, function: OnDemandContract, columns: Mapping[str, Sequence[Any]]
    ) -> dict[str, Sequence[Any]]:
        names, own = (*function.request, *function.features), self.contract.request
        given = {name: _as_array(columns[name], self._types.get(name), name in own) for name in names}
        found = self.functions[function.name](given)
        return {name: found[name] for name in function.outputs}

    def rejected(self, views: Sequence[ViewState], rows: int) -> list[bool]:
        """Which rows the policy does not answer."""
        if self.contract.missing != "reject":
            return [False] * rows
        return [any(view.states[i] != "fresh" for view in views) for i in range(rows)]

    @cached_property
    def _types(self) -> dict[str, str]:
        types: dict[str, str] = dict(self.contract.request)
        for view in self.contract.views:
            types |= dict(zip(view.features, view.types, strict=True))
        return types


def scorer(contract: Contract, onnx: bytes) -> Scorer:
    """A scorer of a version's files; StoreError for a function that is gone or has changed since training.

    What is loaded is a graph of arithmetic; the functions are this installation's own.
    """
    functions = {found.name: _function(contract, found) for found in contract.on_demand}
    return Scorer(contract, onnx_session(onnx), functions)


def _function(contract: Contract, wanted: OnDemandContract) -> Function:
    module, _, name = wanted.function.rpartition(".")
    try:
        digest = source_digest(wanted.function)
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, OSError, ValueError) as err:
        raise StoreError(
            f"{contract.model}: the function {wanted.function} is required, which its training ran, and cannot be "
            f"imported: {err}. The version is not served; install the release of the platform that it was trained with"
        ) from err
    if digest != wanted.digest:
        raise StoreError(
            f"{contract.model}: {wanted.function} is required as it was in training ({wanted.digest[:12]}); this "
            f"installation has another ({digest[:12]}). The version is not served; install the release of the platform "
            f"that it was trained with, or train it again"
        )
    return found


def _state(view: ViewContract, read: ViewRows, at: Times) -> ViewState:
    ttl = view.ttl_seconds * _MICROS
    asked = repeat(at, len(read.times)) if isinstance(at, int) else at
    states: list[State] = [
        "missing" if time is None else "stale" if time < when - ttl else "fresh"
        for time, when in zip(read.times, asked, strict=True)
    ]
    return ViewState(view.name, read.times, states)


def _as_array(values: Sequence[Any], kind: str | None, always: bool) -> npt.NDArray[Any]:
    """A column as the function gets it in training; `always` says that no row of a request is without a value.

    A feature may be missing, so that its whole numbers are float64 and its booleans objects, whether one is missing in
    this batch or not: what a row is answered does not depend on who else asks.
    """
    if kind is None or kind not in _DTYPES:
        return np.array(values, dtype=object)
    if always:
        return np.array(values, dtype=_DTYPES[kind])
    if kind == "boolean":
        return np.array(values, dtype=object)
    found = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return found.astype(np.float32) if kind == "float" else found


def _as_features(columns: Sequence[Sequence[Any]]) -> npt.NDArray[np.float64]:
    """Columns as rows, NaN where there is no value; made at once, as each array costs its own."""
    values = [[np.nan if value is None else value for value in column] for column in columns]
    return np.array(values, dtype=np.float64).T


_DTYPES: Mapping[str, type[Any]] = {
    "int64": np.int64,
    "double": np.float64,
    "float": np.float32,
    "boolean": np.bool_,
}
