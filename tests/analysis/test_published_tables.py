from pathlib import Path

import pandas
import pytest

from safesweep.analysis.published import load_marks, methods_as_candidates
from safesweep.analysis.published_tables import choices, mark_differences, page, statements
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.scores import within_limit
from tests.quick import slow_but

PAGE = Path(__file__).parent.parent.parent / "docs" / "published-tables.md"


def test_the_page_is_what_its_command_makes() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize(("paper", "tasks"), [("lspc", 28), ("flrp", 26), ("r2pac", 32)])
@pytest.mark.parametrize("ambiguous", slow_but([False], [False, True]))
def test_the_choices_are_what_the_numbers_imply(paper: str, tasks: int, ambiguous: bool) -> None:
    """By plain counting, without the rules."""
    found = choices(paper, "table1", ambiguous)
    assert len(found) == tasks
    table = methods_as_candidates(paper, "table1", ambiguous)
    for row in found.to_dict("records"):
        group = table[table["task"] == row["task"]]
        safe = group[group["normalized_cost"] <= 1]
        assert set(row["safe_methods"]) == set(safe["config_id"])
        assert row["any_safe"] == (len(safe) > 0)
        if not len(safe):
            assert row["cost"] == group["normalized_cost"].min()
            continue
        assert row["reward"] == safe["normalized_reward"].max()
        near = safe[safe["normalized_reward"] >= row["reward"] - 0.05 - 1e-9]
        cheapest = near["normalized_cost"].min()
        assert pandas.isna(row["safer_within"]) or row["safer_cost"] == cheapest
        assert cheapest in (row["cost"], row["safer_cost"])


def test_no_printed_cost_lies_on_the_limit() -> None:
    """So "smaller than 1", as the papers have it, and "at most 1" are the same on these tables."""
    for paper in ("lspc", "flrp", "r2pac"):
        costs = methods_as_candidates(paper, "table1", ambiguous=True)["normalized_cost"]
        assert ((costs < 1) == within_limit(costs)).all()


def test_bold_print_and_the_rule() -> None:
    """What the papers' readers found by hand: eight cells of FLRP's, one of LSPC's."""
    flrp = mark_differences("flrp", "table1")
    assert set(flrp["rule"]) == {"bold"}
    assert len(flrp[flrp["method"] == "FLRP"]) == 7
    assert flrp[flrp["method"] == "LSPC"]["task"].tolist() == ["OfflineCarRun-v0"]
    lspc = mark_differences("lspc", "table4").iloc[0]
    assert (lspc["method"], lspc["cost"], lspc["rule"]) == ("LSPC-S", 1.28, "plain")
    for exhibit in ("table3", "table5"):
        assert mark_differences("lspc", exhibit).empty
    with pytest.raises(InvalidInput, match="exhibit: 'r2pac table1'"):
        load_marks("r2pac", "table1")


def test_statements() -> None:
    found = statements()
    holds = found.groupby(["paper", "statement"])["holds"].agg(list).to_dict()
    assert holds[("lspc", "LSPC-O adheres to safety on every task")] == [True]
    assert holds[("lspc", "LSPC-S, too, is a safe policy")] == [False]
    assert holds[("r2pac", "cost below 1 on all tasks")] == [True]
    assert holds[("r2pac", "the highest reward in 13 of 17 tasks")] == [False, True]
