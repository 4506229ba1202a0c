import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from safesweep.search_spaces.space import Hyperparameter, SearchSpace
from safesweep.sweeps.planning.positions import UnitSpace

SPACE = UnitSpace(
    SearchSpace(
        "example",
        [
            Hyperparameter("rate", low=1e-4, high=1e-2, log=True),
            Hyperparameter("layers", low=1, high=4, integer=True),
            Hyperparameter("width", choices=(256, 64, 128)),
            Hyperparameter("kind", choices=("p", "q", "r")),
            Hyperparameter("share", low=0.0, high=1.0, when=("kind", ("q", "r"))),
            Hyperparameter("on", choices=(False, True)),
        ],
    )
)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6))
def test_a_position_is_a_point_and_a_point_a_position(coordinates: list[float]) -> None:
    values = SPACE.values(np.array(coordinates))
    assert SPACE.space.contains(values)
    again = SPACE.values(SPACE.position(values))
    assert {**again, "rate": 0, "share": 0} == {**values, "rate": 0, "share": 0} or (
        "share" not in values
    )
    assert np.isclose(again["rate"], values["rate"], rtol=1e-9)  # type: ignore[arg-type]


def features(**values: object) -> list[float]:
    point = {"rate": 1e-3, "layers": 1, "width": 64, "kind": "p", "on": False, **values}
    return [float(x) for x in SPACE.features(SPACE.position(point)[None])[0]]


def test_numbers_are_ordered_and_names_are_not() -> None:
    assert features()[0] == 0.5  # The middle of a logarithmic range.
    assert [features(width=width)[2] for width in (64, 128, 256)] == [0.0, 0.5, 1.0]
    kinds = np.array([features(kind=kind, share=0.5)[3:6] for kind in "qr"])
    assert np.linalg.norm(kinds[0] - kinds[1]) == np.linalg.norm(kinds[0] - features()[3:6])


def test_what_takes_no_part_makes_no_difference() -> None:
    assert features(kind="p") == features(kind="p", share=0.9)
    assert features(kind="q", share=0.1) != features(kind="q", share=0.9)


def test_positions_around_one_are_near_it_and_inside() -> None:
    generator = np.random.default_rng(0)
    near = SPACE.around(np.full(6, 0.95), 500, 0.1, generator)
    assert near.min() >= 0 and near.max() < 1
    assert np.abs(near[:, 0] - 0.95).mean() < 0.1
    assert (near != 0.95).any(axis=1).mean() > 0.8
