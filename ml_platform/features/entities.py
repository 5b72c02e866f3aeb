"""What the rows of a feature view are about: one entity, or a combination of several, and the columns of its keys."""

from collections.abc import Collection, Iterable, Mapping
from typing import Self

from pydantic import Field, model_validator

from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.spec import ENTITY_OF, SHOWN, Name, NamedSpec


def _is_empty(value: Collection[str]) -> bool:
    """What is not declared is no content either: views of one entity keep the digests that they had."""
    return not value


class AboutEntities(NamedSpec):
    """A declaration whose rows are about an entity, or about what several entities have in common."""

    entity: Name | None = Field(
        default=None,
        description="The entity that a row is about, such as `account`.",
        examples=["shop"],
        json_schema_extra={ENTITY_OF: "source", SHOWN: True},
    )
    entities: tuple[Name, ...] = Field(
        default=(),
        exclude_if=_is_empty,
        description="Instead of `entity`: several, such as `[shop, product]`; a row is about a combination of their "
        "keys that was ever seen.",
    )
    join_key: Name | None = Field(default=None, description="Column of its key; default: <entity>_id.")
    join_keys: Mapping[Name, Name] = Field(
        default_factory=dict,
        exclude_if=_is_empty,
        description="With `entities`: column of the key by entity; default: <entity>_id.",
    )

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.entity is None) == (not self.entities):
            raise ValueError("either `entity`, or several `entities` are required")
        if (self.join_key and self.entity is None) or (self.join_keys and self.entity is not None):
            raise ValueError("`join_key` belongs to `entity`, and `join_keys` to `entities`")
        if unknown := sorted(self.join_keys.keys() - set(self.entities)):
            raise ValueError(
                f"join_keys are of its entities ({', '.join(self.entities)}); got also {unknown}"
            )
        if len(set(self.entity_keys)) < max(len(self.entities), 1):
            raise ValueError(f"entities with a column each are required; got {', '.join(self.entity_keys)}")
        return self

    @property
    def key_of(self) -> dict[str, str]:
        """Column of its key by entity, in declared order."""
        entities = self.entities if self.entity is None else (self.entity,)
        named = self.join_keys if self.join_key is None else dict.fromkeys(entities, self.join_key)
        return {entity: named.get(entity, f"{entity}_id") for entity in entities}

    @property
    def entity_keys(self) -> tuple[str, ...]:
        """The columns whose values together say what a row is about."""
        return tuple(self.key_of.values())

    @property
    def about(self) -> str:
        """A name for what a row is about: its entity, or the combination of several, such as `shop_product`."""
        return "_".join(self.key_of)

    @property
    def keys_by_name(self) -> dict[str, tuple[str, ...]]:
        """Columns of keys by the names that others may call them by: each entity, and the combination."""
        return {**{entity: (key,) for entity, key in self.key_of.items()}, self.about: self.entity_keys}

    def check_keys(self, others: Iterable["AboutEntities"]) -> None:
        """Raise DeclarationError for an entity that another declaration knows by other columns."""
        for other in others:
            for name, mine in self.keys_by_name.items():
                theirs = other.keys_by_name.get(name, mine)
                if theirs != mine:
                    raise DeclarationError(
                        f"FeatureView {self.name!r}: one join key of entity {name!r} is required; it is "
                        f"{', '.join(mine)}, and {', '.join(theirs)} in {other.name!r}. Mend `{self.keys_field}:`, or "
                        f"name another entity"
                    )

    @property
    def keys_field(self) -> str:
        """The field that names columns of keys."""
        return "join_keys" if self.entities else "join_key"
