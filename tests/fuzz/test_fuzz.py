"""Whatever a user types, or a disk does: a command ends in time, and says what is wrong in lines.

The slow test tries thousands; the quick one every crafted input that is not slow to make, and a few
of each drawn kind.
"""

import contextlib
import copy
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from safesweep.sweeps.cli import main
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.tasks.registry import get_task
from tests.fuzz import hostile
from tests.fuzz.attempts import Attempts

QUICK, SLOW = 25, 2400
Kind = Callable[[random.Random, Path, Path], Iterator[list[str]]]


def _paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = content.items() if isinstance(content, dict) else ()
    for key, value in items:
        yield from _paths(value, (*path, key))


def _mutated(draw: random.Random) -> dict[str, Any]:
    """A sweep file with some values replaced, removed or added."""
    content: dict[str, Any] = copy.deepcopy(hostile.SPEC)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        *above, key = draw.choice([path for path in _paths(content) if path])
        place = content
        for name in above:
            place = place[name]
        action = draw.random()
        if action < 0.8:
            place[key] = copy.deepcopy(draw.choice(hostile.VALUES))
        elif action < 0.9:
            del place[key]
        else:
            place[str(draw.choice(hostile.VALUES))[:200]] = draw.choice(hostile.VALUES)
    return content


def _written(path: Path, content: str | bytes) -> Path:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    return path


def crafted_sweep_files(draw: random.Random, folder: Path, store: Path) -> Iterator[list[str]]:
    for text in draw.sample(list(hostile.TEXTS.values()), len(hostile.TEXTS)):
        path = _written(folder / "sweep.yaml", text)
        yield ["run", str(path), "--dry-run", "--storage", str(folder / "new")]


def sweep_files(draw: random.Random, folder: Path, store: Path) -> Iterator[list[str]]:
    while True:
        try:
            text = yaml.safe_dump(_mutated(draw), allow_unicode=True)
        except (ValueError, yaml.YAMLError):
            continue
        path = _written(folder / "sweep.yaml", text)
        yield ["run", str(path), "--dry-run", "--storage", str(folder / "new")]


def overrides(draw: random.Random, folder: Path, store: Path) -> Iterator[list[str]]:
    path = _written(folder / "base.yaml", yaml.safe_dump(hostile.SPEC))
    keys = [".".join(map(str, key)) for key in _paths(hostile.SPEC) if key]
    while True:
        value = draw.choice(hostile.VALUES)
        text = _typed(value) if draw.random() < 0.7 else draw.choice(list(hostile.TEXTS.values()))
        text = text if isinstance(text, str) else "x"
        words = ["-o", f"{draw.choice(keys)}={text[:20_000]}"]
        if draw.random() < 0.2:
            words = ["-o", _typed(value)[:500]]
        yield ["run", str(path), "--dry-run", "--storage", str(folder / "new"), *words]


def _typed(value: object) -> str:
    """A value as it would be typed: Python prints no whole number of thousands of digits."""
    text = repr(value) if isinstance(value, list | dict) else str(value)
    return text.replace("\x00", "")


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("list",), ("show", "?"), ("query", "?"), ("select",), ("select", "?"), ("logs", "?"),
    ("data", "info", "?"), ("data", "list"), ("space", "?"), ("algorithms",), ("tasks",),
    ("compact",), ("check",), ("report", "?", "--output", "?"), ("plot", "?", "?", "--output", "?"),
    ("watch", "?", "--once"), ("completion", "?"), ("run", "?", "--dry-run"), ("schema",), ("?",),
    ("export", "?", "--output", "?"), ("import", "?", "--sweep", "?"), ("reproduce", "--list"),
)  # fmt: skip
OPTIONS = (
    "--storage", "--format", "--sweep", "--algorithm", "--task", "--rule", "--cost-limit",
    "--confidence", "--maximize", "--subject-to", "--unsafe-share", "--worst-cost", "--step",
    "--min-seeds", "--memory", "--timeout", "--num-cpus", "--plugin", "--column", "--set",
    "--set-from-name", "--preset", "--leave-out", "--last-row", "-o", "--output", "--repair",
)  # fmt: skip
_WORDS = ("methods", "shared", "troubled", "elsewhere", "bc", "BoatNavigation-v0", "last", "best",
          "json", "csv", "pareto", "confident_safe", "SELECT 1", "SELECT * FROM runs",
          "normalized_cost=1", "10", "0.9")  # fmt: skip


