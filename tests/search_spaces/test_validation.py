"""What counts as missing, whichever library a cell comes from."""

import numpy as np
import pandas
import pytest

from search_spaces.validation import is_missing


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.float64("nan"), np.float32("nan"), pandas.NA, pandas.NaT,
     np.datetime64("NaT"), np.timedelta64("NaT")],
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
