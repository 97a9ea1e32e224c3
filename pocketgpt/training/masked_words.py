"""Masked words: a share of the tokens is hidden, and the model learns to fill them in from both sides.

    To be or not to be, that is the question     the text
    To be or [MASK] to be, that lord the question     15 % chosen: of these 80 % hidden, 10 % replaced, 10 % left alone
              not               is               the loss is measured here only

If every chosen token were hidden, the model would learn nothing about the tokens that it can see, and a text without
[MASK] would be strange to it. So some are replaced and some stay as they are: any token may be one to predict.
Sources: Devlin et al. 2018, BERT (arXiv 1810.04805), section 3.1 and appendix A.1; drawn anew whenever a text is read:
Liu et al. 2019, RoBERTa (arXiv 1907.11692), section 4.1.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.training.loss import with_auxiliary

CHOSEN = 0.15
"""Share of the tokens that are chosen."""
HIDDEN = 0.8
"""Share of the chosen tokens that become [MASK]."""
REPLACED = 0.1
"""Share of the chosen tokens that become a random token; the rest stay as they are."""


class MaskedWordsLoss(nn.Module):
    """Mean cross-entropy of the chosen tokens, −log p(token), in nats.

    The text is `targets`: every token but the first of the window, as many as NextTokenLoss predicts. [MASK] is the
    last id of the vocabulary. The head computes logits for the chosen tokens only.
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
        """The sum over the chosen tokens, times the tokens for which each stands, divided by `n_targets`.

        k of T tokens are chosen in every row, so that each stands for T / k tokens. Without `n_targets` it is the mean.
        In training, the auxiliary loss of the layers is added, weighted as in NextTokenLoss.
        """
        mask_id = self.model.config.vocab_size - 1
        places = choose(targets)  # (B, k)
        words = targets.gather(1, places)  # (B, k)
        dice, others = torch.rand(words.shape, device=words.device), torch.randint_like(words, mask_id)
        text = targets.scatter(1, places, hide(words, dice, others, mask_id))  # (B, T)
        features = self.model.features(text)  # (B, T, d_model)
        features = features.gather(1, places[..., None].expand(-1, -1, features.shape[-1]))  # (B, k, d_model)
        logits = self.model.head(features).float()  # (B, k, vocab)
        share = 1.0 if n_targets is None else targets.numel() / n_targets  # of the step's targets, in this batch
        loss = F.cross_entropy(logits.flatten(0, 1), words.flatten()) * share
        return with_auxiliary(loss, self.model, share)


def choose(text: Int[Tensor, "batch seq"]) -> Int[Tensor, "batch chosen"]:
    """Random places in each row: 15 % of its tokens, and at least one.

    Always as many, and not each token with probability 0.15: the loss divides by a number that is known before.
    """
    n_chosen = max(1, round(CHOSEN * text.shape[1]))
    return torch.rand(text.shape, device=text.device).topk(n_chosen, dim=1).indices


def hide(
    words: Int[Tensor, "*chosen"], dice: Float[Tensor, "*chosen"], others: Int[Tensor, "*chosen"], mask_id: int
) -> Int[Tensor, "*chosen"]:
    """What the model sees of the chosen tokens: [MASK], another token, or the token itself, as the dice decide.

    `dice` are uniform from 0 to 1, `others` random tokens.
    """
    seen = torch.where(dice < HIDDEN + REPLACED, others, words)
    return torch.where(dice < HIDDEN, mask_id, seen)
