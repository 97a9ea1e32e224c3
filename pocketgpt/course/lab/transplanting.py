"""Transplants: your function inside a trained model.

changed = transplant(model, attention=my_attention)     # a copy with the same weights whose layers call my_attention
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pocketgpt.assets import asset
from pocketgpt.course.lab.caching import assembled_layer, cache_with
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.errors import PocketError
from pocketgpt.layers.attention_backends import causal_mask, expand_kv_heads
from pocketgpt.layers.context import Context
from pocketgpt.layers.feedforward import FeedForward, SwiGLU
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.layers.positions import SinusoidalPositions
from pocketgpt.layers.rope import rotation
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.stack import Cache, sharing_weights
from pocketgpt.text.tokenizer import Tokenizer, load_tokenizer


@cache
def pocket_model() -> GPT:
    """Load the trained model that ships with the course."""
    return GPT.load(asset("pocket-shakespeare"))


@cache
def pocket_tokenizer() -> Tokenizer:
    """Load the tokenizer of the shipped model."""
    return load_tokenizer("shakespeare")


def scaled_scores(
    q: Float[Tensor, "*batch seq d"], k: Float[Tensor, "*batch keys d"]
) -> Float[Tensor, "*batch seq keys"]:
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def softmax_of_visible(
    scores: Float[Tensor, "*batch seq keys"],
    mask: Bool[Tensor, "..."],
    softmax: Callable[[Tensor, int], Tensor] = torch.softmax,
) -> Float[Tensor, "*batch seq keys"]:
    return softmax(scores.masked_fill(~mask, -math.inf), -1)


def assembled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    scores: Callable[[Tensor, Tensor], Tensor] = scaled_scores,
    masked_softmax: Callable[[Tensor, Tensor], Tensor] = softmax_of_visible,
) -> tuple[Tensor, Tensor]:
    """Computes attention in replaceable steps; returns the output and the weights."""
    weights = masked_softmax(scores(q, k), mask)
    return weights @ v, weights


def backend(
    attention: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = assembled_attention,
    mask_of: Callable[[Tensor, Tensor], Tensor] = causal_mask,
) -> Callable[..., Tensor]:
    """Adapts a learner's attention(q, k, v, mask), which expects equally many query and key heads, to the signature of
    an attention backend."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        k, v = expand_kv_heads(k, q.shape[1]), expand_kv_heads(v, q.shape[1])
        if mask is None:
            queries, keys = (torch.arange(x.shape[2], device=x.device) for x in (q, k))
            mask = mask_of(queries, keys) if is_causal else torch.ones(len(queries), len(keys), dtype=torch.bool)
        return attention(q, k, v, mask)[0]

    return run