def command_lines(draw: random.Random, folder: Path, store: Path) -> Iterator[list[str]]:
    loop = folder / "loop"
    if not loop.is_symlink():
        loop.symlink_to(loop)
    odd = [str(loop), str(loop / "x"), os.fsdecode(b"\xff\xfe"), str(folder / os.fsdecode(b"\xff")),
           str(folder), "x" * 5_000, "~nouser", "~nouser/store"]  # fmt: skip

    def word() -> str:
        kind = draw.random()
        if kind < 0.4:
            return draw.choice(_WORDS)
        if kind < 0.55:
            return draw.choice(odd)
        return _typed(draw.choice(hostile.VALUES))[:20_000]

    while True:
        words = [word() if part == "?" else part for part in draw.choice(COMMANDS)]
        for _ in range(draw.choice((0, 1, 1, 2, 3))):
            words.append(draw.choice(OPTIONS))
            if draw.random() < 0.95 and words[-1] != "--repair":
                words.append(word())
        if "--storage" not in words and draw.random() < 0.8:
            words += ["--storage", str(store)]
        yield words


def _import(folder: Path, path: Path, sweep: str = "theirs") -> list[str]:
    shutil.rmtree(folder / "imported", ignore_errors=True)
    return ["import", str(path), "--sweep", sweep, "--storage", str(folder / "imported")]


def imports(draw: random.Random, folder: Path, store: Path) -> Iterator[list[str]]:
    for text in hostile.TABLES.values():
        for name in ("table.csv", "table.parquet"):
            yield _import(folder, _written(folder / name, text))
    plain = _written(folder / "plain.csv", hostile.TABLE)
    for sweep in map(_typed, hostile.VALUES):
        yield _import(folder, plain, sweep[:500])
    while True:
        cells = [cell.split(",") for cell in hostile.TABLE.splitlines()]
        for _ in range(draw.choice((1, 2, 4))):
            row = draw.choice(cells)
            row[draw.randrange(len(row))] = _typed(draw.choice(hostile.VALUES))[:5_000]
        text = "\n".join(draw.choice((",", ",", ";", "\t")).join(row) for row in cells)
        yield _import(folder, _written(folder / "table.csv", text + draw.choice(("", "\n"))))


def hdf5(draw: random.Random, folder: Path, store: Path) -> Iterator[list[str]]:
    sound = folder / "sound.hdf5"
    if not sound.exists():
        collect_dataset(get_task("BoatNavigation-v0"), episodes=3, path=sound)
    content = sound.read_bytes()
    with h5py.File(sound) as file:
        names = list(file)
    path = folder / "damaged.hdf5"
    while True:
        shutil.copy(sound, path)
        if draw.random() < 0.7:
            path.write_bytes(_damaged(draw, content))
        else:
            with h5py.File(path, "r+") as file:
                _change_dataset(draw, file, draw.choice(names))
        yield ["data", "info", str(path)]


def _change_dataset(draw: random.Random, file: h5py.File, name: str) -> None:
    if draw.random() < 0.2:
        del file[name]
        return
    if not isinstance(file[name], h5py.Dataset):
        return
    rows = len(file[name]) if file[name].shape else 1
    del file[name]
    kind = draw.choice(("text", "scalar", "shape", "empty", "huge", "group", "type", "bytes"))
    if kind == "text":
        file[name] = "text"
    elif kind == "scalar":
        file[name] = draw.choice((0, 1.5, float("nan"), True))
    elif kind == "shape":
        file[name] = np.zeros((rows, draw.choice((0, 1, 3, 7))), "f4")
    elif kind == "empty":
        file[name] = h5py.Empty("f4")
    elif kind == "huge":
        file.create_dataset(name, (5 * 10**8, 3), "f4", chunks=(1000, 3))
    elif kind == "group":
        file.create_group(name)
    elif kind == "type":
        file.create_dataset(name, (rows,), draw.choice(("i8", "u1", "c8", "S5", "bool", "f2")))
    else:
        file.create_dataset(name, (rows,), h5py.special_dtype(vlen=bytes))


