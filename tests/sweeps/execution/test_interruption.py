import signal

import pytest

from safesweep.sweeps.execution.interruption import Terminated, exit_code, termination_as_interrupt


def test_a_termination_is_an_interrupt_with_a_code_of_its_own() -> None:
    assert exit_code(KeyboardInterrupt()) == 130
    with pytest.raises(Terminated) as caught, termination_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert exit_code(caught.value) == 143


def test_the_code_is_kept_where_what_was_running_raises_an_interrupt_of_its_own() -> None:
    def runs_something_that_catches() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt) as caught, termination_as_interrupt():
        runs_something_that_catches()
    assert exit_code(caught.value) == 143
    with pytest.raises(KeyboardInterrupt) as plain, termination_as_interrupt():
        raise KeyboardInterrupt
    assert exit_code(plain.value) == 130
