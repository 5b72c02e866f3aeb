"""Drift profiles as assets: what a day's rows looked like, and whether models may be trained after it."""

from collections.abc import Callable, Mapping, Sequence

import dagster as dg
import pyarrow as pa

from ml_platform.compiler import AssetComponent, Step, component_of
from ml_platform.drift_profiles import store
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.drift_profiles.profile import profile_with_summary, summary
from ml_platform.drift_profiles.reporting import Look, Report, look, refreshed, write_reports
from ml_platform.drift_profiles.sequence import Columns, DaySequence, LetThrough
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.features.store import EventDays, entity_rows_sql, feature_versions, service_rows
from ml_platform.gates.acceptances import Acceptance, Accepted, accept, accepted
from ml_platform.gates.evaluations import latest_states
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.gates.recheck import Recheck, recheck
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.partitions import PARTITION_COLUMN, complete_at, contiguous, key_of, spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.content_hash import partition_hashes
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import Publication, published
from ml_platform.lake.tables import Lake


class DriftProfile(AssetComponent):
    """The profile of each day's model-feature rows, and its drift against the accepted days before."""

    spec_type = DriftProfileSpec
    kinds = frozenset({"whylogs", "python"})
    code = (
        "drift_profiles.compute",
        "drift_profiles.distances",
        "drift_profiles.entities",
        "drift_profiles.missing",
        "drift_profiles.policy",
        "drift_profiles.profile",
        "drift_profiles.sequence",
        "features.in_memory",
        "features.point_in_time",
        "features.store",
    )
    spec: DriftProfileSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)

    def rechecked(self, catalog: Catalog, settings: Settings, partitions: Sequence[str]) -> Sequence[Outcome]:
        return [
            outcome
            for run in contiguous(partitions)
            for outcome in recheck_days(self.spec, catalog, settings, run)
        ]


def policy_of(spec: DriftProfileSpec, catalog: Catalog) -> DriftPolicy:
    """The declared policy in the terms of the computation."""
    fixed = spec.fixed_reference
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
        consecutive=spec.consecutive,
        same_weekday=spec.weekday_features(catalog),
        same_weekday_days=spec.same_weekday_days,
        fixed_reference=None if fixed is None else (key_of(fixed.first), key_of(fixed.last)),
    )


def id_columns(spec: DriftProfileSpec, catalog: Catalog) -> list[str]:
    """The join keys that the rows carry beside their features, each once."""
    return list(dict.fromkeys(key for keys in spec.entity_of(catalog).values() for key in keys))


def read_columns(spec: DriftProfileSpec, catalog: Catalog) -> list[str]:
    """The columns that a day is judged by: its features, and the ids that say which rows belong together."""
    return [*spec.service(catalog).feature_names(catalog), *id_columns(spec, catalog)]


def materialize(spec: DriftProfileSpec, step: Step) -> list[Outcome]:
    """Profile and judge a range of days, in order: a day that passed is a reference of the days after it."""
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    features = spec.service(step.catalog).feature_names(step.catalog)
    read = Inputs.of(spec.key, lake, step.catalog.lineage)
    read.require(spec.key, step.partitions)
    inputs = read.digests(spec.key, step.partitions)
    rows = computed(spec, step.catalog, settings, step.partitions)
    days = store.split_days(rows, read_columns(spec, step.catalog))
    step.log.info("%s: %s rows for %s", spec.key, f"{rows.num_rows:,}", spans(step.partitions))
    hashes = {key: (part.num_rows, digest) for key, part, digest in partition_hashes(rows, PARTITION_COLUMN)}
    let_through = accepted(lake, spec.key, "drift")
    contents = {key: digest for key, (_, digest) in hashes.items()}
    judged, looks = judge_days(spec, step.catalog, settings, days, contents, let_through)
    profiled = {
        key: profile_with_summary({name: columns[name] for name in features}, timestamp=complete_at(key))
        for key, columns in days.items()
    }
    store.write(
        lake,
        spec.key,
        rows=rows,
        profiles={key: profile for key, (profile, _) in profiled.items()},
        judged=judged,
        publications=[
            Publication(spec.key, key, digest, count, 0, spec.digest(), step.run_id, inputs[key])
            for key, (count, digest) in hashes.items()
        ],
    )
    summaries = {key: found for key, (_, found) in profiled.items()}
    outcomes = _reported(lake, spec.key, policy_of(spec, step.catalog), judged, looks, summaries, let_through)
    return [outcomes[key] for key in step.partitions]


