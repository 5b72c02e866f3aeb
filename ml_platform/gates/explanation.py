"""What people ask about gates: the state of all of them, and the evidence behind one that is closed."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from ml_platform.gates.evaluations import history, latest_states
from ml_platform.gates.guard import ClosedGate, Known, closed_by, closed_gates, closing_itself, ways_out
from ml_platform.gates.ways_out import taken
from ml_platform.kernel.lineage import Lineage
from ml_platform.lake.tables import Lake

_BEFORE = 5  # evaluations that are shown of a partition's past
_NOT_EVIDENCE = frozenset({"observed", "bound", "declared", "judged", "published"})


@dataclass(frozen=True)
class Overview:
    """One check of one asset: how many evaluated partitions passed, and which close gates."""

    asset: str
    check: str
    passed: int
    closed: tuple[ClosedGate, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def overview(instance: dg.DagsterInstance, lineage: Lineage, lake: Lake) -> list[Overview]:
    """Every blocking check of every asset, over the partitions that it has evaluated."""
    found: list[Overview] = []
    for key, node in sorted(lineage.nodes.items()):
        for check in node.blocking_checks:
            states = latest_states(instance, key, check.name)
            days: list[str | None] = [None] if not node.partitioned else [*sorted(filter(None, states))]
            evaluated = [partition for partition in days if partition in states]
            known = Known.now(lake, key)
            closed = closed_by(instance, key, check, evaluated, known=known)
            count = len(evaluated) - sum(len(gate.partitions) for gate in closed)
            found.append(Overview(key, check.name, count, tuple(closed)))
    return found


@dataclass(frozen=True)
class Explanation:
    """One closed gate with its evidence: what was measured, what was seen before, who acted, what to do."""

    gate: ClosedGate
    evidence: Mapping[str, Any]
    before: Sequence[str]
    acted: Sequence[str]
    ways: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        """The evidence as people read it, one thing a line."""
        lines = [self.gate.in_words()]
        lines += [f"  {name}: {_value(value)}" for name, value in self.evidence.items()]
        lines += [f"  evaluated: {text}" for text in self.before]
        lines += [f"  recorded: {text}" for text in self.acted]
        lines += [f"  way out: {way}" for way in self.ways]
        return "\n".join(lines)


def explain(
    instance: dg.DagsterInstance, lineage: Lineage, lake: Lake, key: str, partition: str
) -> list[Explanation]:
    """Each gate that keeps a partition from being made, causes first, then its own checks; all with evidence."""
    closed = closed_gates(instance, lineage, key, partition, lake=lake)
    closed += closing_itself(instance, lineage.node(key), partition, lake=lake)
    return [_explained(instance, lake, gate) for gate in closed]


def _explained(instance: dg.DagsterInstance, lake: Lake, gate: ClosedGate) -> Explanation:
    if gate.reason in ("missing", "other_inputs"):
        return Explanation(gate, {}, (), (), ways_out(gate))
    days = gate.partitions or (None,)
    records = history(instance, gate.asset, gate.check, days, limit=_BEFORE)
    evidence = {}
    if len(days) == 1 and records and records[0].evaluation is not None:
        metadata = records[0].evaluation.metadata
        evidence = {name: _plain(value) for name, value in metadata.items() if name not in _NOT_EVIDENCE}
    before = [_evaluated(record) for record in records]
    acted = []
    if gate.partitions:
        asked = {gate.asset: (gate.partitions[0], gate.partitions[-1])}
        acted = [_acted(entry) for entry in taken(lake, asked)]
    return Explanation(gate, evidence, before, acted, ways_out(gate))


def _evaluated(record: Any) -> str:
    when = dt.datetime.fromtimestamp(record.event.timestamp, dt.UTC)
    verdict = "passed" if record.evaluation.passed else "failed"
    seen = record.evaluation.metadata["observed"].value
    return f"{when:%Y-%m-%d %H:%M} UTC {record.partition} {verdict}, run {record.run_id[:8]}: {seen}"


def _acted(entry: Mapping[str, Any]) -> str:
    until = f" until {entry['until']}" if entry["until"] else ""
    return (
        f"{entry['recorded_at']:%Y-%m-%d %H:%M} UTC {entry['way']} of {entry['partition']}{until} by "
        f"{entry['actor']}: {entry['reason']}"
    )


def _plain(value: dg.MetadataValue) -> Any:
    """Metadata as JSON has it; of a table its rows."""
    if isinstance(value, dg.TableMetadataValue):
        return [dict(record.data) for record in value.records]
    return value.value


def _value(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(row, dict) and "verdict" in row for row in value):
        lines = [f"{row['verdict']}: {row['required']} ({row['observed']})" for row in value]
        return "\n    ".join(["", *lines])
    return value if isinstance(value, str) else json.dumps(value, default=str)
