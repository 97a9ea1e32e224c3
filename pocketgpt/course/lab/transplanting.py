"""Transplants: your function inside a trained model.

changed = transplant(model, attention=my_attention)     # a copy with the same weights whose layers call my_attention
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pocketgpt.course.lab.attention_adapters import (
    assembled_attention,
    backend,
    grouped_backend,
    with_expansion,
    with_softmax,
    with_tiles,
)
from pocketgpt.course.lab.caching import assembled_layer, cache_with
from pocketgpt.course.lab.part_adapters import (
    activate_with,
    block_with,
    change_hidden_with,
    feed_forward_with,
    layers_with,
    merge_with,
    model_with,
    normalize_with,
    order_with,
    positions_with,
    rotate_with,
    sinusoids_with,
    split_with,
    swiglu_with,
    turn_with,
)
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.errors import PocketError
from pocketgpt.models.gpt import GPT
from pocketgpt.models.stack import sharing_weights


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
