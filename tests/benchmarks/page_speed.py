"""How long a page of 500 configurations x 5 seeds takes, from the request to its charts.

    python -m tests.benchmarks.page_speed [--configurations 500] [--seeds 5]

writes a made-up sweep, starts `safesweep serve` and prints: CPU seconds that the server takes to
put the content together the first time and to say that nothing has changed, its size, and, where
there is a Chromium, for a browser that has seen nothing yet (its caches are empty, its server has
put nothing together) and for the same page opened again, from the moment the address is asked for:

- text: seconds until text and table are drawn, as a frame that one sees;
- charts: seconds until every chart in the window is drawn too;
- CPU: seconds of the page's main thread until then, which a busy machine does not stretch as much.

The same for the page that `safesweep report` writes, as a file.

Target: charts within 2 s on an idle machine, the first time.
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


def browser_seconds(addresses: dict[str, str]) -> dict[str, float]:
    """What a user waits for at each address, in a new browser: the first time and again."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return {}
    found = {}
    with sync_playwright() as started:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        for name, address in addresses.items():
            browser = started.chromium.launch(executable_path=chromium, args=arguments)
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            for time_of in ("first", "again"):
                page = context.new_page()
                page.set_default_timeout(300_000)
                page.add_init_script(_NOTE_WHEN_SEEN)
                session = context.new_cdp_session(page)
                session.send("Performance.enable")
                before = _cpu_seconds(session)
                page.goto(address, wait_until="commit")
                while len(seen := page.evaluate("window.seen || {}")) < 2:
                    page.wait_for_timeout(20)
                used = _cpu_seconds(session) - before
                for part, milliseconds in sorted(seen.items(), reverse=True):
                    found[f"{name}, {time_of}: {part}, s"] = milliseconds / 1000
                found[f"{name}, {time_of}: CPU, s"] = used
                page.close()
            browser.close()
    return found


_NOTE_WHEN_SEEN = """
window.seen = {};
const names = { drawn: "text", charts: "charts" };
new MutationObserver(() => {
  for (const [mark, name] of Object.entries(names)) {
    if (!document.body || !document.body.dataset[mark]) continue;
    delete names[mark];
    // The frame after the next one begins when what was drawn is on the screen.
    requestAnimationFrame(() => requestAnimationFrame(() => { seen[name] = performance.now(); }));
  }
}).observe(document, { subtree: true, childList: true, attributes: true });
"""


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
        program = [sys.executable, "-m", "safesweep"]
        report = Path(folder) / "report.html"
        places = ["--storage", str(storage)]
        subprocess.run([*program, "report", "large", *places, "--output", str(report)], check=True)
        found = content_seconds(storage)
        found["report, kB"] = report.stat().st_size / 1000
        port = 8699
        server = subprocess.Popen([*program, "serve", *places, "--port", str(port)])
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(120):
                try:
                    urllib.request.urlopen(address).read()
                    break
                except OSError:
                    time.sleep(0.5)
            addresses = {"page": f"{address}/sweep/large", "report": report.as_uri()}
            found |= browser_seconds(addresses)
        finally:
            server.terminate()
            server.wait()
    for name, value in found.items():
        print(f"{name:28} {value:8.2f}")
    print(f"{'load of the machine':28} {os.getloadavg()[0]:8.2f}")


if __name__ == "__main__":
    main()
