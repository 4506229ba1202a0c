"""The space of behaviour cloning. OSRL gives one value of each; every range here is ours and holds
it. Which episodes are cloned makes another baseline and is not searched."""

from safesweep.search_spaces.space import Hyperparameter, SearchSpace

BEHAVIOR_CLONING_SPACE = SearchSpace(
    "bc",
    [
        Hyperparameter("learning_rate", low=1e-4, high=3e-3, log=True, source="OSRL takes 1e-3"),
        Hyperparameter("hidden_dim", choices=(128, 256, 512), source="OSRL takes 256"),
        Hyperparameter("hidden_layers", choices=(1, 2, 3), source="OSRL takes 2"),
    ],
    defaults={"learning_rate": 1e-3, "hidden_dim": 256, "hidden_layers": 2},
)
