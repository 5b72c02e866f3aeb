"""What is declared as SQL is read for what it is; lanes of one integer give back the sums that went in."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from ml_platform.kernel.errors import DeclarationError
from ml_platform.lake.dialect import Lane, added, column, number, printed
from ml_platform.lake.predicates import check_predicate, predicate_columns

COLUMNS = ["amount", "label"]
ENGINE = duckdb.connect()


def test_a_predicate_over_the_columns_that_there_are_is_taken() -> None:
    text = "amount BETWEEN 0 AND 10 OR label IN ('a', 'b')"
    check_predicate(text, columns=COLUMNS, owner="a view")
    assert predicate_columns(text) == COLUMNS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("amount >", "does not parse"),
        ("amount > (SELECT 1)", "reads more than one"),
        ("sum(amount) > 1", "reads more than one"),
        ("amount > 1 AND label = labell", r"reads \['labell'\]"),
    ],
)
def test_what_is_no_predicate_over_one_row_is_refused(text: str, message: str) -> None:
    with pytest.raises(DeclarationError, match=f"^a view.*{message}"):
        check_predicate(text, columns=COLUMNS, owner="a view")


whole_numbers = st.lists(
    st.tuples(
        st.integers(-(2**40), 2**40),
        st.integers(0, 100),
        st.integers(-100, 100),
        st.integers(-(2**40), 2**40),
    ),
    min_size=1,
    max_size=100,
)


@given(whole_numbers)
def test_lanes_of_one_integer_give_back_the_sums_that_went_in(rows: list[tuple[int, ...]]) -> None:
    lanes = [Lane(0, 48), Lane(48, 14, signed=False), Lane(62, 16), Lane(78, 48)]
    total = " + ".join(
        added([lane.put(exp.cast(number(v), "INT128")) for lane, v in zip(lanes, row, strict=True)]).sql(
            "duckdb"
        )
        for row in rows
    )
    found = [lane.taken(column("packed"), topmost=lane is lanes[-1]) for lane in lanes]
    ENGINE.execute(f"CREATE OR REPLACE TEMP VIEW given AS SELECT ({total})::INT128 AS packed")
    query = printed(exp.select(*found).from_("given"))
    assert ENGINE.execute(query).fetchall() == [tuple(map(sum, zip(*rows, strict=True)))]
