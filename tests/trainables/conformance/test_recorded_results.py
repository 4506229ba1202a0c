"""Every method's results stay what they were: defaults of whatever is added change nothing.

They were recorded at dfd2937. What was trained (parameters, losses and diagnostics) equals that of
250d8de in every digit; the returns come from other starts, which have changed since on purpose.
"""

import pytest
import torch

from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task
from tests.trainables.conformance.recorded_results import SIZES, recorded, results
from tests.trainables.conformance.small_populations import BY_DEFAULT
from tests.trainables.conftest import MakeDataset

# Another processor rounds otherwise, by a few units in float32's last place an operation.
TOLERANCE = 1e-5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # Of most methods the run alone is enough by default: a population computes the same.
        pytest.param(
            name,
            kind,
            marks=pytest.mark.slow if kind == "population" and name not in BY_DEFAULT else (),
        )
        for name in ALGORITHMS
        for kind in SIZES
    ],
)
def test_results_are_what_was_recorded(
    name: str, kind: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = results(name, SIZES[kind], boat_task, make_dataset(boat_task))
    finally:
        torch.set_num_threads(threads)
    expected = recorded()[name][kind]
    assert found.keys() == expected.keys()
    for quantity, values in expected.items():
        assert found[quantity] == pytest.approx(values, rel=TOLERANCE, abs=TOLERANCE), quantity
