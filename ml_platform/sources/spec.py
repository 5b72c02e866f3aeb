"""What can be declared about a source of events."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.durations import EPOCH, Duration
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.expectations import Expectation, Reference
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.partitions import CADENCES, CREATED_TIME, EVENT_TIME, Cadence, CadenceName
from ml_platform.kernel.spec import DurationField, Name, NamedSpec, Spec
from ml_platform.lake.expectation_checks import check_expectations, references_of

ColumnType = Literal["int64", "int32", "double", "float", "string", "boolean", "timestamp"]
RESERVED_COLUMNS = frozenset(
    {"partition_date", "partition_hour", "file_digest", "position", "landing_order", "reason"}
)


class SourceColumn(Spec):
    """One column of a source: its type, where it is in delivered files, and which values are bad rows."""

    type: ColumnType = Field(description="Type in the lake; timestamps are microseconds UTC.")
    file_column: str | None = Field(
        default=None, alias="from", description="Name in delivered files; default: the same name."
    )
    nullable: bool = Field(default=False, description="May a row come without a value?")
    minimum: float | None = Field(default=None, description="Rows with a lower value are quarantined.")
    maximum: float | None = Field(default=None, description="Rows with a higher value are quarantined.")
    description: str = Field(default="", description="One sentence for the column schema in the UI.")


class Feed(Spec):
    """A function that delivers events of a range of partitions, for those of which no file has landed."""

    function: str = Field(
        description="Import path of `f(*, first_day, last_day, **parameters) -> pyarrow.Table` in file columns, with "
        "two dates; of an hourly source `f(*, first_hour, last_hour, …)`, with the times in UTC at which they begin."
    )
    parameters: Mapping[str, Any] = Field(
        default_factory=dict, description="Arguments passed to the function."
    )


class SourceSpec(NamedSpec):
    """A source of events: versions of rows with an id, an event time and a time when they were known."""

    event_id: Name = Field(
        description="Column that identifies an event; versions share it.", examples=["order_id"]
    )
    columns: Mapping[Name, SourceColumn] = Field(
        description="Columns in the lake; `event_timestamp` is required, `created_timestamp` if files carry it.",
        examples=[
            {
                "order_id": {"type": "int64", "description": "Unique."},
                "event_timestamp": {"type": "timestamp", "description": "When it happened."},
                "shop_id": {"type": "int64", "description": "Where it happened."},
                "amount": {"type": "double", "minimum": 0, "description": "What it cost."},
            }
        ],
    )
    ignore: tuple[str, ...] = Field(default=(), description="File columns that are known and not taken.")
    partitions: CadenceName = Field(
        default="daily",
        description="`daily` or `hourly`: how often its rows are published, and snapshots of views that read it made.",
    )
    start: dt.date = Field(description="First day of events.", examples=[dt.date(2025, 1, 1)])
    end: dt.date | None = Field(default=None, description="Last day of events, for a source that has ended.")
    arrival: DurationField = Field(
        default=Duration(0),
        description="How long after its event time a row is known, without a created column.",
    )
    maturity: DurationField = Field(
        default=Duration(0), description="For label sources: how long after the event its label is final."
    )
    late_data: Literal["as_known", "restate"] = Field(
        default="as_known",
        description="`as_known`: what came late or corrected counts from when it was known. `restate`: one version "
        "per event, the latest, as if it had been known in time.",
    )
    feed: Feed | None = Field(default=None, description="Delivers partitions of which no file has landed.")
    max_bad_share: float = Field(
        default=0.01, ge=0, le=1, description="A file with a higher share of bad rows is refused whole."
    )
    expectations: tuple[Expectation, ...] = Field(
        default=(), description="What the rows of a partition must fulfil to be published."
    )

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        for required in (self.event_id, EVENT_TIME):
            if required not in self.columns:
                raise ValueError(f"column {required!r} is required among columns; got {sorted(self.columns)}")
        for name in (EVENT_TIME, CREATED_TIME):
            if name in self.columns and self.columns[name].type != "timestamp":
                raise ValueError(f"columns.{name}.type must be timestamp; got {self.columns[name].type}")
        if taken := sorted(RESERVED_COLUMNS & set(self.columns)):
            raise ValueError(
                f"columns must not be named {taken}: the platform has columns of these names; declare another "
                f"name, with the file's name under `from:`"
            )
        if self.start < EPOCH.date():
            raise ValueError(
                f"start must not be before {EPOCH.date()}, from which times are counted; got {self.start}"
            )
        if self.end is not None and self.end < self.start:
            raise ValueError(f"end must not be before start {self.start}; got {self.end}")
        return self

    @model_validator(mode="after")
    def _rows_can_be_judged(self) -> Self:
        try:
            check_expectations(self.expectations, columns=self.column_types(), owner="")
        except DeclarationError as err:
            raise ValueError(str(err)) from err
        return self

    @property
    def key(self) -> str:
        return f"sources/{self.name}"

    def as_declared(self) -> dict[str, Any]:
        """What is declared; that partitions are days goes without saying, as it did before there were hours."""
        said = super().as_declared()
        return {name: value for name, value in said.items() if (name, value) != ("partitions", "daily")}

    @property
    def cadence(self) -> Cadence:
        """How often it has a partition."""
        return CADENCES[self.partitions]

    def column_types(self) -> dict[str, str]:
        """Declared type by lake column, with the created time last if files do not carry it."""
        types: dict[str, str] = {name: column.type for name, column in self.columns.items()}
        return types if CREATED_TIME in types else {**types, CREATED_TIME: "timestamp"}

    def completed_after(self, cadence: Cadence) -> dt.timedelta:
        """How long after a period of some cadence has ended all its rows are published, at the latest."""
        lag = self.maturity.whole(self.cadence.period) * self.cadence.period
        return lag + max(self.cadence.period - cadence.period, dt.timedelta(0))

    def file_columns(self) -> dict[str, str]:
        """File column by lake column."""
        return {name: column.file_column or name for name, column in self.columns.items()}

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The source's asset: it is made of what has landed, and may be checked against other sources."""
        return (
            Node(
                self.key,
                first_day=self.start,
                last_day=self.end,
                lag=self.maturity.whole(self.cadence.period),
                references=self._references(catalog),
                blocking_checks=(Check("quality", self.digest_of_fields("expectations")),),
                partitions=self.partitions,
            ),
        )

    def _references(self, catalog: Catalog) -> tuple[Upstream, ...]:
        """The sources that expectations reference."""

        def find(reference: Reference, wanted_by: str) -> tuple[dict[str, str], dt.timedelta]:
            if reference.source is None:
                raise DeclarationError(
                    f"{wanted_by} must be a source or a file: views are made of sources, and come after them; "
                    f"got view {reference.view!r}"
                )
            other = catalog.get(SourceSpec, reference.source, wanted_by=wanted_by)
            return other.column_types(), other.completed_after(self.cadence) - self.completed_after(
                self.cadence
            )

        owner = f"Source {self.name!r}: "
        return references_of(
            self.expectations, key=self.key, types=self.column_types(), find=find, owner=owner
        )
