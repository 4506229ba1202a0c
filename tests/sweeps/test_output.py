import io
import json
import sys

import numpy as np
import pandas
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.output import FORMATS, fit_streams, print_table, say


def frame() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "name": ["[bold]a", None],
            "count": [1, 2],
            "value": [0.1234567890123, np.nan],
            "time": pandas.to_datetime(["2026-01-02T03:04:05", None], utc=True),
            "members": [["x", "y"], np.array(["z"], dtype=object)],
            "flag": [True, False],
        }
    )


def test_json_is_a_list_of_objects_with_exact_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(frame(), "json")
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "[bold]a",
            "count": 1,
            "value": 0.1234567890123,
            "time": "2026-01-02T03:04:05+00:00",
            "members": ["x", "y"],
            "flag": True,
        },
        {
            "name": None,
            "count": 2,
            "value": None,
            "time": None,
            "members": ["z"],
            "flag": False,
        },
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_frame_prints_in_every_format(
    format: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    print_table(pandas.DataFrame({"a": pandas.Series(dtype=float)}), format)
    out = capsysbinary.readouterr().out
    if format == "json":
        assert json.loads(out) == []
    elif format == "parquet":
        assert len(pandas.read_parquet(io.BytesIO(out))) == 0
    else:
        assert out.strip().startswith(b"a")


def test_csv_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(frame()[["name", "count", "value"]], "csv")
    back = pandas.read_csv(io.StringIO(capsys.readouterr().out))
    printed = frame()[["name", "count", "value"]]
    pandas.testing.assert_frame_equal(back.fillna({"name": ""}), printed.fillna({"name": ""}))


def test_parquet_is_the_bytes_of_one_file(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    print_table(frame(), "parquet")
    back = pandas.read_parquet(io.BytesIO(capsysbinary.readouterr().out))
    assert back["value"][0] == 0.1234567890123
    assert list(back["members"][0]) == ["x", "y"]


def test_parquet_is_refused_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(InvalidInput, match="redirect"):
        print_table(frame(), "parquet")


def test_rows_stay_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    wide = pandas.DataFrame({f"column_{i}": [f"value {i} " + "x" * 30] for i in range(20)})
    print_table(wide, "table")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(f"value {i} " in lines[2] for i in range(20))


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(frame(), "table")
    out = capsys.readouterr().out
    assert "[bold]a" in out and "0.1235" in out and "nan" not in out.lower()


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "encoding", "locale", "shown"),
    [
        (io.TextIOWrapper, "ascii", "", rb"\xe9 \u2026"),
        (io.TextIOWrapper, "latin-1", "", b"\xe9 \\u2026"),
        (io.TextIOWrapper, "utf-8", "C", "\u00e9 \u2026".encode()),
        (_Terminal, "utf-8", "", "\u00e9 \u2026".encode()),
        (_Terminal, "utf-8", "C", rb"\xe9 \u2026"),
    ],
)
def test_signs_that_an_encoding_lacks_are_written_out(
    kind: type[io.TextIOWrapper],
    encoding: str,
    locale: str,
    shown: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setattr(sys, "stdout", kind(written, encoding=encoding))
    fit_streams()
    print("\u00e9 \u2026", flush=True)
    assert written.getvalue().strip() == shown


def test_unknown_format() -> None:
    with pytest.raises(InvalidInput, match=r"format: 'jsn' .* did you mean 'json'"):
        print_table(frame(), "jsn")


def test_keys_in_a_location_are_never_said(capfd: pytest.CaptureFixture[str]) -> None:
    say("storage: 's3://KEY:SECRET@bucket/results' and https://user@host/x; a@b stays")
    assert capfd.readouterr().err == (
        "storage: 's3://bucket/results' and https://host/x; a@b stays\n"
    )


def test_what_a_terminal_takes_for_commands_is_written_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    say("\x1b]0;title\x07 and \u202ereversed \udc80\tend")
    assert capfd.readouterr().err == "\\x1b]0;title\\x07 and \\u202ereversed \\udc80\tend\n"
    print_table(pandas.DataFrame({"\x1b[2Jname": ["\x1b[31mred\r", "plain ä"]}))
    out = capfd.readouterr().out
    assert "\x1b" not in out and "\r" not in out
    assert "\\x1b[31mred\\r" in out and "plain ä" in out and "\\x1b[2Jname" in out


def test_a_text_that_is_a_formula_to_a_spreadsheet_is_text_in_csv(
    capfd: pytest.CaptureFixture[str],
) -> None:
    texts = ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+cmd", "-2+3", "-2.5", "plain", None]
    frame = pandas.DataFrame({"=name": texts, "number": [-1.0, 2, 3, 4, 5, 6, 7]})
    print_table(frame, "csv")
    lines = capfd.readouterr().out.splitlines()
    assert [line.rsplit(",", 1)[0] for line in lines] == [
        "'=name", "'=cmd|' /C calc'!A0", "'@SUM(1)", "'+1+cmd", "'-2+3", "-2.5", "plain", "",
    ]  # fmt: skip
    assert lines[1].endswith(",-1.0")
    assert frame["=name"].tolist()[:-1] == texts[:-1]
