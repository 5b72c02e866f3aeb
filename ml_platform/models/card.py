"""The model card of a version: what it is for, what it was made from, how good it is, and who let what through.

Headings are those of Mitchell et al. (2019), Model Cards for Model Reporting, where the graph knows an answer.
Everything comes from records, so the same version gives the same card.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_platform.kernel.markdown import table, text

DOCUMENT = "model_card.md"
LONGEST_SUMMARY = 5000  # what MLflow's database keeps of a description


@dataclass(frozen=True)
class FeatureFact:
    """One feature: what it means, which declaration makes it, and the source columns that it comes from."""

    name: str
    type: str
    sentence: str
    made_by: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class DriftFact:
    """One drift profile over the days that gate the version; the farthest features as (name, day, distance, bound)."""

    profile: str
    days: str
    verdicts: Mapping[str, int]
    farthest: tuple[tuple[str, str, float, float], ...]


@dataclass(frozen=True)
class GateFact:
    """One blocking check of one asset, over the days that the version was made from, by its latest evaluations."""

    asset: str
    check: str
    days: str
    passed: int
    failed: int
    evaluated: str
    run: str


@dataclass(frozen=True)
class WayOut:
    """One way out of closed gates that somebody took for something that the version was made from."""

    way: str
    asset: str
    check: str
    actor: str
    reason: str
    evidence: str
    until: str
    partitions: str


@dataclass(frozen=True)
class Facts:
    """Everything that a card says.

    `manifest` is the training set's; `evaluation` has `metrics` by name, each with its `value` and perhaps `low` and
    `high`, and perhaps `slices`, `calibration` and `latency`.
    """

    model: str
    version: int
    partition: str
    description: str
    owners: tuple[str, ...]
    made: Mapping[str, object]  # estimator, parameters and the like, by what people call them
    labels: str
    missing: str
    features: tuple[FeatureFact, ...]
    manifest: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    parity: str
    drift: tuple[DriftFact, ...]
    gates: tuple[GateFact, ...]
    ways_out: tuple[WayOut, ...]
    lineage: str
    releases: tuple[str, ...]  # that may promote it
    runs: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(
        default_factory=dict
    )  # of declarations that the manifest does not have


def render(facts: Facts) -> str:
    """The card as Markdown that reads well as plain text too."""
    name = f"{facts.model}@{facts.version}"
    sections = {
        "Model details": _details(facts),
        "Intended use": text(facts.description) or "not declared",
        "Training and evaluation data": _data(facts),
        "Features": _features(facts),
        "Metrics": _metrics(facts),
        "Slices": _slices(facts.evaluation.get("slices", ())),
        "Calibration": _calibration(facts.evaluation.get("calibration", {})),
        "Drift on the days that gate it": _drift(facts),
        "Gates": _gates(facts.gates),
        "Ways out taken": _ways_out(facts.ways_out),
        "Where it comes from": f"```text\n{facts.lineage}\n```",
        "What exactly it was made with": _hashes(facts),
        "To rebuild its training set": f"    ml-platform training-sets rebuild --model {name}",
        "To roll back": "\n\n".join(_ways_back(name, facts.version) for name in facts.releases)
        or "No release of this model is declared.",
    }
    parts = [f"# {_title(facts)}", *(f"## {title}\n\n{body}" for title, body in sections.items())]
    return "\n\n".join(parts) + "\n"


def _ways_back(release: str, version: int) -> str:
    return (
        f"From this version to the champion before it:\n\n"
        f"    ml-platform releases rollback {release} --reason '…'\n\n"
        f"From a later champion back to this one, and on to this one if it never was champion:\n\n"
        f"    ml-platform releases rollback {release} --to {version} --reason '…'\n"
        f"    ml-platform releases promote {release} --to {version} --reason '…'"
    )


def summary(facts: Facts) -> str:
    """The card in short, for a description of the version; where the rest is comes last."""
    taken = len(facts.ways_out)
    parts = [
        text(facts.description),
        _data(facts),
        _metrics(facts),
        f"Ways out of closed gates that were taken for what it was made from: {taken or 'none'}.",
    ]
    command = f"ml-platform models card {facts.model}@{facts.version}"
    rest = f"The whole card: artifact `{DOCUMENT}` of its run, or `{command}`."
    room = LONGEST_SUMMARY - len(rest) - 4
    short = "\n\n".join(part for part in parts if part)
    return f"{short if len(short) <= room else f'{short[: room - 1]}…'}\n\n{rest}\n"


def _title(facts: Facts) -> str:
    return f"{facts.model}, version {facts.version}"


def _details(facts: Facts) -> str:
    rows = [
        ("model", facts.model),
        ("version", facts.version),
        ("partition", facts.partition),
        ("owners", ", ".join(facts.owners) or "none declared"),
        *facts.made.items(),
        *facts.runs.items(),
    ]
    return table(["what", "value"], rows)


def _hashes(facts: Facts) -> str:
    manifest = facts.manifest
    digests = {**facts.digests, **manifest["declarations"]}
    rows = [
        ("content of the training set", manifest["content_hash"]),
        *((f"declaration {name}", digest[:16]) for name, digest in sorted(digests.items())),
        *((f"code {name}", version) for name, version in sorted(manifest["code"].items())),
    ]
    return table(["what", "hash or version"], rows)


def _data(facts: Facts) -> str:
    manifest = facts.manifest
    split, counted = manifest["split"], manifest["rows"]
    rows = [
        (part, " … ".join(split[part]), *_counts(counted.get(part)))
        for part in ("train", "gap", "test")
        if part in split
    ]
    left_out = {
        name.removeprefix("rows_").replace("_", " "): count
        for name, count in sorted(manifest.items())
        if name.startswith("rows_")
    }
    sentences = [f"Labels: {text(facts.labels)}; everything is as known at {text(manifest['known_at'])}."]
    sentences += [f"Rows left out, {name}: {count:,}." for name, count in left_out.items()]
    header = ["part", "days", "rows", "positives", "share"]
    if all("positives" not in found for found in counted.values()):  # labels are numbers
        header, rows = header[:3], [row[:3] for row in rows]
    return f"{table(header, rows)}\n\n{' '.join(sentences)}"


def _counts(counted: Mapping[str, int] | None) -> tuple[str, str, str]:
    if counted is None:
        return "", "", ""
    rows, positives = counted["rows"], counted.get("positives", 0)
    return f"{rows:,}", f"{positives:,}", f"{positives / rows:.3%}" if rows else ""


def _features(facts: Facts) -> str:
    rows = [(f.name, f.type, f.sentence, f.made_by, ", ".join(f.columns)) for f in facts.features]
    listed = table(["feature", "type", "what", "made by", "from"], rows)
    return f"{listed}\n\nA missing or too old feature in serving: {text(facts.missing)}."


def _metrics(facts: Facts) -> str:
    found: Mapping[str, Mapping[str, Any]] = facts.evaluation["metrics"]
    rows = [(name, _number(one["value"]), _interval(one)) for name, one in found.items()]
    lines = [table(["metric", "value", "95 % interval"], rows)]
    lines.append(f"Measured on the test rows. ONNX against the estimator: {text(facts.parity)}.")
    latency: Mapping[str, float] = facts.evaluation.get("latency", {})
    if latency:
        lines.append(
            "Latency of one row: " + ", ".join(f"{text(n)} {_number(v)}" for n, v in latency.items()) + "."
        )
    return "\n\n".join(lines)


def _slices(slices: Sequence[Mapping[str, Any]]) -> str:
    if not slices:
        return "none declared"
    of_classes = any(one["positives"] is not None for one in slices)
    rows = [
        (
            one["name"],
            one["where"],
            f"{one['rows']:,}",
            *([f"{one['positives']:,}"] if of_classes else []),
            _number(one["value"]),
            _interval(one),
        )
        for one in slices
    ]
    header = ["slice", "rows where", "rows", *(["positives"] if of_classes else []), "value", "95 % interval"]
    return table(header, rows)


def _calibration(found: Mapping[str, Any]) -> str:
    if not found:
        return "not measured"
    numbers = [(name.replace("_", " "), _number(value)) for name, value in found.items() if name != "bins"]
    lines = [table(["measure", "value"], numbers)]
    bins: Sequence[Mapping[str, Any]] = found.get("bins", ())
    if bins:
        header = list(bins[0])
        rows = [[_number(one[name]) for name in header] for one in bins]
        lines.append(table([name.replace("_", " ") for name in header], rows))
    return "\n\n".join(lines)


def _drift(facts: Facts) -> str:
    if not facts.drift:
        return "No drift profile gates this model."
    parts = ["A day fails by a feature whose distance is beyond its bound, and too far to be chance."]
    for one in facts.drift:
        verdicts = ", ".join(f"{count} {name}" for name, count in one.verdicts.items()) or "none judged"
        rows = [(name, day, f"{distance:.4f}", f"{bound:g}") for name, day, distance, bound in one.farthest]
        listed = table(["farthest features", "on", "distance", "bound"], rows) if rows else ""
        parts.append(f"{text(one.profile)}, {one.days}: {verdicts}.\n\n{listed}".rstrip())
    return "\n\n".join(parts)


def _gates(gates: Sequence[GateFact]) -> str:
    header = ["asset", "check", "days", "passed", "failed", "newest evaluation", "by run"]
    return table(header, [(g.asset, g.check, g.days, g.passed, g.failed, g.evaluated, g.run) for g in gates])


def _ways_out(taken: Sequence[WayOut]) -> str:
    if not taken:
        return "None: everything that this version was made from passed its checks."
    header = ["way", "asset", "check", "days", "by", "why", "what had been seen"]
    rows = [
        (
            f"{one.way} until {one.until}" if one.until else one.way,
            one.asset,
            one.check,
            one.partitions,
            one.actor,
            one.reason,
            one.evidence,
        )
        for one in taken
    ]
    return table(header, rows)


def _interval(found: Mapping[str, Any]) -> str:
    return f"{_number(found['low'])} … {_number(found['high'])}" if "low" in found else ""


def _number(value: Any) -> str:
    if value is None:
        return "not measurable"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
