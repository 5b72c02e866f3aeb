"""A view by SQL computes one partition with one statement, over events as they were known when it was complete."""

from typing import Any

import pytest

from ml_platform.features.component import FeatureView, computed
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.features.staging import schema_differences
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.lake.engine import connect
from tests.built import CUSTOMERS, Platform
from tests.support import LAST_DAY

SPENT = """
WITH mine AS (SELECT * FROM transactions WHERE event_timestamp >= {{ partition_end }} - INTERVAL 7 DAY)
SELECT customer_id, count(*) AS payments, sum(amount::DECIMAL(18, 6)) AS spent, max(terminal_id) AS terminal
FROM mine GROUP BY customer_id
"""


def view(**fields: Any) -> FeatureViewSpec:
    declared = {
        "name": "spent_by_hand",
        "entity": "customer",
        "source": "transactions",
        "sql": SPENT,
        "columns": {"payments": "int64", "spent": "double", "terminal": "int64"},
        "look_back": "7d",
        "ttl": "3d",
    }
    return FeatureViewSpec.model_validate(declared | fields)


def catalog_with(platform: Platform, spec: FeatureViewSpec) -> Catalog:
    return Catalog({**platform.catalog.specs, (FeatureViewSpec, spec.name): spec})


def test_every_partition_is_what_the_statement_says_of_its_own_days(shared: Platform) -> None:
    spec, days = view(), ["2018-06-24", "2018-06-25", LAST_DAY]
    rows = computed(spec, catalog_with(shared, spec), shared.settings, days).to_pandas()
    assert sorted({str(date) for date in rows.partition_date}) == days
    assert (rows.event_timestamp == rows.created_timestamp).all()
    assert rows.equals(rows.sort_values(["partition_date", "customer_id"], ignore_index=True))
    for day in days:
        mine = rows[rows.partition_date.astype(str) == day].set_index("customer_id")
        declared = shared.rows(CUSTOMERS, day).to_pandas().set_index("customer_id")
        declared = declared[declared.customer_transactions_7d > 0]
        assert list(mine.index) == list(declared.index)
        assert (mine.payments == declared.customer_transactions_7d).all()
        assert mine.spent.to_numpy() == pytest.approx(
            (declared.customer_mean_amount_7d * declared.customer_transactions_7d).to_numpy()
        )


def test_days_before_the_look_back_are_not_seen(shared: Platform) -> None:
    all_that_is_there = SPENT.replace("WHERE event_timestamp >= {{ partition_end }} - INTERVAL 7 DAY", "")
    found = [
        computed(spec, catalog_with(shared, spec), shared.settings, [LAST_DAY])
        for spec in (view(), view(sql=all_that_is_there))
    ]
    assert found[0].equals(found[1])


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT customer_id, payments FROM transactions", r"must return .*missing: \['spent', 'terminal'\]"),
        (
            SPENT.replace("FROM transactions", "FROM transaction"),
            r"may read transactions; it reads \['transaction'\]",
        ),
        (SPENT.replace("{{ partition_end }}", "now()"), "must follow from the events alone"),
        (SPENT.replace("partition_end", "partition_ende"), ".*'partition_ende' is undefined"),
        ("SELECT * FROM transactions", r"must return .*missing: \['payments', 'spent', 'terminal'\]"),
        (
            SPENT.replace("max(terminal_id)", "maxx(terminal_id)"),
            "must be one SELECT .*name maxx does not exist",
        ),
        (
            SPENT.replace("max(terminal_id)", "max(terminal_ix)"),
            r'must be one SELECT .*"terminal_ix" not found',
        ),
        ("SELECT customer_id FROM", "must be one SELECT statement"),
        ("DROP TABLE transactions", "must be one SELECT statement; got DROP"),
    ],
)
def test_a_statement_that_can_make_no_partition_is_refused(shared: Platform, sql: str, message: str) -> None:
    spec = view(sql=sql)
    with pytest.raises(DeclarationError, match=f"FeatureView 'spent_by_hand': sql {message}"):
        FeatureView(spec).plans(catalog_with(shared, spec))


@pytest.mark.parametrize(
    ("sql", "differences"),
    [
        (SPENT, []),
        (SPENT.replace("count(*)", "count(*)::VARCHAR"), ["payments is VARCHAR, declared as int64"]),
        (SPENT.replace("count(*)", "avg(amount)"), ["payments is DOUBLE, declared as int64"]),
        (
            f"SELECT *, 1 AS extra FROM ({SPENT})",
            ["extra is not declared"],
        ),
    ],
)
def test_the_schema_that_is_judged_is_what_the_statement_itself_returns(
    shared: Platform, sql: str, differences: list[str]
) -> None:
    spec = view(sql=sql)
    with connect(shared.settings) as connection:
        assert schema_differences(connection, "staged", spec, catalog_with(shared, spec)) == differences
