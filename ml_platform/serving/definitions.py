"""Are the features that are online those that a version was trained on?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_platform import declarations
from ml_platform.features.feast_import import load_feast
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.errors import DeclarationError, StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.models.contract import Contract, ViewContract
from ml_platform.online.store import applied_declarations
from ml_platform.releases.online_features import changed_fields
from ml_platform.serving.patience import Patience

_SECONDS = 10.0


def other_definitions(settings: Settings, contract: Contract, manifest: Mapping[str, Any]) -> list[str]:
    """What Feast's registry defines otherwise of the views that a version reads; none if all is as in training.

    The same rule as a rollback's: equal declarations, or equal definitions of the features that are read. Raises
    StoreError when it cannot be told, because the registry does not answer, or has no such view.
    """
    load_feast()  # takes seconds, which are not the registry's

    applied = Patience("Feast's registry", seconds=_SECONDS).ask(lambda: _applied(settings))
    found: list[str] = []
    for view in contract.views:
        now = applied.get(view.name, view.declaration)
        found += [] if now == view.declaration else _other(view, now, manifest)
    unknown = [view.name for view in contract.views if view.name not in applied]
    if unknown and not found:
        raise StoreError(f"Feast's registry is required to define {', '.join(unknown)}, and does not")
    return found


def _applied(settings: Settings) -> dict[str, str]:
    scheme, _, path = settings.registry_url.partition(":///")
    if scheme == "sqlite" and not Path(path).exists():  # Feast would make an empty one
        raise StoreError(f"{path}: Feast's registry is required and is gone")
    try:
        return applied_declarations(settings)
    except Exception as err:  # Feast passes on what its database's client raises
        raise StoreError(
            f"Feast's registry is required and does not answer: {type(err).__name__}: {err}"
        ) from err


def _other(view: ViewContract, now: str, manifest: Mapping[str, Any]) -> list[str]:
    """What is otherwise in a view of another declaration: nothing, where that only says it otherwise."""
    try:
        catalog = declarations.load()
    except (DeclarationError, ImportError):
        return [
            f"{view.name} was applied under another declaration, and those of this installation are not valid"
        ]
    spec = next((found for found in catalog.all(FeatureViewSpec) if found.name == view.name), None)
    if spec is None or spec.digest() != now:
        return [f"{view.name} was applied under a declaration ({now}) that this installation does not have"]
    then = manifest.get("specs", {}).get(f"FeatureView/{view.name}")
    changed = changed_fields(catalog, then, spec, view.features)
    return [f"{view.name} is declared otherwise since ({', '.join(changed)})"] if changed else []
