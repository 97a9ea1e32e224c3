"""Timing: interleaved runs in one process, so that a machine that slows down slows all variants.

Medians are compared: one disturbed run changes a mean, but hardly a median.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer
from tqdm import tqdm

from pocketgpt.device import peak_memory
from pocketgpt.errors import PocketError


def in_turn(work: dict[Any, Callable[[], Any]], runs: int, results: dict[Any, list[Any]], description: str) -> None:
    """Call all variants once to warm up, then in turn, `runs` times; append the results by key.

    After Ctrl-C, `results` contains what was measured until then.
    """
    with tqdm(total=len(work) * (runs + 1), desc=description, unit="run", leave=False) as bar:
        for run in range(runs + 1):
            for key, call in work.items():
                result = call()
                if run:  # the first round warms up: compilation, caches, clocks
                    results.setdefault(key, []).append(result)
                bar.update()


def seconds_per_call(work: Callable[[], object], calls: int = 1) -> float:
    """Mean seconds of several calls in a row, after two or more that are not timed. Waits for the device."""
    return Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads()).timeit(calls).mean


def peak_bytes(work: Callable[[], object], device: torch.device) -> int | None:
    """Peak memory of one call; None on a system that does not report it."""
    with suppress(PocketError):
        return peak_memory(work, device)


def times(seconds: list[float]) -> dict[str, Any]:
    """Make columns of a report: the median and the middle half of several runs, and the runs themselves."""
    first_quartile, median, third_quartile = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
    return {
        "milliseconds": 1000 * median,
        "middle_half": [1000 * first_quartile, 1000 * third_quartile],
        "seconds": seconds,
    }


def growth(sizes: list[int], costs: list[int] | list[float]) -> float:
    """Fit the exponent a of cost ≈ c · size^a by least squares on the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
