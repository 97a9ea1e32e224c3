"""Devices: choose one, describe it, and measure its speed and memory."""

import ctypes
import gc
import math
import platform
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import timer  # waits for an accelerator before it reads the clock

from pocketgpt.errors import PocketError

SECONDS = 0.5
"""Duration of each measurement."""
READ_BYTES = 2**30
"""Much larger than any processor cache."""


class DeviceError(PocketError, ValueError):
    """Error for a device that this machine does not have, or a number format that the device does not support."""


def choose_device(name: str = "auto") -> torch.device:
    """Choose a device by name; "auto" is a CUDA GPU if there is one, else Apple's mps, else the CPU.

    Raises DeviceError if this machine has no such device.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        name = available[0]
    kind, _, index = name.partition(":")
    if kind not in available or (index and (kind != "cuda" or int(index) >= torch.cuda.device_count())):
        raise DeviceError(f"There is no device {name!r} here: choose one of auto, {', '.join(available)}.")
    return torch.device(name)


def bf16_is_native(device: torch.device) -> bool:
    """Return True if the hardware computes bfloat16 natively.

    torch.cuda.is_bf16_supported() is also true where bfloat16 is emulated, which is slower than float32; this function
    asks for the compute capability instead. False on mps, where some versions of PyTorch let half-precision causal
    attention see the future.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the floating-point operations per second of a large matrix product: an upper bound for training.

    Measured in about a second, once per process and number of threads. On a CPU the faster of two sizes counts,
    because in bf16 either can win; where the CPU emulates the format, a small one is measured, as those would take a
    minute.
    """
    return _matmul_flops(device, dtype, torch.get_num_threads())


def memory_bandwidth(device: torch.device) -> float:
    """Measure the memory bandwidth in bytes per second: the limit of decoding, which reads all weights for every token.

    Measured in about a second, once per process and number of threads. On the CPU with a matrix × vector product in
    float32, PyTorch's fastest way to read; on CUDA with a copy, which counts bytes read and bytes written.
    """
    return _memory_bandwidth(device, torch.get_num_threads())


@cache
def _matmul_flops(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    def rate(n: int) -> float:
        a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
        return 2 * n**3 / fastest(lambda: torch.mm(a, b, out=out))  # `out`: without allocation

    if device.type == "cuda":
        return rate(8192)
    emulated = device.type == "cpu" and dtype != torch.float32 and not bf16_is_native(device)
    return rate(256) if emulated else max(rate(1024), rate(2048))


@cache
def _memory_bandwidth(device: torch.device, threads: int) -> float:
    columns = 2**13
    matrix = torch.ones(READ_BYTES // 4 // columns, columns, device=device)  # zeros could share one page of memory
    if device.type == "cuda":
        target = torch.empty_like(matrix)
        return 2 * matrix.nbytes / fastest(lambda: target.copy_(matrix))
    vector = torch.ones(columns, device=device)
    return matrix.nbytes / fastest(lambda: matrix @ vector)


def fastest(work: Callable[[], object]) -> float:
    """Measure the seconds of the fastest of many runs, after a warm-up: disturbances only make a run slower."""
    work()
    best = math.inf
    end = timer() + SECONDS
    while best == math.inf or timer() < end:
        started = timer()
        work()
        best = min(best, timer() - started)
    return best


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


def describe(device: torch.device) -> dict[str, Any]:
    """Describe the machine of a measurement: processor, threads, versions, and time."""
    packages = {each.metadata["Name"]: each.version for each in distributions()}
    versions = {name: packages[name] for name in ("torch", "transformers", "pocketgpt") if name in packages}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.machine(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **versions},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
