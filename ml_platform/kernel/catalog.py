"""All declarations of a project by kind and name, and the lineage that follows from them."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.lineage import Lineage, Node
from ml_platform.kernel.spec import NamedSpec
from ml_platform.kernel.yaml_places import line_of

_ABOUT = re.compile(r"(?P<kind>\w+) '(?P<name>[^']*)': (?P<path>[a-z_]+(\.\w+)*)?")
"""How a message about a declaration begins: its kind and name, then perhaps the field."""

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
        nodes: dict[str, Node] = {}
        declared_by: dict[str, str] = {}
        for (kind, name), spec in self.specs.items():
            for node in self._nodes_of(spec):
                where = f"{_kind_name(kind)} {name!r} ({self.origins.get((kind, name), 'not from a file')})"
                if node.key in nodes:
                    raise DeclarationError(
                        f"{where}: an asset key of its own is required; {node.key!r} is also made by "
                        f"{declared_by[node.key]}; rename one of them"
                    )
                nodes[node.key], declared_by[node.key] = node, where
        return Lineage(nodes)

    def _nodes_of(self, spec: NamedSpec) -> tuple[Node, ...]:
        """The assets of a declaration; what is wrong with it among its neighbours is told with its file and line."""
        try:
            return spec.nodes(self) if isinstance(spec, DeclaresAssets) else ()
        except DeclarationError as err:
            about = _ABOUT.match(str(err))
            origin = self._origin_of(about["kind"], about["name"], spec) if about else self._origin(spec)
            if origin is None:
                raise
            fields = ("attributes", *about["path"].split(".")) if about and about["path"] else ()
            line = line_of(origin, fields)
            where = origin if line is None else f"{origin}:{line}"
            raise DeclarationError(f"{where}: {err}") from err

    def _origin(self, spec: NamedSpec) -> str | None:
        return self.origins.get((type(spec), spec.name))

    def _origin_of(self, kind: str, name: str, reader: NamedSpec) -> str | None:
        """The file of the declaration that a message is about, which may be one that the other reads."""
        found = (key for key in self.specs if (_kind_name(key[0]), key[1]) == (kind, name))
        return self.origins.get(next(found, (type(reader), reader.name)))

    def use_case(self, spec: NamedSpec) -> str | None:
        """The folder below `defs/` that a declaration lies in with others of its use case, if there is one.

        `defs/shop/features/x/defs.yaml` is of `shop`; `defs/features/x/defs.yaml` is of none.
        """
        origin = self._origin(spec)
        folders = origin.split("/")[:-1] if origin is not None else []
        below = folders[len(folders) - folders[::-1].index("defs") :] if "defs" in folders else []
        stage = type(spec).__module__.split(".")[-2]
        return below[0] if stage in below[1:] else None

    def beside(self, spec: NamedSpec) -> dict[str, Node]:
        """The assets by key that the declarations of one use case make: that of a declaration."""
        mine = self.use_case(spec)
        declared = (found for found in self.specs.values() if self.use_case(found) == mine)
        return {node.key: node for found in declared for node in self._nodes_of(found)}

    def node(self, key: str) -> Node:
        return self.lineage.node(key)


def _kind_name(kind: type[NamedSpec]) -> str:
    return kind.__name__.removesuffix("Spec")
