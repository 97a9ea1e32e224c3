"""Configs of published models: conversion from Hugging Face's config.json to `ModelConfig`.

Missing options have the defaults of transformers. Dropout is 0: it belongs to a training run, not to the weights.
"""

from collections.abc import Callable
from typing import Any

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.relative_bias import RelativeBiasConfig
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.bert import BertConfig
from pocketgpt.models.config import ModelConfig, NormOrder
from pocketgpt.models.t5 import T5Config

Values = dict[str, Any]
Translation = Callable[[Values], ModelConfig]


def gpt2(hf: Values) -> ModelConfig:
    """Convert a GPT-2 config (Radford et al. 2019)."""
    _only(hf, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    ours = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu2": "relu2"}
    d_ff = hf.get("n_inner") or 4 * hf["n_embd"]
    activation = _choice(hf, "activation_function", "gelu_new", ours)
    return _gpt(hf, FeedForwardConfig(activation=activation, d_ff=d_ff, bias=True))


def openai_gpt(hf: Values) -> ModelConfig:
    """Convert a config of the first GPT (Radford et al. 2018): post-norm, and its "gelu" is the tanh form."""
    activation = _choice(hf, "afn", "gelu", {"gelu": "gelu_tanh"})
    feedforward = FeedForwardConfig(activation=activation, d_ff=4 * hf["n_embd"], bias=True)
    return _gpt(hf, feedforward, norm_order="post")


def llama(hf: Values) -> ModelConfig:
    """Convert a Llama config (Touvron et al. 2023, arXiv 2302.13971), with the later RoPE scalings."""
    bias = hf.get("attention_bias", False)
    return _llama(hf, bias=bias, output_bias=bias, feedforward_bias=hf.get("mlp_bias", False))


def mistral(hf: Values) -> ModelConfig:
    """Convert a Mistral config (Jiang et al. 2023, arXiv 2310.06825)."""
    return _llama({"num_key_value_heads": 8, **hf}, window=hf.get("sliding_window", 4096))


def qwen3(hf: Values) -> ModelConfig:
    """Convert a Qwen 3 config (Yang et al. 2025, arXiv 2505.09388)."""
    _only(hf, use_sliding_window=False)
    bias = hf.get("attention_bias", False)
    return _llama({"num_key_value_heads": 32, "head_dim": 128, **hf}, bias=bias, output_bias=bias, qk_norm=True)


def bert(hf: Values) -> BertConfig:
    """Convert a BERT config (Devlin et al. 2018, arXiv 1810.04805)."""
    _only(hf, hidden_act="gelu", position_embedding_type="absolute", is_decoder=False, quantization_config=None)
    return BertConfig(
        vocab_size=hf["vocab_size"],
        d_model=hf["hidden_size"],
        n_layers=hf["num_hidden_layers"],
        max_seq_len=hf["max_position_embeddings"],
        mixer=AttentionConfig(n_heads=hf["num_attention_heads"], bias=True, output_bias=True),
        feedforward=FeedForwardConfig(activation="gelu", d_ff=hf["intermediate_size"], bias=True),
        n_token_types=hf.get("type_vocab_size", 2),
        norm_eps=float(hf.get("layer_norm_eps", 1e-12)),
        tie_embeddings=hf.get("tie_word_embeddings", True),
    )


def t5(hf: Values) -> T5Config:
    """Convert a T5 config (Raffel et al. 2019, arXiv 1910.10683), of version 1.0 or 1.1.

    A T5 has no longest sequence: max_seq_len is that of its training, and may be larger in the config of our model.
    """
    n_layers = hf["num_layers"]
    _only(hf, num_decoder_layers=n_layers, is_encoder_decoder=True, quantization_config=None)
    activation = _choice(hf, "feed_forward_proj", "relu", {"relu": "relu", "gated-gelu": "geglu"})
    tied = hf.get("tie_word_embeddings", True)
    return T5Config(
        vocab_size=hf["vocab_size"],
        d_model=hf["d_model"],
        n_layers=n_layers,
        max_seq_len=hf.get("n_positions", 512),
        mixer=AttentionConfig(n_heads=hf["num_heads"], d_head=hf["d_kv"], scaled=False),
        feedforward=FeedForwardConfig(activation=activation, d_ff=hf["d_ff"]),
        relative=RelativeBiasConfig(
            n_buckets=hf.get("relative_attention_num_buckets", 32),
            farthest=hf.get("relative_attention_max_distance", 128),
        ),
        norm_eps=float(hf.get("layer_norm_epsilon", 1e-6)),
        tie_embeddings=tied,
        scale_logits=hf.get("scale_decoder_outputs", tied),
        start_token=hf.get("decoder_start_token_id", 0),
    )


def _gpt(hf: Values, feedforward: FeedForwardConfig, norm_order: NormOrder = "pre") -> ModelConfig:
    """Convert the options that both GPTs share."""
    _only(hf, quantization_config=None)
    return ModelConfig(
        vocab_size=hf["vocab_size"],
        d_model=hf["n_embd"],
        n_layers=hf["n_layer"],
        max_seq_len=hf["n_positions"],
        mixer=AttentionConfig(n_heads=hf["n_head"], bias=True, output_bias=True),
        feedforward=feedforward,
        positions="learned",
        norm="layernorm",
        norm_bias=True,
        norm_eps=float(hf.get("layer_norm_epsilon", 1e-5)),
        norm_order=norm_order,
        tie_embeddings=hf.get("tie_word_embeddings", True),
    )


def _llama(hf: Values, feedforward_bias: bool = False, **attention: Any) -> ModelConfig:
    """Convert the options of Llama and its successors; `attention` are further fields of AttentionConfig."""
    _only(hf, hidden_act="silu", quantization_config=None, partial_rotary_factor=1.0)
    return ModelConfig(
        vocab_size=hf["vocab_size"],
        d_model=hf["hidden_size"],
        n_layers=hf["num_hidden_layers"],
        max_seq_len=hf["max_position_embeddings"],
        mixer=AttentionConfig(
            n_heads=hf["num_attention_heads"],
            n_kv_heads=hf.get("num_key_value_heads"),
            d_head=hf.get("head_dim"),
            **attention,
        ),
        feedforward=FeedForwardConfig(d_ff=hf["intermediate_size"], bias=feedforward_bias),
        rope=rope(hf),
        norm_eps=float(hf.get("rms_norm_eps", 1e-6)),
        tie_embeddings=hf.get("tie_word_embeddings", False),
    )


_ROPE_OPTIONS = {
    "rope_type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "beta_fast",
    "beta_slow",
    "low_freq_factor",
    "high_freq_factor",
    "partial_rotary_factor",
    "truncate",
}


def rope(hf: Values) -> RopeConfig:
    """Convert the RoPE options: `rope_parameters` since transformers 5, `rope_theta` and `rope_scaling` before."""
    given = {"rope_theta": hf.get("rope_theta", 10_000.0)}
    given |= hf.get("rope_scaling") or {}
    given |= hf.get("rope_parameters") or {}
    given = {name: value for name, value in given.items() if value is not None}
    # `type` is the old name of `rope_type`.
    given = {"rope_type": given.pop("type", "default"), **given}
    scalings = {"default": "none", "linear": "linear", "dynamic": "dynamic", "yarn": "yarn", "llama3": "llama3"}
    scaling = _choice(given, "rope_type", "default", scalings)
    _only(given, partial_rotary_factor=1.0, truncate=True)
    for option in sorted(set(given) - _ROPE_OPTIONS):
        raise PocketError(f"The RoPE option {option} = {given[option]!r} is not one we can load.")
    trained = None
    if scaling == "dynamic":
        trained = hf["max_position_embeddings"]  # transformers reads no other option here
    elif scaling in ("yarn", "llama3"):
        inside = given.get("original_max_position_embeddings", hf["max_position_embeddings"])
        trained = hf.get("original_max_position_embeddings", inside)
    return RopeConfig(
        theta=float(given["rope_theta"]),
        scaling=scaling,
        factor=1.0 if scaling == "none" else float(given["factor"]),
        original_max_seq_len=trained,
        beta_fast=float(given.get("beta_fast", 32)),
        beta_slow=float(given.get("beta_slow", 1)),
        low_freq_factor=float(given.get("low_freq_factor", 1)),
        high_freq_factor=float(given.get("high_freq_factor", 4)),
    )


def _choice(hf: Values, option: str, default: str, ours: dict[str, str]) -> Any:
    """Convert an option's value. Raises PocketError if it is not supported."""
    value = hf.get(option, default)
    if value not in ours:
        raise PocketError(f"{option} = {value!r} is not one we can load: {', '.join(ours)} are.")
    return ours[value]


def _only(hf: Values, **supported: Any) -> None:
    """Raises PocketError if an option has another value than the one our model supports."""
    for option, value in supported.items():
        if hf.get(option, value) != value:
            raise PocketError(f"{option} = {hf[option]!r} is not supported: our model computes {option} = {value!r}.")
