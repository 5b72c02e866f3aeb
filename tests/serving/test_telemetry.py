"""What is known of the service from outside: metrics, traces and its log, without any key or feature in them."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.json_logs import JsonFormatter
from ml_platform.kernel.settings import Settings
from ml_platform.serving.versions import Loaded
from tests.otlp import attributes, collector
from tests.serving.served import NOBODY, OTHER, ROW, Held, Reads, Running, like, reading, running

PREFIX = "ml_platform_serving_"
AT = 1_530_100_800_000_000
DAY = 86_400_000_000
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def metrics(service: Running) -> Callable[..., float]:
    """The metrics as Prometheus reads them: a value by name and labels."""
    families = text_string_to_metric_families(service.client.get("/metrics").text)
    values = {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    return lambda name, **labels: values[(name, frozenset(labels.items()))]


def soon(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_requests_rows_ages_and_refusals_are_counted(looked_at: Settings, champion: Loaded) -> None:
    with running(looked_at, Held({"fraud": champion})) as service:
        service.predict(ROW, OTHER, NOBODY)
        service.predict({**ROW, "amount": "x"})
        service.predict(ROW, model="other")
        service.client.get("/nothing")
        service.client.get("/healthz")
        found = metrics(service)
    route = "/v1/models/{name}:predict"
    assert found("requests_total", route=route, status="200") == 1
    assert found("requests_total", route=route, status="422") == 1
    assert found("requests_total", route="(none)", status="404") == 1
    assert found("refused_total", reason="invalid") == found("refused_total", reason="unknown_model") == 1
    assert found("predictions_total", model="fraud", version="1", outcome="scored") == 3
    assert found("missing_total", model="fraud", view="customer_spending") == 1
    assert found("features_age_seconds_count", model="fraud", view="customer_spending") == 2
    assert found("features_age_seconds_sum", model="fraud", view="terminal_risk") == 3 * 43_200
    for stage in ("validate", "features", "predict", "answer"):
        assert found("stage_seconds_count", stage=stage) >= 1
    assert found("stage_seconds_count", stage="request") == found("stage_seconds_count", stage="validate")
    whole = found("stage_seconds_sum", stage="request")
    assert whole >= sum(found("stage_seconds_sum", stage=s) for s in ("features", "predict", "answer")) > 0
    assert found("stage_seconds_bucket", stage="request", le="+Inf") == found(
        "stage_seconds_count", stage="request"
    )
    assert found("in_flight") == 1


def test_values_older_than_their_ttl_and_stores_that_do_not_answer_are_counted(
    looked_at: Settings, champion: Loaded
) -> None:
    times = {"customer_spending": AT, "terminal_risk": AT - 30 * DAY}
    stale = like(champion, features=reading(times, {}, champion))
    held = Held({"fraud": stale})
    with running(looked_at, held) as service:
        service.predict(ROW, ROW)
        held.served["fraud"] = like(champion, features=Reads(_fails))
        assert service.predict(ROW).status_code == 503
        found = metrics(service)
    assert found("ttl_breaches_total", model="fraud", view="terminal_risk") == 2
    assert found("store_errors_total", route="/v1/models/{name}:predict") == 1
    assert found("refused_total", reason="store") == 1


def test_the_version_served_and_the_state_of_the_log_are_told(looked_at: Settings, champion: Loaded) -> None:
    with running(looked_at, Held({"fraud": champion}, waiting={"other"}), log_queue=3) as service:
        service.predict(*[ROW] * 4)
        service.predict(ROW, ROW)
        soon(lambda: service.log.written == 2)
        found = metrics(service)
    run = {"run_id": champion.run_id, "origin": "registry"}
    assert found("version_info", model="fraud", role="champion", version="1", **run) == 1
    assert found("version", model="other", role="champion") == 0
    assert found("problems", model="other", role="champion") == 1
    assert found("registry_up", model="fraud", role="champion") == 1
    assert (found("log_lost_total"), found("log_written_total"), found("log_queue_depth")) == (4, 2, 0)
    assert found("log_write_failures_total") == 0


def test_a_trace_goes_from_the_caller_through_the_feature_read_to_the_prediction(
    looked_at: Settings, champion: Loaded
) -> None:
    with collector() as (endpoint, spans):
        with running(looked_at, Held({"fraud": champion}), otlp=endpoint) as service:
            said = service.predict(ROW, traceparent=f"00-{TRACE}-{PARENT}-01").json()
            alone = service.predict(ROW, model="other")
        named = {span.name: span for span in spans() if span.trace_id.hex() == TRACE}
    assert said["trace_id"] == TRACE
    request = named["POST /v1/models/{name}:predict"]
    assert request.parent_span_id.hex() == PARENT
    read, predicted = named["feature read"], named["prediction"]
    for span in (read, predicted):
        assert span.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano < span.end_time_unix_nano <= request.end_time_unix_nano
        assert attributes(span) == {
            "ml_platform.model": "fraud",
            "ml_platform.model_version": champion.version,
            "ml_platform.training_run": champion.run_id,
        }
    assert read.end_time_unix_nano <= predicted.start_time_unix_nano
    about = attributes(request)
    assert about["ml_platform.request_id"] == said["request_id"]
    assert (about["http.response.status_code"], about["ml_platform.rows"]) == (200, 1)
    assert abs(request.start_time_unix_nano / 1e9 - time.time()) < 600
    assert alone.status_code == 404


def test_a_refused_request_is_a_trace_of_its_own_that_says_why(looked_at: Settings, champion: Loaded) -> None:
    with collector() as (endpoint, spans):
        with running(
            looked_at, Held({"fraud": like(champion, features=Reads(_fails))}), otlp=endpoint
        ) as service:
            service.predict(ROW, model="other")
            service.predict(ROW)
        refused, failed = [span for span in spans() if span.name.startswith("POST")]
    assert attributes(refused)["ml_platform.refused"] == "unknown_model" and refused.status.code == 0
    assert attributes(failed)["ml_platform.refused"] == "store" and failed.status.code == 2
    assert refused.trace_id != failed.trace_id and not refused.parent_span_id


def test_a_collector_that_is_not_there_is_no_matter_to_a_request(
    looked_at: Settings, champion: Loaded
) -> None:
    with running(looked_at, Held({"fraud": champion}), otlp="http://127.0.0.1:9") as service:
        assert service.predict(ROW).status_code == 200


def test_the_log_has_the_ids_of_what_was_refused_or_failed_and_never_a_key_or_a_feature(
    looked_at: Settings, champion: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    row = {**ROW, "customer_id": 918_273_645, "amount": 731.25}
    held = Held({"fraud": champion})
    with caplog.at_level(logging.DEBUG, "ml_platform.serving"), running(looked_at, held) as service:
        asked = [
            service.predict(row),
            service.predict({**row, "amount": "731.25"}),
            service.predict({**row, "731.25": 1}, model="fraud"),
        ]
        held.served["fraud"] = like(champion, features=Reads(_breaks))
        asked.append(service.predict(row))
    records = [record for record in caplog.records if record.name.startswith("ml_platform.serving")]
    lines = [JsonFormatter().format(record) for record in records]
    told = {line["request_id"]: line for line in map(json.loads, lines) if "request_id" in line}
    assert [told[response.headers["x-request-id"]]["level"] for response in asked] == [
        "debug",
        "info",
        "info",
        "error",
    ]
    failed = told[asked[3].headers["x-request-id"]]
    assert failed["error"]["type"] == "KeyError" and failed["error"]["stack"][-1].endswith(" _breaks")
    assert (failed["status"], failed["reason"], len(failed["trace_id"])) == (500, "unexpected", 32)
    assert told[asked[0].headers["x-request-id"]]["version"] == champion.version
    assert not any(secret in line for line in lines for secret in ("918273645", "731.25"))


def _fails(keys: Any) -> Any:
    raise StoreError("the online store is required and did not answer")


def _breaks(keys: Any) -> Any:
    raise KeyError(keys[0]["customer_id"], keys[0]["amount"])
