"""Benchmark of attention: time and memory over the number of tokens T, step by step and with PyTorch's fused operator.

Both compute T² products; only the fused operator never stores T² weights.
"""

from functools import partial
from itertools import product

import torch
from torch import Tensor

from pocketgpt.bench.report import Report
from pocketgpt.bench.timing import in_turn, peak_bytes, seconds_per_call, times
from pocketgpt.layers.attention_backends import Backend, fused_attention, step_by_step_attention

N_HEADS, D_HEAD = 4, 64
COMPARED: dict[str, Backend] = {"step by step": step_by_step_attention, "fused": fused_attention}


def bench_attention(report: Report, device: torch.device, runs: int, lengths: list[int]) -> None:
    """Fill the report with a row for each backend, pass and length."""
    report.settings |= {"lengths": lengths, "n_heads": N_HEADS, "d_head": D_HEAD, "dtype": "float32"}
    peaks: dict[tuple[str, int], int | None] = {}
    seconds: dict[tuple[str, int], list[float]] = {}
    try:
        for seq in lengths:
            inputs = [torch.randn(1, N_HEADS, seq, D_HEAD, device=device, requires_grad=True) for _ in range(3)]
            calls = max(1, min(64, 1024**2 // seq**2))
            timed = {}
            for backend, direction in product(COMPARED, ("forward", "forward and backward")):
                work = partial(attend, COMPARED[backend], inputs, direction)
                work()  # one-time allocations do not count
                variant = f"{backend}, {direction}"
                peaks[variant, seq] = peak_bytes(work, device)
                timed[variant, seq] = partial(seconds_per_call, work, calls)
            in_turn(timed, runs, seconds, f"attention, {seq:,} tokens")
    finally:  # after Ctrl-C too
        for (variant, seq), values in seconds.items():
            row = {"variant": variant, "sequence": seq, **times(values), "peak_bytes": peaks[variant, seq]}
            report.rows.append(row)


def attend(backend: Backend, inputs: list[Tensor], direction: str) -> None:
    backward = "backward" in direction
    with torch.set_grad_enabled(backward):
        y = backend(*inputs, is_causal=True)
    if backward:
        torch.autograd.grad(y.sum(), inputs)
