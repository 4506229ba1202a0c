"""Configurations: names, aliases, ranges."""

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.methods.flrp_config import FLRPConfig
from safesweep.trainables.methods.registry import ALGORITHMS


def test_aliases_become_canonical_names() -> None:
    config = FLRPConfig.resolve({"tau_h": 0.7, "T": 5})
    assert config.feasibility_expectile == 0.7
    assert config.refinement_steps == 5


def test_integers_are_accepted_where_numbers_are_meant() -> None:
    weight = FLRPConfig.resolve({"lambda_r": 2}).reward_weight
    assert weight == 2.0
    assert isinstance(weight, float)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tau_h": 1.2}, ["tau_h", "1.2", "[0.5, 0.999]"]),
        ({"taau_h": 0.9}, ["taau_h", "tau_h"]),
        ({"T": 2.5}, ["T", "2.5", "whole number"]),
        ({"learning_rate": "fast"}, ["learning_rate", "fast"]),
        ({"safety_signal": "dense"}, ["safety_signal", "dense", "sparse, exact"]),
        ({"tau_h": 0.7, "feasibility_expectile": 0.8}, ["feasibility_expectile", "twice"]),
        ({"hidden_dim": True}, ["hidden_dim", "True"]),
        ({"learning_rate": float("nan")}, ["learning_rate", "nan"]),
    ],
)
def test_bad_values_are_refused_in_one_line(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        FLRPConfig.resolve(values)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_hyperparameter_is_documented(name: str) -> None:
    for entry in ALGORITHMS[name].config_class.describe():
        assert entry["description"], entry["name"]
        assert entry["source"], entry["name"]
        if entry["type"] in ("int", "float"):
            assert entry["low"] <= entry["default"] <= entry["high"], entry["name"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_configuration_survives_its_dictionary(name: str) -> None:
    config_class = ALGORITHMS[name].config_class
    config = config_class()
    assert config_class.resolve(config.to_dict()) == config
    assert {"hidden_dim", "hidden_layers", "batch_size", "learning_rate", "discount"} <= set(
        config_class.field_names()
    )
