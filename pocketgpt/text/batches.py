"""Batches of inputs and targets from a flat array of tokens; the target of a token is the token after it."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt32
from torch import Tensor

from pocketgpt.errors import PocketError

Batch = tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]


@runtime_checkable
class Tokens(Protocol):
    """Sequence of token ids: an array, a memory map, or several files behind one object."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


class ShuffledWindows:
    """Infinite iterator of shuffled (inputs, targets), each int64 of shape (batch_size, seq_len).

    Every epoch divides the tokens into consecutive windows, from a random offset, and reads them in a random order.
    Each step takes the next batch_size · world_size windows, of which each rank reads its own batch_size: no window
    is read twice in an epoch, and all ranks together read the windows of one process with the large batch. The last
    batch of an epoch is filled up from the next epoch.

    A fraction `repeats` of the windows starts over after a random distance, from 8 tokens to half the window, and half
    of these are shuffled before: tokens that a model can only predict by finding their earlier occurrence.

    Batch number `step` depends on nothing but (seed, step, rank): to resume a run, set `step`.
    Raises PocketError if `tokens` is too short for one batch on every rank.
    """

    def __init__(
        self,
        tokens: Tokens,
        batch_size: int,
        seq_len: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeats: float = 0.0,
    ) -> None:
        self.tokens = tokens
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.repeats = repeats
        self.step = 0
        # One window fewer than fit, if two do: it leaves room for any offset, with as many windows in every epoch.
        self.n_windows = max(len(tokens) // seq_len - 1, int(len(tokens) > seq_len))
        if self.n_windows < batch_size * world_size:
            raise PocketError(self._too_short())

    def batch(self, step: int) -> Batch:
        """Batch number `step` of this rank, the same at every call."""
        first = (step * self.world_size + self.rank) * self.batch_size
        places = [divmod(number, self.n_windows) for number in range(first, first + self.batch_size)]
        rows = _rows(self.tokens, [self._start(epoch, place) for epoch, place in places], self.seq_len)
        if self.repeats:
            for row, (epoch, place) in zip(rows, places, strict=True):
                self._repeat(row, np.random.default_rng((self.seed, epoch, place)))
        return _inputs_and_targets(rows)

    def _repeat(self, row: np.ndarray, generator: np.random.Generator) -> None:
        """Let this row start over after a random distance, with probability `repeats`."""
        if generator.random() < self.repeats:
            distance = int(generator.integers(min(8, self.seq_len), max(self.seq_len // 2, 8) + 1))
            start = row[:distance].copy()
            if generator.random() < 0.5:
                generator.shuffle(start)
            row[:] = np.resize(start, len(row))

    def _start(self, epoch: int, place: int) -> int:
        """Index of the first token of the window at this position of an epoch."""
        # The last target is one token after the last window, so that the offset stays below what the windows leave.
        offset, order = _drawn(self.seed, epoch, len(self.tokens) - self.n_windows * self.seq_len, self.n_windows)
        return offset + int(order[place]) * self.seq_len

    def _too_short(self) -> str:
        n_tokens, needed = len(self.tokens), self.batch_size * self.world_size
        ways = [f"at least {(needed + 1) * self.seq_len} tokens of text"]
        if self.n_windows >= self.world_size:
            ways.append(f"a batch_size of at most {self.n_windows // self.world_size}")
        if n_tokens > needed:
            ways.append(f"a seq_len of at most {n_tokens // (needed + 1)}")
        processes = f" on each of {self.world_size} processes" if self.world_size > 1 else ""
        return (
            f"The text is too short: its {n_tokens} tokens make {self.n_windows} windows of seq_len {self.seq_len}, "
            f"and one batch takes {needed} (batch_size {self.batch_size}{processes}). Use {', or '.join(ways)}."
        )

    def __iter__(self) -> "ShuffledWindows":
        return self

    def __next__(self) -> Batch:
        self.step += 1
        return self.batch(self.step - 1)


@lru_cache(maxsize=2)  # two epochs: a batch may contain the end of one and the beginning of the next
def _drawn(seed: int, epoch: int, n_offsets: int, n_windows: int) -> tuple[int, UInt32[np.ndarray, " n_windows"]]:
    """Draw offset and order of the windows of an epoch (40 MB for ten million windows)."""
    generator = np.random.default_rng((seed, epoch))
    offset = int(generator.integers(n_offsets))
    order = np.arange(n_windows, dtype=np.uint32)
    generator.shuffle(order)
    return offset, order


def sequential_windows(tokens: Tokens, batch_size: int, seq_len: int) -> Iterator[Batch]:
    """Yield consecutive windows of `tokens` in batches: every token but the first is a target exactly once.

    The last batch of whole windows may have fewer of them, and the remaining tokens form one shorter window.
    Raises PocketError if there are fewer than two tokens.
    """
    n_targets = len(tokens) - 1
    if n_targets < 1:
        raise PocketError(f"The text is too short to evaluate on: {len(tokens)} tokens, and 2 are needed.")
    n_windows = n_targets // seq_len
    for first in range(0, n_windows, batch_size):
        windows = range(first, min(first + batch_size, n_windows))
        yield _inputs_and_targets(_rows(tokens, [window * seq_len for window in windows], seq_len))
    if rest := n_targets % seq_len:
        yield _inputs_and_targets(_rows(tokens, [n_targets - rest], rest))


def _rows(tokens: Tokens, starts: Sequence[int], seq_len: int) -> np.ndarray:
    """Windows of seq_len + 1 tokens each: the inputs and the last target."""
    return np.stack([tokens[start : start + seq_len + 1] for start in starts]).astype(np.int64)


def _inputs_and_targets(rows: np.ndarray) -> Batch:
    tokens = torch.from_numpy(rows)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
