"""What continuous integration has found: JUnit XML for machines, Markdown for a pull request, one exit code."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree as Xml

from ml_platform.cli.ci_run import Made, Verdict
from ml_platform.kernel.markdown import fenced, table
from ml_platform.kernel.partitions import spans

NAME = "ml-platform ci"
_LONGEST = 4000
"""Characters of one asset in the summary: a comment may have sixteen times as many."""
# What XML 1.0 cannot hold, however it is written: control characters, such as a terminal's colours.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Report:
    """Every asset of one run of ci; `could_not_run` is why there may be none."""

    slice: str = ""
    rows: int = 0
    assets: tuple[Made, ...] = ()
    seconds: float = 0.0
    could_not_run: str = ""
    kept: str = ""

    @property
    def exit_code(self) -> int:
        """1 when a check failed; 2 when nothing failed and something could not run; otherwise 0."""
        if any(made.status == "failed" for made in self.assets):
            return 1
        return 2 if self.could_not_run or any(made.status == "error" for made in self.assets) else 0

    @property
    def verdict(self) -> str:
        return ("passed", "failed", "could not run")[self.exit_code]

    @property
    def in_words(self) -> str:
        """How much was looked at, in one sentence."""
        passed = sum(made.status == "passed" for made in self.assets)
        evaluations = sum(len(made.verdicts) for made in self.assets)
        return (
            f"{passed} of {len(self.assets)} assets passed, with {evaluations} evaluations of their checks, on "
            f"{self.rows:,} rows of {self.slice}, in {self.seconds:.0f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {"verdict": self.verdict, "exit_code": self.exit_code, **asdict(self)}


def junit(report: Report) -> bytes:
    """JUnit XML: a suite for each asset, a case for each partition that failed and one for all that passed."""
    root = Xml.Element("testsuites", name=NAME)
    if report.could_not_run:
        _suite(root, NAME, report.seconds, [_case(NAME, "could run", ("error", report.could_not_run))])
    for made in report.assets:
        _suite(root, made.asset, made.seconds, list(_cases(made)))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{report.seconds:.3f}")
    Xml.indent(root)
    return Xml.tostring(root, encoding="utf-8", xml_declaration=True)


def markdown(report: Report) -> str:
    """The summary for a pull request: verdict, a row for each asset and check, and every failure in its words."""
    parts = [f"## {NAME}: {report.verdict}"]
    if report.could_not_run:
        parts += [fenced(report.could_not_run)]
    if report.assets:
        rows = [row for made in report.assets for row in _rows(made)]
        parts += [f"{report.in_words[0].upper()}{report.in_words[1:]}.", table(_COLUMNS, rows)]
    for made in report.assets:
        if made.status in ("failed", "error"):
            parts += [f"### {made.asset}: {made.status}", fenced(_words(made))]
    if report.exit_code:
        parts += [_to_see_more(report)]
    return "\n\n".join(parts) + "\n"


_COLUMNS = ("asset", "check", "passed", "failed", "what")


def _rows(made: Made) -> Iterator[tuple[str, ...]]:
    """One row for each check of an asset; an asset without checks has one row."""
    if made.status in ("error", "skipped") or not made.verdicts:
        why = f": {made.text.splitlines()[0][:200]}" if made.text else ""
        yield made.asset, ", ".join(made.checks), "", "", f"{made.status}{why}"
        return
    for check, verdicts in _by_check(made).items():
        failed = [verdict for verdict in verdicts if verdict.failed]
        warned = [verdict for verdict in verdicts if verdict.warning and not verdict.passed]
        days = spans([v.partition for v in failed or warned or verdicts if v.partition is not None])
        what = "failed" if failed else "warned" if warned else "passed"
        yield made.asset, check, str(len(verdicts) - len(failed)), str(len(failed)), f"{what} {days}".strip()


def _by_check(made: Made) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in made.verdicts:
        found.setdefault(verdict.check, []).append(verdict)
    return found


def _words(made: Made) -> str:
    """What a failed asset said: the refusal or the error, or the evaluations that stopped nothing."""
    failures = (f"{v.check} [{v.partition or 'all'}]: {v.in_words()}" for v in made.failures)
    text = made.text or "\n".join(failures)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… the JUnit file has all of it"


def _to_see_more(report: Report) -> str:
    if report.kept:
        return f"To look at it: `ML_PLATFORM_HOME={report.kept} ml-platform dev`"
    return "To look at it: `ml-platform ci --keep-failed`, then the command that it prints."


def _cases(made: Made) -> Iterator[Xml.Element]:
    """An error or a skip for the asset itself; otherwise what its checks said."""
    if made.status in ("error", "skipped"):
        for name in ("materialized",) if made.status == "error" else made.checks or ("materialized",):
            yield _case(made.asset, name, (made.status, made.text))
    elif not made.verdicts:
        yield _case(made.asset, "materialized")
    for check, verdicts in _by_check(made).items():
        for verdict in (v for v in verdicts if v.failed):
            yield _case(made.asset, _name(check, [verdict]), ("failure", verdict.in_words()))
        passed = [v for v in verdicts if not v.failed]
        if passed:
            warned = [f"{_name(check, [v])}: {v.in_words()}" for v in passed if not v.passed]
            yield _case(made.asset, _name(check, passed), warnings=warned)


def _name(check: str, verdicts: Sequence[Verdict]) -> str:
    """Name of a case: the check and its partitions, and how many where there are several."""
    days = [verdict.partition for verdict in verdicts if verdict.partition is not None]
    if not days:
        return check
    return f"{check}[{spans(days)}]" + (f" × {len(days)}" if len(days) > 1 else "")


def _case(
    asset: str, name: str, outcome: tuple[str, str] | None = None, *, warnings: Sequence[str] = ()
) -> Xml.Element:
    case = Xml.Element("testcase", classname=asset, name=name)
    if outcome is not None:
        kind, text = outcome[0], _NO_XML.sub("\ufffd", outcome[1])
        # Some readers show the attribute, others the text.
        Xml.SubElement(case, kind, message=text.split("\n")[0]).text = text
    if warnings:
        Xml.SubElement(case, "system-out").text = _NO_XML.sub("\ufffd", "\n".join(warnings))
    return case


def _suite(root: Xml.Element, name: str, seconds: float, cases: Sequence[Xml.Element]) -> None:
    suite = Xml.SubElement(root, "testsuite", name=name, tests=str(len(cases)), time=f"{seconds:.3f}")
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(kind) is not None for case in cases)))
    suite.extend(cases)
