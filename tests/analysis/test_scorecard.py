import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from safesweep.analysis.ablations.engine.ablation import Ablation
from safesweep.analysis.ablations.flrp import TABLE_8
from safesweep.analysis.reproduction import Reproduction, reproduce
from safesweep.analysis.scorecard import (
    load_remarks,
    store_digest,
    unexplained,
    write_data,
    write_page,
)
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from tests.analysis.ablations.conftest import write_ablation  # noqa: F401

WriteAblation = Callable[[Ablation], ResultStore]


@pytest.fixture
def done(write_ablation: WriteAblation, tmp_path: Path) -> tuple[Reproduction, ResultStore]:  # noqa: F811
    store = write_ablation(TABLE_8)
    return reproduce(TABLE_8, store, "smoke", tmp_path / "figures", "the command"), store


def test_the_page_holds_figure_claims_and_remarks(
    done: tuple[Reproduction, ResultStore], tmp_path: Path
) -> None:
    entry, store = done
    page = tmp_path / "page"
    page.mkdir()
    claim = entry.scorecard["claim"].iloc[0]
    (page / "remarks.csv").write_text(
        f'ablation,claim,remark\nflrp-table8,{claim},"Too few, a|b."\n', encoding="utf-8"
    )
    command = "safesweep reproduce x --page y"
    paths = write_page([entry], store, load_remarks(page), page, command)
    assert all(path.is_file() for path in paths)
    assert {path.name for path in paths} == {"README.md", "flrp-table8-smoke.png"}
    text = paths[0].read_text(encoding="utf-8")
    assert "Made by `safesweep reproduce x --page y` from a store of 10 completed runs" in text
    assert "![flrp-table8](flrp-table8-smoke.png)" in text
    assert "Too few, a\\|b." in text
    for statement in entry.scorecard["statement"]:
        assert f"| {statement} |" in text
    first = store_digest(store, list(store.runs()["run_id"]))
    assert f"`{first}`" in text


def test_tables_are_one_archive_and_not_beside_the_page(
    done: tuple[Reproduction, ResultStore], tmp_path: Path
) -> None:
    entry, store = done
    page = tmp_path / "page"
    write_page([entry], store, {}, page, "the command")
    assert sorted(path.name for path in page.iterdir()) == ["README.md", "flrp-table8-smoke.png"]
    assert "--scale smoke --figure-only --data data.zip" in (page / "README.md").read_text()
    assert write_data([entry], tmp_path / "new" / "data.zip") == 3
    with zipfile.ZipFile(tmp_path / "new" / "data.zip") as archive:
        for path in entry.paths:
            if path.suffix == ".csv":
                assert archive.read(path.name) == path.read_bytes()
        assert len(archive.namelist()) == 3
    write_data([entry], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "new" / "data.zip").read_bytes()
    with pytest.raises(InvalidInput, match=r"data: cannot write .*page'"):
        write_data([entry], page)


def test_a_page_can_be_of_other_sweeps_of_the_store(
    done: tuple[Reproduction, ResultStore], tmp_path: Path
) -> None:
    entry, store = done
    (name,) = entry.sweeps
    other = reproduce(TABLE_8, store, "paper", tmp_path, "the command", sweeps=[name])
    assert other.scale is None and other.sweeps == (name,)
    text = write_page([other], store, {}, tmp_path / "page", "the command")[0].read_text()
    assert text.startswith(f"# The ablations of {name}\n")
    assert "from a store of 10 completed runs" in text
    assert f"`safesweep reproduce flrp-table8 --sweep {name} --figure-only --data data.zip`" in text
    assert f"![flrp-table8](flrp-table8-{name}.png)" in text
    assert (tmp_path / "page" / f"flrp-table8-{name}.png").is_file()


def test_claims_without_support_need_a_remark(done: tuple[Reproduction, ResultStore]) -> None:
    entry, _ = done
    verdicts = entry.scorecard.assign(claim_verdict="undecided", claim_p_value=0.5)
    first = verdicts["claim"] == verdicts["claim"].iloc[0]
    verdicts.loc[first, ["claim_verdict", "claim_p_value", "claim_p_against"]] = [
        "supported", 1e-6, 1.0,
    ]  # fmt: skip
    judged = replace(entry, scorecard=verdicts)
    names = list(dict.fromkeys(verdicts["claim"]))
    assert unexplained([judged], {}) == [("flrp-table8", name) for name in names[1:]]
    remarks = {("flrp-table8", name): "Because." for name in names[2:]}
    assert unexplained([judged], remarks) == [("flrp-table8", names[1])]


def test_the_digest_follows_the_results_alone(
    done: tuple[Reproduction, ResultStore], tmp_path: Path
) -> None:
    _, store = done
    runs = sorted(store.runs()["run_id"])
    digest = store_digest(store, runs)
    assert digest == store_digest(store, runs[::-1])
    assert digest != store_digest(store, runs[1:])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ablation,remark\na,b\n", "columns are not ablation, claim, remark"),
        ("ablation,claim,remark\na,b,c\na,b,d\n", "two remarks on a b"),
    ],
)
def test_bad_remarks_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "remarks.csv").write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=message):
        load_remarks(tmp_path)


def test_no_remarks_are_none(tmp_path: Path) -> None:
    assert load_remarks(tmp_path) == {}
