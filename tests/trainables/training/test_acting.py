from collections.abc import Callable

from safesweep.trainables.training.acting import Watched


def test_lookups_are_noted_at_every_depth() -> None:
    content = {"params": {"actor": [1], "critic": [2]}, "target": {"critic": [3]}, "rest": {"a": 4}}

    def part(look: Callable[[Watched], object]) -> dict[str, object]:
        watched = Watched(content)
        look(watched)
        return watched.looked_up(content)

    assert part(lambda state: state["params"]["actor"]) == {"params": {"actor": [1]}}
    assert part(lambda state: state.get("rest", {})) == {"rest": {"a": 4}}
    assert part(lambda state: list(state["params"])) == {"params": content["params"]}
    assert part(lambda state: [*state.items()]) == content
    assert part(lambda state: [*state["target"].values()]) == {"target": {"critic": [3]}}
    assert part(lambda state: {**state["rest"]}) == {"rest": {"a": 4}}
    assert part(lambda state: None) == {}
