"""When concept drift asks for training: of the newest day that there is, once for each such day."""

from dataclasses import dataclass
from typing import Any

from ml_platform.feedback.spec import CONCEPT_DRIFT, FeedbackSpec
from ml_platform.gates.evaluations import latest_evaluations, latest_materializations
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import day
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake


@dataclass(frozen=True)
class Wish:
    """The partition of the training set and the model that is to be made, if one is; and why, or why not."""

    partition: str | None
    because: str


def wish(instance: Any, settings: Settings, spec: FeedbackSpec, catalog: Catalog) -> Wish:
    """What is to be trained because the newest measured day has concept drift.

    It is the newest day whose events are published, unless the model has that day's version: then there is nothing
    newer to learn from. Whether it may be trained is for its gates to say.
    """
    lake, model = Lake(settings.lake_uri), spec.model_spec(catalog)
    measured = max(published(lake, spec.performance_key), default=None)
    if measured is None:
        return Wish(None, "no day was measured")
    (found,) = latest_evaluations(instance, spec.performance_key, CONCEPT_DRIFT, [measured]).values() or (
        None,
    )
    evaluation = found.event.asset_check_evaluation if found is not None and found.event is not None else None
    if evaluation is None or evaluation.passed:
        return Wish(None, f"no concept drift on {measured}")
    node = catalog.node(model.key)
    events = published(lake, spec.service(catalog).source_spec(catalog).key)
    newest = max((key for key in events if node.clip((day(key), day(key))) is not None), default=None)
    if newest is None:
        return Wish(None, f"concept drift on {measured}, and no day that {model.key} can be trained on")
    if latest_materializations(instance, model.key, [newest]):
        return Wish(None, f"concept drift on {measured}, and {model.key} {newest} is trained already")
    return Wish(newest, f"concept drift on {measured}")
