"""A worker keeps to its share of a GPU."""

import pytest
import torch

from safesweep.trainables.training import memory


@pytest.mark.parametrize(
    ("share", "available", "capped"),
    [(0.25, True, [0.25]), (1.0, True, [1.0]), (0.0, True, []), (0.25, False, [])],
)
def test_the_share_is_capped_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, share: float, available: bool, capped: list[float]
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", seen.append)
    memory.limit_gpu_share(share)
    assert seen == capped


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_beyond_the_share_memory_runs_out_and_halves_fit() -> None:
    memory.limit_gpu_share(0.05)
    total = torch.cuda.get_device_properties(0).total_memory
    size = int(0.06 * total)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(size, dtype=torch.uint8, device="cuda")
    assert memory.is_out_of_memory(caught.value)
    memory.release()
    assert torch.empty(size // 2, dtype=torch.uint8, device="cuda").is_cuda
    memory.limit_gpu_share(1.0)
