"""Write, audit, publish: staged rows become visible only when their partition passed; the rest stays inspectable.

Readers of a lake table see audited rows only. A refused partition goes to a table of its own and the last
good version stays where it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.kernel.lineage import Lineage
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.lake.audit import Finding
from ml_platform.lake.content_hash import partition_hashes
from ml_platform.lake.ledger import Publication, record_publications
from ml_platform.lake.tables import Lake, Table


@dataclass(frozen=True)
class Staged:
    """Computed rows of some partitions, ordered by partition and key, with what their audit found.

    `metadata` is shown with each partition; every key of `partitions` is committed or refused.
    """

    asset: str
    partitions: tuple[str, ...]
    rows: pa.Table
    findings: Mapping[str, Sequence[Finding]]
    declaration: str
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def publish(lake: Lake, staged: Staged, *, run_id: str, lineage: Lineage | None = None) -> list[Outcome]:
    """Commit the partitions that passed in one commit, keep the refused ones apart, and tell what happened."""
    parts = {key: (part, digest) for key, part, digest in partition_hashes(staged.rows, PARTITION_COLUMN)}
    evaluations = {key: quality_evaluation(staged.findings.get(key, ())) for key in staged.partitions}
    good = [key for key in staged.partitions if evaluations[key].passed]
    bad = [key for key in staged.partitions if not evaluations[key].passed]
    version = _commit(lake.table(staged.asset), staged.rows, parts, good)
    _commit(refused(lake, staged.asset), staged.rows, parts, bad)
    publications = {key: _publication(staged, key, parts.get(key), version, run_id) for key in good}
    record_publications(lake, list(publications.values()), lineage)
    return [_outcome(staged, key, evaluations[key], publications.get(key)) for key in staged.partitions]


def _publication(
    staged: Staged, key: str, part: tuple[pa.Table, str] | None, version: int | None, run_id: str
) -> Publication:
    rows, digest = (part[0].num_rows, part[1]) if part else (0, "0" * 32)
    return Publication(staged.asset, key, digest, rows, version or 0, staged.declaration, run_id)


def refused(lake: Lake, asset: str) -> Table:
    """The table of an asset's refused partitions, kept for inspection."""
    return lake.table(f"refused/{asset}")


def quality_evaluation(findings: Sequence[Finding]) -> Evaluation:
    """One evaluation of the class `quality` for all expectations of one partition."""
    failed = [finding for finding in findings if not finding.passed]
    return Evaluation(
        check="quality",
        passed=not failed,
        observed="; ".join(finding.in_words() for finding in failed),
        bound="; ".join(f.expectation for f in failed),
        metadata={
            "expectations": len(findings),
            "findings": [
                {"expectation": f.expectation, "rows": f.rows, "failing": f.failing} for f in findings
            ],
        },
    )


def _commit(
    table: Table, rows: pa.Table, parts: Mapping[str, tuple[pa.Table, str]], partitions: Sequence[str]
) -> int | None:
    if not partitions:
        return table.version()
    if set(partitions) >= set(parts):
        chosen = rows
    else:
        chosen = pa.concat_tables([parts[key][0] for key in partitions if key in parts] or [rows.slice(0, 0)])
    return table.replace_days(chosen, days=partitions)


def _outcome(staged: Staged, key: str, evaluation: Evaluation, publication: Publication | None) -> Outcome:
    metadata: dict[str, Any] = {**staged.metadata.get(key, {})}
    if publication is not None:
        metadata |= {
            "dagster/partition_row_count": publication.rows,
            "content_hash": publication.content_hash,
            "table_version": publication.table_version,
        }
    return Outcome(
        partition=key,
        published=publication is not None,
        evaluations=(evaluation,),
        metadata=metadata,
        data_version=publication.content_hash if publication is not None else None,
    )
