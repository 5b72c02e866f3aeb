"""Whether a day's predictions look like those before, and like the rows that their version was trained on.

The distances, and when they count, are those of drift profiles; what is compared is what the service logged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np

from ml_platform.drift_profiles.compute import DriftDecision, RollingReference, decide, rows_of
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.feedback.compute import CHAMPION
from ml_platform.feedback.spec import FeedbackSpec
from ml_platform.feedback.store import LOG, evaluation_of, manifest_of, trained_on
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, day, key_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.models.calibration import BINS, places

Columns = Mapping[str, np.ndarray]

_MOST = 1_000_000
"""So many predictions say what the scores of days were; more are not read."""


@dataclass(frozen=True)
class VersionDrift:
    """How far one version's predictions of a day were from a reference, which is named for people."""

    version: int
    reference: str
    decision: DriftDecision


def champions_of(connection: duckdb.DuckDBPyConnection, key: str) -> list[int]:
    """The versions that answered on a day, as logged."""
    found = connection.execute(
        f"SELECT DISTINCT version FROM {LOG} "
        f"WHERE {PARTITION_COLUMN} = DATE '{key}' AND role = '{CHAMPION}' ORDER BY version"
    ).fetchall()
    return [version for (version,) in found]


def not_judged(version: int, reason: str, *, rows: int = 0) -> VersionDrift:
    """What is said of a version that nothing can be compared with."""
    return VersionDrift(version, "none", DriftDecision("not_judged", reason, rows, 0))


@dataclass
class PredictionDrift:
    """Compares a day's scores with those of the days before, or else with those of the version's evaluation."""

    settings: Settings
    spec: FeedbackSpec
    connection: duckdb.DuckDBPyConnection

    def judge(self, version: int, key: str) -> VersionDrift:
        """How far the scores that a version answered on a day are from earlier ones."""
        first = key_of(day(key) - self.spec.reference_days * ONE_DAY)
        last = key_of(day(key) - ONE_DAY)
        today, before = self._scores(version, key, key), self._scores(version, first, last)
        policy = _policy(self.spec, ks_bound=self.spec.score_bound, entity_of={})
        if len(before) >= self.spec.minimum_sample:
            return VersionDrift(
                version, f"scores of {first} … {last}", _judged({"score": today}, {"score": before}, policy)
            )
        evaluation = evaluation_of(self.settings, self.spec.model, version)
        if evaluation is None:
            return not_judged(
                version, "no earlier scores, and the registry does not have the version any more"
            )
        bins = evaluation["calibration"].get("bins") or evaluation["scores"]
        edges = np.unique([found[end] for found in bins for end in ("low", "high")])
        then = np.repeat(places(edges, np.array([found["low"] for found in bins])), [f["rows"] for f in bins])
        now = places(edges, today)
        decision = _judged({"score": now.astype(float)}, {"score": then.astype(float)}, policy)
        return VersionDrift(version, f"scores of its evaluation, in {BINS} bins", decision)

    def _scores(self, version: int, first: str, last: str) -> np.ndarray:
        """Scores that a version answered on published days; of very many some, always the same."""
        where = [(PARTITION_COLUMN, ">=", first), (PARTITION_COLUMN, "<=", last)]
        scan = Lake(self.settings.lake_uri).table(self.spec.log_key).scan(where=where)
        query = (
            f"SELECT score FROM ({scan}) WHERE version = {version} AND role = '{CHAMPION}' AND score IS NOT NULL "
            f"QUALIFY row_number() OVER (ORDER BY hash(prediction_id), prediction_id) <= {_MOST}"
        )
        return self.connection.sql(query).to_arrow_table().column("score").to_numpy()


