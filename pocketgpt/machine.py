"""What this machine can do at best, measured: the yardstick for how much of it a run uses."""

import time
from collections.abc import Callable
from functools import cache

import torch


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, the most that training could reach here.

    Measured in about a second, once per process and number of threads.
    """
    return _matmul_flops(device, dtype, torch.get_num_threads())


def memory_bandwidth(device: torch.device) -> float:
    """Bytes per second of reading a tensor much larger than the caches, the limit of decoding one sequence.

    Measured in about a second, once per process and number of threads.
    """
    return _memory_bandwidth(device, torch.get_num_threads())


@cache
def _matmul_flops(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / fastest(lambda: a @ b, device)


@cache
def _memory_bandwidth(device: torch.device, threads: int) -> float:
    if device.type == "cuda":
        source = torch.zeros(2**30, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / fastest(lambda: target.copy_(source), device)
    matrix, vector = torch.zeros(2**14, 2**14), torch.zeros(2**14)
    return matrix.nbytes / fastest(lambda: matrix @ vector, device)


def fastest(work: Callable[[], object], device: torch.device, seconds: float = 0.8) -> float:
    """Seconds of the fastest of many runs: what disturbs a run only makes it slower."""
    best, end = float("inf"), 0.0
    work()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        _synchronize(device)
        started = time.perf_counter()
        work()
        _synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
