"""The base of everything that can be declared: frozen, closed, described field by field."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.pods import Compute


class Spec(BaseModel):
    """A declaration. Unknown fields are refused, values never change after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    no_content: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how something is made, and from which no row differs."""

    def digest(self) -> str:
        """Sixteen hex digits that change when, and only when, the declared content changes."""
        return digest_of(self.as_declared())

    def as_declared(self) -> dict[str, Any]:
        """What is declared, as JSON values by the names that a declaration has for them."""
        return self.model_dump(mode="json", by_alias=True, exclude=set(self.no_content))

    def digest_of_fields(self, *fields: str) -> str:
        """The same of some of its fields."""
        return digest_of(self.model_dump(mode="json", by_alias=True, include=set(fields)))


REFERS_TO, COLUMN_OF, ENTITY_OF, SHOWN = "x-refers-to", "x-column-of", "x-entity-of", "x-shown"
"""Marks of fields, in their JSON schema too: what scaffolding and documents know of a name that is declared."""


def refers_to(kind: str, *, shown: bool = False, labels: bool = False) -> JsonDict:
    """The mark of a field whose values are names of declarations of a kind, such as `Source`.

    `shown` fields stand in a new declaration although they are optional; `labels` are sources whose rows mature.
    """
    return {REFERS_TO: kind, **({SHOWN: True} if shown else {}), **({"labels": True} if labels else {})}


def marks_of(info: FieldInfo) -> JsonDict:
    """The marks of a field."""
    extra = info.json_schema_extra
    return {} if extra is None or callable(extra) else extra


def _identifier(value: str) -> str:
    if not value.isascii() or not value.isidentifier() or value != value.lower() or value.startswith("_"):
        raise ValueError(
            f"must be lower-case letters, digits and underscores, starting with a letter; got {value!r}"
        )
    return value


def _duration(value: Any) -> Duration:
    return value if isinstance(value, Duration) else Duration.parse(value)


def _sql(value: str, info: ValidationInfo) -> str:
    """The text of a `.sql` file beside the declaration; SQL that is given as text stays as it is."""
    context: Mapping[str, Path] = info.context or {}
    folder = context.get("folder")
    if folder is None or not value.endswith(".sql"):
        return value
    path = folder / value
    if not path.is_file():
        raise ValueError(f"a file beside the declaration is required; {path} is not there")
    return path.read_text()


SqlText = Annotated[str, AfterValidator(_sql), Field(min_length=1)]
"""SQL, or the name of a `.sql` file beside the declaration, whose text it becomes."""

Name = Annotated[str, AfterValidator(_identifier), Field(min_length=1, max_length=63)]
"""A name that is also an asset key part, a table name and a Feast name."""

DurationField = Annotated[Duration, BeforeValidator(_duration, json_schema_input_type=str)]
"""A length of time written `7d`, `1h`, `30m` or `45s`."""


class NamedSpec(Spec):
    """A declaration that becomes an asset."""

    no_content: ClassVar[frozenset[str]] = frozenset({"compute"})

    name: Name = Field(description="Name of the asset; unique within its stage.")
    description: str = Field(
        default="",
        description="One sentence for people, shown in the Dagster UI.",
        examples=["What it is, in one sentence."],
        json_schema_extra={SHOWN: True},
    )
    owners: tuple[str, ...] = Field(
        default=(), description="Dagster owners: `team:NAME` or an e-mail address."
    )
    compute: Compute | None = Field(
        default=None, description="Resources of the pod in which it is made, where steps have pods."
    )
