"""The model card of a version says what the graph knows, and who let what through on the way."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
from typer.testing import CliRunner

from ml_platform.cli.main import app
from ml_platform.gates.acceptances import Acceptance, accept
from ml_platform.gates.outcomes import Evaluation
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.model_registry import registry
from ml_platform.models.card import (
    LONGEST_SUMMARY,
    DriftFact,
    Facts,
    FeatureFact,
    GateFact,
    WayOut,
    render,
    summary,
)
from tests.built import Platform
from tests.support import LAST_DAY

MODEL, PROFILE = "models/fraud", "drift_profiles/fraud"
MANIFEST = {
    "known_at": "2018-06-27T00:00:00+00:00",
    "split": {
        "train": ["2018-05-09", "2018-06-05"],
        "gap": ["2018-06-06", "2018-06-12"],
        "test": ["2018-06-13", "2018-06-19"],
    },
    "rows": {"train": {"rows": 20_000, "positives": 100}, "test": {"rows": 5_000, "positives": 25}},
    "rows_without_label": 12,
    "content_hash": "abc",
    "declarations": {"TrainingSet/fraud": "d1"},
    "code": {"ml_platform": "c1"},
}
FACTS = Facts(
    model="fraud",
    version=3,
    partition="2018-06-26",
    description="The probability that a transaction is fraud.",
    owners=("team:payments-risk",),
    made={"estimator": "sklearn.linear_model.LogisticRegression"},
    labels="sources/fraud_labels.is_fraud, final 7d after the event",
    missing="default",
    features=(
        FeatureFact("amount", "double", "what was paid", "fraud_scoring", ("sources/transactions.amount",)),
    ),
    manifest=MANIFEST,
    evaluation={
        "metrics": {"auc_roc": {"value": 0.875, "low": 0.85, "high": 0.9}, "rows": {"value": 5000.0}},
        "slices": [
            {"name": "night", "where": "is_night = 1 | x", "rows": 900, "positives": 0, "value": None}
        ],
        "calibration": {"error": 0.0123, "bins": [{"low": 0.0, "high": 0.1, "rows": 4000}]},
        "latency": {"p99_ms": 0.05},
    },
    parity="5,000 rows, at most 1e-07 apart",
    drift=(
        DriftFact(
            PROFILE,
            "2018-05-09 … 2018-06-26",
            {"passed": 48, "accepted": 1},
            (("amount", "2018-06-01", 0.03, 0.04),),
        ),
    ),
    gates=(GateFact(PROFILE, "drift", "2018-05-09 … 2018-06-26", 49, 0, "2018-06-27 01:00 UTC", "0123abcd"),),
    ways_out=(
        WayOut("accept", PROFILE, "drift", "ann", "prices | went <up>", "amount: ks 0.05", "", "2018-06-01"),
    ),
    lineage="models/fraud [2018-06-26]\n  training_sets/fraud [2018-06-26]",
    releases=("fraud",),
)


def cell(markdown: str, row: str) -> list[str]:
    """The cells of the table row that begins with a word."""
    (line,) = [line for line in markdown.splitlines() if line.startswith(f"| {row} |")]
    return [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]


def section(markdown: str, title: str) -> str:
    return markdown.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


def printed(model: str) -> str:
    result = CliRunner().invoke(app, ["models", "card", model])
    assert result.exit_code == 0, result.output
    return result.stdout


def version(platform: Platform, number: int = 1) -> registry.Registered:
    return registry.version(platform.settings, "fraud", number)


def test_a_card_has_every_number_with_its_interval_and_what_cannot_be_measured_as_such() -> None:
    card = render(FACTS)
    assert card.startswith("# fraud, version 3\n")
    assert cell(section(card, "Metrics"), "auc_roc") == ["auc_roc", "0.8750", "0.8500 … 0.9000"]
    assert cell(section(card, "Metrics"), "rows") == ["rows", "5,000", ""]
    assert cell(section(card, "Slices"), "night")[1:] == [
        r"is_night = 1 \| x",
        "900",
        "0",
        "not measurable",
        "",
    ]
    assert cell(section(card, "Calibration"), "error") == ["error", "0.0123"]
    assert cell(section(card, "Training and evaluation data"), "train") == [
        "train",
        "2018-05-09 … 2018-06-05",
        "20,000",
        "100",
        "0.500%",
    ]
    assert "48 passed, 1 accepted" in section(card, "Drift on the days that gate it")
    assert cell(section(card, "Ways out taken"), "accept")[4:6] == ["ann", r"prices \| went &lt;up&gt;"]
    assert "ml-platform releases rollback fraud --to 3 --reason" in section(card, "To roll back")
    assert "ml-platform training-sets rebuild --model fraud@3" in card


def test_a_card_is_the_same_for_the_same_facts_and_says_what_was_not_done() -> None:
    assert render(FACTS) == render(replace(FACTS))
    bare = replace(FACTS, evaluation={"metrics": {}}, drift=(), ways_out=(), description="")
    card = render(bare)
    assert section(card, "Slices") == "none declared"
    assert section(card, "Calibration") == "not measured"
    assert section(card, "Ways out taken").startswith("None: ")
    assert section(card, "Intended use") == "not declared"


def test_a_summary_fits_a_description_and_ends_with_where_the_rest_is() -> None:
    long = replace(FACTS, description="fraud " * 2000)
    for facts in (FACTS, long):
        short = summary(facts)
        assert len(short) <= LONGEST_SUMMARY
        assert short.rstrip().endswith("`ml-platform models card fraud@3`.")
    assert "Ways out of closed gates that were taken for what it was made from: 1." in summary(FACTS)


def test_the_card_of_a_version_has_the_numbers_of_its_manifest_and_its_run(shared: Platform) -> None:
    card = printed("fraud@1")
    manifest: Mapping[str, Any] = registry.load_document(shared.settings, version(shared), "manifest.json")
    data = section(card, "Training and evaluation data")
    for part in ("train", "test"):
        counted = manifest["rows"][part]
        assert cell(data, part)[1:4] == [
            " … ".join(manifest["split"][part]),
            f"{counted['rows']:,}",
            f"{counted['positives']:,}",
        ]
    assert "sources/fraud_labels.is_fraud, final 7d after the event" in data
    assert f"without label: {manifest['rows_without_label']:,}." in data
    details = section(card, "Model details")
    assert cell(details, "MLflow run")[1] == version(shared).run_id
    hashes = section(card, "What exactly it was made with")
    assert cell(hashes, "content of the training set")[1] == manifest["content_hash"]
    assert all(cell(hashes, f"declaration {name}") for name in manifest["declarations"])
    assert cell(details, "owners")[1] == "team:payments-risk"


def test_the_card_has_what_was_measured_of_the_version_with_its_intervals(shared: Platform) -> None:
    card, found = (
        printed("fraud@1"),
        registry.load_document(shared.settings, version(shared), "evaluation.json"),
    )
    logged = registry.metrics(shared.settings, version(shared))
    for name, one in found["metrics"].items():
        _, value, interval = cell(section(card, "Metrics"), name)
        assert float(value.replace(",", "")) == round(one["value"], 4) == round(logged[name], 4)
        ends = [float(end) for end in interval.split(" … ")] if interval else []
        assert ends == ([round(one["low"], 4), round(one["high"], 4)] if "low" in one else [])
    assert len(re.findall(" … ", section(card, "Metrics"))) >= 4
    for part in found["slices"]:
        assert cell(section(card, "Slices"), part["name"])[2:4] == [
            f"{part['rows']:,}",
            f"{part['positives']:,}",
        ]
    error = cell(section(card, "Calibration"), "error")[1]
    assert float(error) == round(found["calibration"]["error"], 4)
    assert f"p99_ms {found['latency']['p99_ms']:.4f}" in section(card, "Metrics")


def test_the_card_follows_every_feature_to_the_columns_of_its_sources(shared: Platform) -> None:
    features = section(printed("fraud"), "Features")
    contract = registry.load_document(shared.settings, version(shared), "contract.json")
    rows = [cell(features, name) for name in contract["features"]]
    assert all(row[-1].startswith("sources/") for row in rows), rows
    risk = cell(features, "terminal_fraud_rate_7d")
    assert risk[1:4] == ["double", "mean of is_fraud over 7d, ending 7d before", "features/terminal_risk"]
    assert "sources/fraud_labels.is_fraud" in risk[4] and "sources/transactions.terminal_id" in risk[4]
    assert "sources/transactions.customer_id" in cell(features, "amount_over_mean_30d")[4], "of the mean"


def test_the_card_counts_every_gate_upstream_and_how_the_profiles_were_judged(shared: Platform) -> None:
    card = printed("fraud@champion")
    gates = section(card, "Gates")
    manifest = registry.load_document(shared.settings, version(shared), "manifest.json")
    for asset in (*(entry["asset"] for entry in manifest["inputs"]), "training_sets/fraud", PROFILE):
        assert re.search(rf"^\| {asset} \| \w+ \| [^|]* \| \d+ \| 0 \| 20\d\d-", gates, re.MULTILINE), asset
    profiled = cell(gates, PROFILE)
    drift = section(card, "Drift on the days that gate it")
    passed, unjudged = (int(re.findall(rf"(\d+) {kind}", drift)[0]) for kind in ("passed", "not judged"))
    assert passed + unjudged == int(profiled[3])
    assert len(re.findall(r"^\| \w+ \| 2018-", drift, re.MULTILINE)) == 5
    assert section(card, "Ways out taken").startswith("None: ")
    tree = section(card, "Where it comes from")
    assert f"models/fraud [{LAST_DAY}]" in tree and "\n      sources/transactions [" in tree


def test_the_card_is_with_the_run_the_version_and_the_asset(shared: Platform) -> None:
    card, _, released = printed("fraud@1").partition("\n## Releases\n")
    assert "promoted, version none to 1" in released
    assert shared.newest_metadata(MODEL, LAST_DAY)["model_card"] == card
    assert registry.load_text(shared.settings, version(shared), "model_card.md") == card
    said = CliRunner().invoke(app, ["models", "card", "fraud@1"]).stderr
    assert said.split() == ["fraud", "version", "1,", "champion"]
    described = registry.client(shared.settings).get_model_version("fraud", "1").description
    assert "ml-platform models card fraud@1" in described and "auc_roc" in described


def test_the_card_of_the_next_version_names_who_accepted_what_it_was_made_from(platform: Platform) -> None:
    before = printed("fraud@1")
    key = dg.AssetKey(PROFILE.split("/"))
    target = materialization_targets(platform.instance, key, [LAST_DAY])[LAST_DAY]
    content = platform.hashes(PROFILE)[LAST_DAY]
    check = platform.catalog.lineage.node(PROFILE).check("drift")
    assert check is not None
    failed = Evaluation(
        "drift",
        passed=False,
        observed="amount: ks 0.0965",
        metadata={"judged": content},
        declared=check.digest,
    )
    report_evaluation(platform.instance, evaluation_event(key, LAST_DAY, failed, target))
    accept(
        platform.instance,
        platform.lake,
        Acceptance(PROFILE, "drift", LAST_DAY, "prices went up, and stay up", "ann"),
    )
    platform.make(MODEL, LAST_DAY)
    assert cell(section(printed("fraud@2"), "Ways out taken"), "accept")[1:] == [
        PROFILE,
        "drift",
        LAST_DAY,
        "ann",
        "prices went up, and stay up",
        "amount: ks 0.0965",
    ]
    assert printed("fraud@1") == before and "ann" not in before


def test_a_version_that_is_not_there_is_told_with_those_that_are(shared: Platform) -> None:
    result = CliRunner().invoke(app, ["models", "card", "fraud@7"])
    assert result.exit_code == 1
    assert "aliases: champion; versions: 1" in " ".join(result.output.split())
