"""When drift asks for training: of the newest day that there is, once for each such day."""

from dataclasses import dataclass
from typing import Any

from ml_platform.feedback.spec import CONCEPT_DRIFT, Drift, FeedbackSpec
from ml_platform.gates.evaluations import latest_evaluations, latest_materializations
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import complete_at
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake


@dataclass(frozen=True)
class Wish:
    """The partition of the training set and the model that is to be made, if one is; and why, or why not."""

    partition: str | None
    because: str


def wish(instance: Any, settings: Settings, spec: FeedbackSpec, catalog: Catalog) -> Wish:
    """What is to be trained because a kind of drift that the declaration names was found on the newest day looked at.

    It is the newest day whose events are published, unless the model has that day's version: then there is nothing
    newer to learn from. Whether it may be trained is for its gates to say.
    """
    lake, model = Lake(settings.lake_uri), spec.model_spec(catalog)
    drift = ", ".join(found for kind in spec.retrain if (found := _found(instance, lake, spec, kind)))
    if not drift:
        return Wish(None, f"none of {', '.join(spec.retrain)} was found on the newest day")
    node = catalog.node(model.key)
    events = published(lake, spec.service(catalog).source_spec(catalog).key)
    days = (clipped[0] for key in events if (clipped := node.clip((key, key))) and _ends(key, clipped[0]))
    newest = max(days, default=None)
    if newest is None:
        return Wish(None, f"{drift}, and no day that {model.key} can be trained on")
    if latest_materializations(instance, model.key, [newest]):
        return Wish(None, f"{drift}, and {model.key} {newest} is trained already")
    return Wish(newest, drift)


def _ends(key: str, day: str) -> bool:
    """Whether a day is over when a partition is, which may be one of its hours."""
    return complete_at(key) == complete_at(day)


def _found(instance: Any, lake: Lake, spec: FeedbackSpec, kind: Drift) -> str | None:
    """A kind of drift with the newest day that was looked at, if it was found there."""
    asset = spec.performance_key if kind == CONCEPT_DRIFT else spec.log_key
    newest = max(published(lake, asset), default=None)
    if newest is None:
        return None
    (found,) = latest_evaluations(instance, asset, kind, [newest]).values() or (None,)
    evaluation = found.event.asset_check_evaluation if found is not None and found.event is not None else None
    return None if evaluation is None or evaluation.passed else f"{kind} on {newest}"
