"""Training steps: tokens per second, share of the machine, and memory, for each technique alone and together.

A step is a whole one: forward, backward, clipping, AdamW. MFU, the model FLOPs utilization, is what the model's
products need (`GPT.flops_per_token`, three times for forward and backward) over what the machine multiplies in that
time. It is given against the fastest product of bf16 matrices that was seen, and against the median of products timed
in turn with the steps (`sustained_mfu`): some machines are fast for a second and slower ever after.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pocketgpt.bench import theirs
from pocketgpt.bench.report import Report, Row
from pocketgpt.bench.timing import Variant, interleaved, peak_bytes, spread
from pocketgpt.config import ModelConfig, preset
from pocketgpt.device import bf16_is_native, matmul_flops
from pocketgpt.gpt import GPT
from pocketgpt.layers.attention import attention, causal_mask
from pocketgpt.training.compiling import compile_loss
from pocketgpt.training.kernels import keep_allocations, prepare_for_training
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.memory import checkpoint_blocks
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.precision import autocast, grad_scaler
from pocketgpt.training.recipe import Precision, TrainConfig
from pocketgpt.training.update import update


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a training benchmark is about."""

    preset: str = "pocket"
    seq_len: int | None = None
    """None: the model's max_seq_len, at most 1,024."""
    batch_size: int = 16
    compile: bool = True
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the preset to change, to make it tiny."""

    def config(self) -> ModelConfig:
        """The preset without dropout; `pocket` with 4,096 tokens, so that a small model is not mostly head."""
        small_vocab = {"vocab_size": 4096} if self.preset == "pocket" else {}
        return preset(self.preset, **{"dropout": 0.0, **small_vocab, **self.changes})


TINY = Options(batch_size=2, compile=False, changes=dict(d_model=48, n_layers=2, vocab_size=64, max_seq_len=32))


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train: what is changed before the first step, and how a step runs."""

    name: str
    precision: Precision = "bf16"
    prepare: Callable[[NextTokenLoss], None] = lambda loss: None
    chunk: int | None = None
    parts: int = 1
    keeps: bool = False
    """Whether freed memory is kept."""


def step_by_step(loss: NextTokenLoss) -> None:
    """PyTorch as one writes it down: scores, mask, softmax, sum."""

    def core(q: Tensor, k: Tensor, v: Tensor, mask: None, is_causal: bool, dropout: float) -> Tensor:
        positions = torch.arange(q.shape[2], device=q.device)
        return attention(q, k, v, causal_mask(positions, positions))[0]

    for block in loss.model.blocks:
        block.attention.core = core


