"""The service follows the champion alias, and what goes wrong there never ends what is served."""

import contextlib
import logging
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ml_platform.kernel.settings import ServingSettings, Settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.registry import Registered
from ml_platform.models.compute import predict_onnx
from ml_platform.serving import copies
from ml_platform.serving.following import Champions
from ml_platform.serving.slots import Status
from ml_platform.serving.versions import Loaded, fetched
from tests.serving.mlflow_server import MlflowServer, running_mlflow
from tests.serving.test_versions import at
from tests.serving.variants import MODEL, artifacts, registered

LIVE_WITHIN = 30.0  # two or three seconds on a machine that has nothing else to do


def following(here: Settings, **changed: object) -> Champions:
    """Whoever follows, soon and without a thread of its own: the test says when it looks."""
    return Champions(serving(here, **changed))


def serving(here: Settings, **changed: object) -> Settings:
    given = ServingSettings.model_validate({"follow_seconds": 0.01, **changed})
    return here.model_copy(update={"serving": given})


def looked(champions: Champions) -> Status:
    champions.look()
    (found,) = champions.status()
    return found


def served(champions: Champions) -> Loaded:
    found = champions.current(MODEL)
    assert found is not None
    return found


def until(holds: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()
    return found


def remove_alias(here: Settings) -> None:
    registry.client(here).delete_registered_model_alias(MODEL, registry.CHAMPION)


def test_before_the_first_look_nothing_is_served_and_after_it_the_champion_is(released: Settings) -> None:
    champions = following(released)
    assert champions.current(MODEL) is None
    assert not champions.ready()
    status = looked(champions)
    assert (status.model, status.version, status.wanted, status.refused) == (MODEL, 1, 1, None)
    assert (status.origin, status.registry, status.problems) == ("registry", True, ())
    assert champions.ready()
    assert champions.current("nobody") is None


def test_promotions_and_rollbacks_are_live_within_seconds_and_every_answer_is_of_one_version(
    released: Settings,
) -> None:
    rows = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)
    expected: dict[int, list[float]] = {}
    for number in (1, 2, 3):
        version = registry.version(released, MODEL, number)
        assert version is not None
        expected[number] = predict_onnx(registry.load_onnx(released, version), rows).tolist()
    champions = Champions(released)
    champions.start()
    assert champions.wait(60)
    wrong: list[object] = []
    answered: set[int] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            found = served(champions)
            scores = predict_onnx(found.scorer.session, rows).tolist()
            if scores != expected[found.version]:
                wrong.append((found.version, scores))
            answered.add(found.version)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in (2, 3, 2, 1):
            registry.set_champion(released, MODEL, number)
            began = time.monotonic()
            until(lambda number=number: served(champions).version == number, seconds=LIVE_WITHIN)
            assert time.monotonic() - began < LIVE_WITHIN
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        champions.stop()
    assert wrong == []
    assert answered == {1, 2, 3}


def test_an_embedded_registry_that_nobody_wrote_to_is_not_asked_again(released: Settings) -> None:
    champions = following(released)
    database = released.root / "mlflow" / "mlflow.db"
    until(lambda: time.time() - database.stat().st_mtime > 1)
    champions.look()
    content = database.read_bytes()
    times = (database.stat().st_atime_ns, database.stat().st_mtime_ns)
    database.write_bytes(b"\0" * len(content))
    os.utime(database, ns=times)  # as if nobody had
    assert looked(champions).registry
    database.write_bytes(content)
    registry.set_champion(released, MODEL, 2)
    assert looked(champions).version == 2