def recheck_days(
    spec: DriftProfileSpec, catalog: Catalog, settings: Settings, partitions: Sequence[str]
) -> list[Outcome]:
    """Published days in a row judged again; verdicts and reports are kept in place of those before."""
    lake = Lake(settings.lake_uri)
    days = store.read_days(settings, spec.key, partitions, read_columns(spec, catalog))
    there = published(lake, spec.key)
    contents = {key: there[key].content_hash for key in days}
    let_through = accepted(lake, spec.key, "drift")
    judged, looks = judge_days(spec, catalog, settings, days, contents, let_through)
    store.write_verdicts(lake, spec.key, judged)
    profiles = store.read_profiles(lake, spec.key, first=min(partitions), last=max(partitions))
    summaries = {key: summary(profiles[key]) for key in judged}
    outcomes = _reported(lake, spec.key, policy_of(spec, catalog), judged, looks, summaries, let_through)
    return [outcomes[key] for key in partitions]


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
    spec: DriftProfileSpec,
    catalog: Catalog,
    settings: Settings,
    days: Mapping[str, Columns],
    contents: Mapping[str, str],
    let_through: Mapping[str, Accepted],
) -> tuple[dict[str, store.JudgedDay], dict[str, Look]]:
    """The verdict on each day in order, from what is stored of the days before them and what was accepted.

    With it comes what each day and its reference looked like, for its report.

    `contents` has the content hash of each day's rows: what people accepted counts for that content alone.
    """
    names = read_columns(spec, catalog)
    past = store.judged_before(Lake(settings.lake_uri), spec.key, before=min(days))
    known = {key: found.content for key, found in past.items()}
    policy = policy_of(spec, catalog)
    sequence = DaySequence(
        policy,
        past,
        LetThrough(let_through),
        read=lambda keys: store.read_days(settings, spec.key, keys, names),
    )
    judged, looks = dict[str, store.JudgedDay](), dict[str, Look]()
    for key in sorted(days):
        verdict = sequence.judge(key, days[key])
        reference = digest_of([[day, known[day]] for day in verdict.reference]) if verdict.reference else ""
        judged[key] = store.JudgedDay(verdict, contents[key], reference, tuple(names))
        looks[key] = look(days[key], sequence.compared_with, policy)
        known[key] = contents[key]
        sequence.remember(key, days[key], verdict.decision, content=contents[key])
    return judged, looks


def _reported(
    lake: Lake,
    key: str,
    policy: DriftPolicy,
    judged: Mapping[str, store.JudgedDay],
    looks: Mapping[str, Look],
    summaries: Mapping[str, pa.Table],
    let_through: Mapping[str, Accepted],
) -> dict[str, Outcome]:
    """The outcome of each judged day, whose verdict is kept already, with the report that is written of it."""
    reports = write_reports(lake, key, policy=policy, judged=judged, looks=looks, summaries=summaries)
    return {day: _outcome(day, judged[day], let_through.get(day), reports[day]) for day in judged}


def _outcome(key: str, judged: store.JudgedDay, acceptance: Accepted | None, report: Report) -> Outcome:
    decision, content_hash = judged.verdict.decision, judged.content
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
            "reference": judged.reference or "none",
            "reference_days": spans(judged.verdict.reference) or "none",
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


def accept_drift(
    instance: dg.DagsterInstance,
    catalog: Catalog,
    settings: Settings,
    acceptance: Acceptance,
    *,
    tell: Callable[[str], None],
) -> Sequence[Outcome]:
    """Let a drifted day through for good, and tell it; the later days that a new regime judged again.

    Raises InputError, with nothing changed, where `gates.acceptances.accept` does.
    """
    asset, partition, lake = acceptance.asset, acceptance.partition, Lake(settings.lake_uri)
    observed = accept(instance, lake, acceptance)
    if asset.startswith("drift_profiles/"):
        refreshed(lake, asset, partition)
    tell(f"{asset} [{partition}] {acceptance.check}: accepted by {acceptance.actor}; was: {observed}")
    again = _judged_by_new_regime(instance, catalog, settings, acceptance) if acceptance.new_regime else []
    for outcome in again:
        said = "passes" if outcome.passed else f"fails by it too: {outcome.failures()}"
        tell(f"{asset} [{outcome.partition}] judged by the new regime: {said}")
    return again


def _judged_by_new_regime(
    instance: dg.DagsterInstance, catalog: Catalog, settings: Settings, acceptance: Acceptance
) -> Sequence[Outcome]:
    """Judge later days of an asset that failed again, now that references begin at the accepted day."""
    asset, lake = acceptance.asset, Lake(settings.lake_uri)
    states, there = latest_states(instance, asset, acceptance.check), published(lake, asset)
    later = [key for key in sorted(there) if key > acceptance.partition and states.get(key) is False]
    if not later:
        return []
    component = component_of(catalog.declaring(asset))
    assert isinstance(component, AssetComponent)  # only these make assets
    reason = f"new regime from {acceptance.partition}: {acceptance.reason}"
    asked = Recheck(catalog.node(asset), tuple(later), reason, acceptance.actor)
    return recheck(instance, lake, asked, lambda keys: component.rechecked(catalog, settings, keys))
