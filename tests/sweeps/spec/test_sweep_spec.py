import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from safesweep.search_spaces import SEARCH_SPACES
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.spec.sweep_spec import AUTO_COMPILE_STEPS, EarlyStoppingOptions, SweepSpec
from safesweep.sweeps.spec.yaml_file import shipped_specs
from safesweep.trainables.methods.configs import CONFIGS

BASE: dict[str, Any] = {
    "name": "example",
    "algorithm": "flrp",
    "tasks": ["BoatNavigation-v0"],
    "steps": 100,
    "space": {"tau_h": [0.7, 0.9]},
}


def spec(**changes: Any) -> SweepSpec:
    return SweepSpec.from_mapping({**BASE, **changes})


def problem_of(**changes: Any) -> str:
    with pytest.raises(InvalidInput) as problem:
        spec(**changes)
    message = str(problem.value)
    assert "\n" not in message
    return message


def test_a_refused_budget_is_the_only_problem() -> None:
    """A search and a space that only a budget allows are not held against it."""
    space = {"tau_h": {"low": 0.7, "high": 0.9}}
    for budget in ({"runs": "many"}, {"runs": 40, "confidence": 1.5}):
        with pytest.raises(InvalidInput) as problem:
            SweepSpec.from_mapping(
                {**BASE, "budget": budget, "search": {"warm_start": True}, "space": space}
            )
        assert str(problem.value).startswith("budget.") and "\n" not in str(problem.value)


