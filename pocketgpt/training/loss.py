"""The loss: cross-entropy of the next token, and a chunked form that never stores all logits."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.layers.part import Part

IGNORE = -100
"""Target value that is left out of the loss: padding, or text that is not to be learned."""


class NextTokenLoss(nn.Module):
    """Mean cross-entropy of the next token, −log p(target), in nats.

    A module of its own, so that the model always maps tokens to logits and DDP has one module to wrap. The targets are
    the tokens shifted by one: targets[:, t] = tokens[:, t + 1].
    An untrained model scores about ln(vocab_size).

    With `chunk`, head and loss are computed for that many tokens at a time (`HeadLoss`): logits and their gradient,
    the largest tensors of a small model with a large vocabulary, never exist for all tokens at once.
    """

    def __init__(self, model: nn.Module, chunk: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.chunk = chunk

    def forward(
        self,
        tokens: Int[Tensor, "batch seq"],
        targets: Int[Tensor, "batch seq"],
        n_targets: int | float | Float[Tensor, ""] | Int[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """The sum over all targets that are not IGNORE, divided by `n_targets`, in float32.

        Without `n_targets` it is divided by their own number: the mean, and NaN if there is none. A batch that is one
        part of a step, on several ranks or in an accumulation, is given the number of the whole.

        In training, the auxiliary loss of the layers is added, such as the balancing loss of a mixture of experts,
        weighted by the share of the step's targets that this batch has.
        """
        counted = (targets != IGNORE).sum()
        if n_targets is None:
            n_targets = counted
        targets = targets.flatten()
        if self.chunk is None:
            # In bf16 the sum over the vocabulary inside the softmax would keep three digits.
            logits = self.model(tokens).float().flatten(0, 1)
            loss = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum") / n_targets
        else:
            features = self.model.features(tokens).flatten(0, 1)
            loss = HeadLoss.apply(features, self.model.head.weight, targets, self.chunk) / n_targets
        return with_auxiliary(loss, self.model, counted / n_targets)


def with_auxiliary(loss: Float[Tensor, ""], model: nn.Module, share: Any) -> Float[Tensor, ""]:
    """Add the auxiliary loss of the layers of a model in training, weighted by `share`: the part of the step's targets
    that this batch has. A model in evaluation mode still has that of its last training step, which does not count."""
    auxiliary = auxiliary_loss(model) if model.training else None
    return loss if auxiliary is None else loss + auxiliary * share


def auxiliary_loss(model: nn.Module) -> Float[Tensor, ""] | None:
    """Sum of the terms that layers add to the loss of their last forward pass in training; None if there are none."""
    total = None
    for module in model.modules():
        term = module.auxiliary_loss() if isinstance(module, Part) else None
        if term is not None:
            total = term if total is None else total + term
    return total


class HeadLoss(torch.autograd.Function):
    """Σ −log softmax(features · weightᵀ)[target] over targets that are not IGNORE, without all logits in memory.

    The gradient for the logits is softmax − one-hot, known as soon as the logits are. So forward already computes each
    chunk's gradients for features and weight, and frees its logits; nothing is computed twice. Backward only scales
    these gradients, which is correct because the result is a scalar.
    Source: Hsu et al. 2024, Liger Kernel (arXiv 2410.10989), section 3.2.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Float[Tensor, "tokens d_model"],
        weight: Float[Tensor, "vocab d_model"],
        targets: Int[Tensor, " tokens"],
        chunk: int,
    ) -> Float[Tensor, ""]:
        # Cast here, once: autocast would cast the weight anew for every chunk.
        device = features.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        w = weight.to(low)
        total = torch.zeros((), device=features.device)
        needs_gradient, weight_is_trained = any(ctx.needs_input_grad), ctx.needs_input_grad[1]
        if needs_gradient:
            grad_features = torch.empty_like(features)
            grad_weight = torch.zeros_like(weight, dtype=torch.float32) if weight_is_trained else None
        for start in range(0, len(features), chunk):
            part = slice(start, start + chunk)
            x, y = features[part].to(low), targets[part]
            log_p = (x @ w.T).float().log_softmax(dim=-1)
            total += F.nll_loss(log_p, y, ignore_index=IGNORE, reduction="sum")
            if needs_gradient:
                counts = (y != IGNORE).float()[:, None]
                grad_logits = log_p.exp_().mul_(counts).scatter_add_(1, y.clamp(min=0)[:, None], -counts).to(low)
                grad_features[part] = grad_logits @ w
                if weight_is_trained:
                    grad_weight += grad_logits.T @ x
        if needs_gradient:
            ctx.save_for_backward(grad_features, grad_weight.to(weight.dtype) if weight_is_trained else None)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, ""]) -> tuple[Tensor, Tensor | None, None, None]:
        grad_features, grad_weight = ctx.saved_tensors
        return grad * grad_features, None if grad_weight is None else grad * grad_weight, None, None
