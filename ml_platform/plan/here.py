"""What the files and the home of this process say of a change."""

from collections.abc import Mapping
from typing import Any

from ml_platform import declarations
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import publications_by_asset
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.plan.changes import compare
from ml_platform.plan.description import Description, describe
from ml_platform.plan.destroyed import Champion, lost_features
from ml_platform.plan.report import Plan
from ml_platform.plan.tree import base


def planned(here: Settings, against: str) -> Plan:
    """What the declarations of this process change, compared with where they left a git ref."""
    now = describe(declarations.load())
    then = base(against, here.declared_in.root)
    published = published_here(here, now)
    return Plan(
        compare(then.description, now, published or None, champions_here(here, then.description, now)),
        f"{against} at {then.commit[:10]}",
        f"what is published in {here.lake_uri}"
        if published
        else "all days that are declared: nothing is published here",
        (then.note,) if then.note else (),
    )


def published_here(here: Settings, now: Description) -> dict[str, dict[str, str]]:
    """By asset and partition, the digest of the declaration that each published partition was made by."""
    found = publications_by_asset(Lake(here.lake_uri), now.assets)
    return {
        asset: {key: publication.declaration for key, publication in partitions.items()}
        for asset, partitions in found.items()
    }


def champions_here(here: Settings, before: Description, now: Description) -> Mapping[str, Champion]:
    """The champions of models whose service loses features; none where no registry was ever made."""
    losing = lost_features(before, now)
    embedded = here.root / "mlflow" / "mlflow.db"
    if not losing or (here.mlflow_tracking_uri is None and not embedded.exists()):
        return {}
    found: dict[str, Champion] = {}
    for model in losing:
        version = registry.champion(here, model)
        if version is not None:
            contract: Mapping[str, Any] = registry.load_document(here, version, "contract.json")
            found[model] = Champion(version.version, tuple(contract["features"]))
    return found