def test_the_module_loads_without_torch_and_ray() -> None:
    code = (
        "import sys, safesweep.sweeps.spec.sweep_spec; print({'ray', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_defaults_are_filled_in() -> None:
    example = spec()
    assert example.seeds == (0,)
    assert example.evaluate_every == 100
    assert example.search.method == "grid"
    assert example.subject_to == {"normalized_cost": 1.0}
    assert (example.cpu, example.gpu, example.threads) == (1.0, 0.25, 1)
    assert example.dataset == "auto"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepz": 3}, "stepz: unknown key"),
        ({"evaluate": {"evry": 3}}, "evaluate.evry: unknown key"),
        ({"steps": -1}, "steps: -1 is not allowed; it must be a whole number in [1, 1e+09]"),
        ({"steps": 1.5}, "steps: 1.5 is not allowed"),
        ({"steps": True}, "steps: True is not allowed"),
        ({"steps": "many"}, "steps: 'many' is not allowed"),
        ({"name": "../up"}, "name: '../up' is not allowed"),
        ({"algorithm": "flrpp"}, "algorithm: 'flrpp' is not one of flrp"),
        ({"algorithm": []}, "algorithm: [] is not allowed"),
        ({"algorithm": ["flrp", "flrp"]}, "algorithm: flrp is given twice"),
        (
            {"tasks": ["BoatNavigation-v0", "BoatNavigation-v0"]},
            "tasks: BoatNavigation-v0 is given",
        ),
        ({"seeds": 0}, "seeds: 0 is not allowed; it must be a list, or how many from 0 on"),
        ({"seeds": [0, 0]}, "seeds: 0 is given twice"),
        ({"seeds": {"from": 5, "to": 2}}, "seeds.from: 5 is not allowed; it must be at most seeds"),
        (
            {"seeds": {"from": 0, "to": 2}},
            "seeds.from: 0 is not allowed; it must be a whole",
        ),
        ({"seeds": {"from": 2}}, "seeds.to: is missing"),
        ({"seeds": {"from": 2, "too": 3}}, "seeds.too: unknown key; allowed: from, to"),
        ({"seeds": "all"}, "seeds: 'all' is not allowed; it must be a list of whole numbers"),
        ({"seeds": [1], "budget": {"runs": 50}, "search": {}}, "seeds: a budget decides on them"),
        ({"budget": {"runs": 11}, "search": {}}, "budget.runs: 11 is not allowed; the first round"),
        (
            {"budget": {"gradient_steps": 1000}, "search": {}},
            "budget.gradient_steps: 1000 is not allowed; the first round alone takes 12 runs",
        ),
        ({"budget": {}, "search": {}}, "budget: must hold either runs or gradient_steps"),
        ({"budget": {"runs": 50}, "search": {"method": "tpe"}}, "search.method: 'tpe' is not allo"),
        (
            {"budget": {"runs": 50}, "search": {"num_configs": 9}},
            "search.num_configs: a budget decides on it",
        ),
        ({"seeds": [-1]}, "seeds: -1 is not allowed"),
        ({"dataset": "colect"}, "dataset: 'colect' is not one of auto, fetch, collect"),
        ({"search": {"method": "gird"}}, "search.method: 'gird' is not one of grid, random, tpe"),
        ({"search": {"method": "tpe"}}, "search.num_configs: is missing; tpe needs it"),
        ({"search": {"num_configs": 3}}, "search.num_configs: a grid has no such key"),
        ({"search": ["grid"]}, "search: must hold keys and values"),
        (
            {"search": {"method": "cmaes", "num_configs": 3}},
            "search.method: 'cmaes' is not allowed; it needs a range, {low, high}, in the space",
        ),
        ({"search": {"points": [{"tau_h": 0.7}]}}, "search.points: a grid has no such key"),
        (
            {"search": {"method": "random", "num_configs": 3, "parallel": 2}},
            "search.parallel: only tpe, nsga2, cmaes, gp have this key",
        ),
        (
            {"search": {"method": "random", "num_configs": 3, "warm_start": True}},
            "search.warm_start: true is not allowed with random, which learns nothing; only tpe, "
            "nsga2, cmaes, gp and a budget have this key",
        ),
        (
            {"search": {"warm_start": True}},
            "search.warm_start: true is not allowed with grid, which learns nothing",
        ),
        (
            {"search": {"method": "tpe", "num_configs": 3, "warm_start": 1}},
            "search.warm_start: 1 is not allowed",
        ),
        ({"fixed": {"tau_r": 1.2}}, "fixed.tau_r: 1.2 is not allowed; it must be a number in [0.5"),
        ({"fixed": {"hidden_dim": 1.5}}, "fixed.hidden_dim: 1.5 is not allowed"),
        ({"fixed": {"hiden_dim": 8}}, "fixed.hiden_dim: not a hyperparameter"),
        ({"fixed": {"feasibility_expectile": 0.9}}, "space.tau_h: feasibility_expectile is given"),
        ({"space": {"tau_h": [1.2]}}, "space.tau_h: 1.2 is not allowed"),
        ({"space": {"tau_h": 0.9}}, "space.tau_h: 0.9 is not allowed; it must be a list"),
        ({"space": {"tau_h": []}}, "space.tau_h: the list of choices is empty"),
        ({"space": {"tau_h": [[0.9]]}}, "space.tau_h: [0.9] cannot be a choice"),
        ({"space": {"tau_h": [0.9, 0.9]}}, "space.tau_h: [0.9, 0.9] names a choice twice"),
        ({"space": {"tau_h": {"low": 0.6}}}, "space.tau_h.high: is missing"),
        ({"space": {"tau_h": {"low": 0.6, "hgh": 0.9}}}, "space.tau_h.hgh: unknown key"),
        ({"space": {"tau_h": {"low": 0.9, "high": 0.6}}}, "space.tau_h: low 0.9 must be below"),
        ({"space": {"tau_h": {"low": 0.6, "high": 0.9, "log": 1}}}, "space.tau_h.log: 1 is not"),
        ({"space": {"T": {"low": 1.5, "high": 3}}}, "space.T.low: 1.5 is not allowed"),
        ({"space": {"safety_signal": {"low": 1, "high": 2}}}, "space.safety_signal: takes a list"),
        ({"space": {"tau_h": {"low": 0.6, "high": 0.9}}}, "space.feasibility_expectile: a grid"),
        ({"space": None}, "space.feasibility_expectile: a grid needs a list"),
        ({"space": ["tau_h"]}, "space: must hold hyperparameters and values, not a list"),
        ({"evaluate": {"every": 200}}, "evaluate.every: 200 is not allowed"),
        ({"objective": {"maximize": "reward"}}, "objective.maximize: 'reward' is not one of"),
        ({"objective": {"subject_to": {"cost": 1}}}, "objective.subject_to.cost: unknown key"),
        ({"cost_limit": -1}, "cost_limit: -1 is not allowed"),
        ({"resources": {"cpu": 0}}, "resources.cpu: 0 is not allowed"),
        ({"resources": {"gpu": 2}}, "resources.gpu: 2 is not allowed"),
        ({"configs_per_trial": 0}, "configs_per_trial: 0 is not allowed"),
        ({"compile": "yes please"}, "compile: 'yes please' is not allowed; it must be true, false"),
        ({"compile": 1}, "compile: 1 is not allowed; it must be true, false or auto"),
        ({"early_stopping": "halving"}, "early_stopping: must hold keys and values (method, red"),
        (
            {"early_stopping": {"eta": 3}},
            "early_stopping.eta: unknown key; allowed: method, reduct",
        ),
        (
            {"early_stopping": {"method": "asha"}},
            "early_stopping.method: 'asha' is not one of halv",
        ),
        (
            {"early_stopping": {"reduction": 1}},
            "early_stopping.reduction: 1 is not allowed; it must be a whole number in [2, 1000]",
        ),
        ({"early_stopping": {"min_steps": 0}}, "early_stopping.min_steps: 0 is not allowed"),
        (
            {"algorithm": "lspc", "space": {"xi": [0.7]}, "early_stopping": {}},
            "early_stopping.min_steps: 100 is not allowed; it must be a multiple of evaluate.every "
            "(100) and below steps (100)",
        ),
        (
            {"evaluate": {"every": 10}, "early_stopping": {"min_steps": 85}},
            "early_stopping.min_steps: 85 is not allowed; it must be a multiple of evaluate.every "
            "(10) above 75, where the policy's training begins, and below steps (100)",
        ),
        (
            {"evaluate": {"every": 10}, "early_stopping": {"min_steps": 50}},
            "early_stopping.min_steps: 50 is not allowed",
        ),
    ],
)
def test_bad_content_is_named_in_one_line(changes: dict[str, Any], message: str) -> None:
    assert problem_of(**changes).startswith(message)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"stepz": 3}, "'steps'"),
        ({"algorithm": "flrpp"}, "'flrp'"),
        ({"tasks": ["BoatNavigatoin-v0"]}, "'BoatNavigation-v0'"),
        ({"fixed": {"hiden_dim": 8}}, "'hidden_dim'"),
        ({"space": {"tauh": [0.9]}}, "'tau_h'"),
        ({"search": {"methd": "grid"}}, "'method'"),
    ],
)
def test_the_nearest_valid_name_is_given(changes: dict[str, Any], hint: str) -> None:
    assert problem_of(**changes).rpartition("did you mean ")[2].startswith(hint)


