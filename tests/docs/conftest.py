"""The folder that a reader of the documentation has in front of them: stores, data, files."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from safesweep.search_spaces.plugins import plugins_forgotten_after
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.store.imports import import_evaluations
from tests.conftest import made_once
from tests.docs.blocks import files
from tests.fixture_store import imported_rows, train_sweep

TASK = "BoatNavigationCoarse-v0"
SHORT: dict[str, Any] = {
    "algorithm": ["flp", "bc"],
    "tasks": [TASK],
    "seeds": [0, 1],
    "fixed": {"hidden_dim": 8, "batch_size": 16},
    "space": {},
    "methods": {"flp": {"space": {"kl_coefficient": [0.03, 0.06]}}},
    "steps": 8,
    "evaluate": {"every": 4, "episodes": 3},
}
OSRL_CONFIG = "prefix: CPQ\ntask: OfflineBallRun-v0\nseed: {seed}\ncost_limit: 10\nlr: 0.001\n"
OSRL_LOG = "Steps\teval/Reward\teval/Cost\tloss/actor\n{rows}"
OWN_LOG = "Steps\teval/reward\teval/cost\n{rows}"


def _fill(folder: Path) -> None:
    """`results` and `results/demo`, stores with the sweeps that the documentation speaks of, and
    results from elsewhere."""
    folder.mkdir()
    path = collect_dataset(TASK, episodes=3, path=folder / "path" / "to" / "file.hdf5")
    data = {TASK: read_dataset(path, TASK)}
    for name in ("demo", "first"):
        spec = SweepSpec.from_mapping({"name": name, "dataset": str(path), **SHORT})
        train_sweep(spec, folder / "results", data)
    for name in ("old-one", "old-two", "failed-try"):
        rows = imported_rows().query("status == 'finished'").assign(hp_hidden_dim=name)
        import_evaluations(rows, str(folder / "results"), name, cost_limit=20)
    shutil.copytree(folder / "results", folder / "copy")
    shutil.move(folder / "copy", folder / "results" / "demo")
    scores = [f"{step}\t{200 + step}.5\t{step}.25" for step in (1, 2, 3)]
    logged = "".join(f"{row}\t0.1\n" for row in scores)
    for seed in (0, 1):
        run = folder / "logs" / "OfflineBallRun-v0" / f"CPQ_seed{seed}"
        run.mkdir(parents=True)
        (run / "progress.txt").write_text(OSRL_LOG.format(rows=logged))
        (run / "config.yaml").write_text(OSRL_CONFIG.format(seed=seed))
        (folder / f"bcql-BallRun-seed{seed}.txt").write_text(
            OWN_LOG.format(rows="\n".join([*scores, ""]))
        )
    (folder / "wandb_export.csv").write_text(
        '"Name","State","config.algorithm","config.task","config.seed","normalized_reward",'
        '"normalized_cost"\n"a","finished","cpq","BallRun","0","0.5","0.75"\n'
    )


@pytest.fixture(scope="session")
def filled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `reader_folder` is copied from."""
    return made_once(tmp_path_factory, "reader", _fill)


@pytest.fixture
def reader_folder(filled_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder of one's own, entered, with stores at `results` and `results/demo` and the files
    that the documentation writes out."""
    folder = Path(shutil.copytree(filled_folder, tmp_path / "folder"))
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copy(folder / "first.yaml", folder / "sweep.yaml")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "data"))
    for name in ("SAFESWEEP_STORAGE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with plugins_forgotten_after():
        yield folder