def grouped_backend(attention: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Adapts a learner's attention(q, k, v, mask) that takes fewer key/value heads than query heads: they are handed
    over as the model makes them."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        if mask is None:
            queries, keys = (torch.arange(x.shape[2], device=x.device) for x in (q, k))
            mask = causal_mask(queries, keys) if is_causal else torch.ones(len(queries), len(keys), dtype=torch.bool)
        return attention(q, k, v, mask)

    return run


def with_expansion(expand: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """Builds an attention backend that calls the function for keys and for values."""

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        k, v = expand(k, q.shape[1]), expand(v, q.shape[1])
        return assembled_attention(q, k, v, mask)[0]

    return grouped_backend(attention)


def with_softmax(softmax: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """Builds an attention backend that uses the given softmax."""
    return backend(partial(assembled_attention, masked_softmax=partial(softmax_of_visible, softmax=softmax)))


def with_tiles(
    attention: Callable[[Tensor, Tensor, Tensor, int, int], tuple[Tensor, Tensor]], rows: int = 64, columns: int = 32
) -> Callable[..., Tensor]:
    """Adapts a learner's tiled_attention(q, k, v, rows, columns), which is causal and needs as many keys as queries, to
    the signature of an attention backend. The backend makes no mask, and raises PocketError if it is given one."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        if mask is not None or not is_causal or k.shape[2] != q.shape[2]:
            raise PocketError("This attention hides later keys, nothing else: run the model without a cache.")
        k, v = expand_kv_heads(k, q.shape[1]), expand_kv_heads(v, q.shape[1])
        return attention(q, k, v, rows, columns)[0]

    return run


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


@dataclass(frozen=True)
class ReplaceablePart:
    """A part of the model that a function can replace.

    signature   the function's signature
    place       parts with the same place cannot be replaced together
    insert      makes a model compute with the function
    model       a trained model that has the part: "pocket", or the name of a sibling
    decoding    True if it works with a cache, so that its mistakes show only in a model that reads with one
    """

    signature: str
    place: str
    insert: Callable[[GPT, Callable], object]
    model: str = "pocket"
    decoding: bool = False


def _in_cached_layer(signature: str, step: str = "") -> ReplaceablePart:
    """The attention layer with a cache, or a step of it by the name that `assembled_layer` has for it."""

    def insert(model: GPT, function: Callable) -> None:
        cache_with(model, partial(assembled_layer, **{step: function}) if step else function)

    return ReplaceablePart(signature, "cache", insert, decoding=True)


def _in_attention(signature: str, adapt: Callable[[Callable], Callable]) -> ReplaceablePart:
    def insert(model: GPT, function: Callable) -> None:
        layers_with(model, "attend")
        model.use_attention(adapt(function))

    return ReplaceablePart(signature, "attention", insert)


REPLACEABLE_PARTS = {
    "softmax": _in_attention("softmax(x, dim)", with_softmax),
    "attention_scores": _in_attention(
        "attention_scores(q, k)", lambda f: backend(partial(assembled_attention, scores=f))
    ),
    "masked_softmax": _in_attention(
        "masked_softmax(scores, mask)", lambda f: backend(partial(assembled_attention, masked_softmax=f))
    ),
    "causal_mask": _in_attention("causal_mask(query_positions, key_positions)", lambda f: backend(mask_of=f)),
    "attention": _in_attention("attention(q, k, v, mask) -> (output, weights)", backend),
    "grouped_attention": _in_attention("grouped_attention(q, k, v, mask) -> output", grouped_backend),
    "expand_kv_heads": _in_attention("expand_kv_heads(x, n_heads)", with_expansion),
    "tiled_attention": _in_attention("tiled_attention(q, k, v, rows, columns) -> (output, log_sum_exp)", with_tiles),
    "split_heads": ReplaceablePart("split_heads(x, n_heads)", "splitting heads", split_with),
    "merge_heads": ReplaceablePart("merge_heads(x)", "merging heads", merge_with),
    "apply_rope": ReplaceablePart("apply_rope(x, cos, sin)", "rotation", rotate_with),
    "rope_frequencies": ReplaceablePart("rope_frequencies(d_head, theta)", "frequencies", turn_with),
    "rms_norm": ReplaceablePart("rms_norm(x, weight, eps)", "norm", normalize_with),
    "block_order": ReplaceablePart("block_order(x, norm, layer)", "order", order_with),
    "sinusoids": ReplaceablePart("sinusoids(positions, d_model)", "sinusoids", sinusoids_with, "sinusoidal"),
    "add_positions": ReplaceablePart("add_positions(x, table, start)", "positions", positions_with, "sinusoidal"),
    "swiglu": ReplaceablePart("swiglu(x, gate, up, down)", "feed-forward", swiglu_with),
    "feed_forward": ReplaceablePart("feed_forward(x, up, down)", "feed-forward", feed_forward_with, "relu_squared"),
    "activation": ReplaceablePart("activation(x)", "feed-forward", activate_with, "base"),
    "hidden": ReplaceablePart("hidden(hidden_numbers)", "feed-forward", change_hidden_with),
    "block": ReplaceablePart("block(x, weights, rope, config)", "block", block_with),
    "whole_model": ReplaceablePart("whole_model(tokens, weights, config)", "whole model", model_with),
    "append_kv": _in_cached_layer("append_kv(kept, new)", "append"),
    "decode_attention": _in_cached_layer(
        "decode_attention(q, keys, values, query_positions, key_positions, window)", "attend"
    ),
    "cached_layer": _in_cached_layer("cached_layer(x, weights, kept, start, rope) -> (output, kept)"),
}
"""Replaceable parts, by the keyword that `transplant` accepts."""


def transplant(model: GPT, **functions: Callable) -> GPT:
    """Copy the model so that it computes with your functions. The copy shares the weights; the model does not change.

    The model is any GPT: pocket_model(), a sibling, or published weights.
    The keyword is the name of a replaceable part, or of an exercise that declares which part it replaces.
    Raises PocketError for a name that is not a replaceable part, for a part that the model does not have, and for two
    functions that would take the same place.
    """
    parts = {name: replaceable_part(name) for name in functions}
    if unknown := sorted(name for name, part in parts.items() if part is None):
        known = ", ".join(part.signature for part in REPLACEABLE_PARTS.values())
        raise PocketError(f"{', '.join(unknown)} cannot replace a part of the model. These can: {known}.")
    if len({part.place for part in parts.values()}) < len(parts):
        raise PocketError(f"{' and '.join(functions)} would replace the same part of the model: put in one at a time.")
    copy = sharing_weights(model)
    for name, function in functions.items():
        parts[name].insert(copy, function)
    return copy


def replaceable_part(name: str) -> ReplaceablePart | None:
    """The replaceable part of that name, or the one that the exercise of that name replaces; None if there is none."""
    part = find_exercise(name).replaces if name in exercise_names() else name
    return REPLACEABLE_PARTS.get(part)


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
