"""A new declaration with every field that it can have, written from the spec itself, so that it never goes out of date.

A line `#name: value` is an optional field with what holds without it; `# …` are words.
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from ml_platform.kernel.durations import Duration
from ml_platform.kernel.spec import NamedSpec, Spec
from ml_platform.scaffolding.fitting import Value

_WIDTH = 100
_OF_ALL = frozenset(NamedSpec.model_fields)
_HOW_TO_READ = "Optional fields stand after # with what holds without them: take the # away to say otherwise."


def declaration_text(component: str, kind: type[NamedSpec], values: Mapping[str, Value]) -> str:
    """The YAML of a declaration: what is said of it, and the other fields as comments."""
    said = {info.alias or name: info for name, info in kind.model_fields.items()}
    unsaid = [key for key in said if key not in values]
    unsaid.sort(key=lambda key: key in _OF_ALL)  # what is said of this kind alone comes first
    lines = [*_words(_first_paragraph(kind)), *_words(_HOW_TO_READ), f"type: {component}", "attributes:"]
    for key in [*values, *unsaid]:
        info, given = said[key], values.get(key)
        lines += [f"  {line}" for line in _words(_description(info))]
        lines += [f"  {line}" for line in (_parts(info) if given is not None else ())]
        lines += [f"  {line}" for line in (_entry(key, given) if given is not None else _default(key, info))]
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Value) -> list[str]:
    note = f" # {value.note}" if value.note else ""
    if isinstance(value.value, Mapping):
        return [f"{key}:{note}", *(f"  {part}: {_flow(found)}" for part, found in value.value.items())]
    if isinstance(value.value, list) and any(isinstance(part, Mapping) for part in value.value):
        return [f"{key}:{note}", *(f"  - {_flow(part)}" for part in value.value)]
    return [f"{key}: {_flow(value.value)}{note}"]


def _default(key: str, info: FieldInfo) -> list[str]:
    """An optional field that is not said, with what holds without it."""
    default = info.get_default(call_default_factory=True)
    plain = str(default) if isinstance(default, Duration) else to_jsonable_python(default)
    return [f"#{key}: {_flow(plain)}"]


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").rstrip("\n")


def _description(info: FieldInfo) -> str:
    choices = _choices(info.annotation)
    said = info.description or ""
    return said if not choices or choices[0] in said else f"{said} One of: {', '.join(choices)}."


def _choices(annotation: Any) -> list[str]:
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def _parts(info: FieldInfo) -> Iterator[str]:
    """The fields of what a field consists of."""
    for part in _specs_in(info.annotation):
        for name, found in part.model_fields.items():
            yield from _words(f"{found.alias or name}: {_description(found)}", indent="  ")


def _specs_in(annotation: Any) -> list[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [found for part in get_args(annotation) for found in _specs_in(part)]


def _words(text: str, *, indent: str = "") -> list[str]:
    return [
        f"# {line}"
        for line in textwrap.wrap(
            text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  " if indent else ""
        )
    ]


def _first_paragraph(kind: type[Spec]) -> str:
    return " ".join((kind.__doc__ or "").strip().partition("\n\n")[0].split())
