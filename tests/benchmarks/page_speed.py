"""How long a page of 500 configurations x 5 seeds takes, from the request to its charts.

    python -m tests.benchmarks.page_speed [--configurations 500] [--seeds 5]

writes a made-up sweep, starts `safesweep serve` and prints: CPU seconds that the server takes to
put the content together the first time and to say that nothing has changed, its size, and, where
there is a Chromium, seconds until the table and what is in sight is drawn, and the page's own CPU
seconds.

Target: 2 s on an idle machine.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from safesweep.sweeps.serving.app import StorePages
from tests.large_sweep import write_large_sweep


def content_seconds(storage: Path) -> dict[str, float]:
    """CPU seconds of the server for the page's content."""
    pages = StorePages(str(storage))
    pages.sweeps()  # What is imported once.
    before = time.process_time()
    answer = pages.sweep("large")
    made = time.process_time() - before
    before = time.process_time()
    answer.due = 0.0
    assert pages.sweep("large") is answer
    return {
        "content, CPU s": made,
        "unchanged, CPU s": time.process_time() - before,
        "content, kB": len(answer.body) / 1000,
    }


def browser_seconds(address: str) -> dict[str, float]:
    """Seconds until a browser has drawn the page, the second time that it is opened."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return {}
    with sync_playwright() as started:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = started.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page()
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        found = {}
        for name in ("first", "again"):
            before, begun = _cpu_seconds(session), time.perf_counter()
            page.goto(f"{address}/sweep/large")
            page.wait_for_selector("body[data-drawn]", timeout=120_000)
            found[f"drawn, {name}, s"] = time.perf_counter() - begun
            if name == "first":
                page.wait_for_selector("#front .main-svg")
                found["page, CPU s"] = _cpu_seconds(session) - before
        browser.close()
    return found


def _cpu_seconds(session: Any) -> float:
    """What the main thread of the page's process has used."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(entry["value"] for entry in metrics if entry["name"] == "ThreadTime"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configurations", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder) / "store"
        write_large_sweep(
            storage, configurations=options.configurations, seeds=options.seeds, evaluations=10
        )
        found = content_seconds(storage)
        port = 8699
        server = subprocess.Popen(
            [sys.executable, "-m", "safesweep", "serve", "--storage", str(storage),
             "--port", str(port)],
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(120):
                try:
                    urllib.request.urlopen(address).read()
                    break
                except OSError:
                    time.sleep(0.5)
            found |= browser_seconds(address)
        finally:
            server.terminate()
            server.wait()
    for name, value in found.items():
        print(f"{name:24} {value:8.2f}")
    print(f"{'load of the machine':24} {os.getloadavg()[0]:8.2f}")


if __name__ == "__main__":
    main()