OWN = {"algorithm": ["flrp", "lspc"], "space": {"learning_rate": [1e-3]}}


def test_a_method_has_settings_of_its_own_before_those_of_all() -> None:
    content = {
        **BASE,
        **OWN,
        "fixed": {"hidden_dim": 8, "latent_dim": 2},
        "methods": {
            "flrp": {"fixed": {"T": 1, "latent_dim": 4}, "space": {"tau_h": [0.7, 0.9]}},
            "lspc": {"fixed": {"epsilon": 0.6}},
        },
    }
    spec = SweepSpec.from_mapping(content)
    assert list(spec.space_for("flrp").entries) == ["feasibility_expectile"]
    assert list(spec.space_for("lspc").entries) == ["learning_rate"]
    flrp, lspc = spec.resolve("flrp", {}), spec.resolve("lspc", {})
    assert (flrp["hidden_dim"], flrp["latent_dim"], flrp["refinement_steps"]) == (8, 4, 1)
    assert (lspc["hidden_dim"], lspc["latent_dim"], lspc["restriction"]) == (8, 2, 0.6)
    assert SweepSpec.from_mapping(spec.to_mapping()) == spec
    assert "methods" not in SweepSpec.from_mapping(BASE).to_mapping()


def test_what_a_method_has_of_its_own_goes_before_the_same_under_another_name() -> None:
    own = {"flrp": {"fixed": {"feasibility_expectile": 0.8, "learning_rate": 3e-3}}}
    content = {**BASE, **OWN, "algorithm": "flrp", "fixed": {"tau_h": 0.7}, "methods": own}
    spec = SweepSpec.from_mapping(content)
    assert spec.resolve("flrp", {})["feasibility_expectile"] == 0.8
    # What it fixes it does not search.
    assert not spec.space_for("flrp").entries


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"r2pac": {}}, "methods.r2pac: is not a method of the sweep, which has flrp, lspc"),
        ({"flrp": {"fixd": {}}}, "methods.flrp.fixd: unknown key; allowed: fixed, space"),
        ({"flrp": 3}, "methods.flrp: must hold keys and values (fixed, space), not 3"),
        ({"flrp": {"fixed": {"T": 999}}}, "methods.flrp.fixed.T: 999 is not allowed"),
        ({"lspc": {"fixed": {"tau_h": 0.9}}}, "methods.lspc.fixed.tau_h: not a hyperparameter"),
        ({"flrp": {"space": {"tau_h": [1.2]}}}, "methods.flrp.space.tau_h: 1.2 is not allowed"),
        (
            {"flrp": {"fixed": {"T": 1}, "space": {"refinement_steps": [1]}}},
            "methods.flrp.space.refinement_steps: refinement_steps is given twice (also fixed.T)",
        ),
        ({3: {}}, "methods: the key 3 is not text"),
    ],
)
def test_what_is_wrong_with_a_methods_own_settings_is_named(
    methods: dict[Any, Any], message: str
) -> None:
    assert problem_of(**OWN, methods=methods).startswith(message)


