"""Lengths of time as people declare them (`7d`), and as engines need them (microseconds)."""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_PATTERN = re.compile(r"(\d+)([smhd])")
DAY_SECONDS = 86_400
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def since_epoch(time: dt.datetime) -> int:
    """Microseconds from 1970 in UTC to a time with a zone, rounded down."""
    return (time - EPOCH) // dt.timedelta(microseconds=1)


@dataclass(frozen=True, order=True)
class Duration:
    """A length of time in whole seconds, zero or more."""

    seconds: int

    @classmethod
    def parse(cls, text: Any) -> "Duration":
        """Read `7d`, `1h`, `30m`, `45s` or `0s`; anything else is a ValueError that says so."""
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"must be a whole number and one of s, m, h, d, such as 7d or 1h; got {text!r}")
        return cls(int(match[1]) * _UNITS[match[2]])

    @classmethod
    def days(cls, count: int) -> "Duration":
        return cls(count * DAY_SECONDS)

    @property
    def whole_days(self) -> int:
        """Days, rounded up."""
        return -(-self.seconds // DAY_SECONDS)

    def whole(self, period: dt.timedelta) -> int:
        """Periods, rounded up."""
        return -(-self.timedelta() // period)

    @property
    def microseconds(self) -> int:
        return self.seconds * 1_000_000

    def timedelta(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.seconds)

    def __str__(self) -> str:
        """The shortest declared form: 7d, not 604800s."""
        for unit in ("d", "h", "m"):
            if self.seconds and self.seconds % _UNITS[unit] == 0:
                return f"{self.seconds // _UNITS[unit]}{unit}"
        return f"{self.seconds}s"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Duration) else cls.parse(value),
            serialization=core_schema.to_string_ser_schema(),
            json_schema_input_schema=core_schema.str_schema(pattern=f"^{_PATTERN.pattern}$"),
        )
