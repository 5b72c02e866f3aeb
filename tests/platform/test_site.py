"""The documents as a site: nothing in it points nowhere, and its reference has all that can be declared and typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from docs.reference import declarations, pages
from ml_platform.cli.main import app
from ml_platform.kernel.settings import PROJECT_ROOT, ServingSettings, Settings

PAGES = pages()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_it_has_every_written_page_and_every_generated_one(site: Path) -> None:
    written = [path.relative_to(PROJECT_ROOT / "docs") for path in (PROJECT_ROOT / "docs").rglob("*.md")]
    for page in [*written, *map(Path, PAGES)]:
        folder = page.parent if page.stem == "index" else page.with_suffix("")
        assert (site / folder / "index.html").is_file(), page
    assert not list(site.rglob("*.py")) and not list(site.rglob("*.ipynb"))


def test_no_page_asks_another_server_for_anything(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert 'src="http' not in page.read_text(), page


def test_every_field_of_every_declaration_is_in_the_reference_with_what_it_is() -> None:
    found = declarations()
    assert {"ml_platform.features.component.FeatureView", "ml_platform.sources.component.Source"} <= set(
        found
    )
    for name, spec in found.items():
        page = PAGES[f"reference/declarations/{name.split('.')[1]}.{name.split('.')[-1]}.md"]
        for field, info in spec.model_fields.items():
            (row,) = [line for line in page.splitlines() if line.startswith(f"| `{info.alias or field}` ")][
                :1
            ]
            assert info.description and " ".join(info.description.split())[:20].replace("<", "&lt;") in row


def test_a_row_says_type_default_and_meaning() -> None:
    view = PAGES["reference/declarations/features.FeatureView.md"]
    for row in (
        "| `ttl` | text | required | How old a value may be when it is read. |",
        "| `delay` | text | `0s` | Windows end this long before t: [t - delay - W, t - delay). |",
        "| `memory` | text | none | Memory, such as `4Gi`; the compute engine takes six tenths, then it spills. |",
        "| `cpu` | number, more than 0, at most 1024 | none | Cores, such as 2 or 0.5. |",
        "| `expectations` | list of [Expectation](#expectation) | none | What rows must fulfil to be published. |",
        "| `join_key` | text | none | Column of its key; default: &lt;entity>_id. |",
    ):
        assert row in view.splitlines()


def test_every_command_is_in_the_reference_with_its_options() -> None:
    page = PAGES["reference/commands.md"]
    pending = [("ml-platform", typer.main.get_command(app))]
    while pending:
        path, command = pending.pop()
        pending += [(f"{path} {name}", found) for name, found in getattr(command, "commands", {}).items()]
        assert path == "ml-platform" or f"## `{path}`\n" in page, path
        for parameter in command.params:
            assert parameter.param_type_name != "option" or parameter.opts[0] in page, (path, parameter.name)


def test_every_setting_is_in_the_reference_and_no_path_of_this_machine() -> None:
    page = PAGES["reference/settings.md"]
    own = {*Settings.model_fields} - {"serving", "region", "webhooks"}
    assert all(f"| `ML_PLATFORM_{name.upper()}` |" in page for name in own)
    assert all(f"| `ML_PLATFORM_SERVING__{name.upper()}` |" in page for name in ServingSettings.model_fields)
    assert not [path for path, text in PAGES.items() if str(PROJECT_ROOT) in text or str(Path.home()) in text]
