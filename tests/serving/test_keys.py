"""API keys: how they are made and kept, who is let in, and what is open to all."""

import datetime as dt
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import ServingSettings, Settings
from ml_platform.serving.keys import Keys, new_key, parse_keys
from ml_platform.serving.problems import ProblemDocument, Refused
from ml_platform.serving.server import accepted_keys
from ml_platform.serving.versions import Loaded
from tests.commands import invoke, words
from tests.serving.served import ROW, Held, Running, running

TODAY = dt.datetime.now(dt.UTC).date()
YESTERDAY = TODAY - dt.timedelta(days=1)


def line(key: str, name: str = "shop", last_day: dt.date | None = None) -> str:
    """How a key is kept."""
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}{f':{last_day}' if last_day else ''}"


def keys(*lines: str, file: Path | None = None) -> Keys:
    return Keys(ServingSettings.model_validate({"keys": ",".join(lines), "keys_file": file}))


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


def refusal(found: Keys, headers: dict[bytes, bytes]) -> str:
    with pytest.raises(Refused) as err:
        found.holder(headers)
    assert err.value.problem.status == 401
    return err.value.problem.reason


def test_several_keys_are_taken_at_once_each_under_its_name() -> None:
    found = keys(line("old", "shop-2025"), line("new", "shop-2026"))
    assert found.holder(bearer("old")) == "shop-2025"
    assert found.holder({b"x-api-key": b"new"}) == "shop-2026"
    assert found.holder({b"authorization": b"bearer  new "}) == "shop-2026"


def test_no_key_an_unknown_one_and_another_scheme_are_refused() -> None:
    found = keys(line("right"))
    assert refusal(found, {}) == "no_key"
    assert refusal(found, {b"authorization": b"Basic cmlnaHQ6"}) == "no_key"
    assert refusal(found, {b"authorization": b"Bearer "}) == "no_key"
    for wrong in ("wrong", "righ", "right1", line("right"), hashlib.sha256(b"right").hexdigest()):
        assert refusal(found, bearer(wrong)) == "unknown_key"


def test_a_key_is_taken_on_its_last_day_and_not_after() -> None:
    assert keys(line("k", last_day=TODAY)).holder(bearer("k")) == "shop"
    assert refusal(keys(line("k", last_day=YESTERDAY)), bearer("k")) == "expired_key"


def test_a_key_that_expired_under_one_name_and_goes_on_under_another_is_taken() -> None:
    found = keys(line("k", "before", YESTERDAY), line("k", "after"))
    assert found.holder(bearer("k")) == "after"


def test_keys_of_a_file_are_taken_and_changes_of_it_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# rotated in November\n{line('old')}\n\n")
    found = keys(file=file)
    assert found.holder(bearer("old")) == "shop" and len(found) == 1
    file.write_text(f"{line('new')}\n{line('newest')}\n")
    deadline = time.monotonic() + 20
    while not _taken(found, "new"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert refusal(found, bearer("old")) == "unknown_key"
    with caplog.at_level(logging.ERROR):
        file.write_text("nonsense")
        deadline = time.monotonic() + 20
        while "stay in force" not in caplog.text:
            assert _taken(found, "new") and time.monotonic() < deadline
            time.sleep(0.05)
    assert _taken(found, "newest")


def test_a_file_that_could_not_be_read_once_is_read_again_although_it_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(line("revoked"))
    monkeypatch.setattr("ml_platform.serving.keys._LOOK_AGAIN_S", 0)
    found = keys(file=file)
    file.write_text(f"{line('new')}\n")
    with monkeypatch.context() as unreadable:
        unreadable.setattr(Path, "read_text", _refuses)
        assert refusal(found, bearer("new")) == "unknown_key"
    assert _taken(found, "new") and refusal(found, bearer("revoked")) == "unknown_key"


@pytest.mark.parametrize(
    "text",
    [
        "shop",
        "shop:abc",
        line("k") + ":soon",
        line("k") + ":2026-13-01",
        line("k") + ":2026-01-01:more",
        line("k").upper(),
        "a name:" + "0" * 64,
        ":" + "0" * 64,
    ],
)
def test_what_is_no_kept_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InputError, match="key 2 has to be name:sha256") as err:
        parse_keys(f"{line('good')},{text}", of="keys")
    assert text not in str(err.value)