def pointed(*points: Any, num_configs: int = 3, **changes: Any) -> dict[str, Any]:
    search = {"method": "random", "num_configs": num_configs, "points": list(points)}
    return {"search": search, "space": {"tau_h": {"low": 0.6, "high": 0.8}, "T": [0, 3]}, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (pointed(0.7), "search.points[0]: must hold hyperparameters and values, not 0.7"),
        (
            pointed({"tau_h": 0.7}, {"T": 3}),
            "search.points[1].feasibility_expectile: is missing, and its default 0.9 is not in "
            "the space, [0.6, 0.8]",
        ),
        (
            pointed({"tau_h": 0.9}),
            "search.points[0].tau_h: 0.9 is not allowed; the space holds [0.6, 0.8]",
        ),
        (
            pointed({"tau_h": 0.7, "T": 1}),
            "search.points[0].T: 1 is not allowed; the space holds {0, 3}",
        ),
        (pointed({"tau_h": 7}), "search.points[0].tau_h: 7 is not allowed; it must be a number in"),
        (
            pointed({"tauh": 0.7}),
            "search.points[0].tauh: not a hyperparameter of FLRPConfig; did you mean 'tau_h'?",
        ),
        (
            pointed({"tau_h": 0.7, "feasibility_expectile": 0.7}),
            "search.points[0].feasibility_expectile: feasibility_expectile is given twice (also "
            "tau_h)",
        ),
        (
            pointed({"tau_h": 0.7, "hidden_dim": 8}),
            "search.points[0].hidden_dim: is not in the space, which holds feasibility_expectile, "
            "refinement_steps",
        ),
        (
            pointed({"T": 0, "reward_weight": 1.0}, space=None),
            "search.points[0].reward_weight: takes part only where refinement_steps is",
        ),
        (
            pointed({"tau_h": 0.7}, {"tau_h": 0.8}, num_configs=1),
            "search.points: 2 points are not allowed; num_configs is 1",
        ),
    ],
)
def test_points_outside_the_space_are_named(changes: dict[str, Any], message: str) -> None:
    assert problem_of(**changes).startswith(message)


def test_points_are_completed_by_the_defaults_and_kept_as_they_were_given() -> None:
    example = spec(**pointed({"tau_h": 0.7}, {"tau_h": 0.8, "T": 0}))
    assert example.points_for("flrp") == [
        {"feasibility_expectile": 0.7, "refinement_steps": 3},
        {"feasibility_expectile": 0.8, "refinement_steps": 0},
    ]
    assert SweepSpec.from_yaml(example.to_yaml()) == example
    # Without T nothing is refined, and what a refiner would take is left out.
    registered = spec(**pointed({"T": 0}, space=None)).points_for("flrp")[0]
    assert registered["refinement_steps"] == 0 and "reward_weight" not in registered


def test_all_problems_are_said_together_and_those_that_follow_from_others_are_not() -> None:
    with pytest.raises(InvalidInput) as found:
        spec(
            name="../up",
            steps=-1,
            seeds=[0, -1, "a"],
            tasks=["BallRun", "BalRun"],
            dataset={"CarRun": "auto"},
            configs_per_trial="many",
            search={"method": "gird", "num_config": 3},
            fixed={"hiden_dim": 3, "T": 99},
            space={"tauh": [1], "tau_r": [2.0]},
            evaluate={"every": 1.5, "episodes": 0},
            objective={"maximize": "reward", "subject_to": {"cost": 1, "violation_rate": -1}},
            resources=[1],
            early_stopping={"method": "asha", "min_steps": 3},
            compile="y",
            more=1,
        )
    assert [line.partition(": ")[0] for line in found.value.lines] == [
        "search.num_config", "more", "name", "task", "seeds", "seeds", "steps",
        "configs_per_trial", "search.method", "fixed.hiden_dim", "fixed.T", "space.tauh",
        "space.tau_r", "evaluate.every", "evaluate.episodes", "objective.maximize",
        "objective.subject_to.cost", "objective.subject_to.violation_rate", "resources",
        "early_stopping.method", "compile",
    ]  # fmt: skip
    assert str(found.value) == "\n".join(found.value.lines)


def test_a_key_that_is_misspelt_is_not_missing_too() -> None:
    with pytest.raises(InvalidInput) as found:
        SweepSpec.from_mapping({**{key: BASE[key] for key in BASE if key != "steps"}, "stepz": 3})
    (line,) = found.value.lines
    assert line.startswith("stepz: unknown key") and line.endswith("did you mean 'steps'?")


def test_what_two_methods_refuse_alike_is_said_once() -> None:
    changes = {"algorithm": ["flrp", "lspc"], "space": {"learning_rate": [1e-4]}}
    assert problem_of(**changes, fixed={"hidden_dim": 1.5}).startswith("fixed.hidden_dim: 1.5 is")


