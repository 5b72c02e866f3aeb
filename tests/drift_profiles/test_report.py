"""The report of a day shows what was counted and judged, whatever things are called, and is there when asked for."""

import base64
import datetime as dt
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import Result
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ml_platform.cli.main import app
from ml_platform.drift_profiles.compute import RollingReference
from ml_platform.drift_profiles.distances import read_categories, read_numbers
from ml_platform.drift_profiles.histograms import CATEGORIES, Histogram, histogram, statistics
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.drift_profiles.profile import profile_with_summary
from ml_platform.drift_profiles.report import Page, TimelineDay, Told, preview, render, with_verdict
from ml_platform.drift_profiles.reporting import days_up_to, look, path_of, seen
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.gates.ways_out import WAYS_OUT, line
from ml_platform.kernel.partitions import complete_at
from ml_platform.lake.maintenance import Needed, plan_vacuum, vacuum
from tests.built import Platform
from tests.support import FIRST_PROFILE, LAST_DAY

PROFILE = "drift_profiles/fraud"
HOSTILE = '<img src=x onerror="alert(1)">|`]('
VOID = {"meta", "br", "img", "link", "input", "hr"}
POLICY = DriftPolicy(reference_days=2, minimum_sample=50, categories=frozenset({"channel"}))
ANY_NUMBER = st.floats(width=32, allow_nan=False) | st.integers(-3, 60).map(float)


