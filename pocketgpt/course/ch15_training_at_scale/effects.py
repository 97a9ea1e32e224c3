"""What each technique costs and saves: bytes kept for a backward pass, and a table of measured steps.

The stored part of the table was measured on an otherwise busy machine, one thread, by

    OMP_NUM_THREADS=1 pocketgpt bench train --preset pocket-shakespeare --batch-size 8 --device cpu --out FOLDER

whose FOLDER/train.json is measured.json beside this file.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketgpt.course.ch15_training_at_scale.two_processes import Result
from pocketgpt.files import read_json

MEASURED = Path(__file__).with_name("measured.json")
SHOWN = {
    "float32": "float32",
    "bf16": "bf16 products (autocast)",
    "bf16 + accumulation of 2": "… in two parts",
    "bf16 + checkpointed blocks": "… blocks checkpointed",
    "bf16 + loss in 4 chunks": "… loss in 4 chunks",
    "bf16 + our kernels": "… attention for short texts",
    "bf16 + compile": "… torch.compile",
    "bf16 + our kernels + compile": "… both of these",
}
"""Names of the rows, by the name of the variant in the report."""
PROCESSES = {"one": "small model, one process", "ddp": "… two processes, DDP", "fsdp": "… two processes, FSDP"}
LIVE = tuple(SHOWN)[:5]
"""Variants that a notebook measures by itself: those without a preparation that takes longer than the step."""


def kept_bytes(loss: nn.Module, tokens: Tensor, targets: Tensor) -> int:
    """Bytes of the tensors that a forward pass keeps for the backward pass, the weights themselves left out."""
    weights = {each.untyped_storage().data_ptr() for each in loss.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(tokens, targets)
    total = sum(each.untyped_storage().nbytes() for each in kept.values())
    del value
    return total


def stored_report() -> dict[str, Any]:
    """The stored report: its settings, its machine and its rows."""
    return read_json(MEASURED)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def effects_table(
    seconds: Mapping[str, float], peaks: Mapping[str, int | None], one: Result, two: Result, lost: Sequence[float]
) -> str:
    """Format the table of techniques: measured now, and stored.

    seconds: a step, by variant. peaks: bytes beyond weights and optimizer, by variant, None where unknown. one, two:
    the small model in one process and in two. lost: shares of the gradients that become 0, without and with a scale.
    """
    report = stored_report()
    stored = {row["variant"]: row for row in report["rows"]}
    lines = [f"{'':32}{'this machine, now':>24}{'stored':>34}", f"{'':32}{'a step':>12}{'peak ¹':>12}"]
    lines[1] += f"{'a step':>12}{'peak ¹':>12}{'MFU':>10}"
    for variant, name in SHOWN.items():
        row = stored[variant]
        now = peak = "–"
        if seconds.get(variant):
            now = f"{1000 * seconds[variant]:,.0f} ms"
        if peaks.get(variant):
            peak = f"{peaks[variant] / 2**20:,.0f} MiB"
        then = f"{row['milliseconds']:,.0f} ms"
        before = f"{row['peak_bytes'] / 2**20:,.0f} MiB"
        lines.append(f"{name:32}{now:>12}{peak:>12}{then:>12}{before:>12}{row['mfu']:>10.0%}")
    for result in (one, two):
        for mode, took in result.seconds.items():
            held = f"{result.weight_bytes[mode] / 2**10:,.0f} KiB ²"
            lines.append(f"{PROCESSES[mode]:32}{1000 * took:>9,.0f} ms{held:>12}")
    lines.append(f"{'float16 with a loss scale':32}gradients that become 0: {lost[0]:.1%} → {lost[1]:.1%}")
    machine = report["machine"]
    lines.append("¹ Beyond weights and optimizer. ² The weights in each process.")
    lines.append(
        f"Stored: {machine['processor']}, {machine['threads']} thread, torch {machine['versions']['torch']}, "
        f"{machine['matmul_flops'] / 1e9:,.0f} GFLOP/s in bf16 products, the peak of every MFU."
    )
    return "\n".join(lines)
