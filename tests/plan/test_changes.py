"""What a change does is told before it is merged: what is added, stale, affected, and what is lost online."""

import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform import declarations
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.lineage import Lineage
from ml_platform.plan.changes import Change, Changes, compare
from ml_platform.plan.description import Description, describe
from ml_platform.plan.destroyed import Champion
from ml_platform.plan.effects import Affected
from ml_platform.plan.fields import differences
from ml_platform.plan.report import Plan

CUSTOMERS, TERMINALS, SCORING = (
    f"features/{name}" for name in ("customer_spending", "terminal_risk", "fraud_scoring")
)
CONTEXT, MODEL = "features/transaction_context", "models/fraud"
Edit = Callable[..., Changes]


@cache
def before() -> Description:
    return describe(declarations.load())


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Description]:
    """The project's description with texts of declarations replaced: `(name, old, new)` each."""

    def description(*edits: tuple[str, str, str], without: tuple[str, ...] = ()) -> Description:
        folder = tmp_path / "defs"
        shutil.copytree(declarations.defs_folder(), folder)
        for name, old, new in edits:
            path = folder / "fraud" / name / "defs.yaml"
            text = path.read_text()
            assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
            path.write_text(text.replace(old, new))
        for name in without:
            shutil.rmtree(folder / "fraud" / name)
        return describe(declarations.load(folder), tmp_path)

    return description


@pytest.fixture
def edit(edited: Callable[..., Description]) -> Edit:
    """What such a change does, where nothing is published."""
    return lambda *edits, without=(): compare(before(), edited(*edits, without=without))


def told(changes: Sequence[Change]) -> list[str]:
    return [f"{found.change} {found.what}" for found in changes]


def assets(affected: Sequence[Affected]) -> list[str]:
    return [found.asset for found in affected]


ANOTHER_WINDOW = (
    CUSTOMERS,
    "  online: true",
    "    - {column: amount, function: sum, windows: [14d], named: customer_spent}\n  online: true",
)


def test_no_change_does_nothing() -> None:
    assert compare(before(), before()).nothing
    assert Plan(compare(before(), before()), "main", "nothing").verdict == "nothing changes"


def test_an_added_feature_makes_its_view_stale_and_what_reads_it_follows_down_to_the_model(
    edit: Edit,
) -> None:
    changes = edit(ANOTHER_WINDOW)
    assert told(changes.features) == ["added customer_spending.customer_spent_14d"]
    assert changes.features[0].detail == "double, sum of amount over 14d"
    assert told(changes.columns) == ["added training_sets/fraud.customer_spent_14d"]
    (view,) = changes.stale
    assert (view.asset, view.reason) == (CUSTOMERS, "declared otherwise: aggregations")
    assert view.partitions is not None
    assert (len(view.partitions), view.partitions[0], view.partitions[-1]) == (
        185,
        "2018-04-01",
        "2018-10-02",
    )
    assert assets(changes.follows) == ["drift_profiles/fraud", "training_sets/fraud"]
    assert assets(changes.models) == ["models/fraud"]
    assert assets(changes.online) == ["online/feature_registry", "online/customer_spending"]
    assert changes.destroyed == ()


def test_a_longer_window_is_another_feature_and_the_old_one_is_lost_online(edit: Edit) -> None:
    changes = edit(
        (CUSTOMERS, "function: mean, windows: [1d, 7d, 30d]", "function: mean, windows: [1d, 14d, 30d]")
    )
    assert told(changes.features) == [
        "added customer_spending.customer_mean_amount_14d",
        "removed customer_spending.customer_mean_amount_7d",
    ]
    assert [change.detail for change in changes.declarations] == [
        'aggregations.1.windows: ["1d", "7d", "30d"] → ["1d", "14d", "30d"]'
    ]
    assert changes.destroyed == (
        "FeatureView customer_spending loses customer_mean_amount_7d",
        "FeatureService fraud_scoring loses customer_mean_amount_7d, which models/fraud reads",
    )


def test_another_delay_of_the_same_name_destroys_nothing_and_gives_the_champion_other_values(
    edit: Edit,
) -> None:
    changes = edit(
        (
            TERMINALS,
            "function: count, windows: [1d, 7d, 30d], delay: 7d",
            "function: count, windows: [1d, 7d, 30d], delay: 8d",
        )
    )
    assert told(changes.features) == [
        f"changed terminal_risk.terminal_transactions_{window}" for window in ("1d", "30d", "7d")
    ]
    assert changes.features[0].detail == (
        "int64, count of transaction_id over 1d, ending 7d before → "
        "int64, count of transaction_id over 1d, ending 8d before"
    )
    assert changes.destroyed == ()
    (renewed,) = changes.renewed
    assert (renewed.asset, renewed.reason) == (
        "models/fraud",
        "other values of terminal_transactions_1d, terminal_transactions_7d, terminal_transactions_30d",
    )


def test_one_more_feature_gives_nobody_other_values(edit: Edit) -> None:
    assert edit(ANOTHER_WINDOW).renewed == ()


