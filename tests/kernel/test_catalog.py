"""Declarations are found by kind and name, and a wrong name is answered with the near ones."""

import pytest

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.lineage import Node, Upstream
from ml_platform.kernel.spec import NamedSpec


class ViewSpec(NamedSpec):
    """A declaration that becomes an asset and reads another."""

    reads: str = ""

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        return (Node(f"views/{self.name}", upstream=(Upstream(self.reads),) if self.reads else ()),)


class EntitySpec(NamedSpec):
    """A declaration that others only refer to."""


def catalog(*specs: NamedSpec) -> Catalog:
    return Catalog({(type(spec), spec.name): spec for spec in specs})


def test_a_declaration_is_found_by_kind_and_name() -> None:
    view, entity = ViewSpec(name="customer"), EntitySpec(name="customer")
    found = catalog(view, entity, ViewSpec(name="atm"))
    assert found.get(ViewSpec, "customer", wanted_by="test") is view
    assert found.get(EntitySpec, "customer", wanted_by="test") is entity
    assert [spec.name for spec in found.all(ViewSpec)] == ["atm", "customer"]


def test_a_misspelt_name_is_answered_with_who_wanted_it_and_what_is_near() -> None:
    with pytest.raises(
        DeclarationError, match=r"models/fraud: View 'custmer' is required .* did you mean customer\?"
    ):
        catalog(ViewSpec(name="customer")).get(ViewSpec, "custmer", wanted_by="models/fraud")
    with pytest.raises(DeclarationError, match="declared are: customer"):
        catalog(ViewSpec(name="customer")).get(ViewSpec, "zzz", wanted_by="models/fraud")
    with pytest.raises(DeclarationError, match="declared are: none"):
        catalog().get(ViewSpec, "customer", wanted_by="models/fraud")


def test_the_lineage_is_that_of_the_declarations_that_become_assets() -> None:
    found = catalog(ViewSpec(name="a"), ViewSpec(name="b", reads="views/a"), EntitySpec(name="c"))
    assert set(found.lineage.nodes) == {"views/a", "views/b"}
    assert found.node("views/b").upstream == (Upstream("views/a"),)


def test_beside_a_declaration_are_the_assets_of_its_use_case() -> None:
    specs = [ViewSpec(name=name) for name in ("a", "b", "c", "d")]
    folders = ("shop/kernel", "shop/kernel", "other/kernel", "kernel")
    found = Catalog(
        {(ViewSpec, spec.name): spec for spec in specs},
        {
            (ViewSpec, spec.name): f"/p/defs/{folder}/{spec.name}/defs.yaml"
            for spec, folder in zip(specs, folders, strict=True)
        },
    )
    assert [set(found.beside(spec)) for spec in specs] == [
        {"views/a", "views/b"},
        {"views/a", "views/b"},
        {"views/c"},
        {"views/d"},
    ]


@pytest.mark.parametrize("name", ["", "Fraud", "1st", "a b", "a/b", "_x", "a-b", "größe", "x" * 64])
def test_a_name_that_cannot_be_key_table_and_feature_at_once_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        EntitySpec(name=name)


def test_the_digest_changes_with_the_declared_content_and_only_then() -> None:
    view = ViewSpec(name="a", reads="views/b")
    assert view.digest() == ViewSpec.model_validate({"reads": "views/b", "name": "a", "owners": []}).digest()
    assert view.digest() != ViewSpec(name="a", reads="views/c").digest()
