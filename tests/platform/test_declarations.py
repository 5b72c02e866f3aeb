"""What cannot be right is refused when definitions load, with the place and a way to mend it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml_platform import declarations
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.settings import Settings

SPENDING, RISK = "fraud/features/customer_spending", "fraud/features/terminal_risk"
PROJECT = """\
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "shop"
registry_modules = ["ml_platform.*.component"]
"""
DEFINITIONS = """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The declarations of this repository, as those of another project that may be spoilt."""
    shutil.copytree(declarations.defs_folder(), tmp_path / "shop" / "defs")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "definitions.py").write_text(DEFINITIONS)
    return tmp_path / "shop" / "defs"


def spoil(folder: Path, name: str, old: str, new: str) -> int:
    """Replace one text in one declaration; the number of its line."""
    path = folder / name / "defs.yaml"
    text = path.read_text()
    assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


def dg_check(*arguments: str, folder: Path, home: Settings) -> subprocess.CompletedProcess[str]:
    """Run `dg check` on the project, with this process's Python."""
    return subprocess.run(
        [Path(sys.executable).with_name("dg"), "check", *arguments],
        cwd=folder.parents[1],
        env={**os.environ, "DAGSTER_HOME": str(home.dagster_home), "PYTHONPATH": str(folder.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_declarations_are_right_before_they_are_spoilt(folder: Path) -> None:
    assert declarations.load(folder).lineage.nodes == declarations.load().lineage.nodes


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        pytest.param(
            SPENDING,
            "available_after: 1h",
            "availabel_after: 1h",
            r"attributes\.availabel_after: Extra inputs are not permitted",
            id="a typo in a field",
        ),
        pytest.param(
            SPENDING,
            "function: count, windows: [1d,",
            "function: count, windows: [0d,",
            r"attributes\.aggregations\.0: .*a window must be longer than zero; got 0",
            id="a window of zero",
        ),
        pytest.param(
            SPENDING,
            "function: count, windows: [1d,",
            "function: count, include_current: true, windows: [1d,",
            r"include_current is for accuracy `event`",
            id="a snapshot that counts the current event",
        ),
        pytest.param(
            SPENDING,
            "online: true",
            "accuracy: event\n  online: true",
            r"accuracy `event` is offline",
            id="features of events online",
        ),
        pytest.param(
            SPENDING,
            "function: count, windows: [1d,",
            "function: count, where: amuont > 10, windows: [1d,",
            r"aggregations\.0\.where may read transaction_id, .*reads \['amuont'\]",
            id="a filter over a column that does not exist",
        ),
        pytest.param(
            SPENDING,
            "  online: true",
            "  ratios: [{named: pace, numerator: customer_transactions_1d, denominator: customer_transactions_30}]\n"
            "  online: true",
            r"ratio 'pace' needs two numeric aggregates of the view: .*got 'customer_transactions_30'",
            id="a ratio over a feature that does not exist",
        ),
        pytest.param(
            SPENDING,
            "  aggregations:",
            "  sql: spending.sql\n  columns: {spent: double}\n  look_back: 7d\n  aggregations:",
            r"attributes\.sql: .*a file beside the declaration is required",
            id="SQL in a file that does not exist",
        ),
        pytest.param(
            SPENDING,
            "sql: customer_transactions_1d <= customer_transactions_7d",
            "sql: customer_transactions_1d <= customer_transactions_7",
            r"expectations\.5 may read customer_id, .*reads \['customer_transactions_7'\]",
            id="an expectation over a column that does not exist",
        ),
        pytest.param(
            RISK,
            "function: mean, windows: [1d, 7d, 30d], delay: 7d",
            "function: mean, windows: [1d, 7d, 30d], delay: 6d",
            r"aggregations\.1\.delay must be at least 7d, the maturity of 'fraud_labels'; got 6d",
            id="a delay shorter than the maturity of the labels",
        ),
        pytest.param(
            SPENDING,
            "source: transactions",
            "source: transaction",
            r"FeatureView 'customer_spending': Source 'transaction' is required.*did you mean transactions\?",
            id="an unknown source",
        ),
        pytest.param(
            SPENDING,
            "column: amount, function: mean",
            "column: amont, function: mean",
            r"aggregations\.1\.column 'amont' is not among \['amount', ",
            id="an unknown column",
        ),
        pytest.param(
            SPENDING,
            "entity: customer",
            "entity: client",
            r"join key 'client_id' is required among the columns of source 'transactions'",
            id="an entity that the source does not know",
        ),
        pytest.param(
            SPENDING,
            "named: customer_mean_amount",
            "named: customer_transactions",
            r"one name per feature is required; \['customer_transactions_1d', .* come twice; .*`named:`",
            id="two features of a view with one name",
        ),
        pytest.param(
            RISK,
            "named: terminal_transactions",
            "named: customer_transactions",
            r"FeatureService 'fraud_scoring': one name per feature is required; \['customer_transactions_1d'",
            id="two features of a service with one name",
        ),
        pytest.param(
            "fraud/drift_profiles/fraud",
            "calendar: [is_weekend]",
            "calendar: [weekend]",
            r"DriftProfile 'fraud': calendar, categories and same_weekday must be features.*got also \['weekend'\]",
            id="a calendar feature that is none",
        ),
        pytest.param(
            "fraud/training_sets/fraud",
            "label: is_fraud",
            "label: fraud",
            r"label must be a column of 'fraud_labels' \(.*is_fraud.*\); got 'fraud'",
            id="an unknown label",
        ),
        pytest.param(
            "fraud/models/fraud",
            "HistGradientBoostingClassifier",
            "HistGradientBostingClassifier",
            r"attributes\.estimator: .*sklearn\.ensemble has no 'HistGradientBostingClassifier'; "
            r"did you mean HistGradientBoostingClassifier",
            id="an estimator that does not exist",
        ),
        pytest.param(
            "fraud/models/fraud",
            "sklearn.ensemble",
            "sklearn.ensembles",
            r"sklearn has no module 'ensembles'; did you mean ensemble\?",
            id="an estimator of a module that does not exist",
        ),
        pytest.param(
            "fraud/models/fraud",
            "sklearn.ensemble",
            "cuml.ensemble",
            r"an installed package is required; there is no 'cuml'",
            id="an estimator of a package that is not installed",
        ),
        pytest.param(
            "fraud/models/fraud",
            "type: ml_platform.models.component.Model",
            "type: ml_platform.model.component.Model",
            r"type 'ml_platform\.model\.component\.Model' is required to exist",
            id="a type that does not exist",
        ),
    ],
)
def test_a_declaration_is_refused(folder: Path, name: str, old: str, new: str, message: str) -> None:
    spoil(folder, name, old, new)
    with pytest.raises(DeclarationError, match=f"(?s){message}"):
        assert declarations.load(folder).lineage


def test_two_views_with_one_name_are_refused_and_both_files_are_named(folder: Path) -> None:
    shutil.copytree(folder / SPENDING, folder / "fraud/features/spending_again")
    first, second = (
        str(folder / SPENDING / "defs.yaml"),
        str(folder / "fraud/features/spending_again/defs.yaml"),
    )
    said = f"{second}: .* FeatureView 'customer_spending' is already declared in {first}; rename one"
    with pytest.raises(DeclarationError, match=said):
        declarations.load(folder)


def test_a_refused_declaration_names_its_file(folder: Path) -> None:
    spoil(folder, SPENDING, "ttl: 3d", "ttl: soon")
    with pytest.raises(DeclarationError, match=re.escape(str(folder / SPENDING / "defs.yaml"))):
        declarations.load(folder)


def test_dg_check_yaml_points_at_file_and_line(folder: Path, home: Settings) -> None:
    line = spoil(folder, SPENDING, "available_after: 1h", "availabel_after: 1h")
    # Without a path, dg 1.13 looks at one file of each type; `dg check defs` looks at all (the test below).
    done = dg_check("yaml", str(folder / SPENDING), folder=folder, home=home)
    assert done.returncode == 1
    place = f"{folder / SPENDING / 'defs.yaml'}:{line} - ml_platform.features.component.FeatureView"
    assert place in done.stdout
    assert "'availabel_after' was unexpected" in done.stdout


def test_dg_check_defs_points_at_file_and_line_of_a_typo_in_any_declaration(
    folder: Path, home: Settings
) -> None:
    line = spoil(folder, SPENDING, "available_after: 1h", "availabel_after: 1h")
    done = dg_check("defs", folder=folder, home=home)
    assert done.returncode == 1
    assert (
        f"attributes.availabel_after at {folder / SPENDING / 'defs.yaml'}:{line}" in done.stdout + done.stderr
    )


def test_dg_check_defs_points_at_file_and_line_of_what_a_schema_cannot_say(
    folder: Path, home: Settings
) -> None:
    line = spoil(folder, "fraud/models/fraud", "HistGradientBoosting", "HistGradientBosting")
    done = dg_check("defs", folder=folder, home=home)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"attributes.estimator at {folder / 'fraud/models/fraud/defs.yaml'}:{line}" in said
    assert "did you mean HistGradientBoostingClassifier" in said
