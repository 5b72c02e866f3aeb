"""What the service answers over HTTP, to what is right and to everything that is not."""

import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.serving.documents import Features, Models, Predictions
from ml_platform.serving.problems import MEDIA_TYPE, ProblemDocument
from ml_platform.serving.versions import Loaded
from tests.serving.served import NOBODY, OTHER, ROW, Held, Reads, Running, like, reading, running

PREDICT = "/v1/models/fraud:predict"
FEATURES = "/v1/features/fraud_scoring"
JSON = {"content-type": "application/json"}
DAY = 86_400_000_000
AT = 1_530_100_800_000_000  # 2018-06-27 12:00 UTC, which the service answers as of
SECRET = "4242424242"


@pytest.fixture(scope="module")
def service(looked_at: Settings, champion: Loaded) -> Iterator[Running]:
    with running(looked_at, Held({"fraud": champion}), max_batch=50, max_body_kb=64) as found:
        yield found


def problem(response: Any, status: int, reason: str) -> ProblemDocument:
    """The problem that a response is, which says nothing that it must not say."""
    assert (response.status_code, response.headers["content-type"]) == (status, MEDIA_TYPE), response.text
    found = ProblemDocument.model_validate_json(response.content)
    assert found.type.rpartition(":")[2] == reason and found.status == status
    assert found.request_id == response.headers["x-request-id"]
    assert not any(word in response.text for word in ("Traceback", "site-packages", ".py", SECRET))
    return found


def test_a_row_is_answered_with_the_score_of_its_version_and_what_its_values_were_worth(
    service: Running, champion: Loaded
) -> None:
    response = service.predict({**ROW, "transaction_id": 7})
    answer = Predictions.model_validate_json(response.content)
    expected = champion.scorer.score([ROW], champion.features.read([ROW]), at=AT)
    (told,) = answer.predictions
    assert (answer.model, answer.version, answer.run_id) == ("fraud", champion.version, champion.run_id)
    assert (told.score, told.event, told.outcome) == (expected.scores[0], 7, "scored")
    assert told.decision == ("alert" if expected.alerts[0] else "no_alert")
    assert {name: (age.age_seconds, age.state) for name, age in told.views.items()} == {
        "customer_spending": (43_200.0, "fresh"),
        "terminal_risk": (43_200.0, "fresh"),
    }
    assert (told.missing, told.stale, told.defaulted) == ([], [], [])
    assert answer.features["terminal_risk"].declaration == champion.contract.views[1].declaration


def test_one_instance_and_many_get_the_same_answers_in_their_order(service: Running) -> None:
    many = service.predict(ROW, OTHER, ROW).json()["predictions"]
    alone = [
        service.client.post(PREDICT, json={"instance": row}).json()["predictions"][0] for row in (ROW, OTHER)
    ]
    assert [row["score"] for row in many] == [alone[0]["score"], alone[1]["score"], alone[0]["score"]]
    assert alone[0]["score"] != alone[1]["score"]
    ids = {row["prediction_id"] for row in [*many, *alone]}
    assert len(ids) == 5


def test_an_unknown_key_is_answered_by_policy_as_in_training(service: Running, champion: Loaded) -> None:
    (told,) = Predictions.model_validate_json(service.predict(NOBODY).content).predictions
    customer = list(champion.contract.views[0].features)
    assert (told.outcome, told.missing, told.defaulted, told.stale) == ("scored", customer, customer, [])
    assert (
        told.views["customer_spending"].state == "missing"
        and told.views["customer_spending"].timestamp is None
    )
    expected = champion.scorer.score([NOBODY], champion.features.read([NOBODY]), at=AT)
    assert told.score == expected.scores[0]


