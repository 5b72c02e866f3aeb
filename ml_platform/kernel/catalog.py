"""All declarations of a project by kind and name, and the lineage that follows from them."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.lineage import Lineage, Node
from ml_platform.kernel.spec import NamedSpec

S = TypeVar("S", bound=NamedSpec)
SpecKey = tuple[type[NamedSpec], str]


@runtime_checkable
class DeclaresAssets(Protocol):
    """A spec that becomes assets: it knows what they read, and can be checked against its neighbours."""

    def nodes(self, catalog: "Catalog") -> tuple[Node, ...]: ...


@dataclass(frozen=True)
class Catalog:
    """Every declared spec, with the file that it came from."""

    specs: Mapping[SpecKey, NamedSpec] = field(default_factory=dict[SpecKey, NamedSpec])
    origins: Mapping[SpecKey, str] = field(default_factory=dict[SpecKey, str])

    def get(self, kind: type[S], name: str, *, wanted_by: str) -> S:
        """The declaration of one kind and name; DeclarationError with near names when there is none."""
        spec = self.specs.get((kind, name))
        if isinstance(spec, kind):
            return spec
        known = sorted(found for declared, found in self.specs if declared is kind)
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"declared are: {', '.join(known) or 'none'}"
        raise DeclarationError(
            f"{wanted_by}: {_kind_name(kind)} {name!r} is required and is not declared; {hint}"
        )

    def all(self, kind: type[S]) -> list[S]:
        """Every declaration of one kind, by name."""
        found = [spec for (declared, _), spec in self.specs.items() if declared is kind]
        return sorted((spec for spec in found if isinstance(spec, kind)), key=lambda spec: spec.name)

    def declaring(self, key: str) -> NamedSpec:
        """The declaration that an asset comes from; DeclarationError when there is none."""
        for spec in self.specs.values():
            if isinstance(spec, DeclaresAssets) and key in {node.key for node in spec.nodes(self)}:
                return spec
        raise DeclarationError(
            f"a declared asset is required: {', '.join(sorted(self.lineage.nodes))}; got {key!r}"
        )

    @cached_property
    def lineage(self) -> Lineage:
        """The graph that all declarations make together."""
        nodes = [
            node
            for spec in self.specs.values()
            if isinstance(spec, DeclaresAssets)
            for node in spec.nodes(self)
        ]
        return Lineage({node.key: node for node in nodes})

    def node(self, key: str) -> Node:
        return self.lineage.node(key)


def _kind_name(kind: type[NamedSpec]) -> str:
    return kind.__name__.removesuffix("Spec")
