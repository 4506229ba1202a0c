"""A sweep that two drivers share while everything about it is killed, at random.

    python -m tests.benchmarks.chaos [--kills 100] [--configs 12] [--steps 3000] [--seed 0]
        [--interval 1.5] [--kinds worker driver ...] [--folder FOLDER] [--json FILE]

trains `--configs` configurations of behaviour cloning with two seeds each undisturbed, then once
more into another store with two drivers at once, each with a Ray session of its own. Meanwhile
workers, drivers, raylets and Ray's head processes get SIGKILL, workers are killed by the kernel for
lack of memory (where this process may limit that of others: as root), and drivers and workers are
stopped with SIGSTOP for longer than a lease lasts. Drivers that end before the sweep are started
again.

Passes when the tables are those of the undisturbed sweep (but for the names of populations that
were halved), no driver ended in a traceback, nothing is left behind, and no step of a run was
trained twice but for what a kill or a stop took: at most one rung, or with the kernel's kills all
of a population that is halved, whose halves begin anew.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas
import psutil

from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.store.heartbeats import EXPIRY_SECONDS
from tests.benchmarks.measurement import add_json_option, write_json
from tests.sweeps.memory_group import memory_group
from tests.sweeps.tiny_sweep import files, write_spec

RUNGS = 10
LIMIT_SECONDS = 3600.0
GROUP_BYTES = 2**16
"""What a worker may still take when it is to be killed for memory."""

WEIGHTS = {"worker": 0.5, "driver": 0.15, "raylet": 0.1, "head": 0.05, "memory": 0.1, "stop": 0.1}
MARK = "SAFESWEEP_CHAOS"

PLUGIN = """
import json, os, time
from pathlib import Path
from safesweep.trainables.training.observers import Observer

class TrainingLog(Observer):
    def __init__(self, writer):
        super().__init__(writer)
        self.before = 0

    def note(self, trial, what):
        entry = {"what": what, "process": os.getpid(), "runs": trial.run_ids, "from": self.before,
                 "step": trial.step, "time": time.time(), "trial": trial.trial_id}
        with Path(os.environ["SAFESWEEP_CHAOS"], f"{os.getpid()}.log").open("a") as stream:
            stream.write(json.dumps(entry) + "\\n")
        self.before = trial.step

    def on_start(self, trial):
        self.note(trial, "start")

    def on_evaluation(self, trial, rows):
        self.note(trial, "rung")

    def on_end(self, trial, rows):
        self.note(trial, "end")

