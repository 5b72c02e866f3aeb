"""How two JSON-like values differ, in lines that a reviewer reads."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeGuard

How = Literal["added", "changed", "removed"]

_LONGEST = 100
_NOT_THERE = object()


def changed_names(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[tuple[How, str]]:
    """Names that are in one of both only, or have another value, in a stable order."""
    for name in sorted({*old, *new}):
        if name not in new:
            yield "removed", name
        elif name not in old:
            yield "added", name
        elif old[name] != new[name]:
            yield "changed", name


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Every difference with its path: `ttl: 3d → 2d`, `aggregations: + {…}`."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            below = f"{path}.{name}" if path else str(name)
            yield from differences(old.get(name, _NOT_THERE), new.get(name, _NOT_THERE), below)
    elif _are_records(old) and _are_records(new):
        yield from _differences_of_records(old, new, path)
    else:
        yield f"{path}: {shortened(old)} → {shortened(new)}"


def shortened(value: Any) -> str:
    """A value on one line, without what is not declared."""
    if value is _NOT_THERE:
        return "not there"
    if isinstance(value, str):
        text = " ".join(value.split())
    else:
        text = json.dumps(_without_nulls(value), ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _differences_of_records(old: list[Any], new: list[Any], path: str) -> Iterator[str]:
    """Of lists of records: item by item where there are as many, and otherwise what is gone and what has come."""
    if len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, f"{path}.{i}")
        return
    gone, come = [item for item in old if item not in new], [item for item in new if item not in old]
    yield from (f"{path}: − {shortened(item)}" for item in gone)
    yield from (f"{path}: + {shortened(item)}" for item in come)
    if not gone and not come:
        yield f"{path}: {len(old)} → {len(new)} items"


def _are_records(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