def ways(device: torch.device, compile: bool, n_tokens: int) -> list[Way]:
    """Float32 first, to which all others are compared."""

    def ours(loss: NextTokenLoss) -> None:
        prepare_for_training(loss.model, device, "bf16")

    def ours_compiled(loss: NextTokenLoss) -> None:
        ours(loss)
        compile_loss(loss)

    listed = [Way(name="float32", precision="float32")]
    if not bf16_is_native(device):
        return listed
    listed += [
        Way(name="bf16, attention step by step", prepare=step_by_step),
        Way(name="bf16"),
        Way(name="bf16 + checkpointed blocks", prepare=lambda loss: checkpoint_blocks(loss.model)),
        Way(name="bf16 + accumulation of 2", parts=2),
        Way(name="bf16 + loss in 4 chunks", chunk=n_tokens // 4),
    ]
    if compile:
        listed += [Way(name="bf16 + compile", prepare=compile_loss)]
    if device.type == "cpu":
        listed += [Way(name="bf16 + our kernels", prepare=ours, keeps=True)]
        if compile:
            listed += [Way(name="bf16 + our kernels + compile", prepare=ours_compiled, keeps=True)]
    return listed


def bench_train(report: Report, device: torch.device, runs: int, options: Options) -> None:
    """Fill the report: a row for each way, and for transformers' GPT-2 of the same shape."""
    config = options.config()
    seq = options.seq_len or min(config.max_seq_len, 1024)
    n_tokens = options.batch_size * seq
    tokens = torch.randint(config.vocab_size, (options.batch_size, seq + 1), device=device)
    batch = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    report.settings |= {"config": config.to_dict(), "batch_size": options.batch_size, "seq_len": seq}
    contestants = [(way, partial(GPT, config)) for way in ways(device, options.compile, n_tokens)]
    if not theirs.available():
        report.notes.append(theirs.MISSING)
    elif bf16_is_native(device):
        contestants.append((Way(name="transformers GPT-2, bf16"), partial(theirs.gpt2, config)))
    variants = []
    for way, build in tqdm(contestants, desc="memory", unit="variant", leave=False):
        torch.manual_seed(0)
        model = build().to(device)
        per_token = model.flops_per_token(seq) if isinstance(model, GPT) else theirs.gpt2_flops_per_token(config, seq)
        try:
            variants.append(contestant(way, model, batch, device, flops=3 * n_tokens * per_token))
        except torch.OutOfMemoryError:
            model = None
            torch.cuda.empty_cache()
            report.notes.append(f"{way.name} needs more memory than there is: lower --batch-size to see it.")
    multiply = products(device)
    with tqdm(total=(runs + 1) * (len(variants) + 1), desc="train", unit="run", leave=False) as bar:
        try:
            interleaved([*variants, multiply], runs, bar, device)
        finally:  # after Ctrl-C too
            keep_allocations(False)
            summarize(report, variants, multiply, n_tokens, matmul_flops(device, multiply_dtype(device)))


def summarize(report: Report, variants: list[Variant], multiply: Variant, n_tokens: int, peak: float) -> None:
    """A row for each variant that was timed, and what its columns are measured against."""
    timed = [variant for variant in variants if variant.seconds]
    report.machine["matmul_flops"] = peak
    report.rows += [row(variant, timed[0], multiply, n_tokens, peak) for variant in timed]
    if timed and multiply.seconds:
        sustained = report.machine["sustained_matmul_flops"] = multiply.facts["flops"] / multiply.median
        report.notes.append(
            f"Ratio: to {timed[0].name}. MFU: of {peak / 1e9:,.0f} GFLOP/s, the fastest product of matrices that was "
            f"seen; sustained: of {sustained / 1e9:,.0f} GFLOP/s, the median of products between the steps."
        )


def contestant(way: Way, model: nn.Module, batch: tuple[Tensor, Tensor], device: torch.device, flops: int) -> Variant:
    """Training steps of that model in that way, and what one needs on top of weights and optimizer."""
    loss = NextTokenLoss(model, way.chunk)
    way.prepare(loss)
    step = partial(
        update,
        loss,
        list(zip(*(half.chunk(way.parts) for half in batch), strict=True)),
        build_optimizers(model, TrainConfig(optimizer="adamw", lr=1e-4)),
        autocast=autocast(device, way.precision),
        scaler=grad_scaler(device, way.precision),
        clip=1.0,
    )
    keep_allocations(False)
    step()  # compiles, and allocates what stays: the state of the optimizer
    memory = peak_bytes(step, device)

    def settle() -> None:
        """On a CPU, one step that is not timed: what the variant before it left in caches and allocator is gone."""
        keep_allocations(way.keeps)
        step()

    before = settle if device.type == "cpu" else lambda: None
    return Variant(way.name, step, before, facts={"flops": flops, "peak_bytes": memory})


def multiply_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if bf16_is_native(device) else torch.float32


def products(device: torch.device) -> Variant:
    """Matrix products to compare with, of the kind that `machine.matmul_flops` takes the fastest of."""
    n, times = (8192 if device.type == "cuda" else 2048), 20
    a, b = (torch.randn(n, n, device=device).to(multiply_dtype(device)) for _ in range(2))
    return Variant("products", lambda: [a @ b for _ in range(times)], facts={"flops": times * 2 * n**3})


def row(variant: Variant, first: Variant, multiply: Variant, n_tokens: int, peak: float) -> Row:
    flops_per_second = variant.facts["flops"] / variant.median
    fast, slow = spread(variant.seconds)
    return {
        "variant": variant.name,
        "tokens_per_second": n_tokens / variant.median,
        "middle_half": [n_tokens / slow, n_tokens / fast],
        "ratio": first.median / variant.median,
        "mfu": flops_per_second / peak,
        "sustained_mfu": flops_per_second * multiply.median / multiply.facts["flops"] if multiply.seconds else None,
        "peak_bytes": variant.facts["peak_bytes"],
        "seconds": variant.seconds,
    }
