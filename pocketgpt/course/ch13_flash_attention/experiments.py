"""Instruments of chapter 13: peak memory, time, the operator that ran, and the tiles in the order of a visit."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

State = tuple[Tensor, Tensor, Tensor]


@torch.inference_mode()
def peak_bytes(function: Callable, *inputs: Any) -> int:
    """The most bytes that tensors made by a call hold at once; its inputs and the weights exist before and do not
    count.

    PyTorch's profiler notes every block that its CPU allocator hands out or gets back; this is the largest running sum.
    """
    with _profiled() as profiler:
        function(*inputs)
    changes = [(e.start_ns(), e.nbytes()) for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for _, change in sorted(changes, key=lambda each: each[0]):
        held += change
        most = max(most, held)
    return most


@torch.inference_mode()
def seconds(function: Callable, *inputs: Any, repeats: int = 3) -> float:
    """The shortest time of some calls: others were disturbed."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*inputs)
        times.append(time.perf_counter() - start)
    return min(times)


def operator_that_ran(function: Callable, *inputs: Any, **options: Any) -> str:
    """The attention operator inside F.scaled_dot_product_attention, by the name it has in the profiler, on any
    device."""
    with _profiled() as profiler:
        function(*inputs, **options)
    start = "aten::_scaled_dot_product_"
    return next(each.name.removeprefix(start) for each in profiler.events() if each.name.startswith(start))


@contextlib.contextmanager
def _profiled() -> Iterator[profile]:
    """Profile the CPU without the lines that the profiler of torch 2.13 writes to the standard error of the process."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            yield profiler
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """The p for which values ∝ length^p fits best, by least squares in logarithms."""
    x, y = torch.tensor(lengths).double().log(), torch.tensor(values).double().log()
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()


@dataclass(frozen=True)
class Visit:
    """A tile in the order of a causal pass; state of the last query of its row after the tile is merged."""

    row: int
    column: int
    keys_read: int
    largest: float
    total: float


@torch.inference_mode()
def visits(
    merge: Callable[[State, Tensor, Tensor], State],
    q: Float[Tensor, "seq d"],
    k: Float[Tensor, "seq d"],
    rows: int,
    columns: int,
) -> list[Visit]:
    """Every visited tile in order, with `merge` as the learner wrote it."""
    seq, found = len(q), []
    for i in range(0, seq, rows):
        last = min(i + rows, seq) - 1
        state = (torch.full((1,), -math.inf), torch.zeros(1), torch.zeros(1, 1))
        for j in range(0, last + 1, columns):
            keys = k[j : min(j + columns, last + 1)]
            state = merge(state, (q[last] @ keys.T / math.sqrt(q.shape[1]))[None], torch.ones(len(keys), 1))
            found.append(Visit(i // rows, j // columns, j + len(keys), state[0].item(), state[1].item()))
    return found