@pytest.mark.parametrize("policy", ["default", "serve_stale", "reject"])
def test_values_older_than_their_ttl_are_treated_by_the_declared_policy(
    looked_at: Settings, champion: Loaded, policy: str
) -> None:
    times = {"customer_spending": AT - DAY, "terminal_risk": AT - 30 * DAY}
    values = dict.fromkeys([name for view in champion.contract.views for name in view.features], 1)
    version = like(champion, features=reading(times, values, champion), missing=policy)
    stale = list(champion.contract.views[1].features)
    with running(looked_at, Held({"fraud": version})) as service:
        response = service.predict(ROW)
        (told,) = Predictions.model_validate_json(response.content).predictions
        alone = Features.model_validate_json(
            service.client.get(FEATURES, params={"customer_id": 1, "terminal_id": 2}).content
        )
    assert response.status_code == 200 and (told.stale, told.missing) == (stale, [])
    assert told.views["terminal_risk"].state == "stale"
    assert told.views["terminal_risk"].age_seconds == 30 * 86_400
    assert told.defaulted == (stale if policy == "default" else [])
    assert (
        (told.outcome == "rejected")
        == (told.score is None)
        == (told.decision is None)
        == (policy == "reject")
    )
    (row,) = alone.rows
    served = {"default": (1, None), "serve_stale": (1, 1), "reject": (None, None)}[policy]
    assert (row.values["customer_transactions_1d"], row.values["terminal_transactions_1d"]) == served
    assert row.outcome == ("rejected" if policy == "reject" else "served")


def test_features_alone_are_those_that_a_prediction_reads(service: Running, champion: Loaded) -> None:
    keys = [{name: row[name] for name in ("customer_id", "terminal_id")} for row in (ROW, NOBODY)]
    many = Features.model_validate_json(service.client.post(FEATURES, json={"instances": keys}).content)
    one = Features.model_validate_json(service.client.get(FEATURES, params=keys[0]).content)
    values, _ = champion.scorer.values(champion.features.read(keys), at=AT)
    assert [row.values for row in many.rows] == [
        {name: column[i] for name, column in values.items()} for i in range(2)
    ]
    assert one.rows == many.rows[:1] and many.service == "fraud_scoring"
    assert many.rows[1].missing == list(champion.contract.views[0].features)


def test_the_models_that_are_served_are_listed(service: Running) -> None:
    found = Models.model_validate_json(service.client.get("/v1/models").content)
    assert [(model.model, model.version, model.problems) for model in found.models] == [("fraud", 1, [])]


def body(**changed: Any) -> bytes:
    return json.dumps({"instance": {**ROW, **changed}}).encode()


def without(name: str) -> bytes:
    return json.dumps({"instance": {key: value for key, value in ROW.items() if key != name}}).encode()


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (body(customer_id="1"), "instance.customer_id"),
        (body(customer_id=1.5), "instance.customer_id"),
        (body(customer_id=True), "instance.customer_id"),
        (body(customer_id=None), "instance.customer_id"),
        (body(customer_id=[1]), "instance.customer_id"),
        (body(customer_id=2**63), "instance.customer_id"),
        (body(customer_id=-(10**400)), "instance.customer_id"),
        (body(amount="55"), "instance.amount"),
        (body(amount=True), "instance.amount"),
        (body(amount=float("nan")), "instance.amount"),
        (body(amount=float("-inf")), "instance.amount"),
        (b'{"instance": ' + json.dumps(ROW).encode().replace(b"55.0", b"1e999") + b"}", "instance.amount"),
        (body(amount=1e39), "instance.amount"),
        (body(transaction_time=2.0**53 + 2), "instance.transaction_time"),
        (body(surprise=int(SECRET)), "instance.surprise"),
        (without("terminal_id"), "instance.terminal_id"),
        (json.dumps({"instances": [ROW, body().decode()]}).encode(), "instances[1]"),
        (json.dumps({"instances": [ROW, {**ROW, "amount": SECRET}]}).encode(), "instances[1].amount"),
        (json.dumps({"instances": []}).encode(), "instances"),
        (json.dumps({"instances": [ROW] * 51}).encode(), "instances"),
        (json.dumps({"instances": ROW}).encode(), "instances"),
        (json.dumps({"instance": [ROW]}).encode(), "instance"),
        (json.dumps({"rows": [ROW]}).encode(), "rows"),
        (b"[]", "(the whole)"),
        (b"null", "(the whole)"),
        (b'"text"', "(the whole)"),
    ],
)
def test_a_row_that_is_not_what_the_model_takes_is_refused_with_the_place(
    service: Running, content: bytes, path: str
) -> None:
    found = problem(service.client.post(PREDICT, content=content, headers=JSON), 422, "invalid")
    assert found.errors[0].path == path


