import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import safesweep
from safesweep.analysis.selection.choice import select
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.trainables.data.dataset import Dataset, read_dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.policies.export import FORMATS, export_policy
from safesweep.trainables.policies.film import film_episode
from safesweep.trainables.policies.loading import acting_network, load_policy
from safesweep.trainables.policies.policy import Policy
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.registry import Task, get_task
from safesweep.trainables.training.population import STREAMS
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial
from tests.fixture_store import short_task
from tests.trainables.conformance.extended_methods import Spender
from tests.trainables.conformance.small_populations import small_settings
from tests.trainables.conftest import MakeDataset

# In the folder of all exported policies, each in one of its own.
ACT_ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, str(next(Path().glob("*/policy.py")).parent))
from policy import Policy
observations = np.load("observations.npy")
for program in Path().glob("*/policy.pt2"):
    policy = Policy.load(program.parent)
    together = policy.act(observations)
    policy.reset(5)
    alone = [policy.act(observation) for observation in observations[:20]]
    np.savez(program.with_name("actions.npz"), together=together, alone=alone)
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"safesweep", "pandas", "pyarrow", "ray", "gymnasium", "pydantic"}, loaded
"""


TASK = short_task("BoatNavigation-v0")


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, boat_datasets: dict[str, Path]
) -> tuple[Path, dict[str, str]]:
    """A store with a run of every method, evaluated on `TASK`, and those runs' ids."""
    storage = tmp_path_factory.mktemp("trained")
    data = read_dataset(boat_datasets[TASK.name], TASK.name)
    return storage, {
        name: train_run(name, data, small_settings(name), storage, TASK) for name in ALGORITHMS
    }


def train_run(
    algorithm: str, data: Dataset, config: dict[str, Any], storage: Path, task: Task
) -> str:
    """Train one run and give its id."""
    request = TrialRequest(algorithm, data.task, [config], [0], 8, episodes=3, device="cpu")
    trial = Trial(request, task, data, ResultWriter(str(storage), "own"))
    while not trial.done:
        trial.advance()
    return trial.run_ids[0]


def test_every_method_acts_as_in_its_last_evaluation(trained: tuple[Path, dict[str, str]]) -> None:
    storage, runs = trained
    store, task = ResultStore(storage), TASK
    seed = int(np.random.SeedSequence([STREAMS["episodes"]]).generate_state(1)[0])
    for name, run in runs.items():
        rows = store.evaluations(run_id=run)
        own = list(rows["policy"].unique())
        assert {policy.partition("@")[0] for policy in own} == set(ALGORITHMS[name].policies)
        for policy_name in own:
            policy = load_policy(store, run, policy_name)
            boats = boat.BoatEnvironment(task.name, boat.spread_starts(3, seed, task.name))
            rewards, last = np.zeros(3), (np.zeros(3), np.zeros(3))
            for _ in range(task.horizon):
                answer = boats.step(policy.act(boats.observations, *last))
                last = answer[1], answer[2]
                rewards += last[0]
            expected = rows.loc[rows["policy"] == policy_name, "reward_return_mean"].item()
            assert rewards.mean() == pytest.approx(expected, rel=1e-5)


WITH_MEMORY = "cdt"


