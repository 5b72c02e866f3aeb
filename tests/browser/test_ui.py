"""What people see of the platform in Dagster's UI, looked at and clicked on with a real browser.

The pictures of README and the documents are taken here: `pytest tests/browser --pictures docs/images`.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.built import NEXT_DAY, Platform, changed_column, day_of_transactions, opened_copy
from tests.support import selected
from tests.webserver import Webserver, at_once, webserver

REGISTRY = dg.AssetKey(["online", "feature_registry"])
MADE_OF = '+key:"releases/fraud"'
"""A release and all that it is made of, as docs/how_to/find_assets.md selects it."""

PATIENCE_MS = 240_000  # a run of one step on a busy machine
SIZE: ViewportSize = {"width": 1500, "height": 950}


@pytest.fixture(scope="module")
def drifted(built_once: Path) -> Iterator[Platform]:
    """A home whose newest day has amounts of another size, so that its drift check failed."""
    with opened_copy(built_once) as platform:
        rows = day_of_transactions(NEXT_DAY)
        amounts = 1.4 * rows.column("tx_amount").to_numpy()
        platform.deliver("transactions", changed_column(rows, "tx_amount", amounts))
        platform.deliver("fraud_labels", rows)
        for key in ("sources/transactions", "sources/fraud_labels"):
            platform.make(key, NEXT_DAY)
        for key in ("features/customer_spending", "features/terminal_risk"):
            platform.make(key, NEXT_DAY)
        platform.refused("drift_profiles/fraud", NEXT_DAY)
        platform.make("training_sets/fraud", NEXT_DAY)
        yield platform


@pytest.fixture(scope="module")
def ui(drifted: Platform) -> Iterator[Webserver]:
    home = at_once(drifted.settings.root)
    with webserver(home, definitions="ml_platform.definitions", header=None, location="ml-platform") as found:
        yield found


@pytest.fixture(scope="module")
def browser(ui: Webserver) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "chromium is required and not on this machine: Debian's package of that name has it"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, ui: Webserver) -> Iterator[Page]:
    found = browser.new_page(viewport=SIZE, base_url=f"http://127.0.0.1:{ui.port}")
    found.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    yield found
    found.close()


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pictures go: to the documents only where that is asked for."""
    return Path(request.config.getoption("--pictures") or tmp_path_factory.mktemp("pictures"))


def test_the_lineage_of_the_champion_shows_all_that_it_is_made_of(page: Page, pictures: Path) -> None:
    page.goto(f"/asset-groups~{quote(MADE_OF, safe='')}/")
    page.get_by_role("button", name="Hide navigation").click()
    page.get_by_role("button", name="panel_show_right").first.click()
    for key in selected(MADE_OF):
        expect(page.locator("svg").get_by_text(key.split("/")[-1], exact=True).first).to_be_visible()
    expect(page.locator("svg").get_by_text("slots", exact=True)).to_have_count(0)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=pictures / "lineage.png")


def test_an_asset_is_materialized_by_its_button(page: Page, drifted: Platform) -> None:
    made = drifted.instance.get_latest_materialization_event(REGISTRY)
    page.goto("/assets/online/feature_registry?view=overview")
    page.get_by_role("button", name="Materialize").first.click()
    open_launched(page, drifted)
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    assert drifted.instance.get_latest_materialization_event(REGISTRY) != made


def test_a_gate_refuses_a_model_and_says_why(page: Page, drifted: Platform, pictures: Path) -> None:
    page.goto("/assets/models/fraud?view=overview")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_placeholder("ex: ").fill(NEXT_DAY)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Launch 1 run").click()
    open_launched(page, drifted)
    expect(page.get_by_text("Failure", exact=True).first).to_be_visible()
    expect(page.get_by_text("drift_profiles/fraud").first).to_be_visible()
    page.screenshot(path=pictures / "gate.png")
    assert NEXT_DAY not in drifted.materialized("models/fraud")


def test_the_drift_report_is_opened_from_the_day_s_materialization(page: Page, pictures: Path) -> None:
    page.goto(f"/assets/drift_profiles/fraud?view=partitions&partition={NEXT_DAY}")
    report = page.get_by_text(f"{NEXT_DAY}.html").inner_text()
    page.get_by_text("[Show Markdown]").click()
    expect(page.get_by_text("amount_over_mean_30d").first).to_be_visible()
    page.screenshot(path=pictures / "drift.png")
    page.goto(f"file://{report}")
    expect(page.get_by_text("amount_over_mean_30d").first).to_be_visible()
    page.screenshot(path=pictures / "drift-report.png")


def open_launched(page: Page, platform: Platform) -> None:
    """Go to the page of the run that was launched just now."""
    expect(page.get_by_text("Launched run")).to_be_visible()
    (newest,) = platform.instance.get_runs(limit=1)
    page.goto(f"/runs/{newest.run_id}")
