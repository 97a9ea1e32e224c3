"""The loss: how surprised the model is by the token that really came next."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

IGNORE = -100
"""A target with this value counts for nothing: padding, or text that is not to be learned."""


class NextTokenLoss(nn.Module):
    """Mean cross-entropy of the next token, −log p(target), in nats.

    A module of its own, so that the model keeps one meaning (tokens in, logits out) and whatever wraps a training
    step has one thing to wrap. The targets are the tokens moved by one: targets[:, t] = tokens[:, t + 1].
    An untrained model scores about ln(vocab_size).

    With `chunk`, head and loss are computed for that many tokens at a time, and once more in the backward pass: the
    logits, the largest tensor of a small model with a large vocabulary, never exist for all tokens at once. It costs
    the head's product a third time forward and changes nothing else.
    """

    def __init__(self, model: nn.Module, chunk: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.chunk = chunk

    def forward(
        self,
        tokens: Int[Tensor, "batch seq"],
        targets: Int[Tensor, "batch seq"],
        n_targets: float | Float[Tensor, ""] | Int[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """The sum over all targets that are not IGNORE, divided by `n_targets`, in float32.

        `n_targets` is their own number if it is not given (the mean; NaN if there is none). A batch that is one of
        several, on other ranks or in an accumulation, gets the number of the whole.
        """
        if n_targets is None:
            n_targets = (targets != IGNORE).sum()
        targets = targets.flatten()
        if self.chunk is None:
            return surprise(self.model(tokens).flatten(0, 1), targets) / n_targets
        features = self.model.features(tokens).flatten(0, 1)
        parts = zip(features.split(self.chunk), targets.split(self.chunk), strict=True)
        return sum(checkpoint(self.part, *part, use_reentrant=False) for part in parts) / n_targets

    def part(self, features: Float[Tensor, "tokens d_model"], targets: Int[Tensor, " tokens"]) -> Float[Tensor, ""]:
        return surprise(self.model.head(features), targets)


def surprise(logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"]) -> Float[Tensor, ""]:
    """The sum of −log p(target). In bf16 the sum over the vocabulary inside the softmax would keep three digits."""
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORE, reduction="sum")
