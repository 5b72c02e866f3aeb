"""Values that a new declaration begins with: what fits the declarations that are there, or an example."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.spec import COLUMN_OF, ENTITY_OF, REFERS_TO, SHOWN, NamedSpec, marks_of

_TIMES = frozenset({"event_timestamp", "created_timestamp"})


@dataclass(frozen=True)
class Value:
    """A value of a field, and what is to be said of it."""

    value: Any
    note: str = ""


@dataclass(frozen=True)
class Fitting:
    """Finds values for the fields of a new declaration of a use case, one after the other."""

    kind: type[NamedSpec]
    catalog: Catalog
    use_case: str
    given: Mapping[str, Any]

    def values(self, name: str) -> dict[str, Value]:
        """A value for each field that has to be said, or is better said, by its name in YAML."""
        fields = {info.alias or field: info for field, info in self.kind.model_fields.items()}
        found = {"name": Value(name), **{key: Value(value) for key, value in self.given.items()}}
        wanted = [key for key, info in fields.items() if info.is_required() or SHOWN in marks_of(info)]
        for key in sorted(wanted, key=lambda key: REFERS_TO not in marks_of(fields[key])):
            if key not in found:
                found[key] = self._value(key, fields[key], found)
        return {key: found[key] for key in fields if key in found}

    def _value(self, key: str, info: FieldInfo, known: Mapping[str, Value]) -> Value:
        marks = marks_of(info)
        if REFERS_TO in marks:
            return self._declared(info, known)
        source = self._source(marks, known)
        if COLUMN_OF in marks and source is not None and SHOWN not in marks:
            return Value(_last_column(source))
        if ENTITY_OF in marks and source is not None and (key_column := _entity_column(source)):
            return Value(key_column.removesuffix("_id"))
        if not info.examples:
            raise DeclarationError(
                f"{self.kind.__name__}.{key}: an example is required of a field that has no default"
            )
        return Value(_in(info.examples[0], source), "an example: replace it")

    def _declared(self, info: FieldInfo, known: Mapping[str, Value]) -> Value:
        """What of the wanted kind is declared: rather of the same use case, and of the same sources."""
        marks, several = marks_of(info), is_several(info)
        kind = str(marks[REFERS_TO])
        wanted = [spec for spec in self.catalog.specs.values() if type(spec).__name__ == f"{kind}Spec"]
        if not wanted:
            name = (info.examples or [kind.lower()])[0]
            return Value([name] if several else name, f"replace it: no {kind} is declared yet")
        ranked = sorted(wanted, key=lambda spec: (self._distance(spec, marks, known), spec.name))
        first, *others = [spec.name for spec in ranked]
        return Value([first] if several else first, f"or: {', '.join(others)}" if others else "")

    def _distance(
        self, spec: NamedSpec, marks: Mapping[str, Any], known: Mapping[str, Value]
    ) -> tuple[bool, ...]:
        """How little a declaration fits: compared from the first to the last."""
        matures = getattr(spec, "maturity", None)
        differs = any(
            getattr(spec, key, value.value) != value.value for key, value in known.items() if key != "name"
        )
        return (
            self.catalog.use_case(spec) != self.use_case,
            matures is not None and bool(matures.seconds) != bool(marks.get("labels")),
            spec.name != known["name"].value,
            differs,
        )

    def _source(self, marks: Mapping[str, Any], known: Mapping[str, Value]) -> Any:
        """The declared source that another field of the declaration names, if there is one."""
        field = marks.get(COLUMN_OF) or marks.get(ENTITY_OF)
        named = known[str(field)].value if field in known else None
        found = [spec for spec in self.catalog.specs.values() if type(spec).__name__ == "SourceSpec"]
        return next((spec for spec in found if spec.name == named), None)


def is_several(info: FieldInfo) -> bool:
    """Whether a field has a list of values."""
    parts = get_args(info.annotation) if get_origin(info.annotation) in (Union, types.UnionType) else ()
    return any(get_origin(part) is tuple for part in (info.annotation, *parts))


def _in(example: Any, source: Any) -> Any:
    """An example about the rows of a source: `event_id` stands for the column that tells its events apart."""
    if isinstance(example, list):
        return [_in(part, source) for part in example]
    if isinstance(example, dict) and example.get("column") == "event_id" and source is not None:
        return {**example, "column": source.event_id}
    return example


def _last_column(source: Any) -> str:
    """The column of a source that comes last, which is what a label source is about."""
    others = [name for name in source.columns if name not in _TIMES | {source.event_id}]
    return others[-1] if others else source.event_id


def _entity_column(source: Any) -> str | None:
    """The first column of a source that looks like the key of an entity."""
    return next((name for name in source.columns if name.endswith("_id") and name != source.event_id), None)
