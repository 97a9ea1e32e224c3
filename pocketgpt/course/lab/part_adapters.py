"""A learner's function in the place of any part of a model but attention: each function here puts one into a model."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pocketgpt.errors import PocketError
from pocketgpt.layers.context import Context
from pocketgpt.layers.feedforward import FeedForward, SwiGLU
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.layers.positions import SinusoidalPositions
from pocketgpt.layers.rope import rotation
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.stack import Cache


def split_with(model: GPT, function: Callable) -> None:
    """Queries have n_heads heads, keys and values n_kv_heads: each call passes the number that its width holds."""
    for mixer in layers_with(model, "split_heads"):
        mixer.split_heads = partial(_split, function, mixer.d_head)


def _split(function: Callable, d_head: int, x: Float[Tensor, "batch seq width"]) -> Tensor:
    return function(x, x.shape[-1] // d_head)


def merge_with(model: GPT, function: Callable) -> None:
    for mixer in layers_with(model, "merge_heads"):
        mixer.merge_heads = function


def rotate_with(model: GPT, function: Callable) -> None:
    check_rotates(model)
    for mixer in layers_with(model, "rotate"):
        mixer.rotate = function


def turn_with(model: GPT, function: Callable) -> None:
    """Takes every layer's angles from the function's frequencies. Scaling of the model's own frequencies is dropped."""
    check_rotates(model)
    own = model.context

    def context(tokens: Tensor, cache: Cache | None = None) -> Context:
        context = own(tokens, cache)
        turns = {width: function(width, model.config.rope.theta) for width in model.rotary_widths}
        positions = context.positions[:, None]
        return replace(context, rotations={width: rotation(positions, turn) for width, turn in turns.items()})

    model.context = context


def normalize_with(model: GPT, function: Callable) -> None:
    norms = [norm for norm in model.modules() if isinstance(norm, RMSNorm)]
    if not norms:
        raise PocketError(f"This model has no RMSNorm: its norms are {model.config.norm!r}.")
    for norm in norms:
        norm.forward = partial(function, weight=norm.weight, eps=norm.eps)


def order_with(model: GPT, function: Callable) -> None:
    for block in model.blocks:
        block.order = function


def sinusoids_with(model: GPT, function: Callable) -> None:
    if not isinstance(model.positions, SinusoidalPositions):
        raise PocketError(f"This model has no sinusoids: its positions are {model.config.positions!r}.")

    def table(positions: Tensor, d_model: int) -> Tensor:
        return torch.stack([function(row, d_model) for row in positions])

    model.positions.table = table


def positions_with(model: GPT, function: Callable) -> None:
    """Gives the function the embedding as the model scales it, the model's table, and the first position."""
    layer = model.positions
    if layer is None:
        raise PocketError(
            f"This model adds no positions to its embedding: its positions are {model.config.positions!r}."
        )

    def forward(x: Tensor, positions: Tensor) -> Tensor:
        if isinstance(layer, SinusoidalPositions):
            every = torch.arange(model.config.max_seq_len, device=x.device)[None]
            x, table = x * math.sqrt(x.shape[-1]), layer.table(every, x.shape[-1])[0]
        else:
            table = layer.embedding.weight
        starts = positions[:, 0].tolist()  # one for each text, or one for all
        texts = x.chunk(len(starts)) if len(starts) > 1 else [x]
        return torch.cat([function(text, table, start) for text, start in zip(texts, starts, strict=True)])

    layer.forward = forward


def swiglu_with(model: GPT, function: Callable) -> None:
    for layer in feed_forwards(model, SwiGLU):
        gate, up, down = layer.gate_proj.weight, layer.up_proj.weight, layer.down_proj.weight
        layer.forward = partial(function, gate=gate, up=up, down=down)


def feed_forward_with(model: GPT, function: Callable) -> None:
    for layer in feed_forwards(model, FeedForward):
        layer.forward = partial(function, up=layer.up_proj.weight, down=layer.down_proj.weight)


def activate_with(model: GPT, function: Callable) -> None:
    for layer in feed_forwards(model, SwiGLU, FeedForward):
        if isinstance(layer, SwiGLU):
            layer.forward = partial(_gated, layer, function)
        else:
            layer.activation = function


def _gated(layer: SwiGLU, activation: Callable, x: Tensor) -> Tensor:
    return layer.down_proj(activation(layer.gate_proj(x)) * layer.up_proj(x))


def change_hidden_with(model: GPT, function: Callable) -> None:
    for layer in feed_forwards(model, SwiGLU, FeedForward):
        layer.down_proj.register_forward_pre_hook(lambda _, inputs: function(*inputs))


def block_with(model: GPT, function: Callable) -> None:
    """Gives the function the stream, the weights of its block by name, (cos, sin) or None, and the config."""
    for block in model.blocks:
        block.forward = partial(_block, block, function, model.config)


def _block(
    block: nn.Module, function: Callable, config: ModelConfig, x: Tensor, context: Context, cache: None = None
) -> Tensor:
    weights = dict(block.named_parameters())
    rope = None
    if context.rotations:
        rope = tuple(turns[0, 0] for turns in context.rotations[block.mixer.rotary_width])  # (T, d_head/2) each
    return function(x, weights, rope, config)


def model_with(model: GPT, function: Callable) -> None:
    """Gives the function the tokens, the weights by name, a tied head once, and the config."""
    weights = dict(model.named_parameters())
    model.forward = lambda tokens, cache=None: function(tokens, weights, model.config)


def feed_forwards(model: GPT, *kinds: type[nn.Module]) -> list[nn.Module]:
    """The feed-forward layers of these kinds, first layer first. Raises PocketError if there are none."""
    layers = [layer for layer in model.modules() if isinstance(layer, kinds)]
    if not layers:
        kind = " or ".join(kind.__name__ for kind in kinds)
        raise PocketError(f"This model has no {kind} layer. Its feed-forward: {model.config.feedforward}.")
    return layers


def layers_with(model: GPT, attribute: str) -> list[nn.Module]:
    """The mixers that compute attention in this step, first layer first. Raises PocketError if there are none."""
    layers = [mixer for mixer in model.mixers() if hasattr(mixer, attribute)]
    if not layers:
        raise PocketError(f"This model has no attention layer with {attribute}. Its mixer: {model.config.mixer}.")
    return layers


def check_rotates(model: GPT) -> None:
    """Raises PocketError if the model has no rotary positions."""
    if not model.rotary_widths:
        raise PocketError(f"This model does not rotate: its positions are {model.config.positions!r}.")