@dataclass
class TrainingDrift:
    """Compares a day's logged features with the rows that the version which answered was trained on."""

    settings: Settings
    spec: FeedbackSpec
    catalog: Catalog
    connection: duckdb.DuckDBPyConnection

    def __post_init__(self) -> None:
        self._references: dict[int, tuple[str, RollingReference, list[str]] | str] = {}

    def judge(self, version: int, key: str) -> VersionDrift:
        """How far the features that a version saw on a day are from those that it was trained on."""
        if version not in self._references:
            self._references[version] = self._reference(version)
        found = self._references[version]
        if isinstance(found, str):
            return not_judged(version, found)
        name, reference, features = found
        today = self._logged(version, key, features)
        lacking = reference.lacking(rows_of(today))
        if lacking:
            return VersionDrift(
                version, name, DriftDecision("not_judged", lacking, rows_of(today), reference.rows)
            )
        decision = decide(
            reference.measure(today),
            policy=self._policy(),
            rows=rows_of(today),
            reference_rows=reference.rows,
        )
        return VersionDrift(version, name, decision)

    def _reference(self, version: int) -> tuple[str, RollingReference, list[str]] | str:
        """What a version was trained on, to compare with; or why there is nothing."""
        manifest = manifest_of(self.settings, self.spec.model, version)
        if manifest is None:
            return "the registry does not have the version any more"
        rows = trained_on(self.settings, manifest)
        if rows is None:
            return f"the rows of training set {manifest['content_hash']} are not in the lake any more"
        declared = self.spec.service(self.catalog).feature_names(self.catalog)
        features = [name for name in manifest["features"] if name in declared]
        columns = [f'CAST("{name}" AS FLOAT) AS "{name}"' for name in features]
        columns += [f'CAST("{key}" AS VARCHAR) AS "{key}"' for key in self._ids()]
        reference = RollingReference(self._policy())
        reference.accept(
            "training set", self._columns(f"SELECT {', '.join(columns)} FROM ({rows}) WHERE split = 'train'")
        )
        split = manifest["split"]["train"]
        return f"training rows of {split[0]} … {split[1]}", reference, features

    def _logged(self, version: int, key: str, features: Sequence[str]) -> Columns:
        columns = [f"""CAST(features['{name}'] AS FLOAT) AS "{name}\"""" for name in features]
        columns += [f"""keys['{name}'] AS "{name}\"""" for name in self._ids()]
        return self._columns(
            f"SELECT {', '.join(columns)} FROM {LOG} WHERE {PARTITION_COLUMN} = DATE '{key}' "
            f"AND version = {version} AND role = '{CHAMPION}' "
            f"QUALIFY row_number() OVER (ORDER BY hash(prediction_id), prediction_id) <= {_MOST}"
        )

    def _columns(self, query: str) -> Columns:
        rows = self.connection.sql(query).to_arrow_table()
        ids = set(self._ids())
        return {
            name: np.array(rows.column(name).to_pylist(), dtype=object)
            if name in ids
            else rows.column(name).to_numpy()
            for name in rows.column_names
        }

    def _ids(self) -> list[str]:
        return list(dict.fromkeys(self.spec.join_keys(self.catalog).values()))

    def _policy(self) -> DriftPolicy:
        profiles = self.spec.model_spec(self.catalog).profile_specs(self.catalog)
        policy = _policy(
            self.spec,
            ks_bound=self.spec.feature_bound,
            entity_of=self.spec.service(self.catalog).entity_of(self.catalog),
        )
        return replace(
            policy,
            calendar=frozenset(name for profile in profiles for name in profile.calendar),
            categories=frozenset(name for profile in profiles for name in profile.categories),
        )


def _policy(spec: FeedbackSpec, *, ks_bound: float, entity_of: Mapping[str, tuple[str, ...]]) -> DriftPolicy:
    return DriftPolicy(
        reference_days=1,
        ks_bound=ks_bound,
        total_variation_bound=ks_bound,
        missing_bound=spec.missing_bound,
        p_value=spec.p_value,
        minimum_sample=spec.minimum_sample,
        entity_of=entity_of,
    )


def _judged(today: Columns, before: Columns, policy: DriftPolicy) -> DriftDecision:
    reference = RollingReference(policy)
    reference.accept("before", before)
    return reference.judge(today)


def worst(found: Sequence[VersionDrift]) -> Any:
    """The status of a day: failed if any version's is, and judged if any is."""
    for status in ("failed", "passed"):
        if any(one.decision.status == status for one in found):
            return status
    return "not_judged"
