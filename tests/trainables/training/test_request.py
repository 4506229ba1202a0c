import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.training.request import ContinuedTrial, TrialRequest

WHOLE = TrialRequest(
    algorithm="lspc", task="CarRun", configs=({"xi": 0.1}, {"xi": 0.2}), seeds=(3, 4), steps=100,
    evaluate_every=50, episodes=7, cost_limit=5.0, device="cpu", compiled=True,
    run_ids=("a-3", "b-4"), memory_splits=2, continue_from=ContinuedTrial("t", ("c-3", "d-4")),
    until=50, stop={"a-3": "behind"}, stop_at=50, storage="store", sweep="one", threads=2, gpu=0.5,
    lease="mine",
    plugins=("module", ("name", "content")),
)  # fmt: skip
LEAST = {"algorithm": "lspc", "task": "CarRun", "steps": 100}


def test_a_request_crosses_as_plain_values_and_comes_back_whole() -> None:
    assert all(
        getattr(WHOLE, entry.name) != entry.default for entry in fields(TrialRequest)
    )  # Or a field that is lost would not be missed.
    crossed = json.loads(json.dumps(WHOLE.to_config()))
    assert TrialRequest.from_config(crossed) == WHOLE
    least = TrialRequest("lspc", "CarRun", ({},), (0,), 100)
    assert TrialRequest.from_config(least.to_config()) == least
    assert TrialRequest.from_config(LEAST) == least


def test_one_configuration_may_stand_for_all_seeds() -> None:
    found = TrialRequest.from_config(
        {
            **LEAST, "hyperparameters": {"xi": np.float32(0.5), "hidden_dim": np.int64(8)},
            "seeds": [0, np.int64(1)], "dataset": object(), "__trial_info__": object(),
        }
    )  # fmt: skip
    assert found == replace(
        TrialRequest("lspc", "CarRun", ({"xi": 0.5, "hidden_dim": 8},) * 2, (0, 1), 100)
    )
    assert all(type(value) in (int, float) for value in found.configs[0].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate_evry": 5}, "config.evaluate_evry: unknown key.*did you mean 'evaluate_every'"),
        ({"steps": None}, "config.steps: "),
        ({"steps": 0}, "config.steps: 0 is not allowed; it must be a whole number >= 1"),
        ({"episodes": 2.5}, "config.episodes: 2.5 is not allowed"),
        ({"gpu": -1}, "config.gpu: -1 is not allowed"),
        ({"cost_limit": "low"}, "config.cost_limit: 'low' is not allowed"),
        ({"device": "tpu"}, "config.device: 'tpu' is not one of auto, cpu, cuda"),
        ({"compiled": "yes"}, "config.compiled: 'yes' is not allowed; it must be true or false"),
        ({"task": 3}, "config.task: 3 is not allowed; it must be text"),
        ({"seeds": 3}, "config.seeds: 3 is not allowed; it must be a list"),
        ({"seeds": ["a"]}, "config.seeds: 'a' is not allowed"),
        ({"configs": [{}], "seeds": [0, 1]}, "config.configs: 1 configurations .* 2 seeds"),
        ({"configs": [{}], "hyperparameters": {}}, "config.hyperparameters: is given beside"),
        ({"hyperparameters": 0.1}, "config.hyperparameters: 0.1 is not allowed"),
        ({"stop": ["a-0"]}, "config.stop: .* it must be keys and values"),
        ({"continue_from": {"trial_id": "t"}}, "config.continue_from.run_ids: "),
    ],
)  # fmt: skip
def test_bad_configurations_are_refused_with_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as refusal:
        TrialRequest.from_config({**LEAST, **changes})
    assert "\n" not in str(refusal.value)
