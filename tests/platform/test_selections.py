"""The selections that the documents name find assets, and only those that they are said to find."""

import re

import pytest

from tests.documents import DOCS
from tests.support import selected

PAGE = DOCS / "how_to" / "find_assets.md"
SELECTIONS = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", PAGE.read_text(), re.MULTILINE))


@pytest.mark.parametrize("selection", SELECTIONS.values())
def test_a_selection_of_the_documents_finds_assets(selection: str) -> None:
    assert selected(selection)


def test_what_the_champion_is_made_of_is_of_its_use_case_and_the_registry() -> None:
    found = selected(SELECTIONS["all that the champion is made of"])
    assert {"releases/fraud", "models/fraud", "features/terminal_risk", "sources/fraud_labels"} <= found
    assert not {key for key in found if "demand" in key}


def test_stages_and_kinds_are_told_apart() -> None:
    assert selected(SELECTIONS["one stage of all use cases"]) == {"models/demand", "models/fraud"}
    refused = selected(SELECTIONS["what says whether a use case may go on"])
    assert refused == {"models/fraud", "drift_profiles/fraud"}
