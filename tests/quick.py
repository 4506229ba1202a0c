"""Which cases of a test `make test` tries; the others are `slow`, for `make test-all`."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def slow_but(quick: Container[Any], cases: Iterable[Any]) -> list[Any]:
    """The cases as parameters, all but the quick ones marked `slow`.

    Raises:
        ValueError: nothing would be left for `make test`.
    """
    cases = list(cases)
    if not any(case in quick for case in cases):
        raise ValueError(f"none of {cases} is among {quick}")
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
