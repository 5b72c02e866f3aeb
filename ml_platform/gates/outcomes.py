"""What a step found out about each partition, before anything is told to Dagster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ml_platform.kernel.lineage import Check

DECLARED = "declared"
"""Under this name an evaluation's metadata has the digest of what it judged by."""

JUDGED = "judged"
"""Under this name an evaluation says which content it judged, where a person's acceptance is of that content."""

PUBLISHED = "published"
"""Under this name the evaluation of rows that were refused says that they were not published."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: a class of checks (`quality`, `drift`, …) on one partition.

    `observed` and `bound` are sentences for people: what came and what was required. `declared` is the digest of
    what was declared of the check when it judged. One that is not blocking warns, and holds nothing up.
    """

    check: str
    passed: bool
    observed: str = ""
    bound: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    declared: str = ""
    blocking: bool = True

    def all_metadata(self) -> dict[str, Any]:
        """Metadata of the evaluation event, with the two sentences and the digest under fixed names."""
        fixed = {"observed": self.observed or "as required", "bound": self.bound or "none"}
        return {**fixed, DECLARED: self.declared, **self.metadata}

    def of_refused(self) -> "Evaluation":
        """The same, of rows that were not published: what is published is another version, or none."""
        return replace(self, metadata={**self.metadata, PUBLISHED: False})


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
        return all(evaluation.passed for evaluation in self.evaluations if evaluation.blocking)

    def judged_by(self, checks: Sequence[Check]) -> "Outcome":
        """The same, with each evaluation naming what was declared of its check."""
        digests = {check.name: check.digest for check in checks}
        told = tuple(replace(e, declared=digests.get(e.check, "")) for e in self.evaluations)
        return replace(self, evaluations=told)

    def failures(self) -> str:
        """The failed blocking evaluations in words."""
        return "; ".join(
            f"{e.check}: {e.observed} (required: {e.bound})"
            for e in self.evaluations
            if e.blocking and not e.passed
        )
