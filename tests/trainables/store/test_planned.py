import json

import pytest

from safesweep.trainables.store.planned import BudgetChoice, chosen_by_budgets, read_planned

CHOICE = {"config_id": "a1", "bound": 0.8, "confidence": 0.9, "passed": True}


def test_choices_are_those_of_the_budgets_that_have_ended() -> None:
    entries = [{"algorithm": "bc", "chosen": CHOICE}, {"algorithm": "flp", "planned": 12}]
    assert list(chosen_by_budgets(json.dumps(entries).encode())) == [BudgetChoice(**CHOICE)]


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[1, null]", b'{"a": 1}', b'[{"chosen": {"other": 1}}]']
)
def test_what_cannot_be_understood_says_nothing(content: bytes | None) -> None:
    assert list(chosen_by_budgets(content)) == []
    assert all(isinstance(entry, dict) for entry in read_planned(content))
