"""Memory of a worker: its share of a GPU, and whether an error says that there was too little.

Ray counts fractions of a GPU and enforces none: without a cap of its own, a worker that takes too
much is paid for by its neighbours, whose allocations fail.
"""

import gc

import torch

# What torch raises as a plain RuntimeError: on the CPU, by the driver and by cuBLAS.
MESSAGES = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def limit_gpu_share(share: float) -> None:
    """Let this process take at most `share` (0 to 1) of the memory of the GPU that it uses.

    torch's allocator keeps to it, and raises `torch.OutOfMemoryError` beyond; what CUDA itself
    takes for a process (some hundred megabytes) is not counted. A trial without a GPU (share 0)
    has no cap to set.
    """
    if share > 0 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the host."""
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(text in str(problem) for text in MESSAGES)


def release() -> None:
    """Give back what a population left that did not fit, so that a smaller one finds it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
