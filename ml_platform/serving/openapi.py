"""The OpenAPI document of the service, with the models that are served now: their fields, limits and examples."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from ml_platform.serving import documents, v2
from ml_platform.serving.examples import body_example, infer_example, keys_example, predictions_example
from ml_platform.serving.problems import MEDIA_TYPE, ProblemDocument
from ml_platform.serving.service import Ready
from ml_platform.serving.v2 import IndexRequest, InferRequest

_JSON = "application/json"
_REF = "#/components/schemas/{model}"
_ANSWERS = (
    documents.Predictions,
    documents.Features,
    documents.Models,
    documents.Health,
    documents.Ready,
    documents.Live,
    documents.AllReady,
    documents.ServerMetadata,
    documents.ModelMetadata,
    documents.ModelReady,
    documents.IndexEntry,
    documents.InferAnswer,
    ProblemDocument,
)
_PROBLEMS: Mapping[int, str] = {
    400: "The body is no JSON.",
    401: "No API key, an unknown one, or one that has expired.",
    404: "There is no such model, version or service.",
    408: "The request did not come in whole in time.",
    413: "The body is larger than is taken.",
    415: "The body is not of the content type that is taken.",
    422: "The request is not what the model takes; `errors` has the places.",
    503: "No version is ready, or a store did not answer in time; ask again.",
}
_HEALTH = (408, 503)
_READ = (401, *_HEALTH)
_WITH_BODY = (400, 401, 408, 413, 415, 422, 503)
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "The version that is served; another one is answered with 404.",
    "schema": {"type": "string"},
}
_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "Up to 128 visible ASCII characters; of anything else, or nothing, one is made.",
    "schema": {"type": "string"},
}


def document(ready: Sequence[Ready], release: str) -> bytes:
    """The document as JSON."""
    _, shapes = models_json_schema([(model, "serialization") for model in _ANSWERS], ref_template=_REF)
    schemas: dict[str, Any] = shapes["$defs"]
    paths = dict(_general())
    for found in ready:
        paths |= _of_model(found, schemas)
    told = {
        "openapi": "3.1.0",
        "info": {
            "title": "ml-platform serving",
            "version": release,
            "description": "Predictions and features by entity key, and the Open Inference Protocol v2.",
        },
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {f"Problem{status}": _problem(text) for status, text in _PROBLEMS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }
    return json.dumps(told).encode()


def _general() -> Iterator[tuple[str, dict[str, Any]]]:
    """The routes that are there whatever is served."""
    yield "/healthz", {"get": _operation("alive", "Whether it lives", _ref("Health"), _HEALTH, free=True)}
    yield "/readyz", {"get": _operation("ready", "Whether it is ready", _ref("Ready"), _HEALTH, free=True)}
    yield "/v1/models", {"get": _operation("models", "How each model is served", _ref("Models"), _READ)}
    text = {"type": "string"}
    yield "/metrics", {"get": _operation("metrics", "Metrics", text, _READ, media="text/plain")}
    yield "/openapi.json", {"get": _operation("openapi", "This document", {"type": "object"}, _READ)}
    yield "/v2", {"get": _operation("v2_server", "What it is", _ref("ServerMetadata"), _READ)}
    live = _operation("v2_live", "Whether it lives", _ref("Live"), _HEALTH, free=True)
    yield "/v2/health/live", {"get": live}
    ready = _operation("v2_ready", "Whether it is ready", _ref("AllReady"), _HEALTH, free=True)
    yield "/v2/health/ready", {"get": ready}
    entries = {"type": "array", "items": _ref("IndexEntry")}
    index = _operation("v2_index", "The models and how they are", entries, _WITH_BODY)
    index["requestBody"] = {"content": {_JSON: {"schema": TypeAdapter(IndexRequest).json_schema()}}}
    yield "/v2/repository/index", {"post": index}


def _of_model(ready: Ready, schemas: dict[str, Any]) -> dict[str, Any]:
    """The routes of one model, with its own fields."""
    name, service = ready.served.name, ready.served.contract.feature_service
    body = _body(ready.instances.bodies, f"{name}_", schemas)
    keys = _body(ready.instances.key_bodies, f"{name}_keys_", schemas)
    predictions, features = _ref("Predictions"), _ref("Features")
    predict = _operation(f"predict_{name}", f"Score and decide, by {name}", predictions, (*_WITH_BODY, 404))
    bodies = {"one": body_example(ready, many=False), "many": body_example(ready, many=True)}
    predict["requestBody"] = _request(body, bodies)
    predict["responses"]["200"]["content"][_JSON]["example"] = predictions_example(ready)
    by_query = _operation(f"features_{service}_row", "Features of one row", features, (*_READ, 404, 422))
    by_query["parameters"] = [_REQUEST_ID, *_query(ready)]
    by_body = _operation(f"features_{service}", "Features of many rows", features, (*_WITH_BODY, 404))
    by_body["requestBody"] = _request(keys, {"many": {"instances": [keys_example(ready)]}})
    return {
        f"/v1/models/{name}:predict": {"post": predict},
        f"/v1/features/{service}": {"get": by_query, "post": by_body},
        **_of_model_v2(ready, schemas),
    }


def _of_model_v2(ready: Ready, schemas: dict[str, Any]) -> dict[str, Any]:
    """The same in the Open Inference Protocol, of the version that is served and by its number."""
    name = ready.served.name
    shape = TypeAdapter(InferRequest).json_schema(ref_template=_REF)
    schemas |= shape.pop("$defs", {})
    schemas["InferRequest"] = shape
    metadata, asked, infer = (_ref(answer) for answer in ("ModelMetadata", "ModelReady", "InferAnswer"))
    paths: dict[str, Any] = {}
    for suffix, end, parameters in (("", "", []), ("/versions/{version}", "_version", [_VERSION])):
        of = f"{name}{end}"
        operations = {
            "": ("get", _operation(f"v2_metadata_{of}", "What it takes and gives", metadata, (*_READ, 404))),
            "/ready": ("get", _operation(f"v2_ready_{of}", "Whether it is ready", asked, (*_READ, 404))),
            "/infer": ("post", _operation(f"v2_infer_{of}", "Score and decide", infer, (*_WITH_BODY, 404))),
        }
        told = operations["/infer"][1]
        told["requestBody"] = _request(_ref("InferRequest"), {"one": infer_example(ready)})
        told["responses"]["200"]["content"][v2.BINARY] = {"schema": {"type": "string", "format": "binary"}}
        for rest, (method, operation) in operations.items():
            operation["parameters"] = [*parameters, _REQUEST_ID]
            paths[f"/v2/models/{name}{suffix}{rest}"] = {method: operation}
    return paths


def _body(bodies: TypeAdapter[Any], prefix: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body that has either `instances` or one `instance`."""
    shape = bodies.json_schema(ref_template="#/components/schemas/" + prefix + "{model}")
    schemas |= {f"{prefix}{name}": schema for name, schema in shape.pop("$defs").items()}
    return {
        "oneOf": [
            {
                "type": "object",
                "additionalProperties": False,
                "required": [name],
                "properties": {name: schema},
            }
            for name, schema in shape["properties"].items()
        ]
    }


def _query(ready: Ready) -> list[dict[str, Any]]:
    """The join keys as parameters of a query."""
    example = keys_example(ready)
    fields = ready.instances.key_fields.json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": True, "schema": schema, "example": example[name]}
        for name, schema in fields.items()
    ]


def _operation(
    identifier: str,
    summary: str,
    answer: Mapping[str, Any],
    problems: Sequence[int],
    *,
    free: bool = False,
    media: str = _JSON,
) -> dict[str, Any]:
    found = {"description": "The answer.", "content": {media: {"schema": answer}}}
    told: dict[str, Any] = {
        "operationId": identifier,
        "summary": summary,
        "parameters": [_REQUEST_ID],
        "responses": {"200": found, **_problems(problems)},
    }
    return told | ({"security": []} if free else {})


def _request(schema: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: {"value": value} for name, value in examples.items()}
    return {"required": True, "content": {_JSON: {"schema": schema, "examples": told}}}


def _problems(statuses: Sequence[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(statuses)}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {MEDIA_TYPE: {"schema": _ref("ProblemDocument")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=name)}
