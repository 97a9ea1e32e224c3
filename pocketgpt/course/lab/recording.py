"""What a model computes inside as it reads, recorded by a transplant."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.lab.attention_adapters import assembled_attention
from pocketgpt.course.lab.transplanting import transplant
from pocketgpt.models.gpt import GPT


@torch.inference_mode()
def attention_weights(
    model: GPT, tokens: Int[Tensor, "batch seq"], attention: Callable = assembled_attention
) -> Float[Tensor, "layers batch heads seq seq"]:
    """Attention weights of every layer and head as the model reads `tokens`, computed by the given function."""
    recorded: list[Tensor] = []

    def recording(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        output, weights = attention(q, k, v, mask)
        recorded.append(weights)
        return output, weights

    transplant(model, attention=recording)(tokens)
    return torch.stack(recorded)


@torch.inference_mode()
def hidden_numbers(model: GPT, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "layers batch seq d_ff"]:
    """Hidden numbers of every feed-forward layer as the model reads `tokens`: what enters its down_proj."""
    recorded: list[Tensor] = []

    def recording(hidden: Tensor) -> Tensor:
        recorded.append(hidden)
        return hidden

    transplant(model, hidden=recording)(tokens)
    return torch.stack(recorded)
