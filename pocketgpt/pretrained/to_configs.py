"""Configs of our models as config.json of Hugging Face: the inverse of configs.py.

The architecture follows from the config. A table says which fields each of them fixes; a model that computes anything
else is refused by the name of the field, because transformers has no name for it.
"""

from dataclasses import dataclass
from typing import Any

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.config import ModelConfig


@dataclass(frozen=True)
class Shape:
    """What an architecture of theirs computes: our fields that it fixes, besides those that it has a name for."""

    name: str
    fixed: dict[str, Any]


_BOTH = {
    "norm_weight": True,
    "embedding_norm": False,
    "causal": True,
    "mixer.n_anchors": 0,
    "mixer.scaled": True,
}
_GPT = {
    **_BOTH,
    "norm": "layernorm",
    "norm_bias": True,
    "mixer.bias": True,
    "mixer.output_bias": True,
    "mixer.window": None,
    "mixer.qk_norm": False,
    "feedforward.bias": True,
}
_ROTARY = {**_BOTH, "norm": "rmsnorm", "norm_order": "pre", "feedforward.activation": "swiglu"}
SHAPES = {
    "gpt2": Shape("GPT2LMHeadModel", {**_GPT, "norm_order": "pre"}),
    "openai-gpt": Shape("OpenAIGPTLMHeadModel", {**_GPT, "feedforward.activation": "gelu_tanh"}),
    "llama": Shape("LlamaForCausalLM", _ROTARY),
    "mistral": Shape(
        "MistralForCausalLM",
        {**_ROTARY, "mixer.bias": False, "mixer.output_bias": False, "feedforward.bias": False},
    ),
    "qwen3": Shape("Qwen3ForCausalLM", {**_ROTARY, "mixer.window": None, "feedforward.bias": False}),
}
"""By `model_type`: the class in transformers, and the fields that it fixes."""


def their_config(config: ModelConfig) -> dict[str, Any]:
    """The content of config.json for a model of ours.

    Raises PocketError, with the field and its value, for one that computes what no architecture of theirs does.
    """
    config = config.resolved()
    mixer, feedforward = _only_layer(config)
    kind = _model_type(config, mixer)
    for field, value in SHAPES[kind].fixed.items():
        part = {"mixer": mixer, "feedforward": feedforward}.get(field.partition(".")[0], config)
        _require(field, getattr(part, field.rpartition(".")[2]), value, SHAPES[kind].name)
    head = {"model_type": kind, "architectures": [SHAPES[kind].name]}
    if kind in ("gpt2", "openai-gpt"):
        return head | _gpt(config, mixer, feedforward)
    return head | _llama(kind, config, mixer, feedforward)


def _only_layer(config: ModelConfig) -> tuple[AttentionConfig, FeedForwardConfig]:
    """The parts that all layers have. Raises PocketError if they differ, or are of a kind that is not exported."""
    if type(config) is not ModelConfig:
        raise PocketError(
            f"A model of {type(config).__name__} cannot be exported to transformers: only decoders of the GPT family "
            "can."
        )
    layers = config.layers()
    for field, number, kind in (("mixer", 0, AttentionConfig), ("feedforward", 1, FeedForwardConfig)):
        parts = [layer[number] for layer in layers]
        for part in parts:
            if not isinstance(part, kind):
                _require(field, getattr(part, "kind", None), kind.kind, "each of GPT-2, Llama, Mistral and Qwen 3")
        if any(part != parts[0] for part in parts):
            raise PocketError(
                f"{field} differs from layer to layer, for which no architecture of transformers is exported: "
                f"a model whose layers have the same {field} can be."
            )
    return layers[0]


def _model_type(config: ModelConfig, mixer: AttentionConfig) -> str:
    """The architecture whose positions, norm order, window and normalized queries are those of the config."""
    if config.positions == "learned":
        return "gpt2" if config.norm_order == "pre" else "openai-gpt"
    _require("positions", config.positions, "rope", "Llama")
    if mixer.qk_norm:
        return "qwen3"
    return "llama" if mixer.window is None else "mistral"


def _gpt(config: ModelConfig, mixer: AttentionConfig, feedforward: FeedForwardConfig) -> dict[str, Any]:
    """The fields of both GPTs, whose heads share d_model and are all key/value heads too."""
    post = config.norm_order == "post"
    name = SHAPES["openai-gpt" if post else "gpt2"].name
    activations = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu2": "relu2"}
    if feedforward.activation not in activations:
        _require("feedforward.activation", feedforward.activation, "gelu_tanh", name)
    _require("mixer.n_kv_heads", mixer.n_kv_heads, mixer.n_heads, name)
    _require("mixer.d_head", mixer.d_head, config.d_model // mixer.n_heads, name)
    if post:
        _require("feedforward.d_ff", feedforward.d_ff, 4 * config.d_model, name)
    own = {"activation_function": activations[feedforward.activation], "n_inner": feedforward.d_ff}
    return ({"afn": "gelu"} if post else own) | {
        "vocab_size": config.vocab_size,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": mixer.n_heads,
        "n_positions": config.max_seq_len,
        "layer_norm_epsilon": config.norm_eps,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
    }


def _llama(kind: str, config: ModelConfig, mixer: AttentionConfig, feedforward: FeedForwardConfig) -> dict[str, Any]:
    """The fields of Llama and its successors. A bias is on all four projections of the attention, or on none."""
    _require("mixer.output_bias", mixer.output_bias, mixer.bias, "Llama")
    own = {"attention_bias": mixer.bias}
    if kind == "llama":
        own["mlp_bias"] = feedforward.bias
    if kind == "mistral":
        own = {"sliding_window": mixer.window}
    return own | {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": mixer.n_heads,
        "num_key_value_heads": mixer.n_kv_heads,
        "head_dim": mixer.d_head,
        "intermediate_size": feedforward.d_ff,
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "rope_theta": config.rope.theta,
        "rope_parameters": _rope(config.rope, config.max_seq_len),
    }


def _rope(rope: RopeConfig, max_seq_len: int) -> dict[str, Any]:
    """The RoPE options, in the layout of transformers 5."""
    scaling = {"rope_type": "default" if rope.scaling == "none" else rope.scaling, "rope_theta": rope.theta}
    if rope.scaling == "none":
        return scaling
    if rope.scaling == "ntk":
        _require("rope.scaling", "ntk", "linear", "Llama")
    if rope.scaling == "dynamic":  # theirs has no other field for the trained length
        _require("rope.original_max_seq_len", rope.original_max_seq_len, max_seq_len, "Llama")
    scaling["factor"] = rope.factor
    if rope.scaling in ("yarn", "llama3"):
        scaling["original_max_position_embeddings"] = rope.original_max_seq_len
    if rope.scaling == "yarn":
        scaling |= {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow}
    if rope.scaling == "llama3":
        scaling |= {"low_freq_factor": rope.low_freq_factor, "high_freq_factor": rope.high_freq_factor}
    return scaling


def _require(field: str, value: Any, theirs: Any, name: str) -> None:
    """Raises PocketError for a value that an architecture does not compute."""
    if value != theirs:
        raise PocketError(
            f"ModelConfig.{field} = {value!r} cannot be exported to transformers: {name} computes {theirs!r} there."
        )