def test_a_file_that_was_moved_changes_nothing() -> None:
    name = "FeatureView customer_spending"
    declarations = before().declarations
    moved = {**declarations, name: declarations[name].model_copy(update={"file": "elsewhere/defs.yaml"})}
    assert compare(before(), before().model_copy(update={"declarations": moved})).nothing


def test_another_function_of_the_same_name_gives_the_champion_other_values() -> None:
    name = "transaction_context"
    code = {**before().on_demand_code, name: (before().on_demand_code[name][0], "another")}
    changes = compare(before(), before().model_copy(update={"on_demand_code": code}))
    (renewed,) = changes.renewed
    assert renewed.reason == f"other values of {', '.join(before().on_demand[name])}"


@pytest.mark.parametrize("field", ["description: How often", "owners: ["])
def test_other_words_change_no_row_and_nobody_follows(edit: Edit, field: str) -> None:
    changes = edit(
        (CUSTOMERS, field, field.replace("How often", "How often, say,").replace("[", '["a@b.org", '))
    )
    (view,) = changes.stale
    assert view.asset == CUSTOMERS and view.reason.endswith("; the rows would be the same")
    assert (changes.follows, changes.models, changes.online[1:], changes.destroyed) == ((), (), (), ())


def test_another_expectation_is_a_check_to_be_asked_again_and_no_other_row(edit: Edit) -> None:
    changes = edit((CUSTOMERS, "between: [0, 10000]", "between: [0, 9000]"))
    (check,) = changes.checks
    assert (check.change, check.what) == ("changed", f"{CUSTOMERS} quality")
    assert check.detail == (
        f"what is published counts as not evaluated until then: ml-platform gate recheck {CUSTOMERS} --reason …"
    )
    assert (changes.follows, changes.models) == ((), ())


@pytest.mark.parametrize(
    ("edits", "lost"),
    [
        pytest.param(
            [(CUSTOMERS, "online: true", "online: false")],
            "FeatureView customer_spending is no longer published online",
            id="a view that goes offline",
        ),
        pytest.param(
            [
                (CUSTOMERS, "entity: customer", "entity: customer\n  join_key: terminal_id"),
                (CUSTOMERS, "column: customer_id, unique", "column: terminal_id, unique"),
            ],
            "FeatureView customer_spending is asked by terminal_id, and no longer by customer_id",
            id="another key",
        ),
        pytest.param(
            [
                (CUSTOMERS, "entity: customer", "entities: [customer, terminal]"),
                (MODEL, "entity: customer", "entity: customer_terminal"),
            ],
            "FeatureView customer_spending is asked by customer_id and terminal_id, and no longer by customer_id",
            id="one key more",
        ),
        pytest.param(
            [("sources/transactions", "customer_id: {type: int64", "customer_id: {type: string")],
            "FeatureView customer_spending: its key customer_id becomes string, and was int64: rows that are online "
            "are not found any more",
            id="a key of another type",
        ),
        pytest.param(
            [(CONTEXT, "amount: {type: double}", "amount: {type: int64}")],
            "FeatureService fraud_scoring asks for amount as int64, and no longer as double",
            id="a request value of another type",
        ),
        pytest.param(
            [(CUSTOMERS, "{column: amount, function: count,", "{column: amount, function: max,")],
            "FeatureView customer_spending: customer_transactions_1d becomes double, and was int64",
            id="another type",
        ),
        pytest.param(
            [
                (CONTEXT, "    is_night: double\n", ""),
                (MODEL, "    - {name: night, where: is_night = 1}\n", ""),
            ],
            "OnDemandFeatures transaction_context loses is_night",
            id="an output that goes",
        ),
        pytest.param(
            [(CONTEXT, "    is_night: double\n", "    is_night: int64\n")],
            "OnDemandFeatures transaction_context: is_night becomes int64, and was double",
            id="an output of another type",
        ),
        pytest.param(
            [
                (SCORING, "  request_features: [amount]\n", ""),
                (MODEL, "    - {name: high_amount, where: amount >= 200}\n", ""),
            ],
            "FeatureService fraud_scoring loses amount, which models/fraud reads",
            id="a request value that the model reads",
        ),
    ],
)
def test_what_would_be_lost_online_is_destructive(
    edit: Edit, edits: list[tuple[str, str, str]], lost: str
) -> None:
    changes = edit(*edits)
    assert lost in changes.destroyed
    assert Plan(changes, "main", "nothing").verdict == "destructive"


def test_a_removed_view_is_destructive_and_its_name_is_told(edit: Edit) -> None:
    changes = edit(
        (SCORING, "[customer_spending, terminal_risk]", "[customer_spending]"), without=(TERMINALS,)
    )
    assert "removed FeatureView terminal_risk" in told(changes.declarations)
    assert changes.destroyed[0] == "FeatureView terminal_risk is removed"
    assert len([change for change in changes.features if change.change == "removed"]) == 6
    reasons = {found.asset: found.reason for found in changes.stale}
    assert reasons == dict.fromkeys(
        ("drift_profiles/fraud", "training_sets/fraud"),
        "FeatureService fraud_scoring declared otherwise; reads other assets or days",
    )