@pytest.mark.parametrize("content", [b"{}", json.dumps({"instance": ROW, "instances": [ROW]}).encode()])
def test_neither_or_both_of_one_and_many_are_refused(service: Running, content: bytes) -> None:
    problem(service.client.post(PREDICT, content=content, headers=JSON), 422, "invalid")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        body()[:-1],
        body()[:20],
        b"\xff\xfe\x00",
        b"{'instance': 1}",
        b'{"instance": ' * 3000,
        b"[" * 60_000,
        b'{"instance": {"customer_id": "\\ud800"}}',
        body() + b"{}",
    ],
)
def test_what_is_no_json_document_is_refused(service: Running, content: bytes) -> None:
    problem(service.client.post(PREDICT, content=content, headers=JSON), 400, "not_json")


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "reason"),
    [
        ("POST", "/v1/models/other:predict", JSON, body(), 404, "unknown_model"),
        ("POST", "/v1/models/fraud:explain", JSON, body(), 404, "unknown_route"),
        ("GET", "/nothing", {}, b"", 404, "unknown_route"),
        ("GET", "/v1/models/fraud/../../etc", {}, b"", 404, "unknown_route"),
        ("GET", PREDICT, {}, b"", 405, "method"),
        ("DELETE", "/healthz", {}, b"", 405, "method"),
        ("PUT", FEATURES, JSON, b"{}", 405, "method"),
        ("POST", PREDICT, {}, body(), 415, "content_type"),
        ("POST", PREDICT, {"content-type": "text/plain"}, body(), 415, "content_type"),
        ("POST", PREDICT, {**JSON, "content-encoding": "gzip"}, body(), 415, "content_encoding"),
        ("POST", PREDICT, JSON, b" " * 65_537, 413, "too_large"),
        ("GET", "/v1/features/other?customer_id=1", {}, b"", 404, "unknown_service"),
        ("GET", FEATURES + "?customer_id=1", {}, b"", 422, "invalid"),
        ("GET", FEATURES + "?customer_id=1&terminal_id=2&x=3", {}, b"", 422, "invalid"),
        ("GET", FEATURES + "?customer_id=1&terminal_id=2&terminal_id=2", {}, b"", 422, "invalid"),
        ("GET", FEATURES + "?customer_id=1&terminal_id=2.0", {}, b"", 422, "invalid"),
        ("GET", FEATURES + "?customer_id=1_0&terminal_id=2", {}, b"", 422, "invalid"),
        ("GET", FEATURES + "?customer_id=1&terminal_id=" + "9" * 5000, {}, b"", 422, "invalid"),
        ("POST", FEATURES, JSON, body(), 422, "invalid"),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_a_problem(
    service: Running,
    method: str,
    path: str,
    headers: dict[str, str],
    content: bytes,
    status: int,
    reason: str,
) -> None:
    problem(service.client.request(method, path, headers=headers, content=content), status, reason)


def test_a_method_that_a_path_does_not_have_is_told_those_that_it_has(service: Running) -> None:
    allowed = service.client.put(FEATURES).headers["allow"]
    assert {"GET", "POST"} <= set(allowed.split(", "))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v2/models/fraud/infer", b'{"inputs":[' + b",".join([b"{}"] * 20_000) + b"]}"),
        ("/v2/models/fraud/infer", b'{"inputs":[],"outputs":[' + b",".join([b"1"] * 20_000) + b"]}"),
        (PREDICT, b'{"instances":[' + b",".join([b"{}"] * 20_000) + b"]}"),
        (PREDICT, b'{"instance":{' + b",".join(b'"%d":0' % i for i in range(6_000)) + b"}}"),
    ],
)
def test_a_request_that_is_wrong_in_thousands_of_places_is_refused_without_a_list_of_them(
    service: Running, path: str, content: bytes
) -> None:
    found = problem(service.client.post(path, content=content, headers=JSON), 422, "invalid")
    assert len(found.errors) <= 5


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (PREDICT, body().replace(b'"amount"', b'"amount": 1.0, "amount"')),
        (FEATURES, b'{"instance":{"customer_id":1,"terminal_id":2,"customer_id":3}}'),
        (
            "/v2/models/fraud/infer",
            b'{"inputs":[{"name":"a","name":"b","shape":[1],"datatype":"INT64","data":[1]}]}',
        ),
    ],
)
def test_a_name_that_comes_twice_is_refused_and_not_guessed_at(
    service: Running, path: str, content: bytes
) -> None:
    found = problem(service.client.post(path, content=content, headers=JSON), 422, "invalid")
    assert "twice" in found.detail


