"""Writing one text, token by token: time to the first token, and to each one after it, at short and long contexts.

Every weight, and every key and value of the cache, is read once for each token, so memory bandwidth over these bytes
is the most tokens per second that there can be (`limit_share` says how much of it was reached). The prompt instead is
read all at once and limited by arithmetic; the first token waits for it.
"""

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pocketgpt.assets import asset
from pocketgpt.bench import theirs
from pocketgpt.bench.report import Report, Row
from pocketgpt.bench.timing import Variant, interleaved, spread
from pocketgpt.config import ModelConfig
from pocketgpt.device import bf16_is_native, memory_bandwidth
from pocketgpt.gpt import GPT
from pocketgpt.inference.fidelity import fidelity
from pocketgpt.inference.generate import stream
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.speed import bytes_per_step
from pocketgpt.inference.weights import store_weights
from pocketgpt.training.checkpoint import load_shipped

CONTEXTS = [128, 512, 1024, 2048]
TINY_CONTEXTS = [4, 8]
NEW_TOKENS = 24
TINY = dict(vocab_size=61, d_model=24, n_layers=2, n_heads=3, n_kv_heads=1, d_ff=32, max_seq_len=64)
"""Changes that make the preset tiny."""

Writer = Callable[[list[int], int, Callable[[], None]], object]
"""Continues a prompt by so many tokens, and calls back when each of them is there."""


def ours(model: GPT) -> Writer:
    def write(prompt: list[int], n_tokens: int, arrived: Callable[[], None]) -> None:
        for _ in stream(model, prompt, max_new_tokens=n_tokens, sampler=Sampler(temperature=0.0)):
            arrived()

    return write


def transformers(model: Any) -> Writer:
    class Streamer:
        """What `generate` hands tokens to: first the prompt, then each new one."""

        def __init__(self, arrived: Callable[[], None]) -> None:
            self.arrived, self.prompt_seen = arrived, False

        def put(self, tokens: torch.Tensor) -> None:
            if self.prompt_seen:
                self.arrived()
            self.prompt_seen = True

        def end(self) -> None: ...

    def write(prompt: list[int], n_tokens: int, arrived: Callable[[], None]) -> None:
        inputs = torch.tensor([prompt], device=model.device)
        count = {"max_new_tokens": n_tokens, "min_new_tokens": n_tokens, "do_sample": False, "pad_token_id": 0}
        model.generate(inputs, attention_mask=torch.ones_like(inputs), streamer=Streamer(arrived), **count)

    return write


def ways(config: ModelConfig, device: torch.device, compiled: bool) -> dict[str, tuple[Writer, GPT]]:
    """Each way to write with its writer, and a model that says how many bytes a step reads. One set of weights."""
    torch.manual_seed(0)
    model = GPT(config).to(device).eval()
    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16}
    if not bf16_is_native(device):
        del dtypes["bf16"]
    listed = {}
    for name, dtype in dtypes.items():
        plain = deepcopy(model).to(dtype)
        listed[name] = (ours(plain), plain)
        if theirs.available():
            listed[f"transformers, {name}"] = (transformers(theirs.llama(plain)), plain)
    if compiled:
        for name in (*dtypes, "int8"):
            prepared = prepare_for_decoding(model, name, compiled=True)
            listed[f"{name}, compiled"] = (ours(prepared), prepared)
    return listed


def bench_generate(
    report: Report,
    device: torch.device,
    runs: int,
    config: ModelConfig,
    contexts: list[int],
    n_new: int,
    compiled: bool,
) -> None:
    """Fill the report: a row for each way and length of the prompt."""
    report.settings |= {"config": config.to_dict(), "contexts": contexts, "new_tokens": n_new, "batch_size": 1}
    if not theirs.available():
        report.notes.append(theirs.MISSING)
    bandwidth = report.machine["memory_bandwidth"] = memory_bandwidth(device)
    writers = ways(config, device, compiled)
    arrivals: dict[tuple[str, int], list[list[float]]] = {}
    with tqdm(total=len(writers) * len(contexts) * (runs + 1), desc="generate", unit="run", leave=False) as bar:
        try:
            for context in contexts:
                prompt = torch.randint(config.vocab_size, (context,)).tolist()
                variants = []
                for name, (writer, _) in writers.items():
                    kept = arrivals[name, context] = []
                    variants.append(Variant(name, partial(timed, writer, prompt, n_new, kept)))
                interleaved(variants, runs, bar, device)
        finally:  # after Ctrl-C too
            for (name, context), measured in arrivals.items():
                if len(measured) > 1:  # the first one warmed up
                    limit = bandwidth / bytes_per_step(writers[name][1], context + n_new // 2)
                    report.rows.append(row(name, context, measured[1:], limit))
            report.rows.sort(key=lambda row: list(writers).index(row["variant"]))
            report.notes += growth_with_context(report.rows)
    report.notes += fidelity_of_formats()


def timed(writer: Writer, prompt: list[int], n_tokens: int, kept: list[list[float]]) -> None:
    """Write, and keep how many seconds after the start each token was there."""
    arrivals: list[float] = []
    started = time.perf_counter()
    writer(prompt, n_tokens, lambda: arrivals.append(time.perf_counter() - started))
    kept.append(arrivals)


def row(name: str, context: int, runs: list[list[float]], limit: float) -> Row:
    """`runs`: for each run, seconds until each token was there. `limit`: tokens per second that memory allows."""
    first = [arrivals[0] for arrivals in runs]
    per_token = [(arrivals[-1] - arrivals[0]) / (len(arrivals) - 1) for arrivals in runs]
    fast, slow = spread(per_token)
    return {
        "variant": name,
        "context": context,
        "first_token_ms": 1000 * statistics.median(first),
        "ms_per_token": 1000 * statistics.median(per_token),
        "tokens_per_second": 1 / statistics.median(per_token),
        "middle_half": [1 / slow, 1 / fast],
        "limit_share": 1 / statistics.median(per_token) / limit,
        "seconds": per_token,
    }


def growth_with_context(rows: list[Row]) -> list[str]:
    """A sentence for each way: how much longer a token takes after the longest prompt than after the shortest."""
    sentences = []
    for name in dict.fromkeys(row["variant"] for row in rows):
        line = [row for row in rows if row["variant"] == name]
        if len(line) > 1:
            more = line[-1]["ms_per_token"] / line[0]["ms_per_token"] - 1
            sentences.append(
                f"{name}: from context {line[0]['context']:,} to {line[-1]['context']:,} "
                f"a token takes {more:+.0%} time."
            )
    return sentences


def fidelity_of_formats() -> list[str]:
    """A sentence for each format: what it costs the trained model in its predictions of text that it has not seen."""
    shipped = load_shipped()
    tokens = np.array(shipped.tokenizer.encode(asset("held-out.txt").read_text(encoding="utf-8")))
    sentences = []
    for name in ("bf16", "int8"):
        found = fidelity(store_weights(shipped.model, name), shipped.model, tokens)
        sentences.append(
            f"{name} weights: KL {found.kl:.2g} nats per token from float32, perplexity {found.perplexity:.2f} instead "
            f"of {found.reference_perplexity:.2f} (pocket-shakespeare, {len(tokens):,} tokens it has not seen)."
        )
    return sentences
