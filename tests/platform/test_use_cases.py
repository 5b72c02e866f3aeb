"""Use cases are declarations alone: the platform's own code knows none of them by name."""

import re
from pathlib import Path

import pytest

from ml_platform import declarations
from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.sources.spec import SourceSpec
from tests.support import all_assets

PLATFORM, DEMAND = declarations.defs_folder().parent, declarations.defs_folder() / "demand"
CITED = "Reproducible Machine Learning for Credit Card Fraud Detection"
WORDS = (
    r"fraud|payment|terminals\b|terminal_|customer|"
    r"(?<!on)(?<!on[-_ ])demand|\bplace_|\bregion_(id|demand|units)|\bslot_|\bkind_code|weather|temperature|"
    r"\bnotices?\b|festival|\bmalls?\b|forecasting"
)
"""Names, columns and things of the declared use cases.

A terminal is also where people type, a place where something is, a region where an object store is, and a slot what a
served version is in.
"""


def sources() -> list[Path]:
    files = [path for end in ("py", "sql", "html", "j2", "yaml") for path in PLATFORM.rglob(f"*.{end}")]
    return [path for path in files if declarations.defs_folder() not in path.parents]


def test_no_file_of_the_platform_names_what_a_use_case_is_about() -> None:
    assert len(sources()) > 150
    found = [
        f"{path.relative_to(PLATFORM)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(WORDS, line.replace(CITED, ""), re.IGNORECASE)
    ]
    assert found == []


def test_no_declared_name_or_column_is_in_the_platforms_code() -> None:
    catalog = declarations.load()
    own = {spec.name for spec in catalog.specs.values() if catalog.use_case(spec)}
    columns = {name for spec in catalog.all(SourceSpec) for name in spec.columns}
    features = {name for spec in catalog.all(FeatureServiceSpec) for name in spec.feature_names(catalog)}
    names = {name for name in own | columns | features if "_" in name} - {
        "event_timestamp",
        "created_timestamp",
    }
    assert {"place_demand", "customer_spending", "terminal_id", "slot_id"} <= names
    assert {"place_units_28d", "weather_code", "terminal_fraud_rate_7d", "is_night"} <= names
    code = "\n".join(path.read_text() for path in sources())
    assert [name for name in sorted(names) if re.search(rf"\b{name}\b", code)] == []


def test_assets_are_grouped_and_tagged_by_their_use_case() -> None:
    graph = all_assets().asset_layer.asset_graph
    for key, use_case in {
        "features/terminal_risk": "fraud",
        "models/fraud": "fraud",
        "releases/fraud": "fraud",
        "sources/transactions": "fraud",
        "features/region_demand": "demand",
        "online/place_demand": "demand",
        "models/demand": "demand",
        "sources/demand": "demand",
    }.items():
        node = graph.get(next(known for known in graph.get_all_asset_keys() if known.to_user_string() == key))
        assert (node.group_name, node.tags["ml_platform/use_case"]) == (use_case, use_case), key
        assert node.tags["ml_platform/stage"] == key.split("/")[0]


def test_two_use_cases_cannot_declare_one_name(tmp_path: Path) -> None:
    original = DEMAND / "sources/slots/defs.yaml"
    for use_case in ("demand", "other"):
        path = tmp_path / "defs" / use_case / "sources/slots/defs.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(original.read_text())
    with pytest.raises(
        DeclarationError, match=r"Source 'slots' is already declared in .*demand/sources/slots/defs.yaml"
    ):
        declarations.load(tmp_path)


def test_two_declarations_cannot_make_one_asset() -> None:
    slots = declarations.load().get(SourceSpec, "slots", wanted_by="a test")
    catalog = Catalog({(SourceSpec, "slots"): slots, (SourceSpec, "other"): slots})
    with pytest.raises(
        DeclarationError, match="an asset key of its own is required; 'sources/slots' is also made by"
    ):
        _ = catalog.lineage
