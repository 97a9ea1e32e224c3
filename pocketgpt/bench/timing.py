"""How things are timed here: in one process, in turn, several times, and never by the mean.

Variants run A B A B …, so that a machine that slows down slows all of them, and the median of their runs is compared:
a run that was disturbed is slower by any amount, and moves a mean as far as it likes.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from pocketgpt.errors import PocketError
from pocketgpt.training.memory import peak_memory


@dataclass
class Variant:
    """One way to do the work: `run` is timed, `before` is not."""

    name: str
    run: Callable[[], object]
    before: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)
    """Of every counted run, in order."""
    facts: dict[str, int | float | None] = field(default_factory=dict)
    """What is known about it without timing, such as the arithmetic of a run."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def interleaved(variants: list[Variant], runs: int, bar: tqdm, device: torch.device) -> None:
    """Each variant once to warm up, then all of them in turn, `runs` times; what was timed stands in the variants.

    Ctrl-C leaves them with what was timed until then.
    """
    for run in range(runs + 1):
        for variant in variants:
            bar.set_postfix_str(variant.name, refresh=False)
            variant.before()
            synchronize(device)
            started = time.perf_counter()
            variant.run()
            synchronize(device)
            if run:  # the first one warms up: compilation, caches, clocks
                variant.seconds.append(time.perf_counter() - started)
            bar.update()


def synchronize(device: torch.device) -> None:
    """Wait for the device: a GPU answers before it has computed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_bytes(work: Callable[[], object], device: torch.device) -> int | None:
    """What `peak_memory` measures; None on a system that does not tell."""
    try:
        return peak_memory(work, device)
    except PocketError:
        return None


def spread(values: list[float]) -> tuple[float, float]:
    """First and third quartile: the middle half of the runs lies between. The value itself if there is one."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def growth(sizes: list[int], costs: list[int] | list[float]) -> float:
    """The exponent a of cost ≈ c · size^a: the slope of the straight line through the points on log–log paper, fitted
    by least squares. Doubling the size costs 2^a times as much."""
    x, y = torch.tensor(sizes, dtype=torch.float64).log(), torch.tensor(costs, dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return ((x * y).sum() / (x * x).sum()).item()
