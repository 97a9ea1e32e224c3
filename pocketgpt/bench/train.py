"""Training steps: tokens per second, share of the machine, and memory, for each technique alone and together.

A step is forward, backward, clipping and AdamW. MFU, the model FLOPs utilization, is the arithmetic of the model over
what the machine could multiply in that time: `mfu` by the fastest product that was seen, `sustained_mfu` by the median
of products timed in turn with the steps, because some machines are fast for a second and slower ever after.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pocketgpt.bench import theirs
from pocketgpt.bench.report import Report
from pocketgpt.bench.timing import in_turn, peak_bytes, seconds_per_call, times
from pocketgpt.device import bf16_is_native, matmul_flops
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.prepare import autocast, compile_loss, grad_scaler, keep_allocations, prepare_for_training
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.step import training_step

PRODUCTS = "products"


def variants(device: torch.device, compile: bool, n_tokens: int) -> dict[str, dict[str, Any]]:
    """Options of `build_step` for each variant."""
    found: dict[str, dict[str, Any]] = {"float32": {"precision": "float32"}}
    if not bf16_is_native(device):
        return found
    found |= {
        "bf16, attention step by step": {"change": lambda model: model.use_attention("step_by_step")},
        "bf16": {},
        "bf16 + checkpointed blocks": {"recompute_blocks": True},
        "bf16 + accumulation of 2": {"micro_batches": 2},
        "bf16 + loss in 4 chunks": {"head_chunk": n_tokens // 4},
        "bf16 + compile": {"compile": True},
    }
    if device.type == "cpu":
        prepared = {"change": partial(prepare_for_training, device=device, precision="bf16")}
        found["bf16 + our kernels"] = prepared
        found["bf16 + our kernels + compile"] = prepared | {"compile": True}
    if theirs.available():
        found["transformers GPT-2, bf16"] = {"build": theirs.gpt2}
    return {name: options for name, options in found.items() if compile or "compile" not in name}


def build_step(
    config: ModelConfig, options: dict[str, Any], batch: tuple[Tensor, Tensor], device: torch.device
) -> Callable[[], tuple[float, float]]:
    """A training step of a new model; returns the loss before it, and the norm of the gradient."""
    torch.manual_seed(0)
    model = options.get("build", GPT)(config).to(device)
    if "change" in options:
        model = options["change"](model)
    model.recompute_blocks = options.get("recompute_blocks", False)
    loss = NextTokenLoss(model, options.get("head_chunk"))
    if options.get("compile"):
        compile_loss(loss)
    precision = options.get("precision", "bf16")
    return partial(
        training_step,
        loss,
        list(zip(*(half.chunk(options.get("micro_batches", 1)) for half in batch), strict=True)),
        build_optimizers(loss.model, TrainConfig(optimizer="adamw", lr=1e-4)),
        autocast=autocast(device, precision),
        scaler=grad_scaler(device, precision),
        clip=1.0,
    )


def bench_train(
    report: Report, device: torch.device, runs: int, config: ModelConfig, batch_size: int, seq: int, compile: bool
) -> None:
    """Fill the report with a row for each variant."""
    report.settings |= {"config": config.to_dict(), "batch_size": batch_size, "seq_len": seq}
    n_tokens = batch_size * seq
    tokens = torch.randint(config.vocab_size, (batch_size, seq + 1), device=device)
    batch = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    n, dtype = 8192 if device.type == "cuda" else 2048, torch.bfloat16 if bf16_is_native(device) else torch.float32
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    facts: dict[str, dict[str, int | None]] = {PRODUCTS: {"flops": 2 * n**3}}
    timed: dict[str, Callable[[], float]] = {PRODUCTS: partial(seconds_per_call, lambda: a @ b, 20)}
    seconds: dict[str, list[float]] = {}
    for name, options in tqdm(variants(device, compile, n_tokens).items(), desc="memory", leave=False):
        try:
            step = build_step(config, options, batch, device)
            keep_allocations(False)
            step()  # compiles, and allocates what stays: the state of the optimizer
            peak = peak_bytes(step, device)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            report.notes.append(f"{name} needs more memory than there is: lower --batch-size to see it.")
            continue
        timed[name] = partial(seconds_per_step, step, keep="our kernels" in name)
        with torch.device("meta"):
            ours = GPT(theirs.gpt2_like(config) if "transformers" in name else config)
        facts[name] = {"flops": 3 * n_tokens * ours.flops_per_token(seq), "peak_bytes": peak}
    try:
        in_turn(timed, runs, seconds, "train")
    finally:  # after Ctrl-C too
        keep_allocations(False)
        summarize(report, seconds, facts, n_tokens, matmul_flops(device, dtype))


def seconds_per_step(step: Callable[[], object], keep: bool) -> float:
    keep_allocations(keep)
    return seconds_per_call(step)


def summarize(
    report: Report, seconds: dict[str, list[float]], facts: dict[str, dict[str, Any]], n_tokens: int, fastest: float
) -> None:
    """Add a row for each variant that was timed; `facts` has the arithmetic of a step, and its peak memory."""
    rates = {name: 1000 * facts[name]["flops"] / times(values)["milliseconds"] for name, values in seconds.items()}
    sustained = rates.pop(PRODUCTS, None)
    report.machine |= {"matmul_flops": fastest, "sustained_matmul_flops": sustained}
    for name, rate in rates.items():
        row = {"variant": name, **times(seconds[name])}
        row["tokens_per_second"] = 1000 * n_tokens / row["milliseconds"]
        row["ratio"] = (report.rows or [row])[0]["milliseconds"] / row["milliseconds"]
        row |= {"mfu": rate / fastest, "sustained_mfu": sustained and rate / sustained}
        report.rows.append(row | {"peak_bytes": facts[name]["peak_bytes"]})
    if sustained:
        report.notes.append(
            f"Ratio: to {report.rows[0]['variant']}. MFU: of {fastest / 1e9:,.0f} GFLOP/s, the fastest product of "
            f"matrices that was seen; sustained: of {sustained / 1e9:,.0f} GFLOP/s, the median between the steps."
        )
