"""Benchmark of generation, one text token by token: time to the first token, and per later token, by context.

A decode step reads every weight once, and every key and value in the cache. Memory bandwidth divided by these bytes is
the maximum of tokens per second; `limit_share` is the fraction reached. The prompt is read in one pass, limited by
arithmetic, before the first token.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from pocketgpt.bench import theirs
from pocketgpt.bench.report import Report, Row
from pocketgpt.bench.timing import in_turn, times
from pocketgpt.device import bf16_is_native, memory_bandwidth
from pocketgpt.inference.generate import stream
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.speed import Stopwatch, bytes_per_step
from pocketgpt.models.gpt import GPT

NEW_TOKENS = 24
Writer = Callable[[list[int], int], list[float]]
"""Continues a prompt by a number of tokens, and returns the seconds until each arrived."""


def write_ours(model: GPT, prompt: list[int], n_tokens: int) -> list[float]:
    stopwatch = Stopwatch()
    list(stopwatch.watch(stream(model, prompt, max_new_tokens=n_tokens, sampler=Sampler(temperature=0.0))))
    return stopwatch.arrivals


def write_theirs(model: Any, prompt: list[int], n_tokens: int) -> list[float]:
    inputs, arrivals = torch.tensor([prompt], device=model.device), []
    started = time.perf_counter()
    arrived = lambda tokens: arrivals.append(time.perf_counter() - started)  # noqa: E731
    count = {"max_new_tokens": n_tokens, "min_new_tokens": n_tokens, "do_sample": False, "pad_token_id": 0}
    streamer = SimpleNamespace(put=arrived, end=lambda: None)
    model.generate(inputs, attention_mask=torch.ones_like(inputs), streamer=streamer, **count)
    return arrivals[1:]  # the first is the prompt


def variants(model: GPT, compile: bool) -> dict[str, tuple[Writer, GPT]]:
    """Build the writer of each variant, and a model of ours with as many bytes to read, all with equal weights."""
    device = model.device
    dtypes = {"float32": torch.float32} | ({"bf16": torch.bfloat16} if bf16_is_native(device) else {})
    found = {}
    for name, dtype in dtypes.items():
        plain = deepcopy(model).to(dtype)
        found[name] = (partial(write_ours, plain), plain)
        if theirs.available() and theirs.is_llama(model.config):
            found[f"transformers, {name}"] = (partial(write_theirs, theirs.llama(plain)), plain)
    for name in (*dtypes, "int8") if compile else ():
        prepared = prepare_for_decoding(model, name, compiled=True)
        found[f"{name}, compiled"] = (partial(write_ours, prepared), prepared)
    return found


def bench_generate(
    report: Report, device: torch.device, runs: int, model: GPT, contexts: list[int], compile: bool
) -> None:
    """Fill the report with a row for each variant and length of the prompt."""
    config = model.config
    report.settings |= {"config": config.to_dict(), "contexts": contexts, "new_tokens": NEW_TOKENS, "batch_size": 1}
    bandwidth = report.machine["memory_bandwidth"] = memory_bandwidth(device)
    found = variants(model, compile)
    arrivals: dict[tuple[str, int], list[list[float]]] = {}
    try:
        for context in contexts:
            prompt = torch.randint(config.vocab_size, (context,)).tolist()
            work = {(name, context): partial(write, prompt, NEW_TOKENS) for name, (write, _) in found.items()}
            in_turn(work, runs, arrivals, f"generate, context {context:,}")
    finally:  # after Ctrl-C too
        for name, context in sorted(arrivals, key=lambda key: list(found).index(key[0])):
            limit = bandwidth / bytes_per_step(found[name][1], context + NEW_TOKENS // 2)
            report.rows.append(row(name, context, arrivals[name, context], limit))


def row(variant: str, context: int, runs: list[list[float]], limit: float) -> Row:
    """Make a row from the arrivals of tokens in each run, and the tokens per second that memory allows."""
    per_token = [(arrivals[-1] - arrivals[0]) / (len(arrivals) - 1) for arrivals in runs]
    first = times([arrivals[0] for arrivals in runs])["milliseconds"]
    row = {"variant": variant, "context": context, "first_token_ms": first, **times(per_token)}
    speed = 1000 / row["milliseconds"]
    return row | {"tokens_per_second": speed, "limit_share": speed / limit}
