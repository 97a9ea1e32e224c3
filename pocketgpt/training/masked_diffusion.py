"""Masked diffusion: hide a random share of the text, and learn to fill it in.

    −log p(x)  ≤  E_t E_hidden  1/t · Σ_(i hidden) −log p(xᵢ | what is not hidden)        t uniform in (0, 1]

Each token is hidden with probability t, independently of the others. The weight 1/t makes the sum an upper bound on
−log p(x), which BERT's loss is not. The bound is the mean of −log p over all orders of writing the text token by token,
each from those already written: of n tokens with k hidden, ∫ tᵏ⁻¹ (1 − t)ⁿ⁻ᵏ dt = (k − 1)! (n − k)! / n! is the
probability that in a random order a given hidden one comes next. The model needs no input for t, because it sees how
many tokens are hidden.

Sources: Sahoo et al. 2024, MDLM (arXiv 2406.07524), section 3; Nie et al. 2025, LLaDA (arXiv 2502.09992), equations 3
and 4; Ou et al. 2024 (arXiv 2406.03736) for the mean over all orders.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.inference.diffusion import mask_id, token_logits
from pocketgpt.training.loss import IGNORE, with_auxiliary

SMALLEST_T = 1e-3
"""Smallest share that is hidden: the weight 1/t stays below 1,000. The bound is at most a thousandth higher for it."""


def hide(
    tokens: Int[Tensor, "batch seq"], t: Float[Tensor, "batch"], u: Float[Tensor, "batch seq"], mask: int
) -> Int[Tensor, "batch seq"]:
    """Hide each token with the probability t of its row: where its random number u, uniform in [0, 1), is below t."""
    return tokens.masked_fill(u < t[:, None], mask)


def draw_times(batch: int, device: torch.device) -> Float[Tensor, "batch"]:
    """Draw a t for each row, uniform in (SMALLEST_T, 1], and spread evenly over the rows of the batch.

    All rows share one random number: tᵢ = u + i / batch, modulo 1. Each t alone is uniform, so the mean of the loss is
    the same as with independent ones, but a batch always has rows with few and with many tokens hidden: the loss varies
    less.
    Source: Kingma et al. 2021, variational diffusion models (arXiv 2107.00630), appendix I.1.
    """
    shift = torch.arange(batch, device=device) / batch
    spread = (torch.rand((), device=device) + shift) % 1  # in [0, 1)
    return 1 - (1 - SMALLEST_T) * spread


def diffusion_loss(
    logits: Float[Tensor, "batch seq vocab"],
    text: Int[Tensor, "batch seq"],
    hidden: Bool[Tensor, "batch seq"],
    t: Float[Tensor, "batch"],
) -> Float[Tensor, ""]:
    """Σ −log p(token) / t over all hidden tokens, in float32: an unbiased estimate of the bound for the whole batch.

    Divide it by the number of all tokens, hidden or not, for nats per token.
    Source: LLaDA, equation 3.
    """
    targets = text.where(hidden, IGNORE)
    losses = F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
    )  # (B · T), 0 where nothing is hidden
    return (losses.view_as(text) / t[:, None]).sum()


class MaskedDiffusionLoss(nn.Module):
    """Upper bound on −log p(text) in nats per token, estimated with one random t per row.

    Called like NextTokenLoss, with the text shifted by one as targets. What is learned are the targets. Those that are
    IGNORE, such as the prompt of a dialogue, are given to the model and never hidden (LLaDA, equation 5).

    t and the hidden positions are drawn from PyTorch's global random numbers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Int[Tensor, "batch seq"],
        targets: Int[Tensor, "batch seq"],
        n_targets: int | float | Float[Tensor, ""] | Int[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """The sum of `diffusion_loss` over the batch, divided by `n_targets`, or by the number of targets that are not
        IGNORE. In training, the auxiliary loss of the layers is added, as in NextTokenLoss."""
        counted = targets != IGNORE
        if n_targets is None:
            n_targets = counted.sum()
        mask = mask_id(self.model.config)
        # The token of a target that is IGNORE is the next input; after the last input it is unknown.
        text = torch.cat((tokens[:, 1:], targets[:, -1:].where(counted[:, -1:], mask)), dim=1)  # (B, T)
        t = draw_times(len(text), text.device)  # (B)
        u = torch.rand(text.shape, device=text.device).masked_fill(~counted, 1.0)  # (B, T), 1 is never below t
        logits = token_logits(self.model, hide(text, t, u, mask))  # (B, T, vocab_size − 1)
        loss = diffusion_loss(logits, text, u < t[:, None], t) / n_targets
        return with_auxiliary(loss, self.model, counted.sum() / n_targets)
