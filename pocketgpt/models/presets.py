"""Named model configs. `preset("llama", n_layers=6, mixer={"n_kv_heads": 2})` changes any field of any part."""

from dataclasses import replace
from typing import Any

from pocketgpt.checked import Checked, ConfigError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.layers.linear_attention import LinearAttentionConfig
from pocketgpt.layers.mamba import MambaConfig
from pocketgpt.layers.mixture_of_experts import MixtureOfExpertsConfig
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.bert import BertConfig
from pocketgpt.models.config import KINDS, ModelConfig
from pocketgpt.models.t5 import T5Config

# GPT-2's vocabulary, the one most of the presets share.
_GPT2_VOCAB = 50_257

PRESETS: dict[str, ModelConfig] = {
    # The pocket configuration: GQA 6/2, squared ReLU, norms without weights, an untied head.
    "pocket": ModelConfig(
        vocab_size=_GPT2_VOCAB,
        d_model=384,
        n_layers=6,
        max_seq_len=256,
        mixer=AttentionConfig(n_heads=6, n_kv_heads=2),
        feedforward=FeedForwardConfig(activation="relu2"),
        norm_weight=False,
        embedding_norm=True,
        tie_embeddings=False,
    ),
    # The embedded default: small enough to train on two cores while you make coffee.
    "pocket-shakespeare": ModelConfig(
        vocab_size=4096,
        d_model=192,
        n_layers=4,
        max_seq_len=256,
        mixer=AttentionConfig(n_heads=6, n_kv_heads=2),
    ),
    # Radford et al. 2019, the smallest of the four.
    "gpt2": ModelConfig(
        vocab_size=_GPT2_VOCAB,
        d_model=768,
        n_layers=12,
        max_seq_len=1024,
        mixer=AttentionConfig(n_heads=12, bias=True, output_bias=True),
        feedforward=FeedForwardConfig(activation="gelu_tanh", bias=True),
        positions="learned",
        norm="layernorm",
        norm_bias=True,
        dropout=0.1,
    ),
    # The parts of LLaMA (Touvron et al. 2023, arXiv 2302.13971) at the size of GPT-2.
    "llama": ModelConfig(
        vocab_size=_GPT2_VOCAB, d_model=768, n_layers=12, max_seq_len=2048, mixer=AttentionConfig(n_heads=12)
    ),
    # GPT-2's blocks with rotary positions that stretch past the trained length.
    "brain": ModelConfig(
        vocab_size=_GPT2_VOCAB,
        d_model=768,
        n_layers=12,
        max_seq_len=2048,
        mixer=AttentionConfig(n_heads=12),
        feedforward=FeedForwardConfig(activation="gelu", bias=True),
        rope=RopeConfig(scaling="dynamic", original_max_seq_len=2048),
        norm="layernorm",
        norm_bias=True,
    ),
    # Published weights: Allal et al. 2025 (arXiv 2502.02737).
    "smollm2-135m": ModelConfig(
        vocab_size=49_152,
        d_model=576,
        n_layers=30,
        max_seq_len=8192,
        mixer=AttentionConfig(n_heads=9, n_kv_heads=3),
        feedforward=FeedForwardConfig(d_ff=1536),
        rope=RopeConfig(theta=100_000.0),
    ),
    # Latent attention with learned positions: the cache contains 256 numbers per token and layer instead of 1,536.
    "latent": ModelConfig(
        vocab_size=32_000,
        d_model=768,
        n_layers=12,
        max_seq_len=512,
        mixer=LatentAttentionConfig(n_heads=12),
        feedforward=FeedForwardConfig(d_ff=4 * 768),
        positions="learned",
        norm="layernorm",
        norm_bias=True,
    ),
    # The embedded default with eight experts, two of them active: as many active parameters, 2.5 times as many in all.
    "pocket-moe": ModelConfig(
        vocab_size=4096,
        d_model=192,
        n_layers=4,
        max_seq_len=256,
        mixer=AttentionConfig(n_heads=6, n_kv_heads=2),
        feedforward=MixtureOfExpertsConfig(n_experts=8, top_k=2),
    ),
    # Blocks without attention and without a feed-forward, as in Mamba (Gu and Dao 2023, arXiv 2312.00752).
    "pocket-mamba": ModelConfig(
        vocab_size=4096,
        d_model=192,
        n_layers=6,
        max_seq_len=256,
        mixer=MambaConfig(),
        feedforward=None,
        positions="none",
    ),
    # The embedded default with a window of 32 tokens and the first four.
    "pocket-sparse": ModelConfig(
        vocab_size=4096,
        d_model=192,
        n_layers=4,
        max_seq_len=256,
        mixer=AttentionConfig(n_heads=6, n_kv_heads=2, window=32, n_anchors=4),
    ),
    # The embedded default with linear attention: a state of fixed size instead of a cache.
    "pocket-linear": ModelConfig(
        vocab_size=4096,
        d_model=192,
        n_layers=4,
        max_seq_len=256,
        mixer=LinearAttentionConfig(n_heads=6),
    ),
    # The same with the delta rule, which replaces what the state holds under a key.
    "pocket-delta": ModelConfig(
        vocab_size=4096,
        d_model=192,
        n_layers=4,
        max_seq_len=256,
        mixer=LinearAttentionConfig(n_heads=6, delta_rule=True),
    ),
    # A state, a window, a state, everything: Mamba and attention in turn, every second feed-forward a mixture of
    # experts, as in Jamba (Lieber et al. 2024, arXiv 2403.19887).
    "pocket-hybrid": ModelConfig(
        vocab_size=4096,
        d_model=192,
        n_layers=4,
        max_seq_len=256,
        mixer=(
            MambaConfig(),
            AttentionConfig(n_heads=6, n_kv_heads=2, window=64),
            MambaConfig(),
            AttentionConfig(n_heads=6, n_kv_heads=2),
        ),
        feedforward=(FeedForwardConfig(), MixtureOfExpertsConfig(n_experts=4, top_k=1)),
    ),
    # The embedded default without a causal mask, for masked diffusion (Sahoo et al. 2024, arXiv 2406.07524). Its
    # vocabulary is the tokenizer's and the mask.
    "pocket-diffusion": ModelConfig(
        vocab_size=4097,
        d_model=192,
        n_layers=4,
        max_seq_len=256,
        mixer=AttentionConfig(n_heads=6, n_kv_heads=2),
        causal=False,
    ),
    # A BERT (Devlin et al. 2018, arXiv 1810.04805) of about the size of pocket-shakespeare: it fills gaps.
    "pocket-bert": BertConfig(
        vocab_size=4096,
        d_model=192,
        n_layers=4,
        max_seq_len=256,
        mixer=AttentionConfig(n_heads=6, bias=True, output_bias=True),
    ),
    # A T5 (Raffel et al. 2019, arXiv 1910.10683) of about the size of pocket-shakespeare, two layers in each stack. The
    # paper's scale of tied logits goes with embeddings of std 1, whose first loss is 13.8 instead of ln 4096 = 8.3.
    "pocket-t5": T5Config(
        vocab_size=4096,
        d_model=192,
        n_layers=2,
        max_seq_len=256,
        mixer=AttentionConfig(n_heads=6, scaled=False),
        feedforward=FeedForwardConfig(activation="relu", d_ff=512),
        scale_logits=False,
    ),
}


