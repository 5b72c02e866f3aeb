"""What can be declared about feedback, and what follows for the graph."""

import pytest
import yaml
from pydantic import ValidationError

from ml_platform import declarations
from ml_platform.feedback.spec import FeedbackSpec
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.lineage import Upstream
from ml_platform.kernel.settings import PROJECT_ROOT
from tests.documents import fenced


def test_the_declared_feedback_reads_what_its_windows_need() -> None:
    catalog = declarations.load()
    lineage = catalog.lineage
    outcomes, performance = (lineage.node(f"feedback/fraud_{what}") for what in ("outcomes", "performance"))
    assert outcomes.lag == performance.lag == 7, "the labels' maturity"
    assert outcomes.upstream == (
        Upstream("feedback/fraud_prediction_log"),
        Upstream("sources/fraud_labels", first=-1, latest_truth=True),
    )
    assert performance.upstream == (Upstream("feedback/fraud_outcomes", first=-6),)


def test_nothing_of_feedback_holds_anything_up() -> None:
    lineage = declarations.load().lineage
    for key, node in lineage.nodes.items():
        if key.startswith("feedback/"):
            assert node.blocking_checks == ()
        assert not [up.key for up in node.dependencies if up.key.startswith("feedback/")] or key.startswith(
            "feedback/"
        )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("window", "36h", "window must be whole days"),
        ("window", "0s", "window must be one or more whole days"),
        ("event_lag", "1h", "event_lag must be whole days"),
        ("margin", -0.1, "greater than or equal to 0"),
        ("metric", "recall", "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_right_is_refused(field: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FeedbackSpec.model_validate({"name": "fraud", "model": "fraud", field: value})


def test_feedback_of_a_model_that_is_not_declared_is_refused_with_near_names() -> None:
    with pytest.raises(DeclarationError, match="Feedback 'fraud': Model 'frauds' is required"):
        FeedbackSpec(name="fraud", model="frauds").nodes(declarations.load())


def test_what_only_judges_changes_no_row() -> None:
    catalog = declarations.load()
    spec = catalog.get(FeedbackSpec, "fraud", wanted_by="a test")
    looser = spec.model_copy(update={"margin": 0.5, "score_bound": 0.5, "retrain": ("concept_drift",)})
    assert looser.declarations(catalog) == spec.declarations(catalog)
    assert [node.checks for node in looser.nodes(catalog)] != [node.checks for node in spec.nodes(catalog)]


def test_the_document_shows_what_can_be_declared_and_every_check() -> None:
    text, catalog = (PROJECT_ROOT / "docs" / "feedback.md").read_text(), declarations.load()
    (shown,) = fenced(text, "yaml")
    nodes = FeedbackSpec.model_validate(yaml.safe_load(shown)["attributes"]).nodes(catalog)
    assert [node.key for node in nodes if f"`{node.key}`" not in text] == []
    assert [check.name for node in nodes for check in node.checks if f"`{check.name}`" not in text] == []
