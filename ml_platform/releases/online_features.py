"""Would a version of the past be given, online, the features that it was trained on?"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import source_digest
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.spec import NamedSpec
from ml_platform.lake.tables import Lake
from ml_platform.online import store as online

_ABOUT = frozenset({"description", "owners", "expectations"})
"""What a view declares beside its values: said otherwise, the values are the same."""


def other_features(
    settings: Settings, catalog: Catalog, contract: Mapping[str, Any], manifest: Mapping[str, Any]
) -> list[str]:
    """What of a version's feature definitions is no longer declared, applied to Feast, or online; none if all is.

    The contract has the digest of each view's declaration as it was; the manifest has the declarations themselves,
    so that another description is not taken for another feature.
    """
    applied = online.applied_declarations(settings)
    found: list[str] = []
    for view in contract["views"]:
        then = manifest.get("specs", {}).get(f"FeatureView/{view['name']}")
        found += _view(Lake(settings.lake_uri), catalog, view, then, applied)
    return found + [said for function in contract["on_demand"] for said in _function(function)]


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
    changed = _changed_fields(then, now) if view["declaration"] != now.digest() else []
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


def _changed_fields(then: Mapping[str, Any] | None, now: NamedSpec) -> list[str]:
    """Names of the fields that decide values and are declared otherwise now."""
    if then is None:
        return ["its digest"]
    deciding = {name: value for name, value in then.items() if name not in _ABOUT}
    try:
        before = type(now).model_validate(deciding).model_dump(mode="json", by_alias=True)
    except ValidationError:
        return ["in words that can no longer be declared"]
    after = now.model_dump(mode="json", by_alias=True)
    return sorted(name for name in after if name not in _ABOUT and before.get(name) != after[name])


def _function(function: Mapping[str, Any]) -> list[str]:
    try:
        now = source_digest(function["function"])
    except (ImportError, AttributeError, OSError):
        return [f"the on-demand function {function['function']} is gone"]
    same = now == function["digest"]
    return [] if same else [f"the on-demand function {function['function']} was changed"]


def _any_of(wanted: Collection[str], found: Collection[str]) -> bool:
    return not set(wanted).isdisjoint(found)