def test_a_body_that_grows_over_the_limit_is_refused_before_it_is_whole(service: Running) -> None:
    response = service.client.post(PREDICT, content=(b" " * 8192 for _ in range(64)), headers=JSON)
    problem(response, 413, "too_large")


def test_a_body_as_large_as_the_limit_is_read(service: Running) -> None:
    content = body()
    response = service.client.post(PREDICT, content=content + b" " * (65_536 - len(content)), headers=JSON)
    assert response.status_code == 200


def test_a_whole_number_may_be_written_as_one_of_floating_point(service: Running) -> None:
    whole, floating = service.predict(ROW), service.predict({**ROW, "customer_id": 1.0, "terminal_id": 2e0})
    assert whole.json()["predictions"][0]["score"] == floating.json()["predictions"][0]["score"]


@pytest.mark.parametrize("value", [0, -(2**63), 2**63 - 1])
def test_every_key_that_fits_is_an_answer(service: Running, value: int) -> None:
    assert service.predict({**ROW, "customer_id": value, "transaction_time": value}).status_code == 200


def test_the_request_id_of_the_caller_comes_back_and_what_is_none_is_replaced(service: Running) -> None:
    assert service.predict(ROW, **{"x-request-id": "shop-77"}).json()["request_id"] == "shop-77"
    assert (
        service.client.get("/healthz", headers={"x-request-id": "shop-78"}).headers["x-request-id"]
        == "shop-78"
    )
    for wrong in ("a b", "x" * 129, ""):
        assert service.predict(ROW, **{"x-request-id": wrong}).json()["request_id"] not in ("", wrong)


def test_the_trace_of_the_caller_goes_on(service: Running) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert service.predict(ROW, traceparent=f"00-{trace}-00f067aa0ba902b7-01").json()["trace_id"] == trace
    assert service.predict(ROW, traceparent="nonsense").json()["trace_id"] != trace


def test_half_a_body_is_refused_when_it_takes_too_long(looked_at: Settings, champion: Loaded) -> None:
    with running(looked_at, Held({"fraud": champion}), timeout_seconds=0.5) as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as half:
            half.sendall(_head(1000) + b'{"instance":')
            answer = half.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 408") and b"problem-type:ml-platform:incomplete" in answer
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as gone:
            gone.sendall(_head(1000) + b'{"instance":')
        assert service.client.get("/healthz").status_code == 200


def test_health_is_answered_while_every_thread_waits_for_a_store_and_then_the_request_is_given_up(
    looked_at: Settings, champion: Loaded
) -> None:
    release = threading.Event()

    def read(keys: Any) -> Any:
        release.wait(30)
        return champion.features.read(keys)

    version = like(champion, features=Reads(read))
    with running(looked_at, Held({"fraud": version}), threads=1, timeout_seconds=0.5) as service:
        answers: list[Any] = []
        asking = [threading.Thread(target=lambda: answers.append(service.predict(ROW))) for _ in range(3)]
        for thread in asking:
            thread.start()
        assert service.client.get("/healthz").json() == {"status": "alive"}
        for thread in asking:
            thread.join(10)
        release.set()
        for answer in answers:
            assert problem(answer, 503, "too_slow").status == 503
            assert answer.headers["retry-after"] == "1"
        assert len(answers) == 3


