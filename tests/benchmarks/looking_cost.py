"""What it costs to look at a sweep that runs: its live view, `watch` and the page, together.

    python -m tests.benchmarks.looking_cost [--runs 510] [--seconds 0]

runs a sweep of a method that does nothing (`tests.benchmarks.sweep_overhead`), three runs a trial,
with the live view in a terminal of 100 columns, `safesweep watch` in another one, and `safesweep
serve` asked by a page every five seconds. Prints the CPU seconds that each took while it ran,
as a share of that time, when the terminal first showed something, and its last table. The live
view's share is that of drawing, in the driver; the other two are whole processes after their start.

Target: 5 % of a core together. Null runs end faster than any others, so that what is paid once, as
what the first page imports, weighs more than in a night: `--seconds` makes each trial as long.
"""

import argparse
import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pyte

COLUMNS, LINES = 100, 30
SWEEP = "null"
_DRIVER = """
import sys, time
from rich.live import Live
from tests.benchmarks.sweep_overhead import TASK, null_trainable
from safesweep.sweeps.output import say
say("null: reading the sweep")
from safesweep.sweeps.execution.ray_tune import run_sweep
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.tasks.registry import get_task
drawing, whole = 0.0, Live.refresh
def timed(self):
    global drawing
    began = time.thread_time()
    whole(self)
    drawing += time.thread_time() - began
Live.refresh = timed
runs, storage, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
dataset = storage + ".hdf5"
collect_dataset(get_task(TASK), episodes=4, path=dataset)
run_sweep(
    {"name": "null", "algorithm": ["bc", "lspc"], "tasks": [TASK], "dataset": dataset,
     "seeds": [0, 1, 2], "steps": 100, "search": {"method": "random", "num_configs": runs // 6},
     "configs_per_trial": 1, "fixed": {"hidden_dim": 8}, "evaluate": {"episodes": 2},
     "space": {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}},
    storage, num_cpus=2, trainable=null_trainable(seconds),
)
print(f"drawing took {drawing:.3f} CPU seconds", flush=True)
"""


def in_terminal(command: list[str], seen: bytearray, first: list[float]) -> subprocess.Popen[bytes]:
    """Start a command whose standard error and output are a terminal; what it shows goes to
    `seen`, and when that began to `first`."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm"}
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment)
    os.close(slave)

    def read() -> None:
        with contextlib.suppress(OSError):
            while True:
                select.select([master], [], [])
                content = os.read(master, 65536)
                if not content:
                    return
                if not first:
                    first.append(time.perf_counter() - began)
                seen.extend(content)

    threading.Thread(target=read, daemon=True).start()
    return process


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What a process has used so far; 0 when it has ended."""
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=510)
    parser.add_argument("--seconds", type=float, default=0.0, help="that each trial lasts at least")
    options = parser.parse_args()
    runs = options.runs
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder) / "store"
        seen, first = bytearray(), list[float]()
        command = [sys.executable, "-c", _DRIVER, str(runs), str(storage), str(options.seconds)]
        driver = in_terminal(command, seen, first)
        while not (storage / "sweeps").exists() and driver.poll() is None:
            time.sleep(0.2)
        program = [sys.executable, "-m", "safesweep"]
        places = ["--storage", str(storage)]
        watched, watched_first = bytearray(), list[float]()
        watch = in_terminal([*program, "watch", SWEEP, *places], watched, watched_first)
        address = "http://127.0.0.1:8698"
        serve = subprocess.Popen([*program, "serve", *places, "--port", "8698"])
        while driver.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/data/sweep/{SWEEP}").read()
                break
            time.sleep(0.5)
        began, before = (
            time.perf_counter(),
            {"watch": cpu_seconds(watch), "page": cpu_seconds(serve)},
        )
        used = dict(before)
        shown: list[str] = []
        while driver.poll() is None:
            time.sleep(5)
            for name in ("sweep", "status"):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/data/{name}/{SWEEP}").read()
            used["page"] = cpu_seconds(serve)
            used["watch"] = max(used["watch"], cpu_seconds(watch))
            screen = pyte.Screen(COLUMNS, LINES)
            pyte.ByteStream(screen).feed(bytes(seen))
            lines = [line.rstrip() for line in screen.display if line.strip()]
            shown = lines if any("steps/s" in line for line in lines) else shown
        elapsed = time.perf_counter() - began
        serve.terminate()
        serve.wait()
        watch.wait(60)
        text = seen.decode(errors="replace")
        found = re.search(r"drawing took ([0-9.]+) CPU", text)
        drawing = float(found.group(1)) if found else float("nan")
        shares = {"live view": drawing / elapsed}
        shares |= {name: (used[name] - before[name]) / elapsed for name in before}
        print(f"{runs} null runs in {elapsed:.0f} s; first said after {first[0]:.2f} s")
        for name, share in shares.items():
            print(f"{name:12} {share:6.2%} of a core")
        print(f"{'together':12} {sum(shares.values()):6.2%} of a core")
        print(f"load of the machine {os.getloadavg()[0]:.1f}")
        print("\n".join(["the live view:", *shown]))
        last = watched.decode(errors="replace").splitlines()[-8:]
        print("\n".join(["what watch said last:", *last]))


if __name__ == "__main__":
    main()