def _damaged(draw: random.Random, content: bytes) -> bytes:
    """Content with bytes changed, cut, or something else in its place."""
    changed = bytearray(content)
    kind = draw.random()
    if kind < 0.5:
        for _ in range(draw.choice((1, 1, 3, 30))):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    elif kind < 0.7:
        del changed[draw.randrange(len(changed)) :]
    elif kind < 0.85:
        start = draw.randrange(len(changed))
        changed[start : start + draw.choice((8, 64, 1024))] = bytes(draw.choice((8, 64, 1024)))
    elif kind < 0.95:
        start = draw.randrange(len(changed))
        changed[start:start] = draw.randbytes(draw.choice((1, 100)))
    else:
        return draw.choice(
            (b"", b"PAR1", b"PAR1PAR1", draw.randbytes(500), b"PK\x03\x04" + b"x" * 90)
        )
    return bytes(changed)


def damaged_stores(draw: random.Random, folder: Path, store: Path) -> Iterator[list[str]]:
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.name[0] != ".")
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(path.relative_to(store).parts[0], []).append(path)
    while True:
        path = draw.choice(groups[draw.choice(sorted(groups))])
        content = path.read_bytes()
        try:
            path.write_bytes(_damaged(draw, content or b"\0"))
            yield [*draw.choice(hostile.STORE_COMMANDS)(), "--storage", str(store)]
        finally:
            path.write_bytes(content)


KINDS: dict[str, tuple[Kind, float]] = {
    "crafted sweep files": (crafted_sweep_files, 0.02),
    "sweep files": (sweep_files, 0.2),
    "overrides": (overrides, 0.12),
    "command lines": (command_lines, 0.28),
    "imports": (imports, 0.12),
    "HDF5": (hdf5, 0.1),
    "damaged stores": (damaged_stores, 0.16),
}
"""By kind, the share of the inputs that are of it."""


def _fuzz(kind: str, count: int, folder: Path, store: Path, seed: int = 0) -> Attempts:
    attempts = Attempts()
    # What a command imports at first is no time that its input takes.
    path = _written(folder / "plain.yaml", yaml.safe_dump(hostile.SPEC))
    assert main(["run", str(path), "--dry-run", "--storage", str(folder / "new")]) == 0
    make, share = KINDS[kind]
    inputs = make(random.Random(f"{kind} {seed}"), folder, store)
    for argv, _ in zip(inputs, range(max(1, round(share * count))), strict=False):
        attempts.try_command(argv, [*argv, *_contents(argv, folder)])
    return attempts


def _contents(argv: list[str], folder: Path) -> list[bytes]:
    """The beginning of the files that an attempt was about, so that it can be told from others."""
    paths = [Path(word) for word in argv if word.startswith(str(folder)) and "\0" not in word]
    with contextlib.suppress(OSError, ValueError):
        return [path.read_bytes()[:2000] for path in paths if path.is_file()]
    return []


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what commands write by default."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_some_inputs(kind: str, somewhere: Path, store_copy: Path) -> None:
    attempts = _fuzz(kind, QUICK, somewhere, store_copy)
    assert not attempts.faults, attempts.report()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_inputs(kind: str, somewhere: Path, store_copy: Path) -> None:
    attempts = _fuzz(kind, SLOW, somewhere, store_copy, seed=1)
    print(f"{kind}: {attempts.count} inputs, {len(attempts.faults)} faults")
    assert not attempts.faults, attempts.report()
