import pytest

from safesweep.analysis.published import (
    COLUMNS,
    PAPERS,
    load_hyperparameters,
    load_published,
    methods_as_candidates,
)
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.tasks.registry import TASKS


def test_every_paper_is_there_with_all_its_numbers() -> None:
    counts = load_published().groupby("paper").size().to_dict()
    assert counts == {"flrp": 450, "lspc": 998, "r2pac": 688, "flp": 170, "safefql": 120}
    assert list(counts) == sorted(PAPERS)


def test_columns_are_those_announced_and_every_row_has_a_number() -> None:
    frame = load_published()
    assert list(frame.columns) == [*COLUMNS, "ambiguous"]
    assert frame["value"].notna().all()
    keys = ["paper", "exhibit", "task", "suite", "method", "variant", "parameter_value", "metric"]
    assert not frame.duplicated(keys).any()


def test_values_are_as_printed() -> None:
    table = load_published("flrp", "table8")
    ant = table[(table["task"] == "OfflineAntCircle-v0") & (table["metric"] == "recall")]
    assert ant["parameter_value"].tolist() == ["0.6", "0.7", "0.8", "0.9", "0.95"]
    assert ant["value"].tolist() == [0.04, 0.08, 0.27, 0.79, 0.88]


def test_tasks_that_we_have_go_by_our_names() -> None:
    frame = load_published()
    known = frame[frame["suite"].isin(["bullet", "metadrive", "safety_gymnasium", "boat"])]
    named = set(known["task"].dropna()) - {"average"}
    assert named <= set(TASKS)
    for task, printed in known[["task", "printed_task"]].drop_duplicates().dropna().values:
        if task != "average":
            assert TASKS[task].key.lower() == printed.lower()


def test_doubtful_cells_keep_their_notes() -> None:
    frame = load_published()
    assert frame["ambiguous"].sum() == 18
    assert frame.loc[frame["ambiguous"], "note"].str.contains("ambiguous").all()
    car_circle = frame[(frame["paper"] == "r2pac") & (frame["printed_task"] == "CarCircle")]
    assert car_circle["ambiguous"].sum() == 8
    headline = frame[frame["note"].fillna("").str.contains("mean of the 9 printed task rows")]
    assert set(headline["paper"]) == {"flrp"}


def test_costs_say_which_limits_they_were_normalised_with() -> None:
    frame = load_published("lspc", "table1")
    costs = frame[frame["metric"] == "normalized_cost"]
    assert set(costs.loc[costs["suite"] == "bullet", "cost_limits"]) == {"10;20;40"}
    assert set(costs.loc[costs["suite"] == "safety_gymnasium", "cost_limits"]) == {"20;40;80"}
    assert frame.loc[frame["metric"] == "normalized_reward", "cost_limits"].isna().all()
    r2pac = load_published("r2pac", "table1")
    drive = r2pac[(r2pac["suite"] == "metadrive") & (r2pac["metric"] == "normalized_cost")]
    assert drive["cost_limits"].isna().all()


def test_the_printed_hyperparameters_are_there() -> None:
    frame = load_hyperparameters()
    assert len(frame) == 155
    lspc = load_hyperparameters("lspc")
    assert set(lspc["paper"]) == {"lspc"}
    batch = lspc[(lspc["exhibit"] == "table2") & lspc["parameter"].str.startswith("Batch size")]
    assert "1024" in set(batch["value"])


@pytest.mark.parametrize(
    ("paper", "exhibit", "message"),
    [
        ("flrb", None, "paper: 'flrb' .*did you mean 'flrp'"),
        ("flrp", "table88", "exhibit: 'table88'"),
    ],
)
def test_what_is_not_there_is_named(paper: str, exhibit: str | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_published(paper, exhibit)


def test_methods_stand_as_candidates_without_ambiguous_cells_and_averages() -> None:
    frame = methods_as_candidates("r2pac", "table1")
    assert "average" not in set(frame["task"])
    assert frame[["normalized_reward", "normalized_cost"]].notna().all().all()
    car_circle = frame[frame["task"] == "OfflineCarCircle-v0"]
    assert "R2PAC" not in set(car_circle["config_id"])
    variants = methods_as_candidates("r2pac", "table7")
    assert {"R2PAC: 1", "R2PAC: 15"} <= set(variants["config_id"])
    with pytest.raises(InvalidInput, match="prints no normalised rewards"):
        methods_as_candidates("flrp", "table7")


def test_the_view_holds_what_the_papers_own_words_deny() -> None:
    """FLRP claims costs below one on all 26 tasks: true as printed."""
    frame = methods_as_candidates("flrp", "table1")
    ours = frame[frame["config_id"] == "FLRP"]
    assert len(ours) == 26
    assert (ours["normalized_cost"] < 1).all()
