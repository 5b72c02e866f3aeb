"""What a source's days are judged by beside their own rows: other sources, the days before, what is declared."""

import dagster as dg
import pytest

from ml_platform.cli.instance import RunReport
from ml_platform.kernel.settings import Settings
from tests.sources.deliveries import DAY, NEXT_DAY, Deliveries, Materialized, payment, payments

INVOICED = {"column": "id", "references": {"source": "invoices", "column": "id"}}
DAYS = [f"2018-04-0{number}" for number in range(1, 6)]


@pytest.fixture
def invoices(home: Settings, asset: Materialized) -> Materialized:
    """Another source of the same home: every payment has the id of an invoice."""
    spec = payments(name="invoices", expectations=[])
    asset.source.spec = payments(expectations=[INVOICED])
    asset.others = (spec,)
    return Materialized(Deliveries(home, spec), asset.instance)


def table(instance: dg.DagsterInstance, report: RunReport, day: str) -> dict[str, dict[str, object]]:
    """The single expectations of a day's evaluation, as the event log has them."""
    evaluation = next(
        event.asset_check_evaluation_data
        for record in instance.get_records_for_run(report.run_id).records
        if (event := record.event_log_entry.dagster_event) is not None
        and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
        and event.asset_check_evaluation_data.partition == day
    )
    shown = evaluation.metadata["expectations"]
    assert isinstance(shown, dg.TableMetadataValue)
    return {str(record.data["expectation"]): dict(record.data) for record in shown.records}


def test_a_value_exists_from_the_day_on_which_the_other_source_has_it(
    asset: Materialized, invoices: Materialized
) -> None:
    invoices.source.land([payment(1), payment(2, f"{NEXT_DAY}T10:00:00")])
    assert invoices.run(DAY, NEXT_DAY).success
    asset.source.land([payment(1), payment(2)])
    asset.source.land([payment(11, f"{NEXT_DAY}T10:00:00"), payment(12, f"{NEXT_DAY}T10:00:00")])
    said = asset.run(DAY, NEXT_DAY).error
    assert f"{DAY}: quality: 1 of 2 rows break it (required: id exists in sources/invoices.id)" in said
    assert f"{NEXT_DAY}: quality: 2 of 2 rows break it" in said
    assert asset.published() == {}

    invoices.source.land([payment(2 + number, amount=number) for number in range(1, 11)])
    assert invoices.run(DAY).success
    assert asset.run(NEXT_DAY).success and not asset.run(DAY).success
    assert list(asset.published()) == [NEXT_DAY]


def test_where_the_other_source_has_published_nothing_no_value_exists(
    asset: Materialized, invoices: Materialized
) -> None:
    asset.source.land([payment(1)])
    assert "1 of 1 rows break it (required: id exists in sources/invoices.id)" in asset.run().error


@pytest.mark.parametrize("at_once", [True, False])
def test_a_day_of_too_few_rows_is_refused_in_a_range_as_alone_and_is_no_reference(
    asset: Materialized, at_once: bool
) -> None:
    asset.source.spec = payments(expectations=[{"rows_within": {"of_mean": 0.5, "days": 2}}])
    sizes = dict(zip(DAYS, (4, 4, 1, 4, 5), strict=True))
    rows = [payment(10 * i + n, f"{day}T10:00:00") for i, day in enumerate(DAYS) for n in range(sizes[day])]
    asset.source.land(rows)
    runs = [(DAYS[0], DAYS[-1])] if at_once else [(day, day) for day in DAYS]
    reports = {days: asset.run(*days) for days in runs}
    told = {day: report for (first, last), report in reports.items() for day in DAYS if first <= day <= last}
    found = {day: table(asset.instance, told[day], day)["rows_within"] for day in DAYS}
    assert {day: record["verdict"] for day, record in found.items()} == {
        DAYS[0]: "not judged: no reference yet",
        DAYS[1]: "not judged: no reference yet",
        DAYS[2]: "failed",
        DAYS[3]: "passed",
        DAYS[4]: "passed",
    }
    assert found[DAYS[2]]["observed"] == "1 events; 4.0 on average on the 2 accepted days before"
    assert list(asset.published()) == [day for day in DAYS if day != DAYS[2]]


def test_a_day_that_is_corrected_whole_has_as_many_events_as_before(asset: Materialized) -> None:
    asset.source.spec = payments(expectations=[{"rows_within": {"of_mean": 0.1, "days": 1}}])
    asset.source.land(
        [payment(10 * i + n, f"{day}T10:00:00") for i, day in enumerate(DAYS[:3]) for n in range(4)]
    )
    assert asset.run(DAYS[0], DAYS[2]).success
    for day, ids in ((DAYS[1], range(10, 14)), (DAYS[2], range(20, 24))):
        corrected = [payment(id, f"{day}T10:00:00", amount=7) for id in ids]
        asset.source.land(corrected, known_at="2018-04-20")
        report = asset.run(day)
        assert report.success, report.error
        assert len(asset.published()[day]) == 8
        record = table(asset.instance, report, day)["rows_within"]
        assert record["observed"] == "4 events; 4.0 on average on the 1 accepted days before"


def test_a_column_that_landed_in_another_type_is_not_as_declared(asset: Materialized) -> None:
    asset.source.spec = payments(expectations=[{"schema": True}])
    asset.source.land([payment(1)])
    assert asset.run().success
    columns = {**payments().model_dump(by_alias=True)["columns"], "amount": {"type": "float"}}
    asset.source.spec = payments(expectations=[{"schema": True}], columns=columns)
    assert "amount is DOUBLE, declared as float (required: the declared columns" in asset.run().error


def test_a_warning_is_told_in_the_log_and_with_the_partition(asset: Materialized) -> None:
    asset.source.spec = payments(expectations=[{"column": "note", "not_null": True, "severity": "warn"}])
    asset.source.land([payment(1), payment(2, note="paid")])
    report = asset.run()
    assert report.success and list(asset.published()) == [DAY]
    line = "note not_null: 1 of 2 rows break it (required: note not null; warning)"
    assert report.metadata("sources/payments")["warnings"] == line
    logs = asset.instance.all_logs(report.run_id)
    assert any(f"sources/payments [{DAY}]: {line}" in entry.user_message for entry in logs)
    assert table(asset.instance, report, DAY)["note not_null"]["verdict"] == "warning"
