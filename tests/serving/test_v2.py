"""The Open Inference Protocol, by a client that is not ours and by hand."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from ml_platform.kernel.settings import Settings
from ml_platform.models.contract import ViewContract
from ml_platform.serving.documents import InferAnswer, ModelMetadata
from ml_platform.serving.problems import ProblemDocument
from ml_platform.serving.versions import Loaded
from tests.serving.served import NOBODY, OTHER, ROW, Held, Running, like, running

INFER = "/v2/models/fraud/infer"
TYPES = {"customer_id": "INT64", "terminal_id": "INT64", "amount": "FP64", "transaction_time": "INT64"}
NUMPY = {"INT64": np.int64, "INT32": np.int32, "FP64": np.float64, "FP32": np.float32}


@pytest.fixture(scope="module")
def service(looked_at: Settings, champion: Loaded) -> Iterator[Running]:
    with running(looked_at, Held({"fraud": champion})) as found:
        yield found


@pytest.fixture
def client(service: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}") as found:
        yield found


def inputs(
    *rows: dict[str, Any], binary: bool = True, column: bool = False, types: dict[str, str] = TYPES
) -> list[triton.InferInput]:
    """Rows as the tensors of Triton's client."""
    shape = [len(rows), 1] if column else [len(rows)]
    found: list[triton.InferInput] = []
    for name, datatype in types.items():
        tensor = triton.InferInput(name, shape, datatype)
        values = np.array([row[name] for row in rows], NUMPY[datatype]).reshape(shape)
        tensor.set_data_from_numpy(values, binary_data=binary)
        found.append(tensor)
    return found