OBSERVERS = {"training_log": TrainingLog}
"""


@dataclass
class Driver:
    """One of the two, started again whenever it ends before its time."""

    command: list[str]
    folder: Path
    environment: dict[str, str]
    codes: list[int] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None
    stopped: bool = False

    @property
    def error(self) -> Path:
        """Where its standard error goes."""
        return self.folder / f"driver-{len(self.codes)}.err"

    def start(self) -> None:
        with self.error.open("wb") as stream:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=stream
            )

    def below(self, name: str) -> list[psutil.Process]:
        """Processes that it has started, by a part of their command lines."""
        assert self.process is not None
        found = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if name in " ".join(process.cmdline()):
                        found.append(process)
        return found


class Chaos:
    """Kills until it is enough, and keeps both drivers going."""

    def __init__(
        self,
        drivers: list[Driver],
        wanted: int,
        interval: float,
        seed: int,
        kinds: Sequence[str],
        group: Path | None,
    ) -> None:
        self.drivers, self.wanted, self.interval, self.group = drivers, wanted, interval, group
        self.weights = {
            kind: WEIGHTS[kind] for kind in kinds if kind != "memory" or group is not None
        }
        self.random = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.sleeping: list[tuple[float, psutil.Process, Driver]] = []

    def run(self) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        for driver in self.drivers:
            driver.start()
        while True:
            assert time.monotonic() < deadline, self.killed
            self.wake()
            for driver in self.drivers:
                assert driver.process is not None
                code = driver.process.poll()
                if code is None or (driver.codes and driver.codes[-1] == 0):
                    continue
                said = driver.error.read_text(errors="replace")
                assert "Traceback" not in said, said
                driver.codes.append(code)
                if code != 0:
                    driver.start()
            if all(driver.codes and driver.codes[-1] == 0 for driver in self.drivers):
                return
            if self.killed.total() < self.wanted:
                self.kill_something()
            time.sleep(self.random.uniform(0.2, 2 * self.interval))

    def wake(self) -> None:
        """Let those go on that were stopped for long enough."""
        now = time.monotonic()
        for _, process, driver in [one for one in self.sleeping if one[0] <= now]:
            with contextlib.suppress(psutil.Error):
                process.resume()
            driver.stopped = False
        self.sleeping = [one for one in self.sleeping if one[0] > now]

    def kill_something(self) -> None:
        awake = [
            d for d in self.drivers if not d.stopped and d.process and d.process.poll() is None
        ]
        (kind,) = self.random.choices(list(self.weights), list(self.weights.values()))
        if not awake or (kind == "stop" and len(awake) < 2):
            return
        driver = self.random.choice(awake)
        workers = driver.below("Trainable")
        if not workers:  # nothing has begun that could be lost
            return
        with contextlib.suppress(psutil.Error, OSError):
            if kind == "driver":
                assert driver.process is not None
                driver.process.kill()
            elif kind == "stop":
                assert driver.process is not None
                whole = self.random.random() < 0.7
                victim = psutil.Process(driver.process.pid) if whole else workers[0]
                victim.suspend()
                driver.stopped = True
                self.sleeping.append((time.monotonic() + EXPIRY_SECONDS + 15, victim, driver))
            elif kind == "memory":
                assert self.group is not None
                (self.group / "cgroup.procs").write_text(str(self.random.choice(workers).pid))
            elif kind == "worker":
                self.random.choice(workers).kill()
            else:
                name = {"raylet": "/raylet/raylet", "head": "gcs_server"}[kind]
                self.random.choice(driver.below(name)).kill()
            self.killed[kind] += 1


def tables(storage: str) -> list[pandas.DataFrame]:
    """What must be the same, in one order."""
    store = ResultStore(storage)
    keys = ["run_id", "step", "policy", "name", "episode"]
    columns = ["run_id", "config_id", "seed", "status", "steps", "config"]
    return [
        frame.sort_values([key for key in keys if key in frame], ignore_index=True)
        for frame in (
            store.runs()[columns],
            store.evaluations().drop(columns="act_latency_ms"),
            store.episodes(),
            store.metrics(),
        )
    ]


def compare(one: str, other: str) -> None:
    """Raise where two stores differ: bit by bit where runs were trained in equal populations."""
    sizes = [
        ResultStore(storage).runs().set_index("run_id")["population"] for storage in (one, other)
    ]
    assert sizes[1].index.is_unique
    equal = set(sizes[0].index[sizes[0] == sizes[1].reindex(sizes[0].index)])
    for left, right in zip(tables(one), tables(other), strict=True):
        assert len(left) == len(right), (len(left), len(right))
        for runs, exact in ((equal, True), (set(sizes[0].index) - equal, False)):
            pandas.testing.assert_frame_equal(
                left[left["run_id"].isin(runs)].reset_index(drop=True),
                right[right["run_id"].isin(runs)].reset_index(drop=True),
                check_exact=exact,
                **({} if exact else {"rtol": 1e-2, "atol": 1e-2}),
            )


def trained(folder: Path) -> dict[str, int]:
    """How often runs were trained: rungs in all, different ones, those that were trained more than
    once, and ends beyond one a run."""
    rungs: Counter[tuple[str, int]] = Counter()
    ends: Counter[str] = Counter()
    for path in folder.glob("*.log"):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):  # cut by a kill
                entry = json.loads(line)
                for run in entry["runs"]:
                    if entry["what"] == "rung":
                        rungs[run, entry["step"]] += 1
                    elif entry["what"] == "end":
                        ends[run] += 1
    return {
        "rungs": rungs.total(),
        "different": len(rungs),
        "again": rungs.total() - len(rungs),
        "ends": ends.total(),
        "ended_again": ends.total() - len(ends),
    }


def ours(mark: Path) -> list[psutil.Process]:
    """All processes that were started for this."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(mark) and process.pid != os.getpid():
                found.append(process)
    return found


