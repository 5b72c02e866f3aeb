"""`dg scaffold defs` writes declarations that are valid as they stand and tell every field."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml
from dagster.components.component_scaffolding import scaffold_object

from ml_platform import declarations
from ml_platform.compiler import SpecComponent
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.project import OWN
from ml_platform.kernel.settings import PROJECT_ROOT
from ml_platform.kernel.spec import NamedSpec
from ml_platform.scaffolding.declaration import declaration_text
from ml_platform.scaffolding.fitting import Fitting
from ml_platform.scaffolding.project import write_project
from tests.documents import fenced

VIEW = "ml_platform.features.component.FeatureView"


def components() -> list[type[SpecComponent]]:
    """Every component that can be declared."""
    for path in OWN.defs.parent.glob("*/component.py"):
        importlib.import_module(f"ml_platform.{path.parent.name}.component")
    found, todo = [], [SpecComponent]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        found += [kind] if "spec_type" in kind.__dict__ and kind.__module__.startswith("ml_platform.") else []
    return sorted(found, key=lambda kind: kind.__name__)


KINDS = [pytest.param(kind, id=kind.__name__) for kind in components()]


def written(kind: type[SpecComponent], catalog: Catalog) -> str:
    values = Fitting(kind.spec_type, catalog, "fraud", {}).values("fresh")
    return declaration_text(f"{kind.__module__}.{kind.__name__}", kind.spec_type, values)


def parsed(text: str, kind: type[SpecComponent]) -> NamedSpec:
    return kind.spec_type.model_validate(yaml.safe_load(text)["attributes"])


def test_all_kinds_of_declarations_are_tested() -> None:
    assert len(KINDS) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_declaration_fits_those_that_are_there(kind: type[SpecComponent]) -> None:
    catalog = declarations.load()
    spec = parsed(written(kind, catalog), kind)
    lineage = Catalog({**catalog.specs, (kind.spec_type, "fresh"): spec})
    if kind.__name__ == "OnlineStore":  # there can be only one that publishes a view
        with pytest.raises(DeclarationError, match="is also made by OnlineStore 'feature_registry'"):
            _ = lineage.lineage
    else:
        assert set(lineage.lineage.nodes) >= set(catalog.lineage.nodes)


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_declared_it_is_valid_and_says_what_to_replace(kind: type[SpecComponent]) -> None:
    text = written(kind, Catalog())
    assert parsed(text, kind).name == "fresh"
    for line in text.splitlines():
        if re.match(r"  (source|views|labels|feature_service|training_set|model|release):", line):
            assert re.search(r"# replace it: no [A-Z]\w+ is declared yet$", line)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_commented_out_is_what_holds_without_it(kind: type[SpecComponent]) -> None:
    text = written(kind, declarations.load())
    said = re.sub(r"^  #(\w+: )", r"  \1", text, flags=re.MULTILINE)
    assert parsed(said, kind) == parsed(text, kind)
    assert set(yaml.safe_load(said)["attributes"]) == {
        info.alias or name for name, info in kind.spec_type.model_fields.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_told_in_its_own_words(kind: type[SpecComponent]) -> None:
    words = " ".join(re.sub(r"^\s*#", "", written(kind, declarations.load()), flags=re.MULTILINE).split())
    for info in kind.spec_type.model_fields.values():
        assert " ".join((info.description or "").split()) in words


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new project, as the folder that one works in."""
    folder = write_project(tmp_path / "parcel-watch")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def scaffold(project: Path) -> Callable[..., Path]:
    """Write a feature view as `dg scaffold defs` does; its folder."""

    def write(name: str, *, form: str = "yaml", **options: str) -> Path:
        folder = project / "parcel_watch" / "defs" / name
        scaffold_object(folder, VIEW, json.dumps(options), form, project)
        return folder

    return write


def dg(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run dg in the working folder."""
    paths = os.pathsep.join([str(Path.cwd()), str(PROJECT_ROOT)])
    return subprocess.run(
        [Path(sys.executable).with_name("dg"), *arguments],
        env={**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def test_dg_writes_what_dg_finds_right(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    at = "parcels/features/depot_weights"
    done = dg("scaffold", "defs", VIEW, at, "--source", "parcels", "--ttl", "2d", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (project / "parcel_watch" / "defs" / at / "defs.yaml").read_text()
    assert "\n  name: depot_weights\n" in text
    assert "\n  entity: depot\n" in text
    assert "\n  source: parcels\n" in text
    assert "\n  ttl: 2d\n" in text
    done = dg("check", "defs", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "features/depot_weights" in declarations.load().lineage.nodes


def test_the_document_shows_what_is_written(scaffold: Callable[..., Path]) -> None:
    document = (PROJECT_ROOT / "docs" / "projects.md").read_text()
    shown = fenced(document, "yaml")
    lines = (scaffold("parcels/features/depot_weights", source="parcels") / "defs.yaml").read_text()
    assert len(shown) == 1
    assert [line for line in shown[0].splitlines() if line not in lines.splitlines()] == []


def test_a_name_that_is_not_declared_is_told_by_who_needs_it(scaffold: Callable[..., Path]) -> None:
    scaffold("parcels/features/depot_weights", source="parcel")
    said = r"depot_weights/defs.yaml:\d+: .*Source 'parcel' is required and is not declared; did you mean parcels\?"
    with pytest.raises(DeclarationError, match=said):
        _ = declarations.load(Path("parcel_watch", "defs")).lineage


def test_a_value_that_the_spec_refuses_leaves_nothing_behind(
    scaffold: Callable[..., Path], project: Path
) -> None:
    with pytest.raises(click.ClickException, match=r"FeatureViewSpec: ttl: .*Nothing was written") as refused:
        scaffold("parcels/features/depot_weights", ttl="soon")
    assert "soon" in refused.value.message
    assert not (project / "parcel_watch/defs/parcels/features/depot_weights").exists()


def test_python_is_refused_as_a_form(scaffold: Callable[..., Path]) -> None:
    with pytest.raises(click.ClickException, match="--format yaml is required"):
        scaffold("parcels/features/depot_weights", form="python")
