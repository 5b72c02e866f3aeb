"""The service against its own OpenAPI document: what it says is what is answered, whatever is asked."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_platform.kernel.settings import ServingSettings, Settings
from ml_platform.serving.keys import Keys
from ml_platform.serving.versions import Loaded
from tests.serving.served import Held, Running, running

KEY = "a-key-of-the-tests"
EXAMPLES = "10"
"""Of each operation, besides its documented ones and those at the edges of its schemas."""


@pytest.fixture(scope="module")
def service(looked_at: Settings, champion: Loaded) -> Iterator[Running]:
    keys = Keys(ServingSettings.model_validate({"keys": f"tests:{hashlib.sha256(KEY.encode()).hexdigest()}"}))
    with running(looked_at, Held({"fraud": champion}), keys=keys, max_batch=20) as found:
        found.client.headers["x-api-key"] = KEY
        yield found


def schemathesis(service: Running, folder: Path, *arguments: str) -> None:
    """Let schemathesis ask what the document says, with all its checks; it must not find anything."""
    command = [
        *(str(Path(sys.executable).with_name("st")), "run", f"http://127.0.0.1:{service.port}/openapi.json"),
        *("--header", f"X-API-Key: {KEY}", "--max-examples", EXAMPLES, "--continue-on-failure"),
        *("--phases", "examples,coverage,fuzzing", "--checks", "all", "--no-color", "--seed", "1"),
        *("--suppress-health-check", "all", *arguments),
    ]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stdout


def test_whatever_is_asked_nothing_fails_and_every_answer_is_as_documented(
    service: Running, tmp_path: Path
) -> None:
    schemathesis(service, tmp_path, "--exclude-path-regex", "infer$")


def test_the_same_of_infer_whose_schema_cannot_say_that_shapes_and_names_have_to_match(
    service: Running, tmp_path: Path
) -> None:
    schemathesis(
        service, tmp_path, "--include-path-regex", "infer$", "--exclude-checks", "positive_data_acceptance"
    )


def test_the_examples_of_the_document_are_answered(service: Running) -> None:
    document = service.client.get("/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "{version}" in path:
                continue
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            parameters = {
                given["name"]: given["example"] for given in operation["parameters"] if "example" in given
            }
            for example in content.get("examples", {"none": {"value": None}}).values():
                body: dict[str, Any] = {} if example["value"] is None else {"json": example["value"]}
                response = service.client.request(method, path, params=parameters, **body)
                assert response.status_code == 200, (method, path, response.text)
                asked += 1
    assert asked > 10


def test_every_route_is_documented_with_the_fields_of_the_model(service: Running, champion: Loaded) -> None:
    document = service.client.get("/openapi.json").json()
    instance = document["components"]["schemas"]["fraud_Instance"]
    required = [*champion.contract.keys, *champion.contract.request]
    assert (instance["required"], instance["additionalProperties"]) == (required, False)
    assert list(instance["properties"]) == [*required, champion.contract.event.name]
    routes = {
        *("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/models", "/v1/models/fraud:predict"),
        *("/v1/features/fraud_scoring", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index"),
        *(
            f"/v2/models/fraud{version}{rest}"
            for version in ("", "/versions/{version}")
            for rest in ("", "/ready", "/infer")
        ),
    }
    assert set(document["paths"]) == routes


def test_each_problem_that_can_come_is_documented_with_its_type(service: Running) -> None:
    document = service.client.get("/openapi.json").json()
    predict = document["paths"]["/v1/models/fraud:predict"]["post"]["responses"]
    assert set(predict) == {"200", "400", "401", "404", "408", "413", "415", "422", "503"}
    for response in document["components"]["responses"].values():
        (media,) = response["content"]
        assert media == "application/problem+json"
