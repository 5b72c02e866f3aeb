"""Drift profiles as assets: what a day's rows looked like, and whether models may be trained after it."""

from collections.abc import Collection, Mapping, Sequence

import dagster as dg
import pyarrow as pa

from ml_platform.compiler import AssetComponent, Step
from ml_platform.drift_profiles import store
from ml_platform.drift_profiles.compute import DriftDecision, RollingReference
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.drift_profiles.profile import profile_with_summary
from ml_platform.drift_profiles.reporting import Look, Report, look, write_reports
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.features.store import EventDays, entity_rows_sql, feature_versions, service_rows
from ml_platform.gates.acceptances import Accepted, accepted
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.partitions import PARTITION_COLUMN, complete_at, spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.content_hash import partition_hashes
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import Publication
from ml_platform.lake.tables import Lake


class DriftProfile(AssetComponent):
    """The profile of each day's model-feature rows, and its drift against the accepted days before."""

    spec_type = DriftProfileSpec
    kinds = frozenset({"whylogs", "python"})
    spec: DriftProfileSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)


def policy_of(spec: DriftProfileSpec, catalog: Catalog) -> DriftPolicy:
    """The declared policy in the terms of the computation."""
    return DriftPolicy(
        reference_days=spec.reference_days,
        ks_bound=spec.ks_bound,
        total_variation_bound=spec.total_variation_bound,
        missing_bound=spec.missing_bound,
        p_value=spec.p_value,
        minimum_sample=spec.minimum_sample,
        calendar=frozenset(spec.calendar),
        categories=frozenset(spec.categories),
        entity_of=spec.entity_of(catalog),
    )


def id_columns(spec: DriftProfileSpec, catalog: Catalog) -> list[str]:
    """The join keys that the rows carry beside their features, each once."""
    return list(dict.fromkeys(spec.entity_of(catalog).values()))


def materialize(spec: DriftProfileSpec, step: Step) -> list[Outcome]:
    """Profile and judge a range of days, in order: a day that passed is a reference of the days after it."""
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    features = spec.service(step.catalog).feature_names(step.catalog)
    read = Inputs.of(spec.key, lake, step.catalog.lineage)
    read.require(spec.key, step.partitions)
    inputs = read.digests(spec.key, step.partitions)
    rows = computed(spec, step.catalog, settings, step.partitions)
    days = store.split_days(rows, [*features, *id_columns(spec, step.catalog)])
    step.log.info("%s: %s rows for %s", spec.key, f"{rows.num_rows:,}", spans(step.partitions))
    let_through = accepted(lake, spec.key, "drift")
    regimes = [key for key, acceptance in let_through.items() if acceptance.new_regime]
    decisions, looks = judge_days(spec, step, days, regimes)
    profiled = {
        key: profile_with_summary({name: columns[name] for name in features}, timestamp=complete_at(key))
        for key, columns in days.items()
    }
    hashes = {key: (part.num_rows, digest) for key, part, digest in partition_hashes(rows, PARTITION_COLUMN)}
    store.write(
        lake,
        spec.key,
        rows=rows,
        profiles={key: profile for key, (profile, _) in profiled.items()},
        decisions=decisions,
        publications=[
            Publication(spec.key, key, digest, count, 0, spec.digest(), step.run_id, inputs[key])
            for key, (count, digest) in hashes.items()
        ],
    )
    reports = write_reports(
        lake,
        spec.key,
        policy=policy_of(spec, step.catalog),
        decisions=decisions,
        looks=looks,
        summaries={key: summary for key, (_, summary) in profiled.items()},
    )
    return [
        _outcome(key, decisions[key], hashes[key][1], let_through.get(key), reports[key])
        for key in step.partitions
    ]


def computed(
    spec: DriftProfileSpec, catalog: Catalog, settings: Settings, partitions: Sequence[str]
) -> pa.Table:
    """The model-feature rows of the events of days, as known when each day was complete, ordered by day.

    The service's join keys come with them: they say which rows share one entity's values.
    """
    service = spec.service(catalog)
    lake = Lake(settings.lake_uri)
    days = EventDays(first=min(partitions), last=max(partitions))
    entity_rows = entity_rows_sql(service, catalog, lake, days)
    event_id = service.source_spec(catalog).event_id
    batches = service_rows(
        settings,
        catalog,
        service,
        f"SELECT * FROM ({entity_rows}) ORDER BY {PARTITION_COLUMN}, {event_id}",
        versions=feature_versions(catalog, service, lake),
    )
    names = service.feature_names(catalog)
    keys = [key for key in id_columns(spec, catalog) if key != event_id]
    return pa.Table.from_batches(batches).select([event_id, *keys, PARTITION_COLUMN, *names])


def judge_days(
    spec: DriftProfileSpec, step: Step, days: Mapping[str, store.Columns], regimes: Collection[str]
) -> tuple[dict[str, DriftDecision], dict[str, Look]]:
    """The verdict on each day in order, starting from the reference days that were judged before the range.

    With each verdict comes what the day and its reference looked like, for the report.

    A day that began a new regime is the first of a reference of its own, which judges from the next day on.
    """
    first = min(step.partitions)
    policy = policy_of(spec, step.catalog)
    rolling = RollingReference(policy, minimum_days=1 if any(day < first for day in regimes) else None)
    for key, columns in _reference(spec, step, before=first, regimes=regimes):
        rolling.accept(key, columns)
    decisions, looks = dict[str, DriftDecision](), dict[str, Look]()
    for key in sorted(step.partitions):
        decisions[key] = rolling.judge(days[key])
        looks[key] = look(days[key], rolling, policy)
        if key in regimes:
            rolling = RollingReference(policy, minimum_days=1)
        if key in regimes or decisions[key].status != "failed":
            rolling.accept(key, days[key])
    return decisions, looks


def _reference(
    spec: DriftProfileSpec, step: Step, *, before: str, regimes: Collection[str]
) -> list[tuple[str, store.Columns]]:
    """The stored rows of the accepted days before a range, oldest first."""
    settings: Settings = step.resources.environment
    names = [*spec.service(step.catalog).feature_names(step.catalog), *id_columns(spec, step.catalog)]
    keys = store.reference_days(
        Lake(settings.lake_uri), spec.key, before=before, count=spec.reference_days, regimes=regimes
    )
    return list(zip(keys, store.read_days(settings, spec.key, keys, names), strict=True))


def _outcome(
    key: str, decision: DriftDecision, content_hash: str, acceptance: Accepted | None, report: Report
) -> Outcome:
    breached = [f for f in decision.features if f.breached]
    let_through = acceptance is not None and acceptance.judged == content_hash
    seen = "; ".join(f"{f.feature}: {f.reason}" for f in breached) or decision.reason
    evaluation = Evaluation(
        check="drift",
        passed=decision.status != "failed" or let_through,
        observed=f"accepted before: {seen}" if let_through and breached else seen,
        bound="; ".join(f"{f.feature} within {f.bound:g}" for f in breached),
        metadata={
            "status": decision.status,
            "reference_rows": decision.reference_rows,
            "judged": content_hash,
        },
    )
    return Outcome(
        partition=key,
        published=True,
        evaluations=(evaluation,),
        metadata={
            "dagster/partition_row_count": decision.rows,
            "status": decision.status,
            "drift": dg.MetadataValue.md(report.preview),
            "report": dg.MetadataValue.path(report.uri),
            "content_hash": content_hash,
        },
        data_version=digest_of([content_hash, decision.status]),
    )
