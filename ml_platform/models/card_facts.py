"""Gathers what the graph knows of a new version: for its card.

Apart from `card.py`, which only writes, and from `component.py`, which only trains.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ml_platform.compiler import Step
from ml_platform.drift_profiles.reporting import judged_days
from ml_platform.features.component import column_lineage
from ml_platform.gates.evidence import evidence
from ml_platform.gates.ways_out import taken
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import Range, span, spans
from ml_platform.lake.tables import Lake
from ml_platform.model_registry.registry import Registered
from ml_platform.models.card import DriftFact, Facts, FeatureFact, GateFact, WayOut
from ml_platform.models.compute import ParityReport
from ml_platform.models.spec import ModelSpec
from ml_platform.training_sets.component import lineage_of_columns
from ml_platform.training_sets.spec import TrainingSetSpec

_FARTHEST = 5


@dataclass(frozen=True)
class Measured:
    """What was found out about a version: its evaluation as data, and how ONNX answers."""

    evaluation: Mapping[str, Any]
    parity: ParityReport


def facts(
    spec: ModelSpec, step: Step, manifest: Mapping[str, Any], measured: Measured, version: Registered
) -> Facts:
    """Everything that the card of a registered version says."""
    catalog, partition = step.catalog, manifest["partition"]
    upstream = catalog.lineage.upstream_partitions(spec.key, partition)
    lake = Lake(step.resources.environment.lake_uri)
    rows = spec.training_set_spec(catalog)
    labels = rows.label_source(catalog)
    parity = measured.parity
    return Facts(
        model=spec.name,
        version=version.version,
        partition=partition,
        description=spec.description,
        owners=spec.owners,
        made=_made(spec),
        labels=f"{labels.key}.{rows.label}, final {labels.maturity} after the event",
        missing=spec.missing,
        features=tuple(_features(spec, catalog)),
        manifest=manifest,
        evaluation=measured.evaluation,
        parity=f"{parity.rows:,} rows, at most {parity.max_difference:.2g} apart (allowed {parity.tolerance:g})",
        drift=tuple(_drift(profile.key, lake, upstream) for profile in spec.profile_specs(catalog)),
        gates=tuple(_gates(spec, step, partition)),
        ways_out=tuple(_ways_out(lake, upstream)),
        lineage="\n".join(_tree(catalog, spec.key, (partition, partition))),
        releases=tuple(_releases(spec.key, catalog)),
        runs={"MLflow run": version.run_id, "Dagster run": step.run_id},
        digests={f"Model/{spec.name}": spec.digest()},
    )


def _releases(model: str, catalog: Catalog) -> Iterator[str]:
    """Names of the releases that read a model."""
    for key, node in sorted(catalog.lineage.nodes.items()):
        stage, _, name = key.partition("/")
        if stage == "releases" and any(upstream.key == model for upstream in node.upstream):
            yield name


def _made(spec: ModelSpec) -> dict[str, object]:
    return {
        "estimator": spec.estimator,
        **{f"parameter {name}": value for name, value in spec.parameters.items()},
        "preprocessing": ", ".join(part.estimator for part in spec.preprocessing) or "none",
        **({"threshold of an alert": spec.threshold} if spec.task == "classification" else {}),
        "versions are compared by": spec.metric,
    }


def _features(spec: ModelSpec, catalog: Catalog) -> Iterator[FeatureFact]:
    """The model's features in their order, each down to the columns of its sources."""
    rows = spec.training_set_spec(catalog)
    service, columns = rows.service(catalog), _source_columns(rows, catalog)
    request = service.request_fields(catalog)
    for name in service.request_features:
        yield FeatureFact(name, request[name].type, "a value of the request", service.name, columns[name])
    for view in service.view_specs(catalog):
        for f in view.features(catalog):
            yield FeatureFact(f.name, f.type, f.sentence, view.key, columns[f.name])
    for made in service.on_demand_specs(catalog):
        for name, kind in made.outputs.items():
            said = made.description or "computed when asked for"
            yield FeatureFact(name, kind, said, made.function, columns[name])


def _source_columns(rows: TrainingSetSpec, catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """The source columns of each column of a training set, through the views that they come from."""
    views = {view.key: column_lineage(view, catalog) for view in rows.service(catalog).view_specs(catalog)}
    found: dict[str, tuple[str, ...]] = {}
    for name, deps in lineage_of_columns(rows, catalog).deps_by_column.items():
        origins: list[str] = []
        for dep in deps:
            view = views.get(dep.asset_key.to_user_string())
            behind = [dep] if view is None else view.deps_by_column[dep.column_name]
            origins += [f"{one.asset_key.to_user_string()}.{one.column_name}" for one in behind]
        found[name] = tuple(dict.fromkeys(origins))
    return found


def _drift(key: str, lake: Lake, upstream: Mapping[str, Range]) -> DriftFact:
    """How the days of a profile were judged, and the features that came nearest to their bounds."""
    first, last = upstream[key]
    found = judged_days(lake, key, first=first, last=last)
    kinds = Counter(one.verdict.kind.replace("_", " ") for one in found.values())
    farthest: dict[str, tuple[str, str, float, float]] = {}
    for partition, one in found.items():
        for name, distance in one.distances.items():
            known = farthest.get(name)
            if distance.gated and (known is None or distance.statistic > known[2]):
                farthest[name] = (name, partition, distance.statistic, distance.bound)
    ranked = sorted(farthest.values(), key=lambda one: one[2] / one[3], reverse=True)
    return DriftFact(key, f"{first} … {last}", dict(sorted(kinds.items())), tuple(ranked[:_FARTHEST]))


def _gates(spec: ModelSpec, step: Step, partition: str) -> Iterator[GateFact]:
    for one in evidence(step.context.instance, step.catalog.lineage, spec.key, partition):
        time = f"{one.evaluated_at:%Y-%m-%d %H:%M} UTC" if one.evaluated_at is not None else "never"
        yield GateFact(
            one.asset, one.check, span(*one.partitions), one.passed, one.failed, time, one.run_id[:8]
        )


def _ways_out(lake: Lake, upstream: Mapping[str, Range]) -> Iterator[WayOut]:
    """Every way out that was taken for days that the version was made from; one line for days of one decision."""
    days: dict[tuple[str, ...], list[str]] = {}
    for entry in taken(lake, upstream):
        decision = tuple(entry[f.name] for f in fields(WayOut) if f.name != "partitions")
        days.setdefault(decision, []).append(entry["partition"])
    for decision, partitions in days.items():
        yield WayOut(*decision, partitions=spans(partitions))


def _tree(catalog: Catalog, key: str, keys: Range, indent: str = "") -> Iterator[str]:
    """What was read, and what that was made from, one line each, deeper ones further in."""
    yield f"{indent}{key} [{span(*keys)}]"
    for upstream, read in catalog.lineage.direct_partitions(key, keys).items():
        yield from _tree(catalog, upstream, read, f"{indent}  ")
