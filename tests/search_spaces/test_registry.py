import optuna
import pytest

from safesweep.search_spaces import SEARCH_SPACES
from safesweep.trainables.methods.registry import ALGORITHMS


@pytest.mark.parametrize("algorithm", SEARCH_SPACES)
def test_every_entry_is_a_field_whose_range_the_method_allows(algorithm: str) -> None:
    config_class = ALGORITHMS[algorithm].config_class
    for name, entry in SEARCH_SPACES[algorithm].entries.items():
        assert name in config_class.field_names()
        assert entry.source
        for value in entry.bounds:
            assert config_class.resolve({name: value}).to_dict()[name] == value


@pytest.mark.parametrize("algorithm", SEARCH_SPACES)
def test_defaults_are_those_of_the_method(algorithm: str) -> None:
    space = SEARCH_SPACES[algorithm]
    config = ALGORITHMS[algorithm].config_class.resolve({}).to_dict()
    assert space.defaults == space.active(config)


@pytest.mark.parametrize("algorithm", SEARCH_SPACES)
def test_suggestions_resolve(algorithm: str) -> None:
    space = SEARCH_SPACES[algorithm]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(50):
        ALGORITHMS[algorithm].config_class.resolve(space.suggest(study.ask()))


def test_flrp_without_refinement_leaves_the_refiner_out() -> None:
    space = SEARCH_SPACES["flrp"]
    config = ALGORITHMS["flrp"].config_class.resolve({"T": 0}).to_dict()
    assert not {"reward_weight", "safety_weight", "shared_weight"} & set(space.active(config))
