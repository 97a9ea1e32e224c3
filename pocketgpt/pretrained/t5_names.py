"""Names of the weights of a published T5 beside ours.

Theirs has layers of two or three parts, each with its norm; ours has blocks. A layer of the encoder is a block, a layer
of the decoder two: self-attention, then cross-attention with the feed-forward.
"""

import re

from torch import Tensor

from pocketgpt.errors import PocketError

_OUTSIDE = {
    "shared": "embedding",
    "lm_head": "head",
    "encoder.final_layer_norm": "encoder.final_norm",
    "decoder.final_layer_norm": "final_norm",
    # Their first layer has the bias that all layers of the stack add.
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias": "encoder.relative_bias.embedding",
    "decoder.block.0.layer.0.SelfAttention.relative_attention_bias": "relative_bias.embedding",
}
_INSIDE = {
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "o_proj",
    "wi": "up_proj",
    "wi_0": "gate_proj",
    "wi_1": "up_proj",
    "wo": "down_proj",
}
_PARTS = {"encoder": ("mixer", "feedforward"), "decoder": ("mixer", "mixer", "feedforward")}
_NAME = re.compile(r"(?P<stack>encoder|decoder)\.block\.(?P<layer>\d+)\.layer\.(?P<place>\d)\.(?P<module>.+)")
UNUSED = (
    "encoder.embed_tokens.",  # the shared embedding again
    "decoder.embed_tokens.",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.",  # in the first files, and never read
)


def rename_t5(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a T5 to our names. Raises PocketError for a weight that our model does not have."""
    return {_our_name(name): tensor for name, tensor in weights.items()}


def _our_name(name: str) -> str:
    module = name.removesuffix(".weight")
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.weight"
    found = _NAME.fullmatch(module)
    inside = found and found["module"].rpartition(".")[2]
    if found is None or int(found["place"]) >= len(_PARTS[found["stack"]]) or inside not in (*_INSIDE, "layer_norm"):
        raise PocketError(f"The weight {name!r} has no place in our model: its architecture is a different one.")
    layer, place = int(found["layer"]), int(found["place"])
    part = _PARTS[found["stack"]][place]
    block = f"encoder.blocks.{layer}" if found["stack"] == "encoder" else f"blocks.{2 * layer + (place > 0)}"
    return f"{block}.{part}_norm.weight" if inside == "layer_norm" else f"{block}.{part}.{_INSIDE[inside]}.weight"
