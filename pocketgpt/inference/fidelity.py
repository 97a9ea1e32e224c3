"""Fidelity of quantized models: KL divergence and perplexity against the original."""

from dataclasses import dataclass
from math import exp

import numpy as np
import torch
from jaxtyping import Integer
from torch import nn
from torch.nn import functional as F

from pocketgpt.inference.generate import evaluation_mode
from pocketgpt.text.batches import sequential_windows


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Distance between the predictions of two models on the same text."""

    kl: float
    """Mean over all positions of KL(reference ‖ model) = Σ p · (ln p − ln q), in nats per token. 0 is no loss."""
    perplexity: float
    reference_perplexity: float


@torch.no_grad()
def fidelity(
    model: nn.Module, reference: nn.Module, tokens: Integer[np.ndarray, " n_tokens"], seq_len: int = 256
) -> Fidelity:
    """Compare two models on `tokens`, read in consecutive windows of `seq_len`.

    Raises PocketError if there are fewer than two tokens.
    """
    kl = 0.0
    losses = [0.0, 0.0]
    n_targets = len(tokens) - 1
    for inputs, targets in sequential_windows(tokens, 1, seq_len):
        with evaluation_mode(model), evaluation_mode(reference):
            logits = [m(inputs.to(m.device)).cpu() for m in (model, reference)]
        log_q, log_p = (scores.double().log_softmax(dim=-1).flatten(0, 1) for scores in logits)
        kl += F.kl_div(log_q, log_p, reduction="sum", log_target=True).item()
        for which, scores in enumerate((log_q, log_p)):
            losses[which] += F.nll_loss(scores, targets.flatten(), reduction="sum").item()
    return Fidelity(
        kl=kl / n_targets,
        perplexity=exp(losses[0] / n_targets),
        reference_perplexity=exp(losses[1] / n_targets),
    )