def measure(
    folder: Path,
    kills: int,
    configs: int,
    steps: int,
    interval: float,
    seed: int,
    kinds: Sequence[str] = tuple(WEIGHTS),
) -> dict[str, Any]:
    """Run it all; the figures.

    Raises:
        AssertionError: something was lost, doubled or left behind.
    """
    spec = write_spec(folder, configs=configs, steps=steps, every=steps // RUNGS)
    plugin = folder / "training_log.py"
    plugin.write_text(PLUGIN)
    marks = {name: folder / name for name in ("undisturbed-log", "disturbed-log")}
    for mark in marks.values():
        mark.mkdir()

    def command(store: str) -> list[str]:
        return [sys.executable, "-m", "safesweep", "run", str(spec), "--storage",
                str(folder / store), "--num-cpus", "1", "--plugin", str(plugin)]  # fmt: skip

    def environment(name: str) -> dict[str, str]:
        return {**os.environ, MARK: str(marks[name]), "OMP_NUM_THREADS": "1"}

    try:
        done = subprocess.run(
            command("undisturbed"),
            env=environment("undisturbed-log"),
            stdout=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0
        drivers = []
        for number in range(2):
            own = folder / f"driver-{number}"
            own.mkdir()
            drivers.append(Driver(command("disturbed"), own, environment("disturbed-log")))
        started = time.monotonic()
        with memory_group(GROUP_BYTES) as group:
            chaos = Chaos(drivers, kills, interval, seed, kinds, group)
            chaos.run()
        seconds = time.monotonic() - started
    finally:
        for mark in marks.values():
            for process in ours(mark):
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
                    process.kill()
    compare(str(folder / "undisturbed"), str(folder / "disturbed"))
    left = [
        name
        for name in files(str(folder / "disturbed"))
        if name.startswith(("heartbeats/", "leases/")) and name.endswith(".json")
    ]
    assert left == [], left
    runs = ResultStore(folder / "disturbed").runs()
    found = trained(marks["disturbed-log"])
    losses = {name: count for name, count in chaos.killed.items()}
    # A worker holds one population of two runs. A loss takes the rung that it was in; one for
    # memory takes all rungs of the population, which begins anew as its halves.
    per_loss = Counter({name: 2 * (RUNGS if name == "memory" else 1) for name in losses})
    allowed = sum(count * per_loss[name] for name, count in losses.items())
    assert found["again"] <= allowed, (found, losses)
    assert found["ended_again"] <= 2 * chaos.killed.total(), found
    return {
        "kills": chaos.killed.total(),
        **losses,
        "driver_starts": sum(len(driver.codes) for driver in drivers),
        "runs": len(runs),
        "halved": int((runs["memory_splits"] > 0).sum()),
        **found,
        "allowed_again": allowed,
        "seconds": round(seconds),
    }


def main() -> int:
    """Print the figures; exit 1 where fewer were killed than was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--configs", type=int, default=12, help="with two seeds each")
    parser.add_argument("--steps", type=int, default=3000, help="gradient steps of a run")
    parser.add_argument("--interval", type=float, default=1.5, help="mean seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kinds", nargs="+", choices=WEIGHTS, default=list(WEIGHTS), help="what is killed"
    )
    parser.add_argument("--folder", type=Path, help="where to work; kept")
    add_json_option(parser)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(
            folder.resolve(), arguments.kills, arguments.configs, arguments.steps,
            arguments.interval, arguments.seed, arguments.kinds,
        )  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in found.items()), file=sys.stderr)
    write_json(found, arguments.json)
    if found["kills"] < arguments.kills:
        print("the sweep was done before: try more --steps", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
