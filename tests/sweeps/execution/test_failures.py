"""Failures are told apart, and described in one line."""

import numpy as np
import pytest
import torch

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution.failures import (
    LONGEST_TRACEBACK,
    SHOWN_FRAMES,
    Failure,
    classify,
    describe_error,
)
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


def raised(depth: int) -> ValueError:
    def descend(level: int) -> None:
        if level == 0:
            raise ValueError("too deep")
        descend(level - 1)

    with pytest.raises(ValueError) as caught:
        descend(depth)
    return caught.value


def test_the_whole_traceback_is_kept_and_its_last_frames_are_shown() -> None:
    failure = classify(raised(20), "what it printed")
    assert failure.traceback.startswith("Traceback (most recent call last):\n")
    assert failure.traceback.endswith("ValueError: too deep\n")
    assert failure.output == "what it printed"
    frames = failure.last_frames
    assert [line.strip() for line in frames[-2:]][1] == 'raise ValueError("too deep")'
    assert sum(line.startswith('  File "') for line in frames) <= SHOWN_FRAMES
    assert frames[0].startswith('  File "')
    assert not [line for line in frames if not line.strip("^~ ")]


def test_bad_input_is_its_line_alone() -> None:
    try:
        raise InvalidInput("data: 'safe' leaves nothing to clone")
    except InvalidInput as problem:
        failure = classify(problem)
    assert failure.reason == "data: 'safe' leaves nothing to clone"
    assert failure.last_frames == []
    assert "Traceback" in failure.traceback


def test_a_failure_without_a_traceback_has_no_frames() -> None:
    assert Failure("lost", "its worker was lost").last_frames == []
    assert Failure("lost", "gone", "The actor died.\n\tpid: 3\nWorker exit").last_frames == []


def test_tracebacks_have_a_bound() -> None:
    whole = classify(ValueError("x" * 10**6)).traceback
    assert len(whole) < LONGEST_TRACEBACK + 100
    assert whole.startswith("ValueError: xxx") and whole.endswith("xxx\n")
    assert "characters ..." in whole


def test_failures_that_differ_in_numbers_are_alike() -> None:
    one, other = Failure("error", "no room for 17 of 3"), Failure("error", "no room for 2 of 30")
    assert one.alike == other.alike
    assert one.alike != Failure("error", "no room").alike