def test_each_task_without_data_is_named() -> None:
    with pytest.raises(InvalidInput) as found:
        spec(tasks=["BallRun", "CarRun"], dataset={})
    assert [line.partition(": is missing")[0] for line in found.value.lines] == [
        "dataset.OfflineBallRun-v0", "dataset.OfflineCarRun-v0"
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["name", "algorithm", "tasks", "steps"])
def test_required_keys(key: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{key}: is missing$"):
        SweepSpec.from_mapping({name: value for name, value in BASE.items() if name != key})


def test_the_first_rung_is_where_a_policy_has_been_trained() -> None:
    assert spec().early_stopping is None and spec().rung_steps == []
    changes: dict[str, Any] = {"evaluate": {"every": 5}, "early_stopping": {}}
    assert spec(**changes).early_stopping == EarlyStoppingOptions(reduction=3, min_steps=80)
    assert spec(**changes, fixed={"pretrain_share": 0.2}).rung_steps == [25, 75]
    # The largest share that is searched counts.
    changes["space"] = {"pretrain_share": [0.2, 0.7]}
    assert spec(**changes).rung_steps == [75]
    changes |= {"algorithm": "lspc", "space": {"xi": [0.7, 0.9]}}
    assert spec(**changes).rung_steps == [5, 15, 45]
    assert SweepSpec.from_yaml(spec(**changes).to_yaml()) == spec(**changes)


@given(
    seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=4, unique=True),
    steps=st.integers(1, 10**9),
    cost_limit=st.none() | st.floats(0, 100),
    method=st.sampled_from(["random", "tpe", "nsga2", "cmaes"]),
    num_configs=st.integers(1, 1000),
    configs_per_trial=st.integers(1, 64),
    low=st.floats(0.5, 0.7),
    gpu=st.floats(0, 1),
    compiled=st.sampled_from([True, False, "auto"]),
)
def test_a_complete_file_reads_back_as_the_same_sweep(
    seeds: list[int],
    steps: int,
    cost_limit: float | None,
    method: str,
    num_configs: int,
    configs_per_trial: int,
    low: float,
    gpu: float,
    compiled: bool | str,
) -> None:
    example = spec(
        compile=compiled,
        seeds=seeds,
        steps=steps,
        cost_limit=cost_limit,
        search={"method": method, "num_configs": num_configs},
        space={"tau_h": {"low": low, "high": 0.9}, "T": [0, 3]},
        configs_per_trial=configs_per_trial,
        resources={"gpu": gpu},
    )
    assert SweepSpec.from_yaml(example.to_yaml()) == example


def test_compiling_is_off_unless_asked_for_and_auto_means_long_runs() -> None:
    assert not spec(steps=10**6).compiled
    assert spec(steps=1, compile=True).compiled
    few, many = AUTO_COMPILE_STEPS - 1, AUTO_COMPILE_STEPS
    assert [spec(steps=steps, compile="auto").compiled for steps in (few, many)] == [False, True]


def test_task_aliases_become_canonical() -> None:
    assert spec(tasks="CarRun").tasks == ("OfflineCarRun-v0",)


def test_aliases_become_canonical_and_whole_numbers_take_the_type_of_the_field() -> None:
    example = spec(space={"lambda_r": [1, 2]}, fixed={"T": 2})
    entry = example.space_for("flrp").entries["reward_weight"]
    assert entry.choices == (1.0, 2.0)
    assert all(isinstance(choice, float) for choice in entry.choices)
    config = example.resolve("flrp", {"reward_weight": 2.0})
    assert (config["refinement_steps"], config["reward_weight"]) == (2, 2.0)


def test_search_starts_at_the_method_default_when_the_space_holds_it() -> None:
    assert spec().space_for("flrp").defaults == {"feasibility_expectile": 0.9}
    assert spec(space={"tau_h": [0.6, 0.7]}).space_for("flrp").defaults == {}


def test_registered_space_loses_fixed_entries_and_what_they_switch_off() -> None:
    search = {"method": "random", "num_configs": 3}
    registered = set(SEARCH_SPACES["flrp"].entries)
    example = spec(space=None, search=search, fixed={"tau_h": 0.8})
    assert set(example.space_for("flrp").entries) == registered - {"feasibility_expectile"}
    without = spec(space=None, search=search, fixed={"T": 0}).space_for("flrp")
    assert "reward_weight" not in without.entries and "kl_coefficient" in without.entries
    refined = spec(space=None, search=search, fixed={"T": 2}).space_for("flrp")
    assert set(refined.entries) == registered - {"refinement_steps"}
    assert refined.defaults["reward_weight"] == 1.0


def test_what_a_fixed_choice_has_take_part_starts_at_its_default() -> None:
    search = {"method": "random", "num_configs": 3}
    example = spec(algorithm="flp", space=None, search=search, fixed={"safety": "lagrangian"})
    constrained = example.space_for("flp")
    assert constrained.defaults["multiplier_speed"] == 10.0
    assert "safety" not in constrained.entries
    unconstrained = spec(algorithm="flp", space=None, search=search, fixed={"safety": "off"})
    assert "multiplier_speed" not in unconstrained.space_for("flp").entries


