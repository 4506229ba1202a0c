"""What trials save, and the one way from a checkpoint in a store to a run.

A checkpoint is read as tensors and plain values only (`weights_only`): one that somebody else made
cannot run code. It is an archive (zip) with a seal, so that a bit that flipped is not taken for a
weight.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from safesweep.search_spaces.validation import InvalidInput, one_line
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.store.seal import is_as_sealed, sealed
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.training.population import Population
from safesweep.trainables.training.request import TrialRequest


class DamagedCheckpoint(InvalidInput):
    """A file that is not, or no longer, a checkpoint of ours."""


def checkpoint_content(saved: Mapping[str, Any]) -> bytes:
    """The content of a checkpoint's file."""
    buffer = io.BytesIO()
    torch.save(dict(saved), buffer)
    return sealed(buffer.getvalue())


def _require_sound(content: bytes) -> None:
    """Compare a checkpoint with its digest; with the checksums in the archive where it has none.

    Raises:
        ValueError: it is not what was written.
        zipfile.BadZipFile: it is no archive.
    """
    whole = is_as_sealed(content)
    if whole is False:
        raise ValueError("its digest is another")
    if whole:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} in it is another")


def read_checkpoint(writer: ResultWriter, trial_id: str) -> dict[str, Any] | None:
    """The content of a trial's checkpoint; None where there is none.

    Raises:
        DamagedCheckpoint: it cannot be read.
    """
    path = checkpoint_path(trial_id)
    content = writer.read_bytes(path)
    return None if content is None else loaded_checkpoint(content, path)


def loaded_checkpoint(content: bytes, path: str) -> dict[str, Any]:
    """What `Trial.snapshot` gave.

    Args:
        path: what it is called where it cannot be read.

    Raises:
        DamagedCheckpoint: it cannot be read.
    """
    try:
        _require_sound(content)
        saved: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        json.loads(saved["rows"])
        return saved
    # What a damaged file makes torch and the modules below it raise is not documented.
    except Exception as problem:
        reason = one_line(problem)[:200]
        raise DamagedCheckpoint(f"checkpoint: {path} cannot be read ({reason})") from problem


def problem_of_checkpoint(content: bytes, path: str) -> str | None:
    """What is wrong with the content of a checkpoint's file, in words; None where nothing is."""
    try:
        loaded_checkpoint(content, path)
    except DamagedCheckpoint as problem:
        return str(problem).removeprefix(f"checkpoint: {path} ")
    return None


def run_state(writer: ResultWriter, trial_id: str, run_id: str) -> tuple[Any, int]:
    """One run's state, its leaves [1, ...], and the step at which it was saved.

    Raises:
        InvalidInput: there is no checkpoint, it is not this run's, or the run has diverged.
        DamagedCheckpoint: it cannot be read.
    """
    path = checkpoint_path(trial_id)
    saved = read_checkpoint(writer, trial_id)
    if saved is None:
        raise InvalidInput(f"checkpoint: run {run_id} has none ({path} is not in the store)")
    if run_id not in saved["run_ids"]:
        raise InvalidInput(f"checkpoint: {path} does not hold run {run_id}")
    member = saved["run_ids"].index(run_id)
    population = saved["population"]
    state = tree_map(lambda leaf: leaf[member : member + 1], population["state"])
    if not all(_is_finite(leaf) for leaf in tree_leaves(state["params"])):
        raise InvalidInput(f"checkpoint: the weights of run {run_id} in {path} are not finite")
    return state, int(population["step"])


def _is_finite(leaf: Any) -> bool:
    return not isinstance(leaf, torch.Tensor) or bool(torch.isfinite(leaf).all())


def load_run(writer: ResultWriter, run: Mapping[Any, Any], dataset: Dataset) -> Population:
    """A population of one run, as its checkpoint holds it.

    Args:
        run: its row of the table `runs`.

    Raises:
        InvalidInput: the data is not the run's, or there is no checkpoint of it.
    """
    if dataset.dataset_id != run["dataset_id"]:
        raise InvalidInput(
            f"dataset: {dataset.dataset_id} is not what run {run['run_id']} was trained on "
            f"({run['dataset_id']})"
        )
    state, _ = run_state(writer, str(run["trial_id"]), str(run["run_id"]))
    request = TrialRequest(
        str(run["algorithm"]),
        str(run["task"]),
        [json.loads(str(run["config"]))],
        [int(run["seed"])],
        int(run["steps"]),
        device="cpu",
    )
    population = Population(request, get_task(request.task), dataset)
    population.state = state
    population.step = int(run["steps"])
    return population
