"""Would a version of the past be given, online, the features that it was trained on?"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ml_platform.features.spec import DECIDES_NO_VALUE, FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import source_digest
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.online import store as online


def other_features(
    settings: Settings, catalog: Catalog, contract: Mapping[str, Any], manifest: Mapping[str, Any]
) -> list[str]:
    """What of a version's feature definitions is no longer declared, applied to Feast, or online; none if all is.

    The contract has the digest of each view's declaration as it was; the manifest has the declarations themselves,
    so that another description, or one more feature of the view, is not taken for another feature.
    """
    applied = online.applied_declarations(settings)
    found: list[str] = []
    for view in contract["views"]:
        then = manifest.get("specs", {}).get(f"FeatureView/{view['name']}")
        found += _view(Lake(settings.lake_uri), catalog, view, then, applied)
    return found + [said for function in contract["on_demand"] for said in _function(function)]


def changed_fields(
    catalog: Catalog, then: Mapping[str, Any] | None, now: FeatureViewSpec, features: Sequence[str]
) -> list[str]:
    """Names of the fields that are declared otherwise now and decide values of some features."""
    if then is None:
        return ["its digest"]
    deciding = {name: value for name, value in then.items() if name not in DECIDES_NO_VALUE}
    try:
        before = FeatureViewSpec.model_validate(deciding)
        old, new = (view.definitions(catalog) for view in (before, now))
    except (ValidationError, DeclarationError):
        return ["in words that can no longer be declared"]
    if all(name in new and old.get(name) == new[name] for name in features):
        return []
    was, is_now = (view.model_dump(mode="json", by_alias=True) for view in (before, now))
    return sorted(name for name in is_now if name not in DECIDES_NO_VALUE and was.get(name) != is_now[name])


def _view(
    lake: Lake,
    catalog: Catalog,
    view: Mapping[str, Any],
    then: Mapping[str, Any] | None,
    applied: Mapping[str, str],
) -> list[str]:
    name = view["name"]
    now = next((spec for spec in catalog.all(FeatureViewSpec) if spec.name == name), None)
    if now is None:
        return [f"features/{name} is no longer declared"]
    changed = (
        changed_fields(catalog, then, now, view["features"]) if view["declaration"] != now.digest() else []
    )
    if changed:
        return [f"features/{name} is declared otherwise since ({', '.join(changed)})"]
    same = {view["declaration"], now.digest()}
    found = []
    if applied.get(name) not in same:
        found.append(
            f"Feast's registry has another definition of {name}: materialize online/feature_registry"
        )
    if not _any_of(same, online.published_declarations(lake, now)):
        found.append(
            f"online/{name} has a snapshot of another definition, or none: materialize online/{name}"
        )
    return found


def _function(function: Mapping[str, Any]) -> list[str]:
    try:
        now = source_digest(function["function"])
    except (ImportError, AttributeError, OSError):
        return [f"the on-demand function {function['function']} is gone"]
    same = now == function["digest"]
    return [] if same else [f"the on-demand function {function['function']} was changed"]


def _any_of(wanted: Collection[str], found: Collection[str]) -> bool:
    return not set(wanted).isdisjoint(found)
