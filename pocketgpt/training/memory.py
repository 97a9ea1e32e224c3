"""Memory of a training step: how to need less of it, and how to measure it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pocketgpt.gpt import GPT
from pocketgpt.layers.attention import LayerCache
from pocketgpt.layers.rope import Rotation


def checkpoint_blocks(model: GPT) -> None:
    """From now on keep only what enters each block, and compute the block again in the backward pass.

    One tensor per block stays instead of a dozen, for about a third more computing: a longer context or a larger batch
    in the same memory. Dropout draws the same masks the second time. Nothing changes outside of training.
    Source: Chen et al. 2016, Training deep nets with sublinear memory cost (arXiv 1604.06174).
    """
    model.run_block = checkpointed


def checkpointed(
    block: nn.Module, x: Float[Tensor, "batch seq d_model"], rope: Rotation | None, cache: LayerCache | None
) -> Float[Tensor, "batch seq d_model"]:
    if not (block.training and torch.is_grad_enabled()):
        return block(x, rope, cache)
    return checkpoint(block, x, rope, cache, use_reentrant=False)
