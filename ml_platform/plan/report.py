"""What a change does, for people: a verdict, sections of rows, and the same as Markdown for a pull request."""

from collections.abc import Iterable
from dataclasses import dataclass

from ml_platform.kernel.markdown import table
from ml_platform.kernel.partitions import spans
from ml_platform.plan.changes import Change, Changes
from ml_platform.plan.effects import Affected

_SIGNS = {"added": "+", "changed": "~", "removed": "−"}


@dataclass(frozen=True)
class Section:
    """Rows under one title; `after` is what to do about them, if there is something to do."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    after: str = ""


@dataclass(frozen=True)
class Plan:
    """A change with what it was compared with, and which partitions were looked at."""

    changes: Changes
    against: str
    looked_at: str
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        if self.changes.destroyed:
            return "destructive"
        return "nothing changes" if self.changes.nothing else "nothing online is destroyed"

    def sections(self) -> list[Section]:
        """What there is to tell, in the order of how much it hurts."""
        changes = self.changes
        found = (
            Section("Destroyed online", ("what",), tuple((line,) for line in changes.destroyed)),
            _of_changes("Declarations", changes.declarations),
            _of_changes("Features", changes.features),
            _of_changes("Columns", changes.columns),
            _of_changes("Code versions", changes.code),
            _of_changes("Checks", changes.checks),
            _of_partitions(
                "Stale",
                changes.stale,
                f"Of {self.looked_at}. After the merge, ml-platform stale lists what to run.",
            ),
            _of_partitions("Reads what is stale, and may come out the same", changes.follows, ""),
            _of_assets("Models", changes.models, ""),
            _of_assets(
                "Other values under the same names",
                changes.renewed,
                "Once these are online, the champion is given values that it was not trained on until a model is "
                "trained again, and no version from before can be rolled back to. Another name avoids both.",
            ),
            _of_assets("Online", changes.online, "To be published again, in this order."),
        )
        return [section for section in found if section.rows]

    def markdown(self) -> str:
        """All of it, for a pull request."""
        parts = [f"## ml-platform plan: {self.verdict}", f"Compared with {self.against}."]
        parts += [f"> {note}" for note in self.notes]
        for section in self.sections():
            parts += [f"### {section.title}", table(section.columns, section.rows), section.after]
        return "\n\n".join(filter(None, parts)) + "\n"


def _of_changes(title: str, changes: Iterable[Change]) -> Section:
    rows = tuple((_SIGNS[found.change], found.what, found.detail) for found in changes)
    return Section(title, ("", "what", "how"), rows)


def _of_assets(title: str, found: Iterable[Affected], after: str) -> Section:
    return Section(title, ("asset", "why"), tuple((one.asset, one.reason) for one in found), after)


def _of_partitions(title: str, found: Iterable[Affected], after: str) -> Section:
    rows = tuple((one.asset, _days(one.partitions), one.reason) for one in found)
    return Section(title, ("asset", "partitions", "why"), rows, after)


def _days(partitions: tuple[str, ...] | None) -> str:
    return "all" if partitions is None else f"{len(partitions)}: {spans(partitions)}"