def test_scientific_notation_is_a_number() -> None:
    text = yaml.safe_dump({**BASE, "space": None}).replace(
        "space: null", "space: {learning_rate: [1e-4, 3E-4, 1.5e-3]}"
    )
    entry = SweepSpec.from_yaml(text).space_for("flrp").entries["learning_rate"]
    assert entry.choices == (1e-4, 3e-4, 1.5e-3)


def test_overrides_reach_nested_keys_in_yaml() -> None:
    example = SweepSpec.from_yaml(
        yaml.safe_dump(BASE),
        ["evaluate.every=50", "space.tau_h=[0.6, 0.7, 0.8]", "seeds=[4, 5]", "fixed.T=1"],
    )
    assert example.evaluate_every == 50
    assert example.space_for("flrp").entries["feasibility_expectile"].choices == (0.6, 0.7, 0.8)
    assert example.seeds == (4, 5)
    assert example.fixed == {"T": 1}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "-o 'steps': must be key=value"),
        ("=3", "-o '=3': must be key=value"),
        ("steps.x=3", "-o 'steps.x=3': steps holds a value, not keys"),
        ("steps=[", "-o 'steps=[': not valid YAML"),
        ("stepz=3", "stepz: unknown key"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        SweepSpec.from_yaml(yaml.safe_dump(BASE), [override])
    assert str(problem.value).startswith(message)


def test_all_bad_overrides_are_said_together() -> None:
    with pytest.raises(InvalidInput) as found:
        SweepSpec.from_yaml(yaml.safe_dump(BASE), ["steps", "seeds=[", "cost_limit=3"])
    assert [line.partition(": ")[0] for line in found.value.lines] == [
        "-o 'steps'", "-o 'seeds=['"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: {", "sweep file: not valid YAML"),
        ("- a\n- b\n", "sweep file: must hold keys and values, not a list"),
        ("", "sweep file: must hold keys and values, not nothing"),
        ("steps: 1\nsteps: 2\n", "steps: is given twice (line 2)"),
        ("? [a]\n: 1\n", "['a']: cannot be a key (line 1)"),
    ],
)
def test_what_is_no_sweep_file(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        SweepSpec.from_yaml(text)
    assert str(problem.value).startswith(message)
    assert "\n" not in str(problem.value)


def test_files_are_found_by_path_or_shipped_name(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(BASE))
    assert SweepSpec.load(path) == spec()
    assert SweepSpec.load("demo").name == "demo"
    with pytest.raises(InvalidInput, match=r"spec: no file 'demos'.*did you mean 'demo'\?"):
        SweepSpec.load("demos")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"spec: cannot read .*UTF-8"):
        SweepSpec.load(path)


@pytest.mark.parametrize("name", shipped_specs())
def test_shipped_files_are_valid(name: str) -> None:
    assert SweepSpec.load(name).name == name


def test_the_coarse_boats_sweep_has_one_configuration_a_method_with_settings_of_its_own() -> None:
    sweep = SweepSpec.load("boat-coarse")
    assert set(sweep.algorithms) == {"safefql", "flp", "r2pac", "flrp", "lspc", "bc"}
    for algorithm in sweep.algorithms:
        assert list(sweep.space_for(algorithm).grid()) == [{}]
        assert sweep.resolve(algorithm, {})["hidden_dim"] == 64
    assert sweep.resolve("flp", {})["safety"] == "lagrangian"


def test_the_baselines_sweep_gives_every_constrained_method_the_same_budget() -> None:
    sweep = SweepSpec.load("baselines")
    costless = {"fql", "ifql", "iql", "rebrac"}
    assert set(sweep.algorithms) == set(CONFIGS) - costless
    assert len(sweep.tasks) == 2
    assert sweep.budget is not None and sweep.budget.runs == 30
    for algorithm in sweep.algorithms:
        space = sweep.space_for(algorithm)
        assert space.entries and space.contains(space.defaults)


def test_dataset_may_be_a_file_of_one_task(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    path.write_bytes(b"")
    assert spec(dataset=str(path)).dataset == str(path)
    message = problem_of(dataset=str(path), tasks=["BoatNavigation-v0", "CarRun"])
    assert "cannot serve 2 tasks; name each one's" in message


def test_each_task_may_have_its_own_dataset(tmp_path: Path) -> None:
    path = tmp_path / "ball.hdf5"
    path.write_bytes(b"")
    folder = tmp_path / "minari"
    (folder / "data").mkdir(parents=True)
    (folder / "data/main_data.hdf5").write_bytes(b"")
    tasks = ["BallRun", "OfflineCarRun-v0", "BoatNavigation"]
    given = {"BallRun": str(path), "OfflineCarRun-v0": "minari:safe/car-v0"}
    example = spec(tasks=tasks, dataset={"BoatNavigation": "collect", **given})
    assert [example.dataset_of(task) for task in example.tasks] == [
        str(path), "minari:safe/car-v0", "collect"
    ]  # fmt: skip
    assert SweepSpec.from_yaml(example.to_yaml()) == example
    assert spec(dataset="fetch").dataset_of("BoatNavigation-v0") == "fetch"
    assert spec(dataset=str(folder)).dataset == str(folder)
    changed = SweepSpec.from_yaml(example.to_yaml(), [f"dataset.OfflineCarRun-v0={folder}"])
    assert changed.dataset_of("OfflineCarRun-v0") == str(folder)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"BallRun": "auto"}, "dataset.OfflineCarRun-v0: is missing; it must be one of auto"),
        ({"BalRun": "auto"}, "dataset: task: 'BalRun' is unknown; did you mean 'BallRun'"),
        ({"AntRun": "auto"}, "dataset.AntRun: is not a task of the sweep, which has OfflineBall"),
        (
            {"BallRun": "auto", "OfflineBallRun-v0": "fetch"},
            "dataset.OfflineBallRun-v0: OfflineBallRun-v0 is given twice",
        ),
        ({"BallRun": "colect", "CarRun": "auto"}, "dataset.BallRun: 'colect' is not one of auto"),
        ({"BallRun": False, "CarRun": "auto"}, "dataset.BallRun: False is not one of auto"),
        ({"BallRun": ["a"], "CarRun": "auto"}, "dataset.BallRun: ['a'] is not one of auto"),
        ({True: "auto"}, "dataset: the key True is not text; YAML reads it as a truth value"),
        (["auto", "fetch"], "dataset: ['auto', 'fetch'] is not one of auto, fetch, collect"),
        ("minari:", "dataset: 'minari:' is not one of auto"),
        (
            {"BallRun": "minari:a-v0", "CarRun": "minari:a-v0"},
            "dataset.CarRun: 'minari:a-v0' cannot serve two tasks",
        ),
    ],
)
def test_datasets_of_tasks_that_cannot_be(dataset: object, message: str) -> None:
    assert problem_of(tasks=["BallRun", "CarRun"], dataset=dataset).startswith(message)


