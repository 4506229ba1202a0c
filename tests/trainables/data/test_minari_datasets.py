"""Minari's datasets by their names and in Arrow files, with Minari and without it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.sources import find_dataset, load_dataset, local_dataset
from safesweep.trainables.tasks.registry import get_task
from tests.trainables.data.test_dataset_layouts import make_episodes, write_minari

TASK = get_task("CarRun")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's folder of datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "minari"


class FakeMinari:
    """Minari as far as it is used, for a dataset in Arrow files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.episodes = [
            SimpleNamespace(
                id=number,
                infos={"cost": episode["infos/cost"].tolist()},
                **{name: values for name, values in episode.items() if name != "infos/cost"},
            )
            for number, episode in enumerate(make_episodes())
        ]
        self.storage = SimpleNamespace(data_path=folder / "data")

    def load_dataset(self, name: str, download: bool) -> "FakeMinari":
        if name != "safe/carrun-v0":
            raise ConnectionError("no network\nat all " + "x" * 500)
        return self

    def MinariDataset(self, folder: Path) -> "FakeMinari":
        assert folder == self.storage.data_path
        return self

    def iterate_episodes(self):
        return iter(self.episodes)


@pytest.fixture
def arrow(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "safe/carrun-v0"
    (folder / "data").mkdir(parents=True)
    metadata = {"data_format": "arrow", "dataset_id": "safe/carrun-v0"}
    (folder / "data/metadata.json").write_text(json.dumps(metadata))
    monkeypatch.setitem(sys.modules, "minari", FakeMinari(folder))
    return folder


def test_a_dataset_of_this_machine_is_found_by_its_name(root: Path) -> None:
    path = write_minari(root / "safe/carrun-v0/data/main_data.hdf5", make_episodes())
    assert find_dataset(TASK, "minari:safe/carrun-v0") == path
    assert local_dataset(TASK, "minari:safe/carrun-v0") == path
    assert len(load_dataset(TASK, str(root / "safe/carrun-v0"))) == 12
    assert local_dataset(TASK, "minari:safe/other-v0") is None


def test_arrow_files_are_converted(root: Path, arrow: Path) -> None:
    expected = write_minari(root.parent / "same.hdf5", make_episodes())
    for source in ("minari:safe/carrun-v0", str(arrow), str(arrow / "data")):
        dataset = load_dataset(TASK, source)
        assert dataset.dataset_id == load_dataset(TASK, str(expected)).dataset_id
        assert dataset.provenance == {"source": "minari", "dataset": "safe/carrun-v0"}
    np.testing.assert_array_equal(dataset.episode_lengths, [5, 3, 4])


def test_what_minari_cannot_load_is_one_short_line(arrow: Path) -> None:
    with pytest.raises(InvalidInput, match=r"Minari cannot load 'safe/other-v0': .*no network at"):
        find_dataset(TASK, "minari:safe/other-v0")
    with pytest.raises(InvalidInput) as refusal:
        find_dataset(TASK, "minari:safe/other-v0")
    assert len(str(refusal.value)) < 300


def test_a_folder_that_minari_cannot_read_is_one_line(
    arrow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FakeMinari) -> None:
        raise AssertionError

    monkeypatch.setattr(FakeMinari, "iterate_episodes", broken)
    with pytest.raises(InvalidInput, match=r"carrun-v0' cannot be read: AssertionError"):
        find_dataset(TASK, str(arrow))


def test_without_minari_one_line_says_what_to_install(
    root: Path, arrow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    for source in ("minari:safe/other-v0", str(arrow)):
        with pytest.raises(InvalidInput, match="not installed; install the extra minari"):
            find_dataset(TASK, source)


def test_minari_itself_reads_what_it_wrote(root: Path) -> None:
    minari = pytest.importorskip("minari")
    path = write_minari(root / "carrun-v0/data/main_data.hdf5", make_episodes())
    box = {"type": "Box", "dtype": "float32", "shape": [7], "low": [-9.0] * 7, "high": [9.0] * 7}
    actions = {**box, "shape": [2], "low": [-1.0] * 2, "high": [1.0] * 2}
    (path.parent / "metadata.json").write_text(
        json.dumps(
            {
                "total_episodes": 3, "total_steps": 12, "data_format": "hdf5",
                "observation_space": json.dumps(box), "action_space": json.dumps(actions),
                "dataset_id": "carrun-v0", "minari_version": minari.__version__,
            }
        )
    )  # fmt: skip
    theirs = list(minari.load_dataset("carrun-v0").iterate_episodes())
    ours = load_dataset(TASK, "minari:carrun-v0")
    rewards = np.concatenate([episode.rewards for episode in theirs])
    np.testing.assert_array_equal(ours.rewards, rewards)
    with pytest.raises(InvalidInput, match="Minari cannot load 'no name!-v0'"):
        find_dataset(TASK, "minari:no name!-v0")
    with pytest.raises(
        InvalidInput, match="'carrun' is no name of Minari's; one ends in a version"
    ):
        find_dataset(TASK, "minari:carrun")
