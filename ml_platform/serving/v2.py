"""The Open Inference Protocol, version 2, with binary tensors: what KServe, Triton and their clients speak.

A model takes one tensor for every join key and request value, with a row for each instance, and answers `score`,
`decision` and `detail`: the JSON of what a prediction says besides.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, FailFast, Field, TypeAdapter, with_config
from pydantic_core import to_json
from typing_extensions import TypedDict

from ml_platform.serving.answers import decision, instant
from ml_platform.serving.exchange import Exchange
from ml_platform.serving.instances import told, told_once
from ml_platform.serving.problems import Refused
from ml_platform.serving.service import Ready, Steps
from ml_platform.serving.slots import Status
from ml_platform.serving.tensors import DATATYPES, Tensor, column, encoded, wrong

BINARY = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"
OUTPUTS: Mapping[str, str] = {"score": "FP64", "decision": "BYTES", "detail": "BYTES"}
"""What a model may answer; a model of numbers decides nothing."""
_CLOSED = ConfigDict(strict=True, extra="forbid")
_UNSUPPORTED = ("shared_memory_region", "classification")
_MOST_TENSORS = 1000
_LARGEST_SHAPE = Annotated[int, Field(ge=0, le=2**31)]
Parameters = dict[str, Any]


@with_config(_CLOSED)
class Input(TypedDict):
    """One input tensor."""

    name: str
    shape: list[_LARGEST_SHAPE]
    datatype: str
    parameters: NotRequired[Parameters]
    data: NotRequired[list[Any]]


@with_config(_CLOSED)
class RequestedOutput(TypedDict):
    """One output that is asked for."""

    name: str
    parameters: NotRequired[Parameters]


@with_config(_CLOSED)
class InferRequest(TypedDict):
    """What `/infer` takes."""

    id: NotRequired[str]
    parameters: NotRequired[Parameters]
    inputs: Annotated[list[Input], FailFast(), Field(max_length=_MOST_TENSORS)]
    outputs: NotRequired[Annotated[list[RequestedOutput], FailFast(), Field(max_length=_MOST_TENSORS)]]


@with_config(_CLOSED)
class IndexRequest(TypedDict):
    """What `/v2/repository/index` takes."""

    ready: NotRequired[bool]


_REQUEST = TypeAdapter(InferRequest)
_INDEX = TypeAdapter(IndexRequest)


def infer(ready: Ready, exchange: Exchange, header_length: int | None) -> Steps[tuple[bytes, int | None]]:
    """Answer a request: the body, and the length of its JSON where tensors follow it."""
    with exchange.stage("validate"):
        length = len(exchange.body) if header_length is None else header_length
        request: InferRequest = told_once(_REQUEST.validate_json, exchange.body[:length])
        wanted = _wanted(request, outputs_of(ready))
        rows = _rows(ready, request, exchange.body[length:])
    answer, ids = yield rows
    rejected = [i for i, outcome in enumerate(answer.outcomes) if outcome == "rejected"]
    if rejected:
        raise _rejected(ready, rejected)
    with exchange.stage("answer"):
        predictions = ready.telling.predictions(answer, rows, ids, at=exchange.at)
        values = {
            "score": list(answer.scores),
            "decision": [decision(alert) for alert in answer.alerts],
            "detail": [to_json(found, inf_nan_mode="null").decode() for found in predictions],
        }
        head = {
            "model_name": ready.served.name,
            "model_version": str(ready.served.version),
            "id": request.get("id") or exchange.request_id,
            "parameters": {
                "as_of": instant(exchange.at),
                "run_id": ready.served.run_id,
                "trace_id": exchange.trace_id,
            },
        }
        return _told(head, values, wanted)


def metadata(ready: Ready) -> dict[str, Any]:
    """What a model takes and answers, for clients that ask."""
    fields = dict(ready.instances.required)
    if ready.instances.event is not None:
        fields |= [ready.instances.event]
    return {
        "name": ready.served.name,
        "versions": [str(ready.served.version)],
        "platform": "ml_platform_onnx",
        "inputs": [
            {"name": name, "datatype": DATATYPES[kind], "shape": [-1]} for name, kind in fields.items()
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1]}
            for name, datatype in outputs_of(ready).items()
        ],
    }


def outputs_of(ready: Ready) -> dict[str, str]:
    """What the model answers: datatype by output."""
    decides = ready.served.contract.threshold is not None
    return {name: datatype for name, datatype in OUTPUTS.items() if decides or name != "decision"}


def _wanted(request: InferRequest, outputs: Mapping[str, str]) -> dict[str, bool]:
    """Which outputs are asked for, and whether as bytes."""
    by_default = request.get("parameters", {}).get("binary_data_output", False) is True
    asked = request.get("outputs") or [RequestedOutput(name=name) for name in outputs]
    wanted: dict[str, bool] = {}
    for i, output in enumerate(asked):
        name, parameters = output["name"], output.get("parameters", {})
        if name not in outputs or name in wanted:
            known = ", ".join(outputs)
            raise wrong(f"outputs[{i}].name", f"one of {known}, each once, is required; got {name[:100]!r}")
        _require_supported(f"outputs[{i}]", parameters)
        wanted[name] = parameters.get("binary_data", by_default) is True
    return wanted


def _rows(ready: Ready, request: InferRequest, tail: bytes) -> list[dict[str, Any]]:
    fields = ready.instances.required
    optional = dict([ready.instances.event]) if ready.instances.event else {}
    columns: dict[str, list[Any]] = {}
    for i, given in enumerate(request["inputs"]):
        name = given["name"]
        kind = fields.get(name) or optional.get(name)
        if kind is None or name in columns:
            known = ", ".join([*fields, *optional])
            raise wrong(f"inputs[{i}].name", f"one of {known}, each once, is required; got {name[:100]!r}")
        _require_supported(f"inputs[{i}]", given.get("parameters", {}))
        tensor, tail = _tensor(given, tail)
        columns[name] = column(tensor, kind)
    if tail:
        raise wrong(
            "(the bytes after the JSON)",
            f"no more than the inputs declare are required; {len(tail)} came too",
        )
    missing = [name for name in fields if name not in columns]
    if missing:
        raise wrong("inputs", f"one for {' and one for '.join(missing)} is required as well")
    if len({len(values) for values in columns.values()}) > 1:
        raise wrong("inputs", "as many rows in each input as in the others are required")
    if len(next(iter(columns.values()))) > ready.instances.max_batch:
        raise wrong("inputs", f"at most {ready.instances.max_batch} rows are required")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return ready.instances.check(rows)


def _tensor(given: Input, tail: bytes) -> tuple[Tensor, bytes]:
    """An input, and what is left of the bytes after it."""
    size = given.get("parameters", {}).get("binary_data_size")
    path = f"inputs.{given['name']}"
    if size is None:
        return Tensor(given["name"], given["datatype"], given["shape"], given.get("data"), None), tail
    if not isinstance(size, int) or not 0 <= size <= len(tail) or "data" in given:
        raise wrong(
            path, f"`binary_data_size` without `data`, of at most the {len(tail)} bytes left, is required"
        )
    return Tensor(given["name"], given["datatype"], given["shape"], None, tail[:size]), tail[size:]


def _require_supported(path: str, parameters: Parameters) -> None:
    for name in _UNSUPPORTED:
        if parameters.get(name):
            raise wrong(f"{path}.parameters.{name}", "is an extension that this service does not have")


def _rejected(ready: Ready, rows: Sequence[int]) -> Refused:
    shown = ", ".join(map(str, rows[:20])) + (" …" if len(rows) > 20 else "")
    detail = (
        f"features that are there and younger than their ttl are required by {ready.served.name}'s policy `reject`; "
        f"those of row {shown} are not. Nothing is answered; ask /v1/models/{ready.served.name}:predict for each row's"
    )
    return Refused(422, "rejected_rows", detail)


def _told(
    head: dict[str, Any], values: Mapping[str, Sequence[Any]], wanted: Mapping[str, bool]
) -> tuple[bytes, int | None]:
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in wanted.items():
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(values[name])]}
        if binary:
            tail.append(encoded(values[name], OUTPUTS[name]))
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = values[name]
        outputs.append(output)
    document = to_json(head | {"outputs": outputs})
    return (document + b"".join(tail), len(document)) if tail else (document, None)


def index(statuses: Sequence[Status], body: bytes) -> list[dict[str, Any]]:
    """The models of this service and how they are, all or those that are ready."""
    only_ready = bool(body) and told(_INDEX.validate_json, body).get("ready", False)
    found = [
        {
            "name": status.model,
            "version": "" if status.version is None else str(status.version),
            "state": "UNAVAILABLE" if status.version is None else "READY",
            "reason": "; ".join(status.problems) if status.version is None else "",
        }
        for status in statuses
    ]
    return [entry for entry in found if entry["state"] == "READY" or not only_ready]
