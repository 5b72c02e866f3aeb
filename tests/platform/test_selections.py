"""The selections that the documents name find assets, and only those that they are said to find."""

import re

import dagster as dg
import pytest

from tests.documents import DOCS
from tests.support import all_assets

pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.BetaWarning"
)  # Dagster's own, of how it reads a selection
PAGE = DOCS / "how_to" / "find_assets.md"
SELECTIONS = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", PAGE.read_text(), re.MULTILINE))


def found_by(selection: str) -> set[str]:
    graph = all_assets().asset_layer.asset_graph
    return {key.to_user_string() for key in dg.AssetSelection.from_string(selection).resolve(graph)}


@pytest.mark.parametrize("selection", SELECTIONS.values())
def test_a_selection_of_the_documents_finds_assets(selection: str) -> None:
    assert found_by(selection)


def test_what_the_champion_is_made_of_is_of_its_use_case_and_the_registry() -> None:
    found = found_by(SELECTIONS["all that the champion is made of"])
    assert {"releases/fraud", "models/fraud", "features/terminal_risk", "sources/fraud_labels"} <= found
    assert not {key for key in found if "demand" in key}


def test_stages_and_kinds_are_told_apart() -> None:
    assert found_by(SELECTIONS["one stage of all use cases"]) == {"models/demand", "models/fraud"}
    refused = found_by(SELECTIONS["what says whether a use case may go on"])
    assert refused == {"models/fraud", "drift_profiles/fraud"}