def preset(name: str, **changes: Any) -> ModelConfig:
    """The preset of that name, with fields changed: `preset("gpt2", d_model=384, mixer={"window": 64})`.

    A dictionary changes fields of a part (of each one, where the preset has a tuple); a dictionary with another `kind`,
    or a config, replaces it. Widths that the preset leaves open (d_head, d_ff, n_kv_heads) follow from the others.
    Raises ConfigError if there is no such preset or field.
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
    original = PRESETS[name]
    for field, change in changes.items():
        if isinstance(change, dict) and hasattr(original, field):
            changes[field] = _changed(getattr(original, field), change)
    try:
        return replace(original, **changes)
    except TypeError as error:
        raise ConfigError(f"{error}: the fields are {', '.join(original.to_dict())}.") from error


def _changed(part: Any, changes: dict[str, Any]) -> Any:
    """A config with some fields changed, or another kind of part."""
    if isinstance(part, tuple):
        return tuple(_changed(each, changes) for each in part)
    if "kind" in changes and changes["kind"] != getattr(part, "kind", None):
        if changes["kind"] not in KINDS:
            raise ConfigError(f"There is no layer of kind {changes['kind']!r}: use one of {', '.join(KINDS)}.")
        return KINDS[changes["kind"]].from_dict({key: value for key, value in changes.items() if key != "kind"})
    if not isinstance(part, Checked):
        raise ConfigError(
            f"{changes} cannot change {part}, which has no fields: a part of another kind needs its `kind`."
        )
    values = part.to_dict()
    values.pop("kind", None)
    changes = {key: value for key, value in changes.items() if key != "kind"}
    return type(part).from_dict(values | changes)
