"""An expectation that no partition could be judged by is refused when definitions load, where it is declared."""

from typing import Any

import pytest
from pydantic import ValidationError

from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.expectations import Expectation
from ml_platform.kernel.lineage import Upstream
from ml_platform.kernel.spec import NamedSpec
from ml_platform.lake.expectation_checks import check_expectations
from ml_platform.sources.spec import SourceSpec

COLUMNS = {
    "amount": "double",
    "count": "int64",
    "label": "string",
    "valid": "boolean",
    "event_timestamp": "timestamp",
}
REFERENCE = {"column": "count", "references": {"source": "terminals", "column": "terminal_id"}}


@pytest.mark.parametrize(
    "declared",
    [
        {"column": "event_timestamp", "not_null": True},
        {"column": "count", "between": [None, 1e300]},
        {"column": "valid", "one_of": [True]},
        {"column": "label", "one_of": ["a", "it's"]},
        {"column": "label", "matches": r"\p{Lu}[a-z]+"},
        {"sql": "amount < count OR label LIKE 'a%' OR valid"},
        {"sql": "epoch_us(event_timestamp) // 1000000 > log(amount) / count"},
        {"sql": "event_timestamp > '2018-04-01'"},
        {"sql": "CAST(label AS INTEGER) > 0"},
        REFERENCE,
        {"rows_within": {"of_mean": 0.5}},
        {"fresh_within": "6h"},
        {"schema": True},
    ],
)
def test_what_the_engine_can_judge_is_taken(declared: dict[str, Any]) -> None:
    check_expectations([Expectation.model_validate(declared)], columns=COLUMNS, owner="")


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ({"column": "amuont", "not_null": True}, r"\.column must be one of \['amount', .*got 'amuont'"),
        ({"column": "label", "between": [0, 1]}, "between is for numbers; 'label' is a string"),
        ({"column": "label", "one_of": ["a", 1]}, "'label' is a string, so texts are required"),
        ({"column": "count", "one_of": ["a"]}, "Could not convert string 'a'"),
        ({"column": "label", "matches": "[a"}, r"missing \]: \[a"),
        ({"column": "label", "matches": "(?=a)b"}, "invalid perl operator"),
        ({"column": "count", "matches": "1"}, "No function matches .*regexp_full_match"),
        ({"column": "count", "references": {"file": "a.csv", "column": "b"}}, "from its folder; in Python"),
        ({"sql": "amuont > 1"}, r"may read amount, count, .*reads \['amuont'\]"),
        ({"sql": "amount >"}, "does not parse"),
        ({"sql": "sum(amount) > 1"}, "reads more than one"),
        ({"sql": "event_timestamp < now()"}, "whenever it is asked; .* has NOW()"),
        ({"sql": "random() < 0.5"}, "whenever it is asked; .* has RANDOM()"),
        ({"sql": "amount < 'x'"}, "Could not convert string 'x' to DOUBLE"),
        ({"sql": "label > 3"}, "Cannot compare values of type VARCHAR"),
        ({"sql": "levensthein(label, 'a') < 3"}, "Function with name levensthein does not exist"),
        ({"sql": "regexp_matches(label, '[')"}, r"missing \]"),
        ({"sql": "count"}, "'count' is a BIGINT, not true or false"),
    ],
)
def test_what_it_cannot_is_refused_with_its_place(declared: dict[str, Any], why: str) -> None:
    good = Expectation(rows_at_least=1)
    with pytest.raises(DeclarationError, match=f"View 'v': expectations.1.*{why}"):
        check_expectations([good, Expectation.model_validate(declared)], columns=COLUMNS, owner="View 'v': ")


def source(name: str = "payments", *expectations: dict[str, Any], **fields: Any) -> SourceSpec:
    declared = {
        "name": name,
        "event_id": "id",
        "columns": {
            "id": {"type": "int64"},
            "event_timestamp": {"type": "timestamp"},
            "terminal_id": {"type": "int64"},
            "city": {"type": "string"},
        },
        "start": "2018-06-01",
        "expectations": expectations,
    }
    return SourceSpec.model_validate(declared | fields)


def view(name: str = "risk", *expectations: dict[str, Any], **fields: Any) -> FeatureViewSpec:
    declared = {
        "name": name,
        "entity": "terminal",
        "source": "payments",
        "aggregations": [{"column": "id", "function": "count", "windows": ["1d"]}],
        "ttl": "3d",
        "expectations": expectations,
    }
    return FeatureViewSpec.model_validate(declared | fields)


def references(column: str = "terminal_id", **where: str) -> dict[str, Any]:
    return {"column": column, "references": {"column": "terminal_id", **where}}


def catalog(*specs: NamedSpec) -> Catalog:
    return Catalog({(type(spec), spec.name): spec for spec in specs})


def test_a_source_is_refused_while_its_file_is_read() -> None:
    with pytest.raises(ValidationError, match=r"expectations\.0\.column must be one of .*got 'amount'"):
        source("payments", {"column": "amount", "not_null": True})


def test_what_is_referenced_is_a_dependency_in_the_graph() -> None:
    found = catalog(source("terminals"), source("payments", references(source="terminals")))
    node = found.node("sources/payments")
    assert node.references == node.dependencies == (Upstream("sources/terminals", keys=("terminal_id",)),)
    assert node.upstream == ()


def test_a_view_may_reference_sources_and_other_views() -> None:
    mine = [references(source="terminals"), references(view="others"), references(source="payments")]
    found = catalog(source("terminals"), source(), view("others"), view("risk", *mine))
    keys = ["sources/payments", "sources/terminals", "features/others"]
    assert [upstream.key for upstream in found.node("features/risk").dependencies] == keys


@pytest.mark.parametrize(
    ("asking", "why"),
    [
        (source("payments", references(source="payments")), "must name something else than sources/payments"),
        (
            source("payments", references(view="risk")),
            "must be a source or a file: views are made of sources",
        ),
        (
            source("payments", references(source="terminal")),
            "Source 'terminal' is required.*did you mean terminals",
        ),
        (
            source("payments", {"column": "id", "references": {"source": "terminals", "column": "town"}}),
            r"\.column must be one of \['city', .*those of sources/terminals; got 'town'",
        ),
        (
            source("payments", references("city", source="terminals")),
            "the column is a string, and sources/terminals.terminal_id is a int64",
        ),
        (source("payments", references(source="labels")), "days of sources/labels are complete 7 days later"),
        (view("risk", references(source="labels")), "days of sources/labels are complete 7 days later"),
        (view("risk", references(view="risk")), "must name something else than features/risk"),
    ],
)
def test_a_reference_that_cannot_be_asked_is_refused(asking: NamedSpec, why: str) -> None:
    found = catalog(source("terminals"), source("labels", maturity="7d"), source(), asking)
    with pytest.raises(DeclarationError, match=rf"'{asking.name}': expectations\.0\.references.*{why}"):
        _ = found.lineage


def test_labels_may_reference_what_was_complete_before_them() -> None:
    found = catalog(source(), source("labels", references(source="payments"), maturity="7d"))
    assert found.node("sources/labels").references == (Upstream("sources/payments", keys=("terminal_id",)),)


def test_a_snapshot_is_never_fresh() -> None:
    with pytest.raises(
        DeclarationError, match=r"FeatureView 'risk': expectations\.0: fresh_within is for events"
    ):
        _ = catalog(source(), view("risk", {"fresh_within": "6h"})).lineage
    by_event = view("risk", {"fresh_within": "6h"}, accuracy="event")
    assert catalog(source(), by_event).node("features/risk").upstream
