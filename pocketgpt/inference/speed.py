"""Decoding speed: measured, and its limit by memory bandwidth."""

import statistics
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise

from pocketgpt.device import memory_bandwidth
from pocketgpt.models.gpt import GPT


def bytes_per_step(model: GPT, seq: int, batch: int = 1) -> int:
    """Count the bytes that a decode step reads with `seq` tokens in the cache: all keys and values, and every weight
    except the embedding table, of which it reads one row."""
    modules = (*model.blocks, model.final_norm, model.head)
    weights = sum(parameter.nbytes for module in modules for parameter in module.parameters())
    return weights + model.cache_bytes(batch, seq, model.dtype)


def decode_limit(model: GPT, seq: int) -> float:
    """Tokens per second of one sequence at full memory bandwidth: bandwidth / bytes_per_step."""
    return memory_bandwidth(model.device) / bytes_per_step(model, seq)


class Stopwatch:
    """Stopwatch for a stream of tokens: records the arrival of each."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.arrivals: list[float] = []

    def watch(self, tokens: Iterable[int]) -> Iterator[int]:
        for token in tokens:
            self.arrivals.append(time.perf_counter() - self.started)
            yield token

    @property
    def tokens_per_second(self) -> float:
        """Median speed of a step, which ignores the first token, after the prefill, and the second, after compilation.
        NaN for fewer than two tokens."""
        if len(self.arrivals) < 2:
            return float("nan")
        return 1 / statistics.median(later - earlier for earlier, later in pairwise(self.arrivals))

    def report(self, model: GPT, prompt_length: int) -> str:
        """One line: tokens, time to the first one, speed, and its share of what memory bandwidth allows."""
        if len(self.arrivals) < 2:
            return f"{len(self.arrivals)} tokens: too few to measure the speed."
        speed = self.tokens_per_second
        limit = decode_limit(model, prompt_length + len(self.arrivals) // 2)
        return (
            f"{len(self.arrivals)} tokens: the first after {self.arrivals[0]:.2f} s, then {speed:.1f} tokens/s, "
            f"{speed / limit:.0%} of the {limit:.0f} that memory bandwidth allows."
        )
