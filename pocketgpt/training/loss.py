"""The loss: how surprised the model is by the token that really came next."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE = -100
"""A target with this value counts for nothing: padding, or text that is not to be learned."""


class NextTokenLoss(nn.Module):
    """Mean cross-entropy of the next token, −log p(target), in nats.

    A module of its own, so that the model keeps one meaning (tokens in, logits out) and whatever wraps a training
    step has one thing to wrap. The targets are the tokens moved by one: targets[:, t] = tokens[:, t + 1].
    An untrained model scores about ln(vocab_size).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "batch seq"], targets: Int[Tensor, "batch seq"]) -> Float[Tensor, ""]:
        """The mean over all targets that are not IGNORE, in float32; NaN if there is none."""
        logits = self.model(tokens)
        # In bf16 the sum over the vocabulary inside the softmax would keep three digits.
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
