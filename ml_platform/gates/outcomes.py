"""What a step found out about each partition, before anything is told to Dagster."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """One blocking evaluation: a class of checks (`quality`, `drift`, …) on one partition.

    `observed` and `bound` are sentences for people: what came and what was required.
    """

    check: str
    passed: bool
    observed: str = ""
    bound: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def all_metadata(self) -> dict[str, Any]:
        """Metadata of the evaluation event, with the two sentences under fixed names."""
        return {"observed": self.observed or "as required", "bound": self.bound or "none", **self.metadata}

    def of_refused(self) -> "Evaluation":
        """The same, of rows that were not published: what is published is another version, or none."""
        return replace(self, metadata={**self.metadata, "published": False})


@dataclass(frozen=True)
class Outcome:
    """One partition of one asset: was it published, and what did its checks say?

    `partition` is None for an asset without partitions; `data_version` is the content hash of what was
    published, or None when nothing was.
    """

    partition: str | None
    published: bool
    evaluations: tuple[Evaluation, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    data_version: str | None = None

    def __post_init__(self) -> None:
        if not self.published and self.passed:
            raise ValueError(
                f"partition {self.partition}: what is not published has a failed evaluation; got none"
            )

    @property
    def passed(self) -> bool:
        return all(evaluation.passed for evaluation in self.evaluations)

    def failures(self) -> str:
        """The failed evaluations in words."""
        return "; ".join(
            f"{e.check}: {e.observed} (required: {e.bound})" for e in self.evaluations if not e.passed
        )