def test_an_embedded_registry_that_did_not_answer_is_asked_again_though_nobody_wrote_to_it(
    released: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    champions = following(released)
    database = released.root / "mlflow" / "mlflow.db"
    until(lambda: time.time() - database.stat().st_mtime > 1)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        champions.look()
        assert champions.status() == []
        assert len(errors(caplog)) == 1
        connection.execute("ROLLBACK")
    until(lambda: bool(champions.look() or champions.status()))
    assert looked(champions).version == 1


def test_without_a_registry_and_without_copies_it_is_said_once_that_nothing_is_served(
    released: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    without_registry(released)
    champions = following(released)
    for _ in range(3):
        champions.look()
    assert not champions.ready()
    (said,) = errors(caplog)
    assert "the model registry is required and is gone. Nothing is served" in said
    (released.root / "mlflow" / "away.db").rename(released.root / "mlflow" / "mlflow.db")
    assert looked(champions).version == 1


def test_who_has_a_version_finishes_with_it(released: Settings) -> None:
    champions = following(released)
    champions.look()
    before = served(champions)
    rows = np.zeros((1, 16), np.float32)
    score = predict_onnx(before.scorer.session, rows).tolist()
    registry.set_champion(released, MODEL, 2)
    champions.look()
    assert served(champions).version == 2
    assert (before.version, predict_onnx(before.scorer.session, rows).tolist()) == (1, score)


def test_a_version_that_cannot_be_served_is_refused_and_the_one_before_goes_on(
    released: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    champions = following(released)
    champions.look()
    before = served(champions)
    bad = registered(released, seed=4, contract=at("self_test", 0, "score", to=0.987))
    registry.set_champion(released, MODEL, bad.version)
    caplog.clear()
    status = looked(champions)
    assert served(champions) is before
    assert (status.version, status.wanted, status.refused) == (1, bad.version, bad.version)
    (problem,) = status.problems
    assert problem.startswith(
        f"the champion is version {bad.version}, and it is refused: fraud: the scores of"
    )
    assert errors(caplog) == [f"model {MODEL}: {problem}. Version 1 goes on (from the registry)"]
    for _ in range(5):
        time.sleep(0.02)
        champions.look()
    assert errors(caplog) == [], "once for each change"
    assert champions.ready()
    registry.set_champion(released, MODEL, 2)
    status = looked(champions)
    assert (status.version, status.refused, status.problems) == (2, None, ())


def test_a_refused_version_is_tried_again_and_served_once_it_is_as_it_should_be(released: Settings) -> None:
    champions = following(released)
    champions.look()
    version = registry.version(released, MODEL, 2)
    assert version is not None
    model = artifacts(released, version) / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    registry.set_champion(released, MODEL, 2)
    assert looked(champions).refused == 2
    model.write_bytes(content)
    until(lambda: looked(champions).version == 2)


def test_an_alias_that_was_removed_ends_nothing_also_not_after_a_restart(
    released: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    champions = following(released)
    champions.look()
    remove_alias(released)
    caplog.clear()
    status = looked(champions)
    assert (status.version, status.wanted, status.origin) == (1, None, "registry")
    assert "no version of it has the alias champion: it was removed" in status.problems[0]
    assert len(errors(caplog)) == 1
    status = looked(following(released))
    assert (status.version, status.wanted, status.origin, status.registry) == (1, None, "copy", True)


def test_a_champion_that_was_deleted_goes_on(released: Settings) -> None:
    champions = following(released)
    champions.look()
    registry.client(released).delete_model_version(MODEL, "1")
    status = looked(champions)
    assert (status.version, status.wanted, len(status.problems)) == (1, None, 1)


def test_another_version_of_the_same_number_is_another_version(released: Settings) -> None:
    champions = following(released)
    champions.look()
    before = served(champions)
    registry.set_champion(released, MODEL, 3)
    champions.look()
    again = registered(released, seed=7)
    mlflow_client = registry.client(released)
    mlflow_client.delete_model_version(MODEL, "3")
    _renumber(released, again.version, 3)
    registry.set_champion(released, MODEL, 3)
    champions.look()
    assert served(champions).run_id == again.run_id != before.run_id


def _renumber(here: Settings, number: int, to: int) -> None:
    """What is left after a model was deleted and registered anew: the same number, another run."""
    with contextlib.closing(sqlite3.connect(here.root / "mlflow" / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM model_version_tags WHERE version = ?", (to,))
        connection.execute("DELETE FROM model_versions WHERE version = ?", (to,))
        connection.execute("UPDATE model_versions SET version = ? WHERE version = ?", (to, number))
        connection.execute("UPDATE model_version_tags SET version = ? WHERE version = ?", (to, number))


def test_a_registry_file_that_is_gone_ends_nothing_and_no_empty_one_is_made(
    released: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    champions = following(released)
    champions.look()
    before = served(champions)
    database = released.root / "mlflow" / "mlflow.db"
    database.rename(database.with_suffix(".away"))
    caplog.clear()
    status = looked(champions)
    assert served(champions) is before
    assert (status.version, status.registry) == (1, False)
    assert f"{database}: the model registry is required and is gone" in status.problems[0]
    assert not database.exists()
    restarted = following(released)
    status = looked(restarted)
    assert (status.version, status.origin, status.registry) == (1, "copy", False)
    assert restarted.ready()
    database.with_suffix(".away").rename(database)
    for found in (champions, restarted):
        status = looked(found)
        assert (status.version, status.origin, status.registry, status.problems) == (1, "registry", True, ())


def test_a_registry_that_is_no_database_ends_nothing(released: Settings) -> None:
    champions = following(released)
    champions.look()
    (released.root / "mlflow" / "mlflow.db").write_bytes(b"no database" * 1000)
    status = looked(champions)
    assert (status.version, status.registry) == (1, False)


def without_registry(here: Settings) -> None:
    (here.root / "mlflow" / "mlflow.db").rename(here.root / "mlflow" / "away.db")


def test_a_damaged_copy_is_refused_with_the_reason_and_never_served(
    released: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    following(released).look()
    folder = released.root / "serving" / MODEL / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["contract.json", "manifest.json", "model.onnx"]
    model = folder / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    without_registry(released)
    champions = following(released)
    caplog.clear()
    status = looked(champions)
    assert champions.current(MODEL) is None
    assert not champions.ready()
    assert status.version is None
    assert any("model.onnx changed since" in problem for problem in status.problems)
    assert any("Nothing is served as champion" in said for said in errors(caplog))
    (released.root / "mlflow" / "away.db").rename(released.root / "mlflow" / "mlflow.db")
    status = looked(champions)
    assert (status.version, status.origin, status.problems) == (1, "registry", ())
    without_registry(released)
    assert looked(following(released)).origin == "copy", "a new copy took the place of the damaged one"


@pytest.mark.parametrize("damage", ["pointer", "file gone", "pointer of another"])
def test_a_copy_that_is_not_whole_is_refused(released: Settings, damage: str) -> None:
    following(released).look()
    folder = released.root / "serving" / MODEL
    pointer = folder / "champion.json"
    if damage == "pointer":
        pointer.write_text("{")
    elif damage == "file gone":
        (folder / "1" / "contract.json").unlink()
    else:
        pointer.write_text(pointer.read_text().replace('"fraud"', '"another"'))
    without_registry(released)
    champions = following(released)
    status = looked(champions)
    assert champions.current(MODEL) is None
    assert any("an undamaged copy of the last champion is required" in said for said in status.problems)


def test_a_copy_of_a_champion_is_no_way_around_what_is_asked_of_it(released: Settings) -> None:
    following(released).look()
    function = at("on_demand", 0, "digest", to="0" * 64)
    changed = registered(released, seed=5, contract=function)
    copies.keep(released, fetched(released, changed))
    without_registry(released)
    champions = following(released)
    status = looked(champions)
    assert champions.current(MODEL) is None
    assert any("transaction_context" in said for said in status.problems)


def test_the_copies_are_of_the_champion_and_the_one_before(released: Settings) -> None:
    champions = following(released)
    for number in (1, 2, 3):
        registry.set_champion(released, MODEL, number)
        champions.look()
    folder = released.root / "serving" / MODEL
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3", "champion.json"]
    without_registry(released)
    assert looked(following(released)).version == 3


def test_a_copy_that_cannot_be_written_is_a_problem_and_the_champion_is_served(released: Settings) -> None:
    place = released.root / "serving"
    place.touch()
    champions = following(released)
    status = looked(champions)
    assert status.version == 1
    assert "a local copy is required" in status.problems[0]
    place.unlink()
    assert looked(champions).problems == ()
    assert (place / MODEL / "champion.json").exists()


def test_only_the_named_models_are_served(released: Settings) -> None:
    champions = following(released, models="another, fraud")
    champions.look()
    found = {status.model: (status.version, len(status.problems)) for status in champions.status()}
    assert found == {"another": (None, 1), MODEL: (1, 0)}
    assert not champions.ready()


def never_online(here: Settings, *, name: str = MODEL) -> Registered:
    """The champion from now on: a version that reads a view which is never online."""
    found = registered(here, seed=4, name=name, contract=at("views", 0, "online", to=False))
    registry.set_champion(here, name, found.version)
    return found


def test_a_model_for_batch_predictions_is_left_out_and_the_others_are_ready(
    released: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    never_online(released, name="batch")
    caplog.set_level(logging.INFO)
    champions = following(released)
    for _ in range(3):
        assert looked(champions).model == MODEL
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert said == ["model batch: version 1 is left out: customer_spending is never online"]
    assert errors(caplog) == []
    assert champions.ready()
    assert champions.current("batch") is None


def test_with_models_for_batch_predictions_alone_it_is_said_that_nothing_is_served(
    released: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    never_online(released)
    champions = following(released)
    champions.look()
    assert champions.status() == [] and not champions.ready()
    assert errors(caplog) == ["every champion is for batch predictions. Nothing is served"]
    registry.set_champion(released, MODEL, 2)
    assert (looked(champions).version, champions.ready()) == (2, True)


def test_a_model_that_is_named_or_was_served_is_not_left_out(released: Settings) -> None:
    champions = following(released)
    champions.look()
    refused = never_online(released).version
    status = looked(champions)
    assert (status.version, status.refused) == (1, refused)
    restarted = looked(following(released))
    assert (restarted.version, restarted.origin, restarted.refused) == (1, "copy", refused)
    shutil.rmtree(released.root / "serving")
    assert looked(following(released, models=MODEL)).refused == refused


def test_a_challenger_is_in_shadow_as_long_as_it_has_the_alias(released: Settings) -> None:
    champions = following(released, shadow="challenger")
    mlflow_client = registry.client(released)
    champions.look()
    assert champions.shadow(MODEL) is None
    assert champions.shadows()[0].problems == ()
    for number, version in ((2, 2), (3, 3), (1, None)):  # the champion is not scored twice
        mlflow_client.set_registered_model_alias(MODEL, "challenger", str(number))
        champions.look()
        found = champions.shadow(MODEL)
        assert (found.version if found else None) == version
        assert served(champions).version == 1
    mlflow_client.delete_registered_model_alias(MODEL, "challenger")
    champions.look()
    assert champions.shadow(MODEL) is None
    assert champions.shadows()[0].problems == ()


@pytest.fixture
def mlflow_server(released: Settings) -> Iterator[MlflowServer]:
    with running_mlflow(released) as server:
        yield server


def test_a_server_that_was_killed_ends_nothing_and_is_followed_again_when_it_is_back(
    released: Settings, mlflow_server: MlflowServer
) -> None:
    here = serving(released.model_copy(update={"mlflow_tracking_uri": mlflow_server.url}), follow_seconds=0.2)
    champions = Champions(here)
    champions.start()
    try:
        assert champions.wait(60)
        before = served(champions)
        assert (before.version, before.origin) == (1, "registry")
        mlflow_server.kill()
        until(lambda: not champions.status()[0].registry)
        assert served(champions) is before
        restarted = Champions(here)
        began = time.monotonic()
        status = looked(restarted)
        assert time.monotonic() - began < LIVE_WITHIN + 1
        assert (status.version, status.origin, status.registry) == (1, "copy", False)
        mlflow_server.start()
        registry.set_champion(released, MODEL, 2)
        until(lambda: served(champions).version == 2, seconds=LIVE_WITHIN)
        assert champions.status()[0].problems == ()
    finally:
        champions.stop()


def test_a_server_that_hangs_holds_nobody_up(released: Settings) -> None:
    following(released).look()  # there is a copy
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        champions = following(released.model_copy(update={"mlflow_tracking_uri": uri}))
        began = time.monotonic()
        status = looked(champions)
        assert time.monotonic() - began < 10
        assert (status.version, status.origin, status.registry) == (1, "copy", False)
        began = time.monotonic()
        for _ in range(1000):
            served(champions)
        assert time.monotonic() - began < 1


def test_following_ends_when_it_is_told_to(released: Settings) -> None:
    champions = following(released)
    champions.start()
    assert champions.wait(60)
    champions.stop()
    registry.set_champion(released, MODEL, 2)
    time.sleep(0.1)
    assert served(champions).version == 1
