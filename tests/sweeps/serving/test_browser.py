"""The pages in Chromium, where there is one: opened, filtered, sorted, in light and dark."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from safesweep.sweeps.cli import main
from safesweep.sweeps.commands.serve import listen
from safesweep.sweeps.execution import watching as watching_module
from safesweep.sweeps.serving import app as app_module
from safesweep.sweeps.serving.app import make_app
from safesweep.trainables.store.labels import note_sweep, tag_sweep
from safesweep.trainables.store.writer import ResultWriter
from tests.large_sweep import write_large_sweep

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for path in map(shutil.which, NAMES) if path), None)
OURS = ("http://127.0.0.1", "file:", "data:", "blob:")
PATIENCE_MS = 120_000  # the other tests share the machine
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
ODD = "<img>odd<u>"
REFRESH_SECONDS = 0.5


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "store"
    write_large_sweep(folder, configurations=60, seeds=3, evaluations=4)
    write_large_sweep(folder, ODD, configurations=12, seeds=2, evaluations=2, draw=1)
    tag_sweep(str(folder), ODD, ["paper"])
    note_sweep(str(folder), ODD, "<img> before the new limit")
    return folder


@pytest.fixture(scope="module")
def address(storage: Path) -> Iterator[str]:
    listening = listen("127.0.0.1", 0)
    app = make_app(str(storage), refresh_seconds=REFRESH_SECONDS)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    with pytest.MonkeyPatch.context() as patched:
        # What is new is looked for whenever a page asks, however much that takes.
        patched.setattr(app_module, "FRESH_SECONDS", 0.0)
        patched.setattr(watching_module, "SHARE_OF_A_CORE", 1e9)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)
    listening.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # Chromium refuses its sandbox to root, who runs tests in containers.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        playwright.expect.set_options(timeout=PATIENCE_MS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """A function that opens an address and waits until it is drawn; whatever the page complains of,
    or asks elsewhere for, fails the test."""
    problems: list[str] = []
    opened = []

    def complaint(said: Any) -> None:
        if said.type == "error":
            problems.append(said.text)

    def request(asked: Any) -> None:
        if not asked.url.startswith(OURS):
            problems.append(asked.url)

    def visit(url: str, scheme: str = "light") -> Any:
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        opened.append(page)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", complaint)
        page.on("request", request)
        page.goto(url)
        page.wait_for_selector("body[data-drawn]")
        return page

    yield visit
    for page in opened:
        page.close()
    assert problems == []


def cells(page: Any, column: int) -> list[str]:
    """A column of the table, whose rows further down come a little later."""
    count = int(page.locator("#matching").inner_text().split()[0])
    playwright.expect(page.locator("#table tbody tr")).to_have_count(count)
    found: list[str] = page.locator(f"#table tbody td:nth-child({column})").all_inner_texts()
    return found


def test_a_sweep_is_filtered_and_sorted(open_page: Any, address: str) -> None:
    page = open_page(f"{address}/sweep/large")
    total = len(cells(page, 1))
    assert total > 50  # as many as are there at once
    assert page.locator("#matching").inner_text() == f"{total} of {total}"
    page.locator("#table th button", has_text="reward").first.click()
    rewards = [float(text) for text in cells(page, 2)]
    assert rewards == sorted(rewards)
    page.locator("#table th button", has_text="reward").first.click()
    assert [float(text) for text in cells(page, 2)] == sorted(rewards, reverse=True)
    page.fill("#filter", "hidden_dim=64 reward>0.5 huber")
    left = cells(page, 1)
    assert 0 < len(left) < total
    assert all(float(text) > 0.5 for text in cells(page, 2))
    page.wait_for_selector("#front .main-svg")
    drawn = page.evaluate("document.getElementById('front').data[1].x.length")
    assert drawn + page.locator("#table tr.chosen").count() == len(left)
    page.fill("#filter", "hiden_dim=64")
    assert "no column is called hiden_dim" in page.locator("#matching").inner_text()
    page.fill("#filter", "")
    page.check("#safe-only")
    costs = [float(text) for text in cells(page, 4)]
    assert costs and max(costs) <= 1


def test_names_and_errors_stay_text(open_page: Any, address: str) -> None:
    page = open_page(address)
    # A list has no charts, and does not wait for what draws them.
    assert page.evaluate("window.Plotly") is None
    row = page.locator("#sweeps tbody tr", has_text=ODD)
    assert row.locator(".tag").inner_text() == "paper"
    assert "<img> before the new limit" in row.inner_text()
    page.get_by_role("link", name=ODD).click()
    page.wait_for_selector("body[data-drawn=sweep]")
    assert page.locator("h1").inner_text() == ODD and page.locator("img").count() == 0
    assert page.locator(".labels").inner_text() == "paper <img> before the new limit"
    page.locator("#failed-runs summary").first.click()
    assert "<script>" in page.locator("#failed-runs pre").first.inner_text()
    assert page.title() == ODD


def test_from_the_list_to_a_comparison_and_from_a_sweep_to_a_run(
    open_page: Any, address: str
) -> None:
    page = open_page(address)
    for box in page.locator("input[name=sweep]").all():
        box.check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector("body[data-drawn=comparison]")
    assert page.locator("#choices tbody tr").count() == 2
    page = open_page(f"{address}/sweep/large")
    page.locator("#table tbody a").first.click()
    page.wait_for_selector("body[data-drawn=run]")
    page.wait_for_selector("#run-reward .main-svg")
    assert page.locator("#facts").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(open_page: Any, address: str, scheme: str) -> None:
    page = open_page(f"{address}/sweep/large", scheme)
    page.wait_for_selector("#front .main-svg")
    ink, paper, drawn = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor,"
        " document.getElementById('front').layout.paper_bgcolor]"
    )
    brightness = [sum(int(part) for part in text[4:-1].split(",")) for text in (ink, paper)]
    assert (brightness[0] > brightness[1] + 400) is (scheme == "dark")
    assert abs(brightness[0] - brightness[1]) > 400
    assert drawn == ("#15181c" if scheme == "dark" else "#ffffff")
    # Nothing is wider than the window.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_report_is_the_page_without_a_server(
    open_page: Any, storage: Path, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    assert main(["report", "large", "--storage", str(storage), "--output", str(path)]) == 0
    page = open_page(path.as_uri())
    page.wait_for_selector("#front .main-svg")
    # What is out of sight is drawn when one comes to it.
    assert page.locator("#parallel .main-svg").count() == 0
    page.locator("#parallel").scroll_into_view_if_needed()
    page.wait_for_selector("#parallel .main-svg")
    assert page.locator("#table tbody tr").count()
    assert page.locator("a").count() == 0


def test_a_sweep_that_runs_is_followed(open_page: Any, address: str, storage: Path) -> None:
    run_ids = write_large_sweep(storage, "growing", configurations=10, seeds=2, evaluations=2)
    plan = "name: growing\nalgorithm: flrp\ntasks: [OfflineBallRun-v0]\nsteps: 2000\n"
    writer = ResultWriter(str(storage), "growing")
    writer.write_sweep(plan, [*run_ids, "more-0", "more-1"], "running")
    page = open_page(f"{address}/sweep/growing")
    standing = page.locator("#standing")
    playwright.expect(standing).to_contain_text("/22 runs")
    playwright.expect(standing).to_contain_text("nobody runs it")
    # What one opened, shut or zoomed to stays as it is.
    page.locator("#tasks summary").click()
    page.wait_for_selector("body[data-charts=drawn]")
    page.evaluate("Plotly.relayout('front', {'xaxis.range': [0.25, 0.75]})")
    tasks_open = page.evaluate("document.querySelector('#tasks details').open")
    page.evaluate("window.scrollTo(0, 700)")
    writer.write_sweep(plan + "# over\n", run_ids, "completed")
    playwright.expect(standing).to_contain_text("completed, 20/20 runs")
    playwright.expect(page.locator("pre", has_text="# over")).to_have_count(1)
    page.wait_for_selector("body[data-charts=drawn]")
    # What is new does not move what one looks at.
    assert page.evaluate("window.scrollY") == 700
    assert page.evaluate("document.getElementById('front').layout.xaxis.range") == [0.25, 0.75]
    assert page.evaluate("document.querySelector('#tasks details').open") is tasks_open


@pytest.mark.slow
def test_a_store_that_goes_away_is_said_and_waited_for(
    browser: Any, address: str, storage: Path
) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{address}/sweep/large")
    page.wait_for_selector("body[data-drawn]")
    away = storage.with_name("away")
    storage.rename(away)
    try:
        problem = page.locator("#problem")
        playwright.expect(problem).to_contain_text("there is no result store")
        # What was there is still to be seen.
        assert page.locator("#table tbody tr").count()
    finally:
        away.rename(storage)
    playwright.expect(problem).to_have_count(0)
    page.close()