def test_each_task_may_have_its_own_number_of_episodes() -> None:
    tasks = ["BallRun", "CarRun"]
    assert spec().episodes_of("BoatNavigation-v0") == 20
    example = spec(tasks=tasks, evaluate={"episodes": {"CarRun": 5, "OfflineBallRun-v0": 1e1}})
    assert [example.episodes_of(task) for task in example.tasks] == [10, 5]
    assert SweepSpec.from_yaml(example.to_yaml()) == example
    unsettled = spec(evaluate={"episodes": "auto"})
    assert unsettled.evaluate_episodes is None
    assert SweepSpec.from_yaml(unsettled.to_yaml()) == unsettled
    with pytest.raises(InvalidInput, match="auto has not been settled"):
        unsettled.episodes_of("BoatNavigation-v0")


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (
            0,
            "evaluate.episodes: 0 is not allowed; it must be a whole number in [1, 10000], auto or",
        ),
        ("many", "evaluate.episodes: 'many' is not allowed; it must be a whole number in [1, 1000"),
        ([20], "evaluate.episodes: [20] is not allowed; it must be a whole number in [1, 10000]"),
        ({"BallRun": 20}, "evaluate.episodes.OfflineCarRun-v0: is missing; each task needs a num"),
        ({"BalRun": 20}, "evaluate.episodes: task: 'BalRun' is unknown; did you mean 'BallRun'"),
        ({"AntRun": 20}, "evaluate.episodes.AntRun: is not a task of the sweep, which has Off"),
        (
            {"BallRun": 20, "CarRun": "auto"},
            "evaluate.episodes.CarRun: 'auto' is not allowed; it must be a whole number in [1, ",
        ),
        ({True: 20}, "evaluate.episodes: the key True is not text"),
    ],
)
def test_numbers_of_episodes_that_cannot_be(episodes: object, message: str) -> None:
    changes = {"tasks": ["BallRun", "CarRun"], "evaluate": {"episodes": episodes}}
    assert problem_of(**changes).startswith(message)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name: no", "a truth value"),
        ("name: 2024-05-01", "a date"),
        ("name: 2024-05-01 10:00:00", "a date"),
        ("name: 12", "a number"),
        ("name: 1e3", "a number"),
        ("name: 12:30:45", "a number"),
        ("name:", "nothing"),
        ("name: ~", "nothing"),
        ("algorithm: on", "a truth value"),
        ("algorithm: [flrp, 2024-05-01]", "a date"),
        ("tasks: [1]", "a number"),
        ("tasks: yes", "a truth value"),
        ("dataset: off", "a truth value"),
        ("dataset: 2024-05-01", "a date"),
        ("search: {method: no}", "a truth value"),
        ("search: {method: 1.5, num_configs: 3}", "a number"),
        ("search: {method: random, num_configs: 3, points: [{on: 1}]}", "a truth value"),
        ("objective: {maximize: off}", "a truth value"),
        ("objective: {subject_to: {no: 1}}", "a truth value"),
        ("early_stopping: {method: yes}", "a truth value"),
        ("fixed: {prior: off}", "a truth value"),
        ("fixed: {prior: null}", "nothing"),
        ("fixed: {no: 1}", "a truth value"),
        ("space: {no: [1]}", "a truth value"),
        ("space: {prior: [flow, no]}", "a truth value"),
        ("space: {prior: [flow, 2024-05-01]}", "a date"),
        ("no: 1", "a truth value"),
        ("2024: 1", "a number"),
    ],
)
def test_text_that_yaml_reads_as_something_else_belongs_in_quotes(change: str, said: str) -> None:
    kept = {key: value for key, value in BASE.items() if key != change.partition(":")[0]}
    with pytest.raises(InvalidInput, match=f"YAML reads it as {said}.*belongs in quotes") as bad:
        SweepSpec.from_yaml(yaml.safe_dump(kept) + change + "\n")
    assert "\n" not in str(bad.value)
    assert "datetime" not in str(bad.value)


