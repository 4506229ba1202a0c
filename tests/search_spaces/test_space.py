import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.search_spaces.space import Hyperparameter, SearchSpace
from safesweep.search_spaces.validation import InvalidInput


def conditional_space() -> SearchSpace:
    return SearchSpace(
        "example",
        [
            Hyperparameter("prior", choices=("flow", "gaussian")),
            Hyperparameter("layers", choices=(2, 4), when=("prior", ("flow",))),
            Hyperparameter("scale", choices=(0.5, 1.0), when=("layers", (4,))),
        ],
        defaults={"prior": "gaussian"},
    )


def test_grid_lists_each_active_combination_once() -> None:
    assert list(conditional_space().grid()) == [
        {"prior": "flow", "layers": 2},
        {"prior": "flow", "layers": 4, "scale": 0.5},
        {"prior": "flow", "layers": 4, "scale": 1.0},
        {"prior": "gaussian"},
    ]


@pytest.mark.parametrize(
    ("point", "inside"),
    [
        ({"prior": "gaussian"}, True),
        ({"prior": "gaussian", "layers": 2}, False),
        ({"prior": "flow", "layers": 4, "scale": 1.0}, True),
        ({"prior": "flow", "layers": 4}, False),
        ({"prior": "flow", "layers": 3}, False),
        ({"prior": "flows", "layers": 2}, False),
    ],
)
def test_contains_follows_conditions(point: dict[str, object], inside: bool) -> None:
    assert conditional_space().contains(point) is inside


def test_suggestions_lie_inside_and_name_only_active_entries() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = conditional_space()
    for _ in range(30):
        trial = study.ask()
        point = space.suggest(trial)
        assert space.contains(point)
        assert trial.params == point


@given(low=st.floats(1e-6, 1.0), factor=st.floats(1.01, 1e3), seed=st.integers(0, 99))
def test_log_ranges_hold_their_suggestions(low: float, factor: float, seed: int) -> None:
    entry = Hyperparameter("x", low=low, high=low * factor, log=True)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    assert entry.contains(entry.suggest(study.ask()))


def test_integer_range_holds_whole_numbers_only() -> None:
    entry = Hyperparameter("x", low=1, high=8, integer=True)
    assert entry.contains(8) and entry.contains(8.0)
    assert not entry.contains(2.5) and not entry.contains(9) and not entry.contains(True)


def test_choices_tell_truth_values_from_numbers() -> None:
    entry = Hyperparameter("x", choices=(True, False))
    assert entry.contains(True) and not entry.contains(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "x: a range needs both low and high"),
        ({"low": 1.0}, "x: a range needs both low and high"),
        ({"low": 2.0, "high": 1.0}, "x: low 2 must be below high 1"),
        ({"low": 0.0, "high": 1.0, "log": True}, "x: low 0 must be > 0 in a log range"),
        ({"low": 0.5, "high": 2.0, "integer": True}, "x.low: 0.5 is not allowed"),
        ({"choices": (1, 2), "low": 1.0}, "x: give either choices or a range, not both"),
        ({"choices": (1, 1)}, "x: [1, 1] names a choice twice"),
    ],
)
def test_bad_entries_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        Hyperparameter("x", **options)  # type: ignore[arg-type]
    assert str(problem.value).startswith(message)


def test_bad_spaces_are_refused() -> None:
    entry = Hyperparameter("layers", choices=(1, 2))
    with pytest.raises(InvalidInput, match="layers: stands twice"):
        SearchSpace("example", [entry, entry])
    late = Hyperparameter("scale", choices=(1, 2), when=("layer", (1,)))
    with pytest.raises(
        InvalidInput, match="'layer' is not an earlier entry; did you mean 'layers'"
    ):
        SearchSpace("example", [entry, late])
    with pytest.raises(InvalidInput, match="defaults lie outside"):
        SearchSpace("example", [entry], defaults={"layers": 3})


def test_grid_refuses_a_range() -> None:
    space = SearchSpace("example", [Hyperparameter("rate", low=0.1, high=1.0, log=True)])
    with pytest.raises(InvalidInput, match=r"rate: a grid needs a list .* \[0.1, 1\] log"):
        list(space.grid())


def stepped(low: float, high: float, step: float, integer: bool = False) -> Hyperparameter:
    return Hyperparameter("x", low=low, high=high, step=step, integer=integer)


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        (stepped(0.1, 0.5, 0.1), (0.1, 0.2, 0.3, 0.4, 0.5)),
        (stepped(0.0, 1.0, 0.3), (0.0, 0.3, 0.6, 0.9)),
        (stepped(-1.0, 1.0, 0.5), (-1.0, -0.5, 0.0, 0.5, 1.0)),
        (stepped(2, 9, 3, integer=True), (2, 5, 8)),
    ],
)
def test_a_step_divides_a_range(entry: Hyperparameter, values: tuple[float, ...]) -> None:
    assert entry.values == values
    assert [type(value) for value in entry.values] == [type(value) for value in values]
    assert entry.bounds == (values[0], values[-1])
    assert all(entry.contains(value) for value in values)
    assert not entry.contains(values[0] + 0.01) and not entry.contains(True)
    space = SearchSpace("example", [entry, Hyperparameter("y", choices=("p", "q"))])
    assert space.finite
    assert [point["x"] for point in space.grid()] == [v for v in values for _ in range(2)]


@given(st.integers(-500, 500), st.integers(1, 300), st.integers(1, 100))
def test_what_is_suggested_of_steps_is_one_of_them(low: int, step: int, count: int) -> None:
    # In hundredths, which floats do not hold exactly.
    entry = stepped(low / 100, (low + step * count) / 100, step / 100)
    assert entry.values[-1] == (low + step * count) / 100
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=low % 7)).ask()
    assert entry.contains(entry.suggest(trial))
    for value in (entry.values[0], entry.values[count // 2], entry.values[-1]):
        assert entry.suggest(optuna.trial.FixedTrial({"x": value})) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, "x.step: 0 is not allowed; it must be > 0"),
        ({"step": -0.1}, "x.step: -0.1 is not allowed; it must be > 0"),
        ({"step": 2.0}, "x.step: 2 is not allowed; from 0.1 to 1 it must be at most 0.9"),
        ({"step": 1e-9}, "it gives more than 100,000 values"),
        ({"step": 0.1, "log": True}, "x.step: a log range has none"),
        ({"step": float("nan")}, "x.step: nan is not allowed; it must be a number"),
        (
            {"step": 0.5, "integer": True, "low": 0},
            "x.step: 0.5 is not allowed; it must be a whole",
        ),
    ],
)
def test_bad_steps(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Hyperparameter("x", **{"low": 0.1, "high": 1.0, **options})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="either choices or a range"):
        Hyperparameter("x", choices=(1, 2), step=1)
