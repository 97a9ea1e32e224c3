"""How fast this machine runs what the library offers, each beside what one would use instead, in one process.

Variants are timed in turn, A B A B …, so that a machine that slows down slows both; medians are compared as a ratio.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from pocketgpt.config import preset
from pocketgpt.gpt import GPT
from pocketgpt.inference.generate import generate
from pocketgpt.inference.sampling import Sampler
from pocketgpt.layers.attention import attention, causal_mask, fused_attention
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.precision import autocast, bf16_is_native, choose_device


@dataclass(frozen=True)
class Timing:
    """Seconds of every counted run of one variant, and the work that one run does."""

    name: str
    seconds: list[float]
    tokens: int

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / statistics.median(self.seconds)


def interleaved(variants: dict[str, Callable[[], None]], tokens: int, runs: int) -> list[Timing]:
    """Each variant once to warm up, then all of them in turn, `runs` times."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for run in range(runs + 1):
        for name, variant in variants.items():
            started = time.perf_counter()
            variant()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if run:
                seconds[name].append(time.perf_counter() - started)
    return [Timing(name, measured, tokens) for name, measured in seconds.items()]


def bench_attention(device: torch.device, runs: int) -> list[Timing]:
    """Causal attention over 1,024 tokens: step by step, and PyTorch's fused operator."""
    q, k, v = (torch.randn(4, 8, 1024, 64, device=device) for _ in range(3))
    positions = torch.arange(1024, device=device)
    mask = causal_mask(positions, positions)
    variants = {
        "step by step": lambda: attention(q, k, v, mask),
        "fused": lambda: fused_attention(q, k, v, is_causal=True),
    }
    return interleaved(variants, tokens=4 * 1024, runs=runs)


def bench_train(device: torch.device, runs: int) -> list[Timing]:
    """Forward and backward of pocket-shakespeare on 8 windows of 256 tokens: float32, and bf16 where it is native."""
    loss = NextTokenLoss(GPT(preset("pocket-shakespeare")).to(device))
    tokens = torch.randint(4096, (8, 256), device=device)

    def step(precision: str) -> None:
        with autocast(device, precision):
            value = loss(tokens, tokens)
        value.backward()

    formats = ["float32", "bf16"] if bf16_is_native(device) else ["float32"]
    return interleaved({name: lambda name=name: step(name) for name in formats}, tokens=8 * 256, runs=runs)


def bench_generate(device: torch.device, runs: int) -> list[Timing]:
    """64 tokens after a prompt of 128 with pocket-shakespeare: all read anew each time, and with the KV cache."""
    model = GPT(preset("pocket-shakespeare")).to(device).eval()
    prompt = torch.randint(4096, (1, 128), device=device)

    @torch.inference_mode()
    def without_cache() -> None:
        tokens = prompt
        for _ in range(64):
            tokens = torch.cat((tokens, model(tokens)[:, -1:].argmax(dim=-1)), dim=1)

    def with_cache() -> None:
        generate(model, prompt.tolist(), max_new_tokens=64, sampler=Sampler(temperature=0.0))

    return interleaved({"no cache": without_cache, "KV cache": with_cache}, tokens=64, runs=runs)


BENCHES = {"attention": bench_attention, "train": bench_train, "generate": bench_generate}


def bench(runs: int = 5) -> str:
    """Run all of them; returns a table of tokens per second, and each variant's ratio to the first of its kind."""
    device = choose_device()
    lines = [f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {runs} runs", ""]
    lines.append(f"{'':10}  {'variant':14}  {'tokens/s':>10}  {'ratio':>6}  {'slowest … fastest':>20}")
    for name, measure in tqdm(BENCHES.items(), desc="bench", unit="bench", leave=False):
        timings = measure(device, runs)
        for timing in timings:
            ratio = timing.tokens_per_second / timings[0].tokens_per_second
            low, high = timing.tokens / max(timing.seconds), timing.tokens / min(timing.seconds)
            spread = f"{low:,.0f} … {high:,.0f}"
            lines.append(
                f"{name:10}  {timing.name:14}  {timing.tokens_per_second:>10,.0f}  {ratio:>6.2f}  {spread:>20}"
            )
    return "\n".join(lines)
