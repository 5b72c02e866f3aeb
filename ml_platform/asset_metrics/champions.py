"""Who is champion of each model, since when, and whether the ledger agrees."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import GaugeMetricFamily, Metric

from ml_platform.asset_metrics.declared import Declared
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.models.spec import ModelSpec
from ml_platform.releases.spec import ReleaseSpec
from ml_platform.releases.store import AliasState, alias_state

STATES: tuple[str, ...] = get_args(AliasState.__annotations__["state"])


def champions(declared: Declared, settings: Settings) -> Iterator[Metric]:
    """The version that each model's champion alias points at."""
    version = GaugeMetricFamily(
        "ml_platform_model_champion_version",
        "The version of the model that the champion alias points at; 0 when it points at none.",
        labels=["model"],
    )
    for spec in declared.catalog.all(ModelSpec):
        found = registry.champion(settings, spec.name)
        version.add_metric([spec.name], found.version if found is not None else 0)
    yield version


def releases(declared: Declared, settings: Settings) -> Iterator[Metric]:
    """When the champion was promoted, and what the ledger says to where the alias is."""
    promoted = GaugeMetricFamily(
        "ml_platform_model_champion_promoted_timestamp_seconds",
        "When the champion became it, in seconds since 1970, as the ledger of promotions has it; none when the alias "
        "was moved without the ledger.",
        labels=["model"],
    )
    state = GaugeMetricFamily(
        "ml_platform_release_alias_state",
        "1 for what the ledger of promotions says to the champion alias, 0 for the others: it agrees, its newest move "
        "is unfinished, or somebody moved the alias without it.",
        labels=["release", "state"],
    )
    since: dict[str, float] = {}
    for spec in declared.catalog.all(ReleaseSpec):
        found = alias_state(settings, spec.name, model=spec.model)
        for name in STATES:
            state.add_metric([spec.name, name], float(name == found.state))
        if found.newest is not None and found.alias == found.recorded:
            model, at = found.newest["model"], found.newest["recorded_at"].timestamp()
            since[model] = max(since.get(model, 0), at)
    for model, at in since.items():
        promoted.add_metric([model], at)
    yield from (promoted, state)
