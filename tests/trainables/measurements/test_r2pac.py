import numpy as np
import pytest

from safesweep.trainables.measurements.r2pac import principal_components, umap_places


def test_principal_components_keep_two_coordinates_and_find_a_line() -> None:
    plane = np.random.default_rng(0).standard_normal((50, 2))
    assert principal_components(plane) is plane
    along = np.linspace(-1, 1, 50)
    line = np.stack([along, 2 * along, -along, np.zeros(50)], axis=1)
    places = principal_components(line)
    assert np.abs(np.corrcoef(places[:, 0], along)[0, 1]) == pytest.approx(1)
    assert np.abs(places[:, 1]).max() < 1e-9


def test_umap_keeps_two_groups_apart_and_repeats() -> None:
    pytest.importorskip("umap", reason="the extra umap is not installed")
    generator = np.random.default_rng(0)
    groups = generator.standard_normal((2, 40, 5)) + np.array([0.0, 20.0])[:, None, None]
    states = groups.reshape(80, 5).astype(np.float32)
    places = umap_places(states)
    assert places is not None
    again = umap_places(states)
    np.testing.assert_array_equal(places, again)
    one, other = places[:40], places[40:]
    gap = np.linalg.norm(one.mean(0) - other.mean(0))
    assert gap > 2 * max(one.std(0).max(), other.std(0).max())


def test_without_the_extra_or_in_the_plane_there_is_no_umap(monkeypatch) -> None:
    assert umap_places(np.zeros((5, 2))) is None
    monkeypatch.setattr("safesweep.trainables.measurements.r2pac.find_spec", lambda name: None)
    assert umap_places(np.random.default_rng(0).standard_normal((5, 3))) is None
