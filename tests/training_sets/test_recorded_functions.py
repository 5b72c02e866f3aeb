"""On-demand functions are kept as text that runs by itself, and that text is run only where it has to be."""

import hashlib
import importlib
import inspect
import sys
from pathlib import Path

import pytest

from ml_platform.features.spec import OnDemandFeaturesSpec
from ml_platform.kernel.errors import DeclarationError, StoreError
from ml_platform.training_sets.recorded_functions import importable, source_text
from tests.training_sets import on_demand_functions

MODULE = on_demand_functions.__name__
BY_ITSELF = f"{MODULE}.by_itself"


def spec(name: str) -> OnDemandFeaturesSpec:
    return OnDemandFeaturesSpec.model_validate(
        {"name": "minutes", "function": f"{MODULE}.{name}", "outputs": {"minutes": "double"}}
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def called(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)({"seconds": [150]})


def recorded_modules() -> list[str]:
    return [name for name in sys.modules if name.startswith("recorded_")]


def test_a_function_that_runs_by_itself_is_kept_as_it_is_written() -> None:
    assert source_text(spec("by_itself")) == inspect.getsource(on_demand_functions.by_itself)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("with_a_constant", "SECONDS"), ("with_an_import", "math"), ("with_a_default", "SECONDS")],
)
def test_a_function_that_needs_its_module_is_refused_with_what_it_needs(name: str, missing: str) -> None:
    with pytest.raises(DeclarationError, match=rf"must run from its source alone.*it uses \['{missing}'\]"):
        source_text(spec(name))


def test_a_function_that_has_not_changed_is_imported_and_its_text_not_run() -> None:
    text = source_text(spec("by_itself"))
    with importable({BY_ITSELF: text}, {BY_ITSELF: digest(text)}) as paths:
        assert paths == {BY_ITSELF: BY_ITSELF} and recorded_modules() == []


@pytest.mark.parametrize("path", [BY_ITSELF, f"{MODULE}.gone", "no.such.module.gone", f"{MODULE}.SECONDS"])
def test_a_function_that_is_another_now_or_gone_is_run_from_its_text_until_the_end_of_the_block(
    path: str,
) -> None:
    name = path.rpartition(".")[2]
    text = f"def {name}(inputs: Columns) -> Columns:\n    return {{'minutes': inputs['seconds'][::-1]}}\n"
    with importable({path: text}, {path: digest(text)}) as paths:
        assert called(paths[path]) == {"minutes": [150]} and len(recorded_modules()) == 1
    assert recorded_modules() == []


def test_nothing_of_a_recorded_function_is_left_when_the_block_fails() -> None:
    text = "def gone(inputs):\n    return inputs\n"
    with pytest.raises(ZeroDivisionError), importable({"some.gone": text}, {"some.gone": digest(text)}):
        1 / 0  # noqa: B018
    assert recorded_modules() == []


def test_text_that_is_not_the_recorded_one_is_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    text = f"open({str(ran)!r}, 'w').close()\ndef gone(inputs):\n    return inputs\n"
    with (
        pytest.raises(StoreError, match="its text has another one: the manifest was changed"),
        importable({"some.gone": text}, {"some.gone": digest("def gone(inputs): ...")}),
    ):
        raise AssertionError("nothing may be run")
    assert not ran.exists() and recorded_modules() == []