def test_a_file_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a file of API keys"):
        keys(file=tmp_path / "none")


def test_a_new_key_is_printed_once_with_what_is_kept_of_it() -> None:
    said = invoke("serving-key", "shop", "--expires", str(TODAY), "--json")
    found = json.loads(said.stdout.splitlines()[-1])
    assert keys(found["line"]).holder(bearer(found["key"])) == "shop"
    assert found["line"].endswith(f":{TODAY}") and found["key"] not in found["line"]
    again = json.loads(invoke("serving-key", "shop", "--json").stdout.splitlines()[-1])
    assert again["key"] != found["key"] and len(again["key"]) > 40
    key, kept = [
        row for row in invoke("serving-key", "shop").stdout.splitlines() if "shop" not in row or ":" in row
    ][:2]
    assert keys(kept).holder(bearer(key)) == "shop"


def test_a_key_without_a_name_or_with_a_day_that_is_over_is_not_made() -> None:
    for arguments in (["a b"], ["a:b"], ["shop", "--expires", str(YESTERDAY)]):
        said = invoke("serving-key", *arguments)
        assert said.exit_code == 1 and "No key was made" in words(said.output)
    with pytest.raises(InputError):
        new_key("x" * 65)


def test_the_service_does_not_start_without_keys_except_on_this_machine(home: Settings) -> None:
    said = invoke("serve", "--port", "0")
    assert said.exit_code == 1 and "serving-key NAME" in words(said.output)
    said = invoke("serve", "--port", "0", "--without-keys", "--host", "0.0.0.0")
    assert said.exit_code == 1 and "loopback" in words(said.output)
    for host in ("127.0.0.1", "::1", "localhost"):
        assert accepted_keys(ServingSettings(host=host), without_keys=True) is None
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(InputError, match="loopback"):
            accepted_keys(ServingSettings(host=host), without_keys=True)


@pytest.fixture(scope="module")
def service(looked_at: Settings, champion: Loaded) -> Iterator[Running]:
    held = Held({"fraud": champion})
    with running(looked_at, held, keys=keys(line("right"), line("late", last_day=YESTERDAY))) as found:
        yield found


def test_health_is_open_and_everything_else_needs_a_key(service: Running) -> None:
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert service.client.get(path).status_code == 200
    closed = [
        "/v2",
        "/v1/models",
        "/metrics",
        "/openapi.json",
        "/v2/models/fraud",
        "/v1/features/fraud_scoring",
        "/no",
    ]
    for path in [*closed, "//healthz", "/healthz/", "/HEALTHZ"]:
        response = service.client.get(path)
        assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
        assert ProblemDocument.model_validate_json(response.content).type.endswith("no_key")
    assert service.predict(ROW).status_code == 401
    assert service.predict(ROW, authorization="Bearer wrong").json()["type"].endswith("unknown_key")
    assert service.predict(ROW, authorization="Bearer late").json()["type"].endswith("expired_key")
    assert service.predict(ROW, authorization="Bearer right").status_code == 200
    assert service.predict(ROW, **{"x-api-key": "right"}).status_code == 200


def test_a_large_body_without_a_key_is_refused_before_it_is_read(service: Running) -> None:
    response = service.client.post("/v1/models/fraud:predict", content=b" " * 1_000_000)
    assert response.status_code == 401


def _taken(found: Keys, key: str) -> bool:
    try:
        return found.holder(bearer(key)) == "shop"
    except Refused:
        return False


def _refuses(*_: object, **__: object) -> str:
    raise PermissionError("not yours to read")
