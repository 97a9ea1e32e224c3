"""How attention grows with the number of tokens: step by step, and through PyTorch's fused operator.

Both multiply T² times; only the fused one never stores T² weights. The exponent is the slope on log–log paper, fitted
over the longer half of the lengths, where what does not grow (calls, small overheads) no longer counts.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor
from tqdm import tqdm

from pocketgpt.bench.report import Report, Row
from pocketgpt.bench.timing import Variant, growth, interleaved, peak_bytes, spread
from pocketgpt.layers.attention import attention, causal_mask, fused_attention

LENGTHS = [128, 256, 512, 1024, 2048, 4096]
TINY = [16, 32, 64, 128]
N_HEADS, D_HEAD = 4, 64


def step_by_step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    positions = torch.arange(q.shape[2], device=q.device)
    return attention(q, k, v, causal_mask(positions, positions))[0]


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "step by step": step_by_step,
    "fused": partial(fused_attention, is_causal=True),
}


def bench_attention(report: Report, device: torch.device, runs: int, lengths: list[int]) -> None:
    """Fill the report: a row for each way, pass and length, and the exponents of growth."""
    report.settings |= {"lengths": lengths, "n_heads": N_HEADS, "d_head": D_HEAD, "dtype": "float32"}
    variants = {}
    with tqdm(total=len(lengths) * 2 * len(WAYS) * (runs + 1), desc="attention", unit="run", leave=False) as bar:
        try:
            for seq in lengths:
                q, k, v = (torch.randn(1, N_HEADS, seq, D_HEAD, device=device, requires_grad=True) for _ in range(3))
                at_this_length, repeats = [], max(1, min(64, 1024**2 // seq**2))
                for way, backward in product(WAYS, (False, True)):
                    work = partial(attend, WAYS[way], (q, k, v), backward)
                    work()  # so that what is allocated once does not count
                    facts = {"repeats": repeats, "peak_bytes": peak_bytes(work, device)}
                    variant = variants[way, backward, seq] = Variant(way, repeated(work, repeats), facts=facts)
                    at_this_length.append(variant)
                interleaved(at_this_length, runs, bar, device)
        finally:  # after Ctrl-C too
            report.rows += [row(*key, variant) for key, variant in variants.items() if variant.seconds]
            report.notes += exponents(report.rows)


def attend(
    core: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: tuple[Tensor, Tensor, Tensor], backward: bool
) -> None:
    with torch.set_grad_enabled(backward):
        y = core(*inputs)
    if backward:
        torch.autograd.grad(y.sum(), inputs)


def repeated(work: Callable[[], object], times: int) -> Callable[[], object]:
    """Short work several times over: one call would be too short to time."""
    return lambda: [work() for _ in range(times)]


def row(way: str, backward: bool, seq: int, variant: Variant) -> Row:
    milliseconds = [1000 * seconds / variant.facts["repeats"] for seconds in variant.seconds]
    return {
        "variant": way,
        "pass": "forward and backward" if backward else "forward",
        "tokens": seq,
        "milliseconds": 1000 * variant.median / variant.facts["repeats"],
        "middle_half": list(spread(milliseconds)),
        "peak_bytes": variant.facts["peak_bytes"],
        "seconds": [value / 1000 for value in milliseconds],
    }


def exponents(rows: list[Row]) -> list[str]:
    """A sentence for each way and pass: the exponents of the runs, fitted one by one over the longer lengths."""
    sentences = []
    for way, direction in dict.fromkeys((row["variant"], row["pass"]) for row in rows):
        line = [row for row in rows if (row["variant"], row["pass"]) == (way, direction)]
        line = line[len(line) // 2 :]
        if len(line) < 2:
            continue
        tokens = [row["tokens"] for row in line]
        time = growth(tokens, [row["milliseconds"] for row in line])
        each_run = [growth(tokens, list(run)) for run in zip(*(row["seconds"] for row in line), strict=False)]
        measured = all(row["peak_bytes"] for row in line)
        memory = growth(tokens, [row["peak_bytes"] for row in line]) if measured else None
        sentences.append(
            f"{way}, {direction}: time grows as T^{time:.2f} (single runs {min(each_run):.2f} … {max(each_run):.2f}), "
            f"{f'memory as T^{memory:.2f}, ' if memory else ''}over T = {tokens[0]:,} … {tokens[-1]:,}."
        )
    return sentences