def asked(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Rows as a JSON request."""
    tensors = [
        {"name": name, "datatype": datatype, "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name, datatype in TYPES.items()
    ]
    return {"inputs": tensors, **more}


def refused(response: Any, status: int, *words: str) -> ProblemDocument:
    assert response.status_code == status, response.text
    found = ProblemDocument.model_validate_json(response.content)
    assert all(word in found.detail for word in words), found.detail
    return found


def test_triton_s_client_sees_the_server_and_the_model_live_and_ready(
    client: triton.InferenceServerClient,
) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("fraud") and client.is_model_ready("fraud", "1")
    assert not client.is_model_ready("other") and not client.is_model_ready("fraud", "2")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]


def test_triton_s_client_lists_the_models_and_what_they_take(client: triton.InferenceServerClient) -> None:
    (entry,) = client.get_model_repository_index()
    assert (entry["name"], entry["version"], entry["state"]) == ("fraud", "1", "READY")
    found = ModelMetadata.model_validate(client.get_model_metadata("fraud", "1"))
    assert {tensor.name: tensor.datatype for tensor in found.inputs} == {**TYPES, "transaction_id": "INT64"}
    assert {tensor.name: tensor.datatype for tensor in found.outputs} == {
        "score": "FP64",
        "decision": "BYTES",
        "detail": "BYTES",
    }


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("column", [True, False])
def test_triton_s_client_infers_what_the_platform_s_own_route_answers(
    service: Running, client: triton.InferenceServerClient, binary: bool, column: bool
) -> None:
    rows = [ROW, OTHER, NOBODY]
    own = service.predict(*rows).json()["predictions"]
    answer = client.infer("fraud", inputs(*rows, binary=binary, column=column), request_id="r1")
    assert answer.as_numpy("score").tolist() == [row["score"] for row in own]
    assert [text.decode() for text in answer.as_numpy("decision")] == [row["decision"] for row in own]
    details = [json.loads(text) for text in answer.as_numpy("detail")]
    for detail, row in zip(details, own, strict=True):
        assert {**detail, "prediction_id": ""} == {**row, "prediction_id": ""}
    said = answer.get_response()
    assert (said["id"], said["model_version"]) == ("r1", "1")


@pytest.mark.parametrize("binary", [True, False])
def test_triton_s_client_gets_the_outputs_that_it_asks_for_in_the_form_that_it_asks_for(
    client: triton.InferenceServerClient, binary: bool
) -> None:
    wanted = [triton.InferRequestedOutput("score", binary_data=binary)]
    answer = client.infer("fraud", inputs(ROW), model_version="1", outputs=wanted)
    assert answer.as_numpy("decision") is None and answer.as_numpy("score").shape == (1,)
    assert ("data" in answer.get_output("score")) == (not binary)


@pytest.mark.parametrize(
    "types",
    [
        {
            **TYPES,
            "customer_id": "INT32",
            "terminal_id": "FP64",
            "transaction_time": "FP64",
            "amount": "FP32",
        },
        {**TYPES, "amount": "INT32", "customer_id": "FP32"},
    ],
)
def test_other_datatypes_are_taken_where_they_hold_exactly_the_value(
    service: Running, client: triton.InferenceServerClient, types: dict[str, str]
) -> None:
    expected = service.predict(ROW).json()["predictions"][0]["score"]
    for binary in (True, False):
        assert client.infer("fraud", inputs(ROW, binary=binary, types=types)).as_numpy("score").tolist() == [
            expected
        ]


def test_triton_s_client_is_told_what_is_wrong(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"404.*a model that is served is required \(fraud\)"):
        client.infer("other", inputs(ROW))
    with pytest.raises(InferenceServerException, match=r"422.*one for customer_id is required"):
        client.infer("fraud", inputs(ROW)[1:])
    with pytest.raises(InferenceServerException, match=r"404.*version"):
        client.get_model_metadata("fraud", "9")


def test_the_event_s_id_is_an_input_that_may_be_left_out(service: Running) -> None:
    request = asked(ROW)
    request["inputs"].append({"name": "transaction_id", "datatype": "INT64", "shape": [1], "data": [71]})
    answer = InferAnswer.model_validate_json(service.client.post(INFER, json=request).content)
    (detail,) = answer.outputs[2].data or []
    assert json.loads(detail)["event"] == 71


def test_text_keys_come_as_bytes(looked_at: Settings, champion: Loaded) -> None:
    version = like(champion, views=_keyed_by_texts(champion), features=_nothing(champion))
    with running(looked_at, Held({"fraud": version})) as service:
        types = service.client.get("/v2/models/fraud").json()["inputs"]
        assert types[0] == {"name": "customer_id", "datatype": "BYTES", "shape": [-1]}
        with triton.InferenceServerClient(f"127.0.0.1:{service.port}") as client:
            for binary in (True, False):
                texts = [triton.InferInput(name, [1], "BYTES") for name in ("customer_id", "terminal_id")]
                for tensor in texts:
                    tensor.set_data_from_numpy(np.array(["käse"], dtype=object), binary_data=binary)
                numbers = inputs(ROW, types={"amount": "FP64", "transaction_time": "INT64"})
                assert client.infer("fraud", [*texts, *numbers]).as_numpy("score").shape == (1,)


def test_a_row_that_the_policy_rejects_has_no_score_to_give(looked_at: Settings, champion: Loaded) -> None:
    with running(looked_at, Held({"fraud": like(champion, missing="reject")})) as service:
        found = refused(service.client.post(INFER, json=asked(ROW, NOBODY)), 422, "`reject`", "row 1")
        assert found.type.endswith("rejected_rows")
        assert service.client.post(INFER, json=asked(ROW)).status_code == 200
    assert (service.log.written, service.log.lost) == (
        1,
        0,
    )  # what was not answered is not logged as answered


def changed(input_: str, **to: Any) -> dict[str, Any]:
    """A request of which one input is otherwise."""
    request = asked(ROW)
    for tensor in request["inputs"]:
        if tensor["name"] == input_:
            tensor.update(to)
    return request


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (changed("customer_id", data=[1.0]), "inputs.customer_id.data[0]"),
        (changed("customer_id", data=["1"]), "inputs.customer_id.data[0]"),
        (changed("customer_id", data=[True]), "inputs.customer_id.data[0]"),
        (changed("customer_id", data=[None]), "inputs.customer_id.data[0]"),
        (changed("customer_id", data=[[[1]]]), "inputs.customer_id.data[0]"),
        (changed("customer_id", data=[2**63]), "inputs.customer_id[0]"),
        (changed("customer_id", data=[1, 2]), "inputs.customer_id.data"),
        (changed("customer_id", data=[]), "inputs.customer_id.data"),
        (changed("customer_id", shape=[1, 2], data=[1, 2]), "inputs.customer_id.shape"),
        (changed("customer_id", shape=[]), "inputs.customer_id.shape"),
        (changed("customer_id", shape=[-1]), "inputs[0].shape[0]"),
        (changed("customer_id", datatype="BYTES", data=["1"]), "inputs.customer_id.datatype"),
        (changed("customer_id", datatype="int64"), "inputs.customer_id.datatype"),
        (changed("customer_id", datatype="FP64", data=[1.5]), "inputs.customer_id[0]"),
        (changed("customer_id", datatype="FP64", data=[1e300]), "inputs.customer_id[0]"),
        (changed("customer_id", parameters={"binary_data_size": 8}), "inputs.customer_id"),
        (changed("customer_id", parameters={"shared_memory_region": "x"}), None),
        (changed("amount", data=[float("nan")]), "inputs.amount[0]"),
        (changed("amount", data=[float("inf")]), "inputs.amount[0]"),
        (changed("amount", datatype="INT64", data=[2**53 + 1]), "inputs.amount[0]"),
        (changed("amount", name="amounts"), "inputs[2].name"),
        (changed("amount", name="customer_id"), "inputs[2].name"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [], "more": 1}, "more"),
        ({}, "inputs"),
        (asked(ROW, outputs=[{"name": "scores"}]), "outputs[0].name"),
        (asked(ROW, outputs=[{"name": "score", "parameters": {"classification": 2}}]), None),
        (asked(ROW, id=7), "id"),
    ],
)
def test_a_request_that_is_not_what_the_model_takes_is_refused_with_the_place(
    service: Running, request_: dict[str, Any], path: str | None
) -> None:
    found = refused(service.client.post(INFER, content=json.dumps(request_)), 422)
    assert found.errors and path in (None, found.errors[0].path)


@pytest.mark.parametrize(
    ("size", "tail", "length"),
    [
        (8, b"\0" * 7, None),
        (8, b"\0" * 9, None),
        (7, b"\0" * 7, None),
        (-1, b"", None),
        (8, b"\0" * 8, "100000"),
        (8, b"\0" * 8, "-1"),
        (8, b"\0" * 8, "x"),
    ],
)
def test_bytes_that_are_not_those_that_were_declared_are_refused(
    service: Running, size: int, tail: bytes, length: str | None
) -> None:
    request = changed("customer_id", parameters={"binary_data_size": size})
    del request["inputs"][0]["data"]
    head = json.dumps(request).encode()
    headers = {"inference-header-content-length": length or str(len(head))}
    refused(service.client.post(INFER, content=head + tail, headers=headers), 422)


@pytest.mark.parametrize("tail", [b"\x02\0\0\0a", b"\x01\0\0", b"\x01\0\0\0\xff", b"\xff\xff\xff\xffabc"])
def test_texts_that_are_cut_off_or_no_utf8_are_refused(
    looked_at: Settings, champion: Loaded, tail: bytes
) -> None:
    version = like(champion, views=_keyed_by_texts(champion), features=_nothing(champion))
    parameters = {"binary_data_size": len(tail)}
    request = {
        "inputs": [{"name": "customer_id", "datatype": "BYTES", "shape": [1], "parameters": parameters}]
    }
    head = json.dumps(request).encode()
    with running(looked_at, Held({"fraud": version})) as service:
        headers = {"inference-header-content-length": str(len(head))}
        refused(service.client.post(INFER, content=head + tail, headers=headers), 422, "inputs.customer_id")


def test_no_json_and_too_many_rows_are_refused_here_too(looked_at: Settings, champion: Loaded) -> None:
    with running(looked_at, Held({"fraud": champion}), max_batch=2) as service:
        refused(service.client.post(INFER, content=b"[" * 60_000), 400)
        refused(service.client.post(INFER, content=b"{}", headers={"content-type": "text/csv"}), 415)
        refused(service.client.post(INFER, json=asked(ROW, ROW, ROW)), 422, "at most 2")
        refused(service.client.post("/v2/repository/index", content=b"nonsense"), 400)
        assert service.client.post("/v2/repository/index", json={"ready": True}).json()[0]["name"] == "fraud"


def test_a_length_of_thousands_of_digits_is_refused(service: Running) -> None:
    path, headers = "/v2/models/fraud/infer", {"inference-header-content-length": "9" * 5000}
    refused(service.client.post(path, content=b"{}", headers=headers), 422, "a length of at most")


def _keyed_by_texts(champion: Loaded) -> tuple[ViewContract, ...]:
    """The champion's views, as if all of their keys were texts."""
    return tuple(
        view.model_copy(
            update={"keys": tuple(key.model_copy(update={"type": "string"}) for key in view.keys)}
        )
        for view in champion.contract.views
    )


def _nothing(champion: Loaded) -> Any:
    from tests.serving.served import reading

    return reading(dict.fromkeys(("customer_spending", "terminal_risk")), {}, champion)
