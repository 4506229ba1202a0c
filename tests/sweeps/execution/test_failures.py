"""Failures are told apart, and described in one line."""

import numpy as np
import pytest
import torch

from safesweep.sweeps.execution.failures import Failure, classify, describe_error
from safesweep.trainables.store.writer import StoreProblem


def test_errors_are_described_in_one_line() -> None:
    assert describe_error(ValueError("first\nsecond")) == "ValueError: first"
    assert describe_error(KeyError()) == "KeyError"
    assert len(describe_error(ValueError("x" * 1000))) == 500


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
        (RuntimeError("CUDA error: out of memory"), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("mat1 and mat2 cannot be multiplied"), "error"),
        (ValueError("CUDA error: out of memory"), "error"),
        (OSError(28, "No space left on device"), "error"),
    ],
)
def test_kinds(problem: Exception, kind: str) -> None:
    assert classify(problem) == Failure(kind, describe_error(problem))


def test_a_store_that_fails_is_not_the_trials_fault() -> None:
    assert classify(StoreProblem("storage: 'x' cannot be written (full)")) == Failure(
        "store", "storage: 'x' cannot be written (full)"
    )


def test_what_torch_and_numpy_raise_when_the_host_has_too_little() -> None:
    for allocate in (lambda: torch.empty(10**16), lambda: np.empty(10**16)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert classify(caught.value).kind == "memory"
