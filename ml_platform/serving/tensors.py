"""Columns of requests and answers as tensors of the Open Inference Protocol, in JSON and in its binary form.

A value is taken where it is exactly what the field is: whole numbers as whole numbers of any width, or as floating
point where it is whole; texts as UTF-8. Nothing is rounded to fit.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_platform.features.aggregation import FieldType
from ml_platform.serving.problems import FieldProblem, Refused

_INTEGERS = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}
_FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_DTYPES = {**_INTEGERS, **_FLOATS, "BOOL": "?"}
_TAKEN: Mapping[FieldType, frozenset[str]] = {
    "int64": frozenset({*_INTEGERS, *_FLOATS}),
    "double": frozenset({*_INTEGERS, *_FLOATS}),
    "float": frozenset({*_INTEGERS, *_FLOATS}),
    "string": frozenset({"BYTES"}),
    "boolean": frozenset({"BOOL"}),
}
DATATYPES: Mapping[FieldType, str] = {
    "int64": "INT64",
    "double": "FP64",
    "float": "FP32",
    "string": "BYTES",
    "boolean": "BOOL",
}
"""What the metadata of a model asks for."""

_EXACT = 2**53


@dataclass(frozen=True)
class Tensor:
    """One input as it came: its values in JSON, or as bytes."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[Any] | None
    raw: bytes | None

    @property
    def path(self) -> str:
        return f"inputs.{self.name[:100]}"


def column(tensor: Tensor, kind: FieldType) -> list[Any]:
    """The values of an input for a field of some type, one for each row; Refused when they are not exactly that."""
    taken = _TAKEN[kind]
    if tensor.datatype not in taken:
        wanted = f"datatype {DATATYPES[kind]} or another of {', '.join(sorted(taken))}"
        raise wrong(f"{tensor.path}.datatype", f"{wanted} is required; got {tensor.datatype[:20]!r}")
    shape = list(tensor.shape)
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise wrong(f"{tensor.path}.shape", f"[n] or [n, 1] is required; got {shape[:5]}")
    values = _of_json(tensor) if tensor.raw is None else _of_bytes(tensor, tensor.raw)
    if len(values) != shape[0]:
        raise wrong(f"{tensor.path}.data", f"{shape[0]} values are required by the shape; got {len(values)}")
    return _exactly(values, kind, tensor)


def encoded(values: Sequence[Any], datatype: str) -> bytes:
    """Values in the binary form of a datatype."""
    if datatype != "BYTES":
        return np.array(values, dtype=_DTYPES[datatype]).tobytes()
    texts = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def wrong(path: str, message: str) -> Refused:
    """A refusal that points at one place of a request."""
    detail = f"the request is not what the model takes: {path}: {message}. Nothing was scored"
    return Refused(422, "invalid", detail, errors=[FieldProblem(path=path, message=message)])


def _of_json(tensor: Tensor) -> list[Any]:
    if tensor.data is None:
        raise wrong(
            tensor.path, "`data`, or `binary_data_size` with bytes after the JSON, is required; neither came"
        )
    flat = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in tensor.data]
    types = {"BYTES": (str,), "BOOL": (bool,)}.get(tensor.datatype)
    types = types or ((int,) if tensor.datatype in _INTEGERS else (int, float))
    for i, value in enumerate(flat):
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise wrong(
                f"{tensor.path}.data[{i}]", f"a value of {tensor.datatype} is required; something else came"
            )
    return flat


def _of_bytes(tensor: Tensor, raw: bytes) -> list[Any]:
    if tensor.datatype == "BYTES":
        return _texts(tensor, raw)
    dtype = np.dtype(_DTYPES[tensor.datatype])
    if len(raw) % dtype.itemsize:
        raise wrong(tensor.path, f"a multiple of {dtype.itemsize} bytes is required; got {len(raw)}")
    return np.frombuffer(raw, dtype).tolist()


def _texts(tensor: Tensor, raw: bytes) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            raise wrong(
                tensor.path,
                "texts with their length in 4 bytes before each are required; the last is cut off",
            )
        try:
            texts.append(raw[at + 4 : end].decode())
        except UnicodeDecodeError:
            raise wrong(f"{tensor.path}[{len(texts)}]", "a text in UTF-8 is required; it is none") from None
        at = end
    return texts


def _exactly(values: list[Any], kind: FieldType, tensor: Tensor) -> list[Any]:
    """Whole numbers as int and others as float, where nothing is lost; what is not finite is for others to refuse."""
    if kind == "int64" and tensor.datatype in _FLOATS:
        for i, value in enumerate(values):
            if not (abs(value) <= _EXACT and value == int(value)):
                raise wrong(f"{tensor.path}[{i}]", "a whole number is required, below 2^53 as floating point")
        return [int(value) for value in values]
    if kind in ("double", "float"):
        for i, value in enumerate(values):
            if isinstance(value, int) and abs(value) > _EXACT:
                raise wrong(f"{tensor.path}[{i}]", "a number that floating point has exactly is required")
        return [float(value) for value in values]
    return values