def test_a_store_that_does_not_answer_is_said_and_nothing_else_breaks(
    looked_at: Settings, champion: Loaded
) -> None:
    def read(keys: Any) -> Any:
        raise StoreError("the online store at 10.0.0.7 is required and did not answer")

    with running(looked_at, Held({"fraud": like(champion, features=Reads(read))})) as service:
        found = problem(service.predict(ROW), 503, "store")
        assert "a store" in found.detail and "10.0.0.7" not in found.detail  # where it is, is for the log
        assert service.client.get("/readyz").status_code == 200


def test_what_nobody_expected_is_a_500_that_says_nothing_but_the_request_id(
    looked_at: Settings, champion: Loaded
) -> None:
    def read(keys: Any) -> Any:
        raise ValueError(f"{SECRET} in {keys}")

    with running(looked_at, Held({"fraud": like(champion, features=Reads(read))})) as service:
        problem(service.predict(ROW), 500, "unexpected")


def test_a_feature_that_overflows_float32_is_infinite_as_in_training_and_no_error(
    looked_at: Settings, champion: Loaded
) -> None:
    times = dict.fromkeys(("customer_spending", "terminal_risk"), AT)
    found = reading(times, {"customer_mean_amount_30d": 1e-30}, champion)
    with running(looked_at, Held({"fraud": like(champion, features=found)})) as service:
        assert service.predict({**ROW, "amount": 1e38}).status_code == 200


def test_a_model_without_a_version_yet_is_not_ready_and_said_so(
    looked_at: Settings, champion: Loaded
) -> None:
    with running(looked_at, Held({}, waiting={"fraud"})) as service:
        problem(service.client.get("/readyz"), 503, "not_ready")
        problem(service.client.get("/v2/health/ready"), 503, "not_ready")
        problem(service.predict(ROW), 503, "not_ready")
        problem(service.client.get(FEATURES, params={"customer_id": 1}), 503, "not_ready")
        assert service.client.get("/healthz").status_code == 200
        assert service.client.get("/v1/models").json()["models"][0]["problems"]


def test_another_version_answers_from_the_next_request_on(looked_at: Settings, champion: Loaded) -> None:
    held = Held({"fraud": champion})
    with running(looked_at, held) as service:
        assert service.predict(ROW).json()["version"] == champion.version
        held.served["fraud"] = dataclasses.replace(like(champion, threshold=0.0), version=99)
        answer = service.predict(ROW).json()
        assert (answer["version"], answer["predictions"][0]["decision"]) == (99, "alert")


def test_what_is_answered_is_offered_to_the_prediction_log(looked_at: Settings, champion: Loaded) -> None:
    with running(looked_at, Held({"fraud": champion})) as service:
        service.predict(ROW, OTHER)
        service.client.post(PREDICT, json={"instance": {}})
        service.client.get(FEATURES, params={"customer_id": 1, "terminal_id": 2})
        log = service.log
        assert log.depth + log.written == 2
    assert (log.written, log.lost) == (2, 0)


def test_a_batch_is_answered_like_its_rows_alone(service: Running, champion: Loaded) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {**ROW, "customer_id": int(c), "terminal_id": int(t), "amount": round(float(a), 2)}
        for c, t, a in zip(
            rng.integers(0, 600, 50), rng.integers(0, 1100, 50), rng.gamma(2, 40, 50), strict=True
        )
    ]
    many = [row["score"] for row in service.predict(*rows).json()["predictions"]]
    assert many == [service.predict(row).json()["predictions"][0]["score"] for row in rows]


def _head(length: int) -> bytes:
    return (
        f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()
