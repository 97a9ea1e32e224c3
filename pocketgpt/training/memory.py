"""Memory of a training step: how to need less of it, and how to measure it."""

import ctypes
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError


def peak_memory(function: Callable[[], object], device: torch.device | None = None) -> int:
    """Measure the peak memory of a call, in bytes beyond those in use before it; without a device, on the best one.

    On CUDA: the exact bytes from PyTorch's allocator. On the CPU: the resident set of the process, PyTorch or not,
    from the high-water mark of Linux, which lags by up to a megabyte. Memory that is reserved and never touched does
    not count; nor does freed memory that an allocator other than the C library's caches and reuses.

    Raises PocketError where the system has no such mark, or does not let a process reset its own.
    """
    gc.collect()
    device = device or choose_device()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or sys.platform != "linux":
        raise PocketError(f"Peak memory is measured on CUDA and on Linux, not on {device.type} under {sys.platform}.")
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # return freed memory to the system, or its reuse would not count
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the mark to the current size: man 5 proc
    except OSError as error:
        raise PocketError(f"This system does not let a process reset its high-water mark: {error}.") from error
    before = _kilobytes("VmRSS")
    function()
    return max(0, _kilobytes("VmHWM") - before) * 1024


def _kilobytes(name: str) -> int:
    """Read a number from /proc/self/status: VmRSS is the resident set, VmHWM its high-water mark."""
    return int(re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1])
