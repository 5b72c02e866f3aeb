"""Write, audit, publish: staged rows become visible only when their partition passed; the rest stays inspectable.

Readers of a lake table see audited rows only. A refused partition goes to a table of its own and the last
good version stays where it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa

from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.gates.refusals import REFUSALS
from ml_platform.gates.refused import refused_rows
from ml_platform.kernel.partitions import cadence_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.audit import Finding
from ml_platform.lake.content_hash import NO_ROWS_HASH, partition_hashes
from ml_platform.lake.engine import connect
from ml_platform.lake.inputs import equal_lag, known_history
from ml_platform.lake.ledger import Publication, publish_partitions
from ml_platform.lake.ledger import published as ledger_of
from ml_platform.lake.rows import of_partitions
from ml_platform.lake.tables import Lake

_PUBLISHED = "published_rows"
_COLUMNS = dg.TableSchema(  # named as the fields of a finding
    [
        dg.TableColumn(name, kind)
        for name, kind in (
            ("expectation", "string"),
            ("severity", "string"),
            ("rows", "int"),
            ("failing", "int"),
            ("observed", "string"),
            ("required", "string"),
            ("verdict", "string"),
        )
    ]
)


@dataclass(frozen=True)
class Staged:
    """Computed rows of some partitions, ordered by partition and key, with what their audit found.

    `rows` is a relation over a table of a connection that is open until they are published: they are read twice, a
    partition at a time, and a query could give other bits the second time.
    `inputs` has the digest of what each partition was made from; `versions` says that the rows have a created
    time of their own, and `events` of how many events they are versions. `metadata` is shown with each partition;
    every key of `partitions` is committed or refused.
    """

    asset: str
    partitions: tuple[str, ...]
    rows: duckdb.DuckDBPyRelation
    findings: Mapping[str, Sequence[Finding]]
    declaration: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    versions: bool = False
    events: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def publish(lake: Lake, staged: Staged, *, run_id: str) -> list[Outcome]:
    """Commit the partitions that passed in one commit, keep the refused ones apart, and tell what happened."""
    evaluations = {key: quality_evaluation(staged.findings.get(key, ())) for key in staged.partitions}
    good = [key for key in staged.partitions if evaluations[key].passed]
    bad = [key for key in staged.partitions if not evaluations[key].passed]
    if bad:
        _keep_apart(lake, staged, {key: evaluations[key] for key in bad}, run_id=run_id)
    publications = _commit(lake, staged, good, run_id=run_id) if good else {}
    return [_outcome(staged, key, evaluations[key], publications.get(key)) for key in staged.partitions]


def judge_published(
    settings: Settings,
    asset: str,
    partitions: Sequence[str],
    audited: Callable[[duckdb.DuckDBPyConnection, str], Mapping[str, Sequence[Finding]]],
) -> list[Outcome]:
    """What is published of some partitions, audited again in one scan; in their order.

    `audited` judges a relation by its name on a connection; here it has the published rows.
    """
    lake = Lake(settings.lake_uri)
    rows = lake.table(asset).scan(where=[(cadence_of(partitions[0]).column, "in", list(partitions))])
    with connect(settings) as connection:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {_PUBLISHED} AS {rows}")
        findings = audited(connection, _PUBLISHED)
    there = ledger_of(lake, asset)
    return [
        Outcome(
            key,
            published=True,
            evaluations=(quality_evaluation(findings[key]),),
            data_version=there[key].content_hash if key in there else None,
        )
        for key in partitions
    ]


def quality_evaluation(findings: Sequence[Finding]) -> Evaluation:
    """One evaluation of the class `quality` for all expectations of one partition, with each as a row of a table."""
    refusing = [finding for finding in findings if finding.refuses]
    return Evaluation(
        check="quality",
        passed=not refusing,
        observed="; ".join(finding.observed for finding in refusing),
        bound="; ".join(finding.required for finding in refusing),
        metadata={"expectations": _table(findings), **_let_through(findings)},
    )


def broken_and_let_through(findings: Mapping[str, Sequence[Finding]]) -> list[str]:
    """What does not hold and does not block, in words for a log, by partition."""
    return [f"[{key}]: {line}" for key, found in findings.items() for line in _let_through(found).values()]


def _let_through(findings: Sequence[Finding]) -> dict[str, str]:
    """Metadata that says what does not hold and does not block; none where there is nothing to say."""
    lines = [
        f"{f.expectation}: {f.observed} (required: {f.required}; {f.verdict})"
        for f in findings
        if f.passed is False and not f.blocks
    ]
    return {"warnings": "; ".join(lines)} if lines else {}


def _table(findings: Sequence[Finding]) -> dg.TableMetadataValue:
    """The single expectations of one partition, as people see them in the UI."""
    names = [column.name for column in _COLUMNS.columns]
    records = [dg.TableRecord({name: getattr(finding, name) for name in names}) for finding in findings]
    return dg.MetadataValue.table(records, _COLUMNS)


def _keep_apart(lake: Lake, staged: Staged, evaluations: Mapping[str, Evaluation], *, run_id: str) -> None:
    """Keep the rows of refused partitions where people can look at them, and say so in the ledger."""
    rows = of_partitions(staged.rows, list(evaluations))
    refused_rows(lake, staged.asset).replace_partitions(rows, keys=list(evaluations))
    counts = {key: max((f.rows for f in staged.findings.get(key, ())), default=0) for key in evaluations}
    REFUSALS.append(
        lake,
        [
            {
                "asset": staged.asset,
                "partition": key,
                "rows": counts[key],
                "observed": evaluation.observed,
                "bound": evaluation.bound,
                "run_id": run_id,
            }
            for key, evaluation in evaluations.items()
        ],
    )


def _commit(lake: Lake, staged: Staged, good: Sequence[str], *, run_id: str) -> dict[str, Publication]:
    """Hash the good partitions, then publish them; their publications by partition."""
    rows = of_partitions(staged.rows, good)
    publications = {key: _publication(staged, key, None, NO_ROWS_HASH, run_id=run_id) for key in good}
    for key, part, content_hash in partition_hashes(rows, cadence_of(good[0]).column):
        publications[key] = _publication(staged, key, part, content_hash, run_id=run_id)
    made = publish_partitions(lake, rows, list(publications.values()))
    return {publication.partition: publication for publication in made}


def _publication(
    staged: Staged, key: str, part: pa.Table | None, content_hash: str, *, run_id: str
) -> Publication:
    cadence = cadence_of(key)
    return Publication(
        staged.asset,
        key,
        content_hash,
        part.num_rows if part is not None else 0,
        table_version=0,  # the commit knows
        declaration=staged.declaration,
        run_id=run_id,
        inputs=staged.inputs.get(key, ""),
        known=known_history(part.drop_columns([cadence.column]), cadence) if staged.versions and part else {},
        lag=equal_lag(part) if staged.versions and part else None,
        events=staged.events.get(key),
    )


def _outcome(staged: Staged, key: str, evaluation: Evaluation, publication: Publication | None) -> Outcome:
    metadata: dict[str, Any] = {**staged.metadata.get(key, {}), **_let_through(staged.findings.get(key, ()))}
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
