import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.registry import get_task
from tests.quick import slow_but

BOATS = tuple(boat.BOATS)


def random_states(count, seed=0):
    return np.random.default_rng(seed).uniform(boat.LOW, boat.HIGH, (count, 2))


def test_one_step_is_the_stated_equation():
    boats = boat.BoatEnvironment("BoatNavigation-v0", [[0.0, 1.0], [-0.5, 0.5]])
    observations, rewards, costs = boats.step([[3.0, 4.0], [0.0, -2.0]])
    np.testing.assert_allclose(
        observations,
        [[0.005 * (0.6 + 2 - 0.5), 1 + 0.005 * 0.8], [-0.5 + 0.005 * (2 - 0.125), 0.495]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(rewards, [-np.hypot(1.5, 1.0), -np.hypot(2.0, 0.5)])
    # The second boat started inside an obstacle: cost labels the state in which it acts.
    np.testing.assert_array_equal(costs, [0.0, 1.0])


def test_a_coarse_step_is_ten_times_as_long_and_a_coarse_episode_as_long_in_seconds():
    coarse, fine = boat.boat_of("BoatNavigationCoarse-v0"), boat.boat_of("BoatNavigation-v0")
    boats = boat.BoatEnvironment("BoatNavigationCoarse-v0", [0.0, 1.0])
    observations, _, _ = boats.step([3.0, 4.0])
    np.testing.assert_allclose(observations, [0.05 * (0.6 + 2 - 0.5), 1 + 0.05 * 0.8], rtol=1e-6)
    assert coarse.horizon * coarse.time_step == pytest.approx(fine.horizon * fine.time_step)
    np.testing.assert_array_equal(coarse.obstacles, fine.obstacles)
    assert get_task("BoatNavigationCoarse").horizon == get_task("BoatNavigation").horizon / 10
    assert get_task("BoatNavigationCoarse").cost_limit == 0.1


def test_state_is_clipped_to_the_box():
    boats = boat.BoatEnvironment("BoatNavigation-v0", [[2.0, 2.0], [-3.0, -2.0]])
    boats.step([[1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_array_equal(boats.states[0], [2.0, 2.0])
    assert (boats.states[1] == [-3.0, -2.0]).any()
    assert (boats.states >= boat.LOW).all()


def test_action_length_does_not_matter():
    states, actions = random_states(50), np.random.default_rng(1).normal(size=(50, 2))
    one = boat.BoatEnvironment(BOATS[0], states)
    other = boat.BoatEnvironment(BOATS[0], states)
    one.step(actions)
    other.step(7 * actions)
    np.testing.assert_allclose(one.states, other.states, atol=1e-9)


def test_safety_margin_is_radius_minus_distance():
    margins = boat.safety_margin([[-0.5, 0.5], [-0.5, 0.9], [-1.0, -0.7], [1.5, 0.0]], BOATS[0])
    np.testing.assert_allclose(margins[:3], [0.4, 0.0, 0.0], atol=1e-12)
    assert margins[3] == pytest.approx(0.4 - np.hypot(2.0, 0.5))
    with pytest.raises(InvalidInput, match="BoatNavigation-v0"):
        boat.safety_margin([[0, 0]], "BoatNavigation-v1")


@pytest.mark.parametrize(
    ("name", "doomed", "tolerance"),
    [
        ("BoatNavigation-v0", 0.0062, 0.001),
        pytest.param("BoatNavigationHard-v0", 0.0870, 0.003, marks=pytest.mark.slow),
        pytest.param("BoatNavigationCoarse-v0", 0.0061, 0.001, marks=pytest.mark.slow),
    ],
)
def test_feasible_set_does_not_change_when_refined(name, doomed, tolerance):
    coarse = boat.true_feasible_set(name)
    # Coarse steps cannot be halved.
    fine = boat.true_feasible_set(name, resolution=0.0125, time_step=0.05, actions=32)
    states = random_states(100_000)
    labels, finer_labels = coarse.feasible(states), fine.feasible(states)
    assert np.mean(labels == finer_labels) >= 0.995
    outside = boat.safety_margin(states, name) <= 0
    assert np.mean(~labels & outside) == pytest.approx(doomed, abs=tolerance)
    assert not labels[~outside].any()


@pytest.mark.parametrize("name", slow_but(["BoatNavigation-v0"], BOATS))
def test_feasible_set_agrees_with_simulated_boats(name):
    """Steering down the value keeps feasible boats safe; doomed ones crash whatever they do."""
    feasible_set = boat.true_feasible_set(name)
    states = random_states(4000, seed=3)
    value = feasible_set.value_at(states)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    boats = boat.BoatEnvironment(name, states)
    crashed = boat.safety_margin(states, name) > 0
    sailed = boat.boat_of(name)
    # Ahead as far as dynamic programming looks; decisions in half that time, or each step.
    held = max(1, round(sailed.decision_seconds / sailed.time_step / 2))
    for step in range(round(3.0 / sailed.time_step)):
        if step % held == 0:
            ahead = sailed.decision_seconds
            candidates = boat.advance(boats.states[:, None], directions[None], ahead)
            best = feasible_set.value_at(candidates).argmin(axis=1)
        boats.step(directions[best])
        crashed |= boat.safety_margin(boats.states, name) > 0
    assert crashed[value <= -0.03].mean() <= 0.002
    assert crashed[value > 0.03].all()


def test_feasible_set_is_computed_once():
    assert boat.true_feasible_set(BOATS[0]) is boat.true_feasible_set(BOATS[0])


def test_normalising_constants_are_the_reference_returns():
    for name in ("BoatNavigation-v0", "BoatNavigationCoarse-v0"):
        random_return, best_return = boat.reference_returns(name, episodes=2000)
        task = get_task(name)
        assert task.normalize_reward(random_return) == pytest.approx(0.0, abs=0.03)
        assert task.normalize_reward(best_return) == pytest.approx(1.0, abs=0.01)
    fine, hard = get_task("BoatNavigation"), get_task("BoatNavigationHard")
    assert (hard.min_return, hard.max_return) == (fine.min_return, fine.max_return)


def test_start_depends_only_on_its_seed():
    together = boat.start_states([5, 6, 7])
    np.testing.assert_array_equal(together[1], boat.start_states([6])[0])
    assert len(np.unique(together, axis=0)) == 3


@pytest.mark.parametrize("name", BOATS)
def test_starts_spread_over_the_feasible_set_and_leave_nothing_else_out(name):
    starts = boat.start_states(range(1500), name)
    assert boat.true_feasible_set(name).feasible(starts).all()
    # Against uniform draws that are kept where feasible: the same share in each quarter.
    anywhere = np.random.default_rng(0).uniform(boat.LOW, boat.HIGH, (40_000, 2))
    anywhere = anywhere[boat.true_feasible_set(name).feasible(anywhere)]
    for side in (0, 1):
        middle = np.median(anywhere[:, side])
        assert (starts[:, side] <= middle).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("task_name", BOATS)
def test_spread_starts_are_feasible_and_the_first_of_more(task_name: str) -> None:
    from safesweep.trainables.tasks.boat import spread_starts, true_feasible_set

    starts = spread_starts(300, 1, task_name)
    assert starts.shape == (300, 2)
    assert true_feasible_set(task_name).feasible(starts).all()
    np.testing.assert_array_equal(spread_starts(10, 1, task_name), starts[:10])
    assert not np.array_equal(spread_starts(300, 2, task_name), starts)
    # A quarter of the box has its share more exactly than 300 random points would give it.
    shares = []
    for seed in range(12):
        drawn = spread_starts(300, seed, task_name)
        shares.append(float(((drawn[:, 0] < -0.5) & (drawn[:, 1] < 0)).mean()))
    mean = float(np.mean(shares))
    assert np.std(shares) < 0.5 * np.sqrt(mean * (1 - mean) / 300)