def test_what_the_champion_does_not_read_may_leave_the_service(edited: Callable[..., Description]) -> None:
    now = edited((SCORING, "[customer_spending, terminal_risk]", "[customer_spending]"))
    old, newer = Champion(2, ("amount", "is_night")), Champion(3, ("amount", "terminal_fraud_rate_7d"))
    assert compare(before(), now, champions={"fraud": old}).destroyed == ()
    (lost,) = compare(before(), now, champions={"fraud": newer}).destroyed
    assert lost == (
        "FeatureService fraud_scoring loses terminal_fraud_rate_7d, which the champion of fraud, version 3, reads"
    )


def test_labels_that_take_longer_change_which_days_are_read(edit: Edit) -> None:
    changes = edit(
        ("sources/fraud_labels", "maturity: 7d", "maturity: 6d"),
    )
    reasons = {found.asset: found.reason for found in changes.stale}
    assert reasons == {
        "sources/fraud_labels": "declared otherwise: maturity",
        "training_sets/fraud": "reads other assets or days",
    }


def test_other_code_makes_stale_what_reads_it() -> None:
    path = "ml_platform.features.measures"
    other = {
        key: asset.model_copy(update={"code": {**asset.code, path: "another"}})
        for key, asset in before().assets.items()
        if path in asset.code
    }
    now = before().model_copy(update={"assets": {**before().assets, **other}})
    changes = compare(before(), now)
    (code,) = changes.code
    views = [view.key for view in declarations.load().all(FeatureViewSpec)]
    assert {CUSTOMERS, TERMINALS, "features/place_demand", "features/region_demand"} <= set(views)
    assert (code.change, code.what, code.detail) == ("changed", path, f"read by {', '.join(views)}")
    assert {found.asset: found.reason for found in changes.stale} == dict.fromkeys(
        views, f"code of {path} changed"
    )
    assert assets(changes.models) == ["models/demand", "models/fraud"]
    assert compare(before().model_copy(update={"has_code": False}), now).nothing, (
        "who knows no code tells none"
    )


def test_an_on_demand_function_decides_the_rows_of_profiles_and_training_sets() -> None:
    path = "ml_platform.defs.fraud.features.transaction_context.on_demand.transaction_context"
    readers = [key for key, asset in before().assets.items() if path in asset.code]
    assert sorted(readers) == ["drift_profiles/fraud", "training_sets/fraud"]


def test_published_partitions_are_counted_one_by_one(edited: Callable[..., Description]) -> None:
    now = edited(ANOTHER_WINDOW)
    (name,) = [n for n in now.declarations if n == "FeatureView customer_spending"]
    old, new = before().declarations[name].content, now.declarations[name].content
    published = {
        CUSTOMERS: {"2018-06-01": old, "2018-06-02": new, "2018-06-03": old},
        "drift_profiles/fraud": {f"2018-06-0{i}": "as it was" for i in range(1, 7)},
    }
    changes = compare(before(), now, published)
    assert [(a.asset, a.partitions) for a in changes.stale] == [(CUSTOMERS, ("2018-06-01", "2018-06-03"))]
    lineage = Lineage({key: asset.node for key, asset in now.assets.items()})
    reading = [
        day
        for day in published["drift_profiles/fraud"]
        for first, last in [_read(lineage, day)]
        if any(first <= stale <= last for stale in ("2018-06-01", "2018-06-03"))
    ]
    assert [(a.asset, list(a.partitions or ())) for a in changes.follows] == [
        ("drift_profiles/fraud", reading)
    ]
    assert assets(changes.models) == ["models/fraud"], "whether or not a training set is published"


def _read(lineage: Lineage, day: str) -> tuple[str, str]:
    return lineage.direct_partitions("drift_profiles/fraud", (day, day))[CUSTOMERS]


def test_a_source_without_an_end_has_partitions_that_nobody_counts(
    edited: Callable[..., Description],
) -> None:
    edits = [(f"sources/{name}", "  end: 2018-10-02\n", "") for name in ("transactions", "fraud_labels")]
    open_ended = edited(*edits)
    assert compare(before(), open_ended).stale[0].partitions is None
    assert "| sources/fraud_labels | all |" in Plan(compare(before(), open_ended), "main", "x").markdown()


def test_markdown_has_a_section_for_each_kind_of_change_and_no_other(edit: Edit) -> None:
    text = Plan(edit(ANOTHER_WINDOW), "main at 0123456789", "all days that are declared").markdown()
    assert text.startswith(
        "## ml-platform plan: nothing online is destroyed\n\nCompared with main at 0123456789.\n"
    )
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    assert titles == [
        "### Declarations",
        "### Features",
        "### Columns",
        "### Stale",
        "### Reads what is stale, and may come out the same",
        "### Models",
        "### Online",
    ]
    assert "| + | customer_spending.customer_spent_14d | double, sum of amount over 14d |" in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_values_have_differences_if_and_only_if_they_differ(old: object, new: object) -> None:
    assert (list(differences(old, new)) == []) == (old == new)
    assert list(differences(old, old)) == []
