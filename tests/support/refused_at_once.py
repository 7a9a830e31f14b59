"""Check that a refusal takes a moment and little memory, whatever the header of a file says of its tensors."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 3.0
"""Of the processor's time, first imports included. The slowest takes a tenth of it; what a header claims would take far longer."""

MEMORY = 1 << 30
"""More bytes of address space than a refusal needs, libraries that it loads included, and fewer than the headers of tests claim."""


@contextmanager
def at_once() -> Iterator[list[BaseException]]:
    """Check the time and the memory of the block. It puts the error that refuses into the list, whose causes are looked at, too.

    Asking for memory fails at once, even for pages that nothing would write. On systems but Linux time alone is checked.
    """
    began, refused = time.process_time(), list[BaseException]()
    with _little_memory():
        yield refused
    spent = time.process_time() - began
    assert spent < SECONDS, f"refused after {spent:.1f} seconds"
    for error in refused:
        behind: BaseException | None = error
        while behind is not None:
            said = f"{type(behind).__name__}: {behind}"
            assert not isinstance(behind, MemoryError) and "allocate" not in said, f"memory as a file claims it: {said}"
            behind = behind.__cause__ or behind.__context__


@contextmanager
def _little_memory() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    import torch

    torch.cuda.is_available()  # reserves far more where there is a GPU, and what it finds is kept for the process
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MEMORY
    most = most if limits[0] == resource.RLIM_INFINITY else min(most, limits[0])
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
