"""What the documents show can be declared as it stands there."""

import re
from pathlib import Path
from typing import Any, get_args

import yaml

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.expectations import ColumnKind, RowsKind
from ml_platform.kernel.settings import PROJECT_ROOT
from ml_platform.sources.spec import SourceSpec
from tests.documents import fenced

EXPECTATIONS = (PROJECT_ROOT / "docs" / "expectations.md").read_text()
KINDS = {*get_args(ColumnKind), *get_args(RowsKind)}
TERMINALS = {"terminal_id": "int64", "event_timestamp": "timestamp"}
TRANSACTIONS = {
    "transaction_id": "int64",
    "customer_id": "int64",
    "amount": "double",
    "channel": "string",
    "merchant": "string",
    **TERMINALS,
}


def source(name: str, columns: dict[str, str], expectations: list[Any], folder: Path) -> SourceSpec:
    declared = {
        "name": name,
        "event_id": next(iter(columns)),
        "columns": {column: {"type": kind} for column, kind in columns.items()},
        "start": "2018-04-01",
        "expectations": expectations,
    }
    return SourceSpec.model_validate(declared, context={"folder": folder})


def test_every_kind_of_expectation_is_shown_and_can_be_declared_as_shown(tmp_path: Path) -> None:
    (tmp_path / "channels.csv").write_text("channel\nchip\nonline\n")
    blocks = fenced(EXPECTATIONS, "yaml")
    shown = [yaml.safe_load(f"expectations:\n{block.replace('  expectations:', '')}") for block in blocks]
    assert len(shown) == 2
    specs = [source("transactions", TRANSACTIONS, block["expectations"], tmp_path) for block in shown]
    for spec in specs:
        others = (source("terminals", TERMINALS, [], tmp_path), spec)
        catalog = Catalog({(SourceSpec, one.name): one for one in others})
        assert set(catalog.lineage.nodes) == {"sources/terminals", "sources/transactions"}
    assert {expectation.kind for expectation in specs[0].expectations} == KINDS
    assert [expectation.blocks for expectation in specs[1].expectations] == [True, False, False]


def test_every_kind_of_expectation_is_explained() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", EXPECTATIONS, re.MULTILINE)) == KINDS
