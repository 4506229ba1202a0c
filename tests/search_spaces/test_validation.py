"""What counts as missing, whichever library a cell comes from; and what messages show."""

import pickle
from datetime import date

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.search_spaces.validation import (
    InvalidInput,
    Problem,
    Problems,
    is_missing,
    key_problems,
    listed,
    quotes_hint,
    require_choice,
    require_number,
    shortened,
    shown,
)
from safesweep.trainables.store.writer import StoreProblem


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.float64("nan"), np.float32("nan"), pandas.NA, pandas.NaT,
     np.datetime64("NaT"), np.timedelta64("NaT", "s")],
)  # fmt: skip
def test_every_library_s_sign_is_missing(value: object) -> None:
    assert is_missing(value)


@pytest.mark.parametrize(
    "value",
    [0, 0.0, False, "", "nan", [], {}, float("inf"), np.float64(0), np.bool_(False),
     np.array([np.nan]), np.array([1, 2]), pandas.Timestamp("2026-01-01"), np.str_("")],
)  # fmt: skip
def test_what_is_there_is_not_missing(value: object) -> None:
    assert not is_missing(value)


@given(st.text(max_size=2000), st.integers(10, 700))
def test_shortened_text_keeps_its_beginning_and_its_end(text: str, longest: int) -> None:
    short = shortened(text, longest)
    assert len(short) <= longest
    if len(text) <= longest:
        assert short == text
    else:
        begun, ended = short.split("...", 1) if "..." not in text else (short[:3], short[-3:])
        assert text.startswith(begun) and text.endswith(ended)


def test_values_and_lists_in_messages_are_bounded() -> None:
    assert shown("a") == "'a'"
    assert shown(date(2024, 5, 1)) == "2024-05-01"
    for value in ("x" * 10**6, ["x" * 100] * 100, {"a": "b" * 1000}, "'\n" * 500):
        assert len(shown(value)) <= 80
    assert listed("abc") == "a, b, c"
    assert listed(range(2000), 3) == "0, 1, 2 and 1,997 more"
    assert listed([]) == ""


@pytest.mark.parametrize("call", [require_choice, require_number])
def test_a_long_bad_value_makes_no_long_message(call) -> None:
    with pytest.raises(InvalidInput) as refusal:
        call("field", "x" * 100_000, ["one", "two"]) if call is require_choice else call(
            "field", "x" * 100_000
        )
    assert len(str(refusal.value)) < 200


def test_only_what_is_not_text_belongs_in_quotes() -> None:
    assert quotes_hint("no") == "" and quotes_hint([1]) == ""
    assert "a truth value" in quotes_hint(False)
    assert "a date" in quotes_hint(date(2024, 5, 1))
    with pytest.raises(InvalidInput, match="False is not one of a, b; YAML reads it as a truth"):
        require_choice("field", False, ["a", "b"])


def test_problems_are_collected_once_each_and_raised_together() -> None:
    problems = Problems()
    problems.check()
    with problems.collected("a."):
        raise InvalidInput("b: is missing", "c: is missing")
    problems.add("a.b: is missing")
    with pytest.raises(InvalidInput) as found:
        problems.check()
    assert found.value.lines == ("a.b: is missing", "a.c: is missing")
    assert str(found.value) == "a.b: is missing\na.c: is missing"
    assert pickle.loads(pickle.dumps(found.value)).lines == found.value.lines


def test_errors_of_other_kinds_are_not_collected() -> None:
    with pytest.raises(ZeroDivisionError), Problems().collected():
        _ = 1 / 0


def test_a_key_that_looks_like_a_missing_one_is_said_alone() -> None:
    (line,) = key_problems("range", ["low", "hgh"], ["low", "high"], ["low", "high"])
    assert line == "range.hgh: unknown key; allowed: low, high; did you mean 'high'?"
    assert key_problems("", [], ["low"], ["low"]) == ["low: is missing"]
    assert key_problems("", ["low"], ["low"], ["low"]) == []


def test_a_store_that_fails_is_a_problem_but_no_bad_input() -> None:
    assert issubclass(StoreProblem, Problem) and issubclass(InvalidInput, Problem)
    assert not issubclass(StoreProblem, InvalidInput)
    with pytest.raises(StoreProblem), Problems().collected():
        raise StoreProblem("storage: 'there' cannot be read (it is gone)")
