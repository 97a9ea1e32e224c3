"""What this machine can do at best, measured: the yardstick for how much of it a run uses."""

import math
import time
from collections.abc import Callable
from functools import cache

import torch

SECONDS = 0.5
"""How long one kind of work is repeated."""
READ_BYTES = 2**30
"""Far more than any cache holds."""


def bf16_is_native(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself.

    torch.cuda.is_bf16_supported() is also true by emulation, slower than float32, hence the compute capability.
    False on mps, where some versions of PyTorch let half-precision causal attention see the future.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product: the most that training could reach.

    Measured in about a second, once per process and number of threads. On the CPU the faster of two sizes counts; in
    bf16 either can win.
    """
    return _matmul_flops(device, dtype, torch.get_num_threads())


def memory_bandwidth(device: torch.device) -> float:
    """Bytes per second that come out of memory: the limit of decoding, which reads all weights for every token.

    Measured in about a second, once per process and number of threads. On the CPU with a matrix × vector product in
    float32, the fastest reader that PyTorch has; on CUDA with a copy, whose reading and writing both count.
    """
    return _memory_bandwidth(device, torch.get_num_threads())


@cache
def _matmul_flops(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    def rate(n: int) -> float:
        a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
        return 2 * n**3 / fastest(lambda: torch.mm(a, b, out=out), device)  # no time for finding memory

    return max(rate(n) for n in ((8192,) if device.type == "cuda" else (1024, 2048)))


@cache
def _memory_bandwidth(device: torch.device, threads: int) -> float:
    columns = 2**13
    matrix = torch.ones(READ_BYTES // 4 // columns, columns, device=device)  # ones: zeros may share one page
    if device.type == "cuda":
        target = torch.empty_like(matrix)
        return 2 * matrix.nbytes / fastest(lambda: target.copy_(matrix), device)
    vector = torch.ones(columns, device=device)
    return matrix.nbytes / fastest(lambda: matrix @ vector, device)


def fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest run of many; one more, before them, warms up. What disturbs a run only makes it slower."""
    work()
    best, end = math.inf, time.perf_counter() + SECONDS
    while best == math.inf or time.perf_counter() < end:
        _synchronize(device)
        started = time.perf_counter()
        work()
        _synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best


def _synchronize(device: torch.device) -> None:
    """Wait for the GPU, which computes while Python goes on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