def test_overrides_that_undo_each_other_are_refused() -> None:
    text = yaml.safe_dump({**BASE, "search": {"method": "random", "num_configs": 4}})

    def overridden(*overrides: str) -> SweepSpec:
        return SweepSpec.from_yaml(text, overrides)

    assert overridden("steps=50", "steps=50").steps == 50
    added = overridden("search={method: tpe, num_configs: 2}", "search.seed=3").search
    assert (added.method, added.num_configs, added.seed) == ("tpe", 2, 3)
    for one, other in (
        ("steps=50", "steps=60"),
        ("search.num_configs=8", "search={method: tpe, num_configs: 2}"),
        ("search={method: tpe, num_configs: 2}", "search.num_configs=8"),
        ("seeds=[0, 1]", "seeds=[0]"),
        ("evaluate.every=5", "evaluate=null"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            overridden("cost_limit=3", one, other)
        assert str(refusal.value) == f"-o {one!r}: is undone by -o {other!r}; give one"


@pytest.mark.parametrize(
    "text", ["name: 2024-13-45", "name: !!int x", "name: !!timestamp x", "name: " + "[" * 3000]
)
def test_what_yaml_stumbles_over_is_one_line(text: str) -> None:
    with pytest.raises(InvalidInput, match="not valid YAML") as bad:
        SweepSpec.from_yaml(text)
    assert "\n" not in str(bad.value)


def test_printed_settings_stand_where_the_file_says_nothing() -> None:
    content = {
        "name": "x", "algorithm": ["lspc", "bc"], "tasks": ["CarRun", "BallRun"], "steps": 100,
        "settings": "public", "fixed": {"batch_size": 64}, "space": {"learning_rate": [0.001]},
    }  # fmt: skip
    spec = SweepSpec.from_mapping(content)
    config = spec.resolve("lspc", {"learning_rate": 0.001})
    assert (config["safe_restriction"], config["batch_size"]) == (0.6, 64)
    assert config["learning_rate"] == 0.001
    assert spec.resolve("bc", {})["batch_size"] == 64
    assert SweepSpec.from_mapping(spec.to_mapping()) == spec
    plain = SweepSpec.from_mapping({k: v for k, v in content.items() if k != "settings"})
    assert plain.resolve("lspc", {})["safe_restriction"] == 0.25
    assert "settings" not in plain.to_mapping()


def test_the_registered_space_starts_at_printed_settings() -> None:
    content = {
        "name": "x", "algorithm": "lspc", "tasks": "CarRun", "steps": 100, "settings": "paper",
        "search": {"method": "random", "num_configs": 2},
    }  # fmt: skip
    space = SweepSpec.from_mapping(content).space_for("lspc")
    assert space.defaults["restriction"] == 0.6
    assert space.entries == SEARCH_SPACES["lspc"].entries


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"settings": "printed"}, "settings: 'printed' is not one of paper, public"),
        ({"tasks": ["CarRun", "AntRun"]}, "another restriction of lspc on OfflineAntRun-v0 than"),
    ],
)
def test_printed_settings_that_cannot_stand_are_refused(
    changes: dict[str, object], fault: str
) -> None:
    content = {
        "name": "x", "algorithm": "lspc", "tasks": ["CarRun"], "steps": 100, "settings": "paper",
        "space": {"learning_rate": [0.001]}, **changes,
    }  # fmt: skip
    with pytest.raises(InvalidInput, match=fault):
        SweepSpec.from_mapping(content)
