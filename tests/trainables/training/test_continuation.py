"""Longer training that carries shorter training on, and when it is the same as one run."""

from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from torch.utils._pytree import tree_leaves

from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.continuation import reason_to_train_anew
from safesweep.trainables.training.request import ContinuedTrial, TrialRequest
from safesweep.trainables.training.trial import Trial
from tests.quick import slow_but
from tests.trainables.conformance.small_populations import METHODS_BY_DEFAULT, build
from tests.trainables.conftest import MakeDataset

SHORT, LONG = 40, 70
TIMES = ["train_seconds", "evaluate_seconds", "started_at", "finished_at", "act_latency_ms"]
TINY = {"hidden_dim": 8, "batch_size": 16}
# Without a schedule over the whole budget, which nothing is carried on from.
STEADY = {"fisor": {"actor_decay": 0.0}}


def settings(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a short and a long run whose phases all but the last end at the same step, 20."""
    shares, steady = ALGORITHMS[name].config_class.phase_shares, STEADY.get(name, {})
    short, long = (dict.fromkeys(shares, 20 / steps) for steps in (SHORT, LONG))
    return {**short, **steady}, {**long, **steady}


@pytest.mark.parametrize("name", METHODS_BY_DEFAULT)
def test_carried_on_training_is_the_longer_run_to_the_last_bit(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    dataset, config_class = make_dataset(boat_task), ALGORITHMS[name].config_class
    short, long = settings(name)
    resolved = [config_class.resolve(values) for values in (short, long)]
    assert reason_to_train_anew(ALGORITHMS[name], resolved[0], SHORT, resolved[1], LONG) is None
    first = build(name, boat_task, dataset, [short, short], [0, 1], SHORT)
    first.advance(SHORT)
    continued = build(name, boat_task, dataset, [long, long], [0, 1], LONG)
    continued.load_state_dict(first.state_dict())
    continued.advance(LONG)
    whole = build(name, boat_task, dataset, [long, long], [0, 1], LONG)
    whole.advance(SHORT)
    whole.advance(LONG)
    leaves = tree_leaves((whole.state, whole.optimizers))
    others = tree_leaves((continued.state, continued.optimizers))
    for leaf, other in zip(leaves, others, strict=True):
        assert torch.equal(leaf, other) if isinstance(leaf, torch.Tensor) else leaf == other


@pytest.mark.parametrize("name", [n for n in ALGORITHMS if ALGORITHMS[n].config_class.phase_shares])
def test_a_phase_that_ends_elsewhere_is_a_reason_to_train_anew(name: str) -> None:
    config = ALGORITHMS[name].config_class.resolve(STEADY.get(name, {}))
    reason = reason_to_train_anew(ALGORITHMS[name], config, 1000, config, 2000)
    assert reason is not None and "of 1000, and at" in reason


def test_a_concluded_phase_and_another_configuration_are_reasons_to_train_anew() -> None:
    method = ALGORITHMS["flrp"]
    for values, reason in (({}, None), ({"feasibility": "cost_quantile"}, "concluded")):
        config = method.config_class.resolve({"T": 0, **values})
        found = reason_to_train_anew(method, config, 1000, config, 2000)
        assert found is None if reason is None else reason in str(found)
    default, other = method.config_class(), method.config_class.resolve({"tau_h": 0.7})
    assert reason_to_train_anew(method, default, 10, other, 20) == "the configurations differ"


def make_trial(
    store: Path,
    task: Task,
    make_dataset: MakeDataset,
    steps: int,
    continue_from: ContinuedTrial | None = None,
    evaluate_every: int = 10,
) -> Trial:
    config = ALGORITHMS["lspc"].config_class.resolve(TINY)
    request = TrialRequest(
        "lspc", task.name, [config.to_dict()] * 2, [0, 1], steps, evaluate_every, 3, 1.0, "cpu",
        continue_from=continue_from,
    )  # fmt: skip
    return Trial(request, task, make_dataset(task), ResultWriter(str(store), "sweep"))


def run_to_the_end(trial: Trial) -> Trial:
    while not trial.done:
        trial.advance()
    return trial


def rows(store: Path, run_ids: list[str]) -> list[pandas.DataFrame]:
    found = []
    for name in ("runs", "evaluations", "episodes", "metrics"):
        frame = pandas.read_parquet(store / name)
        frame = frame[frame["run_id"].isin(run_ids)].reset_index(drop=True)
        unlike = [*TIMES, "continued_from"]
        found.append(frame.drop(columns=[c for c in unlike if c in frame]))
    return found


@pytest.mark.parametrize("interrupted", slow_but([True], [False, True]))
def test_rows_are_those_of_the_longer_run(
    interrupted: bool, tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    together, apart = tmp_path / "together", tmp_path / "apart"
    short = run_to_the_end(make_trial(together, boat_task, make_dataset, 20))
    before = rows(together, short.run_ids)
    shorter = ContinuedTrial(short.trial_id, tuple(short.run_ids))
    continued = make_trial(together, boat_task, make_dataset, 50, shorter)
    assert continued.population.step == 20
    if interrupted:
        continued.advance()
        continued = make_trial(together, boat_task, make_dataset, 50, shorter)
        assert continued.population.step == 30
    run_to_the_end(continued)
    whole = run_to_the_end(make_trial(apart, boat_task, make_dataset, 50))
    assert not set(whole.run_ids) & set(short.run_ids)
    for one, other in zip(
        rows(together, continued.run_ids), rows(apart, whole.run_ids), strict=True
    ):
        assert len(one)
        pandas.testing.assert_frame_equal(one, other, check_exact=True)
    # The shorter run's rows stay what they were, and the longer one's name it.
    for one, other in zip(rows(together, short.run_ids), before, strict=True):
        pandas.testing.assert_frame_equal(one, other, check_exact=True)
    runs = pandas.read_parquet(together / "runs").set_index("run_id")
    assert list(runs.loc[continued.run_ids, "continued_from"]) == short.run_ids
    assert runs.loc[short.run_ids, "continued_from"].isna().all()


def test_what_does_not_fit_is_trained_from_the_start(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    short = run_to_the_end(make_trial(tmp_path, boat_task, make_dataset, 20))
    for shorter, every in (
        (ContinuedTrial(short.trial_id, tuple(short.run_ids[::-1])), 10),
        (ContinuedTrial(short.trial_id, tuple(short.run_ids)), 8),
        (ContinuedTrial("nothing", tuple(short.run_ids)), 10),
    ):
        trial = make_trial(tmp_path, boat_task, make_dataset, 50, shorter, every)
        assert trial.population.step == 0 and trial.continued_from is None
