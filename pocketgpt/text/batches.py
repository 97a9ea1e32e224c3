"""Batches of inputs and targets out of a flat array of tokens; the target of a token is the token after it."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor

from pocketgpt.errors import PocketError

Batch = tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]


class RandomWindows:
    """An endless iterator of (inputs, targets), each int64 of shape (batch_size, seq_len), from random places.

    Batch number `step` depends on nothing but (seed, step): to go on where a run stopped, set `step`.
    Raises PocketError if `tokens` is shorter than a window.
    """

    def __init__(
        self,
        tokens: Integer[np.ndarray, " n_tokens"],
        batch_size: int,
        seq_len: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(tokens) <= seq_len:
            raise PocketError(
                f"The text is too short: {len(tokens)} tokens, and a window of seq_len {seq_len} with its targets "
                f"takes {seq_len + 1}. Give more text, or a seq_len of at most {max(len(tokens) - 1, 0)}."
            )
        self.tokens, self.batch_size, self.seq_len = tokens, batch_size, seq_len
        self.seed, self.device, self.step = seed, device, 0

    def batch(self, step: int) -> Batch:
        """Batch number `step`, the same each time it is asked for."""
        starts = np.random.default_rng((self.seed, step)).integers(
            len(self.tokens) - self.seq_len, size=self.batch_size
        )
        return _windows(self.tokens, starts, self.seq_len, self.device)

    def __iter__(self) -> "RandomWindows":
        return self

    def __next__(self) -> Batch:
        self.step += 1
        return self.batch(self.step - 1)


def sequential_windows(
    tokens: Integer[np.ndarray, " n_tokens"], batch_size: int, seq_len: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Go through `tokens` once: every token but the first is a target exactly once, and no window overlaps another.

    The last batch of whole windows may hold fewer of them, and what is left over comes as one shorter window.
    Raises PocketError if there are fewer than two tokens.
    """
    n_targets = len(tokens) - 1
    if n_targets < 1:
        raise PocketError(f"The text is too short to evaluate on: {len(tokens)} tokens, and 2 are needed.")
    n_windows = n_targets // seq_len
    for first in range(0, n_windows, batch_size):
        starts = np.arange(first, min(first + batch_size, n_windows)) * seq_len
        yield _windows(tokens, starts, seq_len, device)
    if rest := n_targets % seq_len:
        yield _windows(tokens, np.array([n_targets - rest]), rest, device)


def _windows(
    tokens: Integer[np.ndarray, " n_tokens"],
    starts: Int[np.ndarray, " batch"],
    seq_len: int,
    device: torch.device | str,
) -> Batch:
    windows = tokens[starts[:, None] + np.arange(seq_len + 1)].astype(np.int64)
    rows = torch.from_numpy(windows).to(device)
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
