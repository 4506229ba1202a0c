"""Only whole rows of a file are read, whatever program wrote it or was killed while writing it."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.table_files import TableFile, read_table

HEADER = "step\treward\tcost\n"
COLUMNS = {"step": "number", "reward": "number", "cost": "number"}
RESULTS = pandas.DataFrame({"method": ["bc", "cdt"], "seed": [0, 1], "cost": [0.25, 12.5]})
WANTED = {"method": "text", "seed": "number", "cost": "number"}


def read(folder: Path, content: str | bytes, name: str = "log.txt") -> TableFile:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path)


def rows_of(table: TableFile, wanted=COLUMNS, **options) -> list[list[float]]:
    return table.select(wanted, **options)[0].to_numpy().tolist()


def test_a_log_that_was_cut_anywhere_gives_no_value_that_was_not_written(tmp_path: Path) -> None:
    whole = [[1000, 501.25, 9.5], [2000, 502.5, 12.75], [3000, 498.0, 130.0]]
    text = HEADER + "".join("\t".join(str(cell) for cell in row) + "\n" for row in whole)
    for end in range(len(HEADER) + 1, len(text) + 1):
        expected = [row for row in whole if text[:end].count("\n") > whole.index(row) + 1]
        if not expected:
            with pytest.raises(InvalidInput, match="holds no whole row: left out line 2"):
                rows_of(read(tmp_path, text[:end]), log=True)
            continue
        table = read(tmp_path, text[:end])
        frame, rows, notes = table.select(COLUMNS, log=True)
        assert frame.to_numpy().tolist() == expected
        assert [row.line for row in rows] == list(range(2, 2 + len(expected)))
        said = [*table.notes, *notes]
        assert len(said) == (not text[:end].endswith("\n"))
        assert all(f"left out line {len(expected) + 2}" in note for note in said)


@given(
    cells=st.lists(st.floats(0, 1e6).map(lambda value: round(value, 2)), min_size=2, max_size=6),
    kept=st.integers(0, 8),
)
def test_what_a_cut_table_keeps_is_off_by_less_than_its_last_digit(
    tmp_path_factory: pytest.TempPathFactory, cells: list[float], kept: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    written = [f"{cell:.2f}" for cell in cells]
    last = written[-1][:kept]
    text = "a,cost\n" + "".join(f"1,{cell}\n" for cell in written[:-1]) + f"1,{last}"
    found = rows_of(read(folder, text), {"cost": "number"})
    if len(found) == len(cells):
        assert found[-1][0] == float(written[-1])
    else:
        assert len(found) == len(cells) - 1


@pytest.mark.parametrize(
    ("ending", "kept"),
    [
        ("1,0.5,9.5", True),  # as precise as the others
        ("1,0.5,9", False),
        ("1,0.5,9.", False),
        ("1,0.5,", False),
        ("1,0.5,12", False),
        ('1,0.5,"12"', True),  # closed
        ("1,0.5,9.5e", False),
        ("1,0.5,12\r", True),  # half of a line break
    ],
)
def test_the_last_row_of_a_table_of_results_that_no_line_break_ends(
    tmp_path: Path, ending: str, kept: bool
) -> None:
    wanted = {"cost": "number"}
    table = read(tmp_path, "seed,reward,cost\n0,0.5,3.5\n" + ending)
    frame, _, notes = table.select(wanted)
    assert len(frame) == 1 + kept
    assert len(notes) == (not kept)
    assert len(table.select(wanted, keep_last=True)[0]) == 2
    # Whatever is last does not matter where it is not wanted.
    assert len(table.select({"reward": "number"})[0]) == 2


def test_a_last_word_counts_where_other_rows_have_it(tmp_path: Path) -> None:
    text = "cost,state\n1,finished\n2,crashed\n3,"
    for word, kept in (("finished", True), ("crashed", True), ("fini", False), ("", False)):
        table = read(tmp_path, text + word)
        assert len(table.select({"state": "text"})[0]) == 2 + kept, word
    longer = read(tmp_path, "cost,state\n1,ok\n2,ok but late\n3,ok")
    assert len(longer.select({"state": "text"})[0]) == 2


def test_headers_of_a_log_that_was_resumed_are_no_rows(tmp_path: Path) -> None:
    rows = ["1000\t1.5\t2.5\n", "2000\t1.5\t2.5\n"]
    table = read(tmp_path, HEADER + rows[0] + HEADER + rows[1])
    assert rows_of(table) == [[1000, 1.5, 2.5], [2000, 1.5, 2.5]]
    assert [row.headers for row in table.rows] == [1, 2]
    assert "stands there 2 times" in table.notes[0]
    # Cut, with or without a line break, and resumed in the same line or in the next one.
    for cut in ("15", "1500\t3", "1500\t3.5\t7"):
        for between in ("", "\n"):
            table = read(tmp_path, HEADER + rows[0] + cut + between + HEADER + rows[1])
            found = rows_of(table, log=True)
            whole = between and cut.count("\t") == 2
            assert len(found) == 2 + bool(whole), (cut, between)
            assert found[-1] == [2000, 1.5, 2.5]
            assert [row.headers for row in table.rows][-1] == 2


def test_a_header_that_is_cut_is_no_row(tmp_path: Path) -> None:
    for cut in ("step\trew", "step\treward\tco"):
        assert len(rows_of(read(tmp_path, HEADER + "1\t2\t3\n" + cut))) == 1


@pytest.mark.parametrize("separator", ["\t", ";", ",", "|", " ", "   "])
def test_the_separator_is_found_out(tmp_path: Path, separator: str) -> None:
    lines = [("method", "seed", "cost"), ("bc", 0, 0.25), ("cdt", 1, 12.5)]
    text = "\n".join(separator.join(map(str, line)) for line in lines) + "\n"
    frame = read(tmp_path, text).select(WANTED)[0]
    pandas.testing.assert_frame_equal(frame, RESULTS, check_dtype=False)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: RESULTS.to_csv(path / "a.csv", index=False),
        lambda path: RESULTS.to_csv(path / "a.csv"),
        lambda path: RESULTS.to_csv(path / "a.csv.gz", index=False),
        lambda path: RESULTS.to_csv(path / "a.csv.bz2", index=False),
        lambda path: RESULTS.to_csv(path / "a.csv.xz", index=False),
        lambda path: RESULTS.to_csv(path / "a.csv.zip", index=False),
        lambda path: RESULTS.to_csv(path / "a.csv", index=False, quoting=1),
        lambda path: RESULTS.to_csv(path / "a.csv", index=False, encoding="utf-8-sig"),
        lambda path: RESULTS.to_csv(path / "a.csv", sep="\t", index=False, encoding="utf-16"),
        lambda path: RESULTS.to_csv(path / "a.csv", sep=";", decimal=",", index=False),
        lambda path: RESULTS.to_csv(path / "a.csv", index=False, lineterminator="\r\n"),
        lambda path: RESULTS.to_csv(path / "a.csv", index=False, lineterminator="\r"),
        lambda path: (path / "a.csv").write_text("sep=;\n" + RESULTS.to_csv(sep=";")),
        lambda path: RESULTS.to_parquet(path / "a.parquet"),
        lambda path: polars.from_pandas(RESULTS).write_csv(path / "a.csv"),
        lambda path: polars.from_pandas(RESULTS).write_parquet(path / "a.parquet"),
        lambda path: (path / "a.csv").write_bytes(RESULTS.to_csv(index=False).encode() + b"\0" * 9),
    ],
)
def test_files_of_common_programs_are_read(tmp_path: Path, write) -> None:
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    frame = read_table(path).select(WANTED)[0]
    pandas.testing.assert_frame_equal(frame, RESULTS, check_dtype=False)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_are_read_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float]
) -> None:
    text = "x,cost\n" + "".join(f"1,{number!r}\n" for number in numbers)
    frame = read(tmp_path_factory.mktemp("exact"), text).select({"cost": "number"})[0]
    np.testing.assert_array_equal(frame["cost"].to_numpy(float), np.array(numbers, float))


def test_text_stays_text_and_a_wrong_cell_spoils_no_other(tmp_path: Path) -> None:
    text = "label,cost\n007,1.5\n1e5,high\n1.0,2\n"
    frame = read(tmp_path, text).select({"label": "text", "cost": "number"})[0]
    assert frame["label"].tolist() == ["007", "1e5", "1.0"]
    assert frame["cost"].tolist() == [1.5, "high", 2.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"log\.txt' is empty"),
        (b"\n \n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a,b\n", "holds no whole row below its header"),
        (b"a,b\n1", r"holds no whole row: left out line 2.*\(1 of 2 cells\)"),
        (b"a,b\n1,2\n1,2,3\n", "line 3: 3 cells, but the header has 2"),
        (b"a,b,c\n1,2\n1,2,3\n", "line 2: 2 cells, but the header has 3"),
        (b'a,b\n1,"2\n3,4\n5,6\n', "line 2: a quotation begins that does not end"),
        ("a,b\nö,2\n".encode("latin-1"), r"is not UTF-8 text \(line 2\)"),
        (b"a,b\n1\x002,2\n", "is not text: it holds zero bytes"),
        (b"a;b\n1;1,234\n2;12,345\n", r"line 2: '1,234' may be 1\.234 or 1234"),
        (b"a,b,b\n1,2,3\n", "has the column 'b' twice"),
        (b"a,b\n" + b"x" * 200_000 + b",1\n", "cannot be read as a table .*field limit"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as refusal:
        read(tmp_path, content).select({"b": "number"})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"PK", "is a workbook; save its sheet as CSV"),
        ("a.parquet", b"PAR1", "cannot be read as a table"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "cannot be read as a table"),
        ("a.csv.gz", b"a,b\n1,2\n", "cannot be read as a table"),
        ("a.csv.bz2", bz2.compress(b"a,b\n1,2\n")[:-9], "cannot be read as a table|no whole row"),
        ("a.csv.xz", lzma.compress(b"a,b\n1,2\n")[:-9], "cannot be read as a table"),
    ],
)
def test_files_that_are_not_what_they_are_called(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(tmp_path, content, name)


def test_folders_missing_files_and_archives_of_several(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a folder; name the files in it"):
        read_table(tmp_path)
    with pytest.raises(InvalidInput, match=r"nowhere\.csv' cannot be read as a table"):
        read_table(tmp_path / "nowhere.csv")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.csv", "a\n")
        archive.writestr("two.csv", "a\n")
    with pytest.raises(InvalidInput, match="holds 2 files; unpack it"):
        read_table(tmp_path / "a.zip")


def test_decimal_commas_are_read_only_where_they_are_certain(tmp_path: Path) -> None:
    wanted = {"b": "number", "c": "text"}
    frame = read(tmp_path, "a;b;c\n1;0,125;1,5\n2;12,345;x\n").select(wanted)[0]
    assert frame["b"].tolist() == [0.125, 12.345]
    assert frame["c"].tolist() == ["1,5", "x"]
    mixed = read(tmp_path, "a;b\n1;0,5\n2;0.5\n").select({"b": "number"})[0]
    assert mixed["b"].tolist() == ["0,5", 0.5]
