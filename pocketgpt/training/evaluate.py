"""Evaluation on held-out text: loss, perplexity and bits per byte."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np
import torch
from jaxtyping import Num, UInt
from torch import Tensor, nn

from pocketgpt.text.batches import sequential_windows
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.objectives import OBJECTIVES, Objective
from pocketgpt.training.training_state import rng_state, set_rng_state


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of one pass over held-out text."""

    loss: float
    """Mean of −log p(next token), in nats per token, or the mean that `Objective.unit` names."""
    bits_per_byte: float | None
    """Mean of −log₂ p per byte of text: comparable between tokenizers. 8 is a uniform guess over bytes. None for an
    objective whose loss is not one of the whole text."""
    tokens: int
    """Number of predicted tokens."""

    @property
    def perplexity(self) -> float:
        """exp(loss): the model is as unsure as if it chose among this many equally likely tokens."""
        return exp(self.loss) if self.loss < 700 else inf  # e^709 is the largest float

    def measured(self) -> dict[str, float]:
        """Metrics by their names in the log."""
        bits = {} if self.bits_per_byte is None else {"bits_per_byte": self.bits_per_byte}
        return {"validation_loss": self.loss, "perplexity": self.perplexity, **bits}

    def __str__(self) -> str:
        bits = "" if self.bits_per_byte is None else f" · {self.bits_per_byte:.3f} bits per byte"
        return f"validation loss {self.loss:.3f} · perplexity {self.perplexity:.1f}{bits}"


@torch.no_grad()
def evaluate(
    model: nn.Module,
    tokens: UInt[np.ndarray, " n_tokens"],
    bytes_per_token: Num[Tensor, " vocab"],
    *,
    seq_len: int,
    batch_size: int = 8,
    chunk: int | None = None,
    objective: Objective = OBJECTIVES["next-token"],
) -> Evaluation:
    """Measure the model's loss on `tokens`, read as consecutive windows of seq_len.

    Every token but the first is predicted exactly once, from the tokens before it in its window. Sums are divided once,
    at the end, so that a short last window has the weight of its tokens. The mean is taken before exp: a mean of
    perplexities would be a different number. Dropout is off during evaluation. An objective that draws random numbers
    draws the same ones at every evaluation, if the batch size is the same.
    `bytes_per_token` comes from `token_lengths`, `chunk` is that of NextTokenLoss.

    Raises PocketError if there are fewer than two tokens.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    summed = objective.build_loss(model, chunk)
    surprise, n_bytes = 0.0, 0.0
    with same_draws(device):
        for inputs, targets in sequential_windows(tokens, batch_size, seq_len):
            surprise += summed(inputs.to(device), targets.to(device), n_targets=1.0).item()
            n_bytes += bytes_per_token[targets].sum().item()
    model.train(was_training)
    loss = surprise / (len(tokens) - 1)
    bits = surprise / log(2) / max(1.0, n_bytes) if objective.scores_text else None
    return Evaluation(loss=loss, bits_per_byte=bits, tokens=len(tokens) - 1)


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Context in which random numbers begin from a fixed seed; afterwards they continue as if nothing was drawn."""
    state = rng_state(device)
    torch.manual_seed(0)
    try:
        yield
    finally:
        set_rng_state(state, device)


def token_lengths(tokenizer: Tokenizer, mean: float | None = None) -> Num[Tensor, " vocab"]:
    """Length of each token in bytes of the text; the end-of-text token is not text and has length 0.

    The tokens of a lossy tokenizer do not say how long the text was ("[UNK]" is one character): each counts as `mean`,
    the text's bytes per token.
    """
    if mean is not None and not getattr(tokenizer, "lossless", True):
        return torch.full((tokenizer.vocab_size,), mean, dtype=torch.float64)
    lengths = [len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
    lengths[tokenizer.end_of_text] = 0
    return torch.tensor(lengths)
