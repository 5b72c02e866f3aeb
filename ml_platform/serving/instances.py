"""What can be asked of a version: rows with its keys and request values, checked against its contract.

The check is strict and is done on the bytes of the request: no text becomes a number, nothing is rounded, nothing
unknown is overlooked, and nothing that is not a finite number is one.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NotRequired

from pydantic import BeforeValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ml_platform.features.aggregation import FieldType
from ml_platform.models.contract import Contract
from ml_platform.serving.problems import FieldProblem, Refused

_SHOWN = 20
_TOLD_OF = 1000
"""Errors over which none is told: to put so many into words would hold up everybody else."""
_LONGEST_TEXT = 1024
_LARGEST_FLOAT32 = 3.4028234663852886e38
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_STRICT = ConfigDict(strict=True, extra="forbid")

Row = dict[str, Any]


def _whole(value: Any) -> Any:
    """A whole number that came as `2.0`, which JSON Schema takes for one; not what may have been rounded."""
    return int(value) if type(value) is float and abs(value) <= 2**53 and value.is_integer() else value


_TYPES: Mapping[str, Any] = {
    "int64": Annotated[int, Field(ge=-(2**63), le=2**63 - 1), BeforeValidator(_whole)],
    "double": Annotated[float, Field(allow_inf_nan=False)],
    "float": Annotated[float, Field(ge=-_LARGEST_FLOAT32, le=_LARGEST_FLOAT32, allow_inf_nan=False)],
    "string": Annotated[str, Field(max_length=_LONGEST_TEXT)],
    "boolean": bool,
}


class Instances:
    """Reads the rows that requests ask one version about.

    `parse` takes a JSON body with `instances` or one `instance`; `keys` takes bodies with nothing but join keys;
    `keys_of_query` takes one row of keys as texts; `check` takes rows that were read from something else. All raise
    Refused, with the path of everything that is wrong.
    """

    def __init__(self, contract: Contract, *, max_batch: int) -> None:
        self.max_batch = max_batch
        self.required: dict[str, FieldType] = {**contract.keys, **contract.request}
        self.event: tuple[str, FieldType] | None = None
        fields = {name: _TYPES[_narrowed(name, kind, contract)] for name, kind in self.required.items()}
        if contract.event.name not in fields:
            self.event = (contract.event.name, contract.event.type)
            fields[contract.event.name] = NotRequired[_TYPES[contract.event.type]]
        row = _closed("Instance", fields)
        keys = _closed("Keys", {name: _TYPES[kind] for name, kind in contract.keys.items()})
        self.bodies = TypeAdapter(_body(row, max_batch))
        self.key_bodies = TypeAdapter(_body(keys, max_batch))
        self._rows = TypeAdapter(_many(row, max_batch))
        self.key_fields = TypeAdapter(keys)

    def parse(self, body: bytes) -> list[Row]:
        return _one_or_many(told_once(self.bodies.validate_json, body))

    def keys(self, body: bytes) -> list[Row]:
        return _one_or_many(told_once(self.key_bodies.validate_json, body))

    def keys_of_query(self, query: Mapping[str, str]) -> list[Row]:
        row = {name: _of_text(text, self.required.get(name)) for name, text in query.items()}
        return [told(self.key_fields.validate_python, row)]

    def check(self, rows: Sequence[Row]) -> list[Row]:
        return told(self._rows.validate_python, rows, path=_tensor_path)


def _narrowed(name: str, kind: FieldType, contract: Contract) -> FieldType:
    """The range of a request value: what the model gets as float32 as it is has to be one."""
    return "float" if kind == "double" and name in contract.features else kind


def _closed(name: str, fields: Mapping[str, Any]) -> Any:
    return with_config(_STRICT)(TypedDict(name, dict(fields)))  # pyright: ignore[reportArgumentType, reportCallIssue]


def _many(row: Any, max_batch: int) -> Any:
    return Annotated[list[row], FailFast(), Field(min_length=1, max_length=max_batch)]


def _body(row: Any, max_batch: int) -> Any:
    return _closed("Body", {"instances": NotRequired[_many(row, max_batch)], "instance": NotRequired[row]})


def _of_text(text: str, kind: FieldType | None) -> int | str:
    """A key of a query; what is no whole number as it is usually written stays a text, and is refused as one."""
    return int(text) if kind == "int64" and _WHOLE.fullmatch(text) else text


def _one_or_many(body: Mapping[str, Any]) -> list[Row]:
    if len(body) != 1:
        came = "both came" if body else "neither came"
        raise Refused(
            422, "invalid", f"either `instances` or one `instance` is required; {came}. Nothing was scored"
        )
    return body["instances"] if "instances" in body else [body["instance"]]


def told(
    check: Callable[[Any], Any], given: Any, *, path: Callable[[Sequence[int | str]], str] | None = None
) -> Any:
    """What a check makes of what came; Refused with the path of all that is wrong."""
    try:
        return check(given)
    except ValidationError as err:
        if err.error_count() > _TOLD_OF:
            detail = (
                f"the request is not what the model takes, in more than {_TOLD_OF} places. Nothing was scored"
            )
            raise Refused(422, "invalid", detail) from None
        found = err.errors(include_url=False, include_context=True, include_input=True)
        if found[0]["type"] == "json_invalid":
            raise Refused(
                400, "not_json", f"a JSON document is required: {found[0]['msg']}. Nothing was scored"
            ) from None
        errors = [FieldProblem(path=(path or _path)(e["loc"]), message=_message(e)) for e in found[:_SHOWN]]
        more = f" The first {_SHOWN} are told." if len(found) > _SHOWN else ""
        raise Refused(
            422,
            "invalid",
            f"the request is not what the model takes: {errors[0].path}: {errors[0].message}"
            f"{f', and {len(found) - 1} more' if len(found) > 1 else ''}. Nothing was scored.{more}",
            errors=errors,
        ) from None


def told_once(check: Callable[[Any], Any], body: bytes) -> Any:
    """What a check makes of a JSON document; Refused also for a name that one object has twice."""
    found = told(check, body)
    _ONCE_EACH.decode(body.decode())
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        error = FieldProblem(path=twice[:100], message="once in an object is required; it came twice")
        detail = f"{error.path}: {error.message}, and which is meant is not for the service to say"
        raise Refused(422, "invalid", f"{detail}. Nothing was scored", errors=[error])
    return found


_ONCE_EACH = json.JSONDecoder(object_pairs_hook=_once_each)


def _path(location: Sequence[int | str]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part[:100]}" if path else part[:100]
    return path or "(the whole)"


def _tensor_path(location: Sequence[int | str]) -> str:
    """Where a value of a row came from, when rows came as columns."""
    match location:
        case (int(row), str(name)):
            return f"inputs.{name}[{row}]"
        case _:
            return "inputs"


def _message(error: Any) -> str:
    """What was required and the kind of what came; never the value, which logs of others may keep."""
    if error["type"] in ("missing", "extra_forbidden"):
        return {"missing": "is required", "extra_forbidden": "is not a field of this model"}[error["type"]]
    return f"{error['msg']}; got {_KINDS.get(type(error['input']), 'something else')}"


_KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