@pytest.mark.slow
def test_exported_policies_act_alike_with_torch_and_numpy_alone(
    trained: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    storage, runs = trained
    observations = np.random.default_rng(0).uniform(-2, 2, (1000, 2)).astype(np.float32)
    np.save(tmp_path / "observations.npy", observations)
    policies = {}
    for name in ALGORITHMS:
        network, description = acting_network(storage, runs[name])
        export_policy(network, description, [], ["torch"], tmp_path / name)
        policies[name] = Policy(network, description)
    subprocess.run([sys.executable, "-c", ACT_ELSEWHERE], cwd=tmp_path, check=True)
    for name, policy in policies.items():
        found = np.load(tmp_path / name / "actions.npz")
        np.testing.assert_array_equal(found["together"], policy.act(observations), name)
        policy.reset(5)
        for observation, action in zip(observations, found["alone"], strict=False):
            np.testing.assert_array_equal(action, policy.act(observation), name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == WITH_MEMORY else pytest.mark.slow)
        for name in ALGORITHMS
    ],
)
def test_every_method_acts_alike_in_onnx(
    trained: tuple[Path, dict[str, str]], name: str, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    storage, runs = trained
    network, description = acting_network(storage, runs[name])
    export_policy(network, description, [], ["onnx"], tmp_path / "policy")
    policy, draws = Policy(network, description), np.random.default_rng(0)
    session = onnxruntime.InferenceSession(str(tmp_path / "policy" / "policy.onnx"))
    taken = {given.name for given in session.get_inputs()}
    memory = {f"memory_{key}": value.numpy() for key, value in policy._begin(1000).items()}
    last = np.zeros((2, 1000), np.float32)
    for _ in range(3):
        observations = draws.uniform(-2, 2, (1000, 2)).astype(np.float32)
        noise = {f"noise_{key}": value.numpy() for key, value in policy._noise(1000).items()}
        given = {"observations": observations, "last_reward_and_cost": last, **noise, **memory}
        actions, *after = session.run(None, {key: given[key] for key in given if key in taken})
        np.testing.assert_allclose(actions, policy.act(observations, *last), atol=2e-5)
        memory = dict(zip(memory, after, strict=True))
        last = draws.uniform(0, 1, (2, 1000)).astype(np.float32)


def test_safetensors_hold_the_parameters_by_name(
    trained: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    storage, runs = trained
    network, description = acting_network(storage, runs["lspc"])
    export_policy(network, description, [], ["safetensors"], tmp_path / "policy")
    tensors = load_file(tmp_path / "policy" / "policy.safetensors")
    assert set(tensors) == set(network.tensors())
    assert tensors["params.cvae_decoder.0.weight"].shape[1] == 16


def test_a_chosen_configuration_is_loaded_by_its_policy(full_store: Path) -> None:
    store = ResultStore(full_store)
    chosen = select(store.to_judge("last", sweep="methods"))
    row = chosen[chosen["policy"] == "lspc_s"].iloc[0]
    policy = safesweep.load_policy(full_store, row)
    assert policy.description["policy"] == "lspc_s"
    assert policy.description["config_id"] == row["config_id"]
    assert policy.act([0.0, 0.0]).shape == (2,)


def test_a_policy_repeats_from_its_seed_and_refuses_other_sizes(
    trained: tuple[Path, dict[str, str]],
) -> None:
    storage, runs = trained
    policy = load_policy(storage, runs["lspc"])
    observation = np.zeros(2)

    def actions(seed: int | None) -> list[float]:
        policy.reset(seed)
        return [float(policy.act(observation)[0]) for _ in range(3)]

    assert actions(1) == actions(1) != actions(2)
    assert len(set(actions(1))) == 3
    with pytest.raises(ValueError, match=r"it must be \[2\]"):
        policy.act(np.zeros(3))


def test_what_a_policy_remembers_goes_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    monkeypatch.setitem(ALGORITHMS, "spender", Spender)
    run = train_run(
        "spender", make_dataset(boat_task), {"batch_size": 8}, tmp_path / "store", boat_task
    )
    network, description = acting_network(tmp_path / "store", run)
    export_policy(network, description, [], ["torch"], tmp_path / "policy")
    here, there = Policy(network, description), Policy.load(tmp_path / "policy")
    limit = description["cost_limit"]
    first = here.act([0.5, 0.5])
    # As soon as the limit is spent it turns round.
    np.testing.assert_array_equal(here.act([0.5, 0.5], 0.0, limit), -first)
    here.reset()
    for cost in (0.0, limit / 2, limit / 2, 0.0):
        np.testing.assert_array_equal(
            here.act([0.5, -0.5], 0.0, cost), there.act([0.5, -0.5], 0.0, cost)
        )


def test_a_store_is_opened_with_its_keys_and_shown_without(
    trained: tuple[Path, dict[str, str]],
) -> None:
    storage, runs = trained
    store = ResultStore(storage)
    store.uri = "s3://shown/without/keys"
    assert load_policy(store, runs["bc"]).act([0.0, 0.0]).shape == (2,)


def test_without_checkpoints_it_is_one_line(
    store_copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = ResultStore(store_copy).runs(sweep="shared", status="completed")["run_id"].iloc[0]
    shutil.rmtree(store_copy / "checkpoints")
    said = f"checkpoint: run {run} has none"
    with pytest.raises(InvalidInput, match=said):
        load_policy(store_copy, run)
    for words in (["export", run, "--format", "torch"], ["record", run]):
        output = str(tmp_path / f"{words[0]}.gif")
        assert main([*words, "--output", output, "--storage", str(store_copy)]) == 2
        error = capfd.readouterr().err
        assert said in error and len(error.splitlines()) == 1


def test_bad_input_is_one_line(
    full_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = ResultStore(full_store)
    own = store.runs(sweep="shared", status="completed")["run_id"].iloc[0]
    imported = store.runs(sweep="elsewhere")["run_id"].iloc[0]
    words = ["--storage", str(full_store)]
    target = ["--output", str(tmp_path / "x")]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for command, said in (
        (["export", "nothing", "--format", "torch", *target], "run: no run of the store"),
        (["export", imported, "--format", "torch", *target], "algorithm: 'ppo' is not one of"),
        (
            ["export", own, "--format", "torch", "--policy", "lspc_s", *target],
            "policy: 'lspc_s' is not one of",
        ),
        (["export", own, "--format", "torch", "--output", str(tmp_path / "full")], "is not empty"),
        (["export", own, "--format", "tflite", *target], "--format: 'tflite' is not one of"),
        (["record", own, *target], "output: '' is not one of .gif, .mp4"),
        (["record", own, "--output", str(tmp_path / "no" / "x.gif")], "cannot be written"),
    ):
        assert main([*command, *words]) == 2
        error = capfd.readouterr().err
        assert said in error and "Traceback" not in error and len(error.splitlines()) == 1


def test_a_policy_that_a_format_cannot_hold_is_one_line(
    trained: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    storage, runs = trained
    _, description = acting_network(storage, runs["bc"])

    class Branching(torch.nn.Module):
        def forward(self, observations: torch.Tensor, *others: object) -> torch.Tensor:
            return observations if observations.sum() > 0 else -observations

    for name in ("torch", "onnx"):
        with pytest.raises(InvalidInput, match=f"format: {name} cannot hold policy 'bc' of bc"):
            FORMATS[name](Branching(), description, tmp_path)  # type: ignore[arg-type]


def test_the_model_card_says_by_which_evidence(store_copy: Path, tmp_path: Path) -> None:
    store = ResultStore(store_copy)
    run = store.runs(sweep="shared", status="completed")["run_id"].iloc[0]
    words = ["--storage", str(store_copy)]
    assert main(["confirm", "--sweep", "shared", "--episodes", "2", *words]) == 0
    confirmed = store.confirmations()["run_id"].iloc[0]
    for name, kinds in ((confirmed, 2), (run, 1)):
        folder = tmp_path / name
        if folder.exists():
            continue
        assert main(["export", name, "--format", "torch", "--output", str(folder), *words]) == 0
        card = (folder / "README.md").read_text()
        assert card.count("| evaluation |") == 1
        assert card.count("| confirmation |") >= kinds - 1
        assert "cost limit of an episode | 10 |" in card
        description = json.loads((folder / "policy.json").read_text())
        assert description["run_id"] == name


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_an_episode_is_filmed(
    trained: tuple[Path, dict[str, str]], tmp_path: Path, suffix: str
) -> None:
    import imageio.v2 as imageio

    storage, runs = trained
    policy = load_policy(storage, runs["bc"])
    # A boat that goes down into the lower obstacle costs on its way.
    policy._respond = lambda observations, *_: (torch.tensor([[0.0, -1.0]]), {})
    path = tmp_path / f"episode{suffix}"
    seed = next(
        seed for seed in range(2000)
        if np.hypot(*(boat.start_states([seed])[0] - [-2.6, -0.4])) < 0.3
    )  # fmt: skip
    task = replace(TASK, horizon=160)
    found = film_episode(policy, task, path, seed, every=80)
    frames = imageio.mimread(path, memtest=False)
    assert found.length == 160 and found.cost_return > 0
    assert found.frames == len(frames) >= 1 + 2 + found.cost_return - 2
    last = np.asarray(frames[-1])[:, :, :3].astype(int)
    red = (last[-20:, :, 0] > 150) & (last[-20:, :, 1] < 110)
    assert red.sum() > found.cost_return


def test_bullet_is_filmed_and_what_cannot_be_is_one_line(
    trained: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    storage, runs = trained
    policy = load_policy(storage, runs["bc"])
    policy.description["observation_dim"] = 7
    policy._respond = lambda observations, *_: (torch.zeros(1, 2), {})
    found = film_episode(policy, get_task("OfflineBallRun-v0"), tmp_path / "b.gif", every=50)
    assert found.frames >= 3 and (tmp_path / "b.gif").stat().st_size > 10_000
    with pytest.raises(InvalidInput, match="no picture can be drawn of OfflineHopperVelocity"):
        film_episode(policy, get_task("OfflineHopperVelocityGymnasium-v1"), tmp_path / "h.gif")
