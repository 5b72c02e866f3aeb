"""A view is about one entity, or a combination of several; what it declares says which columns tell rows apart."""

from typing import Any

import pytest
from pydantic import ValidationError

from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec, OnDemandFeaturesSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from tests.online.small_world import CATALOG, OF_PAIRS, VIEW


def view(**given: Any) -> FeatureViewSpec:
    return FeatureViewSpec.model_validate({**VIEW.model_dump(exclude={"entity"}), **given})


def with_views(*views: FeatureViewSpec) -> Catalog:
    return Catalog({**CATALOG.specs, **{(FeatureViewSpec, found.name): found for found in views}})


def test_keys_are_named_after_their_entities_unless_it_is_said_otherwise() -> None:
    assert view(entity="region").key_of == {"region": "region_id"}
    assert view(entity="kind", join_key="kind").key_of == {"kind": "kind"}
    pair = view(entities=["region", "kind"], join_keys={"kind": "kind"})
    assert pair.key_of == {"region": "region_id", "kind": "kind"}
    assert (pair.entity_keys, pair.about) == (("region_id", "kind"), "region_kind")
    assert pair.row_key(CATALOG) == ("region_id", "kind")
    assert [*pair.row_types(CATALOG).items()][:2] == [("region_id", "int64"), ("kind", "string")]


def test_a_view_of_one_entity_has_the_content_that_it_had() -> None:
    assert not {"entities", "join_keys"} & view(entity="region").as_declared().keys()
    declared = view(entities=["region", "kind"], join_keys={"kind": "kind"}).as_declared()
    assert FeatureViewSpec.model_validate(declared).as_declared() == declared
    assert {"entities", "join_keys"} <= declared.keys()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "either `entity`, or several `entities` are required"),
        ({"entity": "region", "entities": ["kind"]}, "either `entity`, or several `entities` are required"),
        ({"entity": "region", "join_keys": {"region": "r"}}, "`join_keys` to `entities`"),
        ({"entities": ["region", "kind"], "join_key": "kind"}, "`join_key` belongs to `entity`"),
        (
            {"entities": ["region", "kind"], "join_keys": {"kin": "kind"}},
            r"\(region, kind\); got also \['kin'\]",
        ),
        ({"entities": ["region", "region"]}, "a column each are required; got region_id"),
        ({"entities": ["region", "kind"], "join_keys": {"kind": "region_id"}}, "a column each are required"),
    ],
)
def test_what_does_not_say_what_rows_are_about_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        view(**given)


def test_every_key_must_be_a_column_of_the_source() -> None:
    declared = view(entities=["region", "kind"])
    with pytest.raises(DeclarationError, match=r"join key 'kind_id' is required among .*with `join_keys:`"):
        declared.check(with_views(declared))


def test_an_entity_has_one_key_in_all_views() -> None:
    other = view(name="others", entity="kind", join_key="wallet_id")
    with pytest.raises(
        DeclarationError, match="'kind' is required; it is wallet_id, and kind in 'region_kind"
    ):
        other.check(with_views(other))
    single = view(name="others", entity="region_kind", join_key="wallet_id")
    with pytest.raises(
        DeclarationError, match="it is wallet_id, and region_id, kind in 'region_kind_payments'"
    ):
        single.check(with_views(single))


def test_a_request_value_named_as_a_key_is_that_key() -> None:
    def service(sql: str | None) -> FeatureServiceSpec:
        context = OnDemandFeaturesSpec.model_validate(
            {
                "name": "context",
                "function": "any.function",
                "request": {"kind": {"type": "string", "sql": sql}},
                "outputs": {"kind_code": "double"},
            }
        )
        found = FeatureServiceSpec(
            name="all", source="payments", views=(OF_PAIRS.name,), on_demand=("context",)
        )
        catalog = Catalog({**CATALOG.specs, (OnDemandFeaturesSpec, "context"): context})
        assert "kind" in found.request_fields(catalog)
        return found

    service(None)
    service("kind")
    with pytest.raises(DeclarationError, match=r"named as join keys must be these; \['kind'\] have SQL"):
        service("upper(kind)")
