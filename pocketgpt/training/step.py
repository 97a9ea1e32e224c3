"""Training step: forward and backward passes, clipping, and an update of the weights."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import isfinite

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pocketgpt.layers.part import Part
from pocketgpt.training.distributed import clip_gradients, gradient_sync, sum_over_ranks, world_size
from pocketgpt.training.loss import IGNORE


def training_step(
    loss: nn.Module,
    micro_batches: Sequence[tuple[Int[Tensor, "_ _"], Int[Tensor, "_ _"]]],  # (batch, seq); they may differ in both
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    autocast: AbstractContextManager,
    scaler: torch.amp.GradScaler,
    clip: float,
) -> tuple[float, float]:
    """Update the weights with the gradient of all micro-batches on all ranks, as if they were one batch.

    Returns the mean loss per token before the step, and the norm of the gradient before clipping. If one of them is not
    a finite number on any rank, the weights and optimizers of all ranks are left unchanged.
    """
    n_targets = sum_over_ranks(sum((targets != IGNORE).sum() for _, targets in micro_batches))
    total = torch.zeros((), device=n_targets.device)
    for number, (tokens, targets) in enumerate(micro_batches, start=1):
        # Gradients of micro-batches accumulate locally; the ranks exchange their sums once, with the last one.
        gradient_sync(loss, on=number == len(micro_batches))
        with autocast:
            # The ranks average their gradients: each divides as if the targets were spread evenly.
            share = loss(tokens, targets, n_targets / world_size())
        scaler.scale(share).backward()
        total += share.detach()
    for optimizer in optimizers:
        scaler.unscale_(optimizer)
    parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    norm = clip_gradients(parameters, clip).item()
    mean = sum_over_ranks(total).item() / world_size()
    finite = isfinite(mean) and isfinite(norm)
    for optimizer in optimizers:
        if finite:
            scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
    for module in loss.modules():
        if isinstance(module, Part):
            module.after_step(sum_over_ranks, skipped=not finite)
    scaler.update()  # in fp16 an overflow halves the scale
    return mean, norm