class Elements(HTMLParser):
    """Everything on a page; an element that is not closed, or closed twice, is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def a_day(
    seed: int, *, factor: float = 1.0, names: tuple[str, str] = ("amount", "channel")
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    amounts = (rng.gamma(2.0, 25.0, 400) * factor).astype(np.float32)
    amounts[:20] = np.nan
    return {names[0]: amounts, names[1]: rng.choice(np.array(["chip", "web", HOSTILE]), 400)}


def a_page(
    day: dict[str, np.ndarray], *, days: int = 2, names: tuple[str, str] = ("amount", "channel")
) -> Page:
    """The page of a day against some days like those of `a_day`."""
    policy = DriftPolicy(reference_days=2, minimum_sample=50, categories=frozenset({names[1]}))
    rolling = RollingReference(policy)
    for seed in range(days):
        rolling.accept(f"2018-05-0{seed + 1}", a_day(seed, names=names))
    decision = rolling.judge(day)
    _, summary = profile_with_summary(day, timestamp=complete_at("2018-05-03"))
    verdict = Told(decision.status, decision.reason)
    timeline: dict[str, TimelineDay | None] = dict.fromkeys(days_up_to("2018-05-03"))
    timeline["2018-05-03"] = TimelineDay(verdict, {})
    found = look(day, rolling.pooled() if days >= 2 else {}, policy)
    return Page(
        "fraud",
        "2018-05-03",
        verdict,
        decision,
        tuple(map(str, rolling.days)) if days >= 2 else (),
        policy,
        seen(found, summary),
        timeline,
    )


def counted(values: list[float], edges: tuple[float, ...]) -> list[float]:
    """Shares per bin, one value after the other."""
    shares = [0.0] * (len(edges) + 1)
    for value in values:
        if value < edges[0]:
            place = 0
        elif value > edges[-1]:
            place = len(edges)
        elif value == edges[-1]:
            place = max(i for i, edge in enumerate(edges) if edge < edges[-1]) + 1
        else:
            place = max(i for i, edge in enumerate(edges) if edge <= value) + 1
        shares[place] += 1
    return [share / max(1, len(values)) for share in shares]


@given(day=st.lists(ANY_NUMBER, max_size=30), reference=st.lists(ANY_NUMBER, max_size=30))
@example(day=[1.0], reference=[7.0, 7.0])
@example(day=[float("inf")], reference=[float("-inf"), 1.0])
@example(day=[0.0, 3.0], reference=[0.0, 1.0, 2.0])
def test_shares_of_numbers_are_those_of_counting_one_by_one(day: list[float], reference: list[float]) -> None:
    columns = [np.array(values, np.float32) for values in (day, reference)]
    samples = [read_numbers(column, feature="x") for column in columns]
    found = histogram(samples[0], samples[1])
    assert list(found.edges) == sorted(found.edges) and all(map(math.isfinite, found.edges))
    for side, column in ((found.day, columns[0]), (found.reference, columns[1])):
        assert list(side) == pytest.approx(counted(column.tolist(), found.edges))
        assert sum(side) == pytest.approx(1.0 if len(column) else 0.0)


@given(day=st.lists(st.integers(0, 40), max_size=60), reference=st.lists(st.integers(0, 40), max_size=60))
def test_shares_of_categories_are_their_counts_and_the_rare_ones_are_one(
    day: list[int], reference: list[int]
) -> None:
    columns = [np.array(values, np.int64) for values in (day, reference)]
    found = histogram(*(read_categories(column) for column in columns))
    kinds = set(day) | set(reference)
    assert len(found.names) == min(len(kinds), CATEGORIES + 1)
    for side, values in ((found.day, day), (found.reference, reference)):
        shares = dict(zip(found.names, side, strict=True))
        rest = shares.pop("other", 0.0)
        assert shares == pytest.approx(
            {name: values.count(int(name)) / max(1, len(values)) for name in shares}
        )
        named = sum(value in set(map(int, shares)) for value in values)
        assert rest == pytest.approx((len(values) - named) / max(1, len(values)))


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=50))
def test_statistics_of_a_reference_are_those_of_numpy(values: list[float]) -> None:
    column = np.array([*values, np.nan, np.inf], np.float32)
    found = statistics(read_numbers(column, feature="x"))
    finite = np.array(values, np.float32).astype(np.float64)
    assert (found.rows, found.missing) == (len(values) + 2, 1)
    assert found.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-6)
    assert found.stddev == pytest.approx(finite.std(ddof=1), rel=1e-6, abs=1e-6)
    assert (found.min, found.max) == (finite.min(), finite.max())
    assert found.q50 == sorted(finite)[len(values) // 2]


def test_small_whole_numbers_have_a_bin_each() -> None:
    flags = read_numbers(np.array([0, 0, 0, 1], np.float32), feature="night")
    assert histogram(flags, flags) == Histogram(
        (0.0, 0.75, 0.25, 0.0), (0.0, 0.75, 0.25, 0.0), edges=(-0.5, 0.5, 1.5)
    )


def test_a_page_needs_nothing_from_elsewhere() -> None:
    html = render(a_page(a_day(7)))
    links = [
        value
        for _, name, value in Elements(html).attributes
        if name in ("href", "src", "xlink:href", "srcset")
    ]
    assert links and all(re.fullmatch(r"#f\d+", link) for link in links)
    assert not re.search(r"<script|<link|<iframe|@import|url\(|https?://", html)
    assert "prefers-color-scheme:dark" in html and "@media print" in html


def test_what_people_named_and_wrote_is_shown_as_text() -> None:
    names = (HOSTILE, "channel")
    page = a_page(a_day(7, names=names), names=names)
    page = Page(
        **{**page.__dict__, "verdict": Told("failed", "drifted", let_through=f"accepted by ann: {HOSTILE}")}
    )
    html = render(page)
    shown = Elements(html)
    assert "<img" not in html
    assert not any(name.startswith("on") for _, name, _ in shown.attributes)
    assert shown.text.count(HOSTILE) >= 4, "as a feature, as a category and as a reason"
    markdown = preview(page, "ml-platform drift report fraud 2018-05-03")
    assert "<img" not in markdown
    (row,) = [line for line in markdown.splitlines() if line.startswith("| &lt;img")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 8, "a name cannot add a cell"


def test_a_failed_day_says_by_what_and_has_it_first() -> None:
    html = render(a_page(a_day(7, factor=3.0)))
    text = Elements(html).text
    assert "Failed amount: ks 0." in text
    assert text.index("amount breached 0.") < text.index("channel within bounds 0.")
    assert "breached" in text and "5.00 % / 5.00 %" in text
    assert "800 reference days 2: 2018-05-01 … 2018-05-02" in text
    assert "KS distance of numbers at most 0.04" in text


def test_a_day_that_was_not_judged_is_shown_with_what_there_is() -> None:
    text = Elements(render(a_page(a_day(7), days=1))).text
    assert "Not judged no reference yet: 1 of 2 accepted days" in text
    alone = Elements(render(a_page(a_day(7), days=0))).text
    assert (
        "reference days none" in alone
        and "amount" in alone
        and "breached" not in alone.split("Feature by")[1]
    )


def test_a_page_says_who_accepted_the_day_since_it_was_written() -> None:
    html = render(a_page(a_day(7, factor=3.0)))
    accepted = Told("failed", "amount: ks 0.3", let_through=r"accepted by ann: prices \1 went <up>")
    now = with_verdict(html, accepted)
    text = Elements(now).text
    assert r"Let through accepted by ann: prices \1 went <up>. It had failed: amount: ks 0.3." in text
    assert "Failed amount" not in text
    assert with_verdict(now, accepted) == now


def test_every_profiled_day_has_a_report_that_its_asset_links_and_previews(shared: Platform) -> None:
    spec = shared.catalog.get(DriftProfileSpec, "fraud", wanted_by="a test")
    names = spec.service(shared.catalog).feature_names(shared.catalog)
    shown = shared.newest_metadata(PROFILE, LAST_DAY)
    assert shown["report"].endswith(f"/lake/reports/{PROFILE}/{LAST_DAY}.html")
    written = Path(shared.lake.root) / path_of(PROFILE, LAST_DAY)
    html = written.read_text()
    assert len(html) < 300_000
    text = Elements(html).text
    assert all(f"Shares of {name} on the day" in html and name in text for name in names)
    assert len(list(written.parent.iterdir())) == len(shared.hashes(PROFILE))
    first = shared.newest_metadata(PROFILE, FIRST_PROFILE)
    assert "Not judged no reference yet: 0 of 28" in Elements(Path(first["report"]).read_text()).text


def test_the_preview_is_small_and_its_picture_can_be_drawn(shared: Platform) -> None:
    shown = shared.newest_metadata(PROFILE, LAST_DAY)["drift"]
    assert len(shown) < 30_000
    encoded = re.findall(r"data:image/svg\+xml;base64,([^)]+)\)", shown)
    (picture,) = [ElementTree.fromstring(base64.b64decode(one)) for one in encoded]
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert f"`ml-platform drift report fraud {LAST_DAY}`" in shown
    assert "| amount | 0." in shown


def test_the_timeline_shows_what_the_table_of_statistics_has(shared: Platform) -> None:
    html = (Path(shared.lake.root) / path_of(PROFILE, LAST_DAY)).read_text()
    last = dt.date.fromisoformat(LAST_DAY)
    rows = shared.query(
        f"SELECT CAST(partition_date AS VARCHAR) AS day, statistic, bound FROM ({shared.scan('drift_metrics')}) "
        "WHERE feature = 'amount' ORDER BY 1"
    ).to_pylist()
    judged = [row for row in rows if row["day"] > str(last - dt.timedelta(days=30))]
    assert len(judged) > 15
    for row in judged:
        assert f"<title>{row['day']}: {row['statistic']:.4f} of {row['bound']:g}</title>" in html
    unjudged = last - dt.timedelta(days=29)
    assert str(unjudged) not in {row["day"] for row in judged}
    assert f"<title>{unjudged}: not judged: no reference yet" in html


def test_a_vacuum_leaves_reports_alone(platform: Platform) -> None:
    before = {name for name in platform.lake.files() if name.startswith("reports/")}
    assert len(before) == len(platform.hashes(PROFILE))
    for bound in (dt.timedelta(0), dt.timedelta(hours=1)):
        for planned in plan_vacuum(platform.lake, Needed(), bound):
            vacuum(platform.lake, planned)
    assert {name for name in platform.lake.files() if name.startswith("reports/")} == before


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["drift", "report", *arguments])


def test_the_command_finds_the_report_which_follows_acceptances_and_rechecks(
    platform: Platform,
) -> None:
    path = Path(platform.lake.root) / path_of(PROFILE, LAST_DAY)
    assert asked("fraud", LAST_DAY).stdout.strip() == str(path)
    entry = line(
        "accept",
        PROFILE,
        LAST_DAY,
        check="drift",
        reason="prices went up",
        actor="ann",
        evidence="amount: ks 0.1",
        judged=platform.hashes(PROFILE)[LAST_DAY],
    )
    ended = {**entry, "way": "override", "until": "2018-07-01T00:00:00+00:00", "actor": "bob"}
    WAYS_OUT.append(platform.lake, [entry, ended])
    assert "ann" not in path.read_text()
    assert asked("fraud", LAST_DAY).exit_code == 0
    assert "ann" not in path.read_text(), "a day that passed needs nobody"
    failed = f"{PROFILE}_decisions"
    rows = platform.rows(failed, LAST_DAY)
    status = rows.schema.get_field_index("status")
    platform.lake.table(failed).replace_partitions(
        rows.set_column(status, rows.schema.field(status), [["failed"]]), keys=[LAST_DAY]
    )
    assert asked("fraud", LAST_DAY).exit_code == 0
    text = Elements(path.read_text()).text
    assert "Let through accepted by ann: prices went up." in text
    assert "bob" not in text, "an override that has ended lets nothing through"
    rechecked = CliRunner().invoke(app, ["gate", "recheck", PROFILE, LAST_DAY, "--reason", "a look again"])
    assert rechecked.exit_code == 0, rechecked.output
    assert "Passed within bounds." in Elements(path.read_text()).text


@pytest.mark.parametrize(
    ("name", "day", "said"),
    [
        (
            "fraud",
            "2018-04-01",
            f"a day of {PROFILE} that has a report is required ({FIRST_PROFILE} … {LAST_DAY})",
        ),
        ("fraud", f"../fraud/{LAST_DAY}", f"got '../fraud/{LAST_DAY}'"),
        ("fraude", LAST_DAY, "did you mean fraud?"),
    ],
)
def test_a_report_that_is_not_there_is_told_with_those_that_are(
    shared: Platform, name: str, day: str, said: str
) -> None:
    result = asked(name, day)
    assert (result.exit_code, said in result.output) == (1, True), result.output
