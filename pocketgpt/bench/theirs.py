"""Hugging Face transformers models to compare with: the same shapes, and for Llama the same weights.

transformers is in the extra `dev`. Without it, its rows are left out and a note is added.
"""

from importlib.util import find_spec
from typing import Any

from torch import nn

from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.pretrained.huggingface import ARCHITECTURES, rename

MISSING = "transformers is not installed, so its rows are missing: pip install transformers"


def available() -> bool:
    return find_spec("transformers") is not None


def gpt2_like(config: ModelConfig) -> ModelConfig:
    """GPT-2's architecture with the width, depth, heads, context and vocabulary of another model, without dropout."""
    names = ("vocab_size", "d_model", "n_layers", "max_seq_len")
    shape = {name: getattr(config, name) for name in names}
    return preset("gpt2", dropout=0.0, mixer={"n_heads": config.mixer.n_heads}, **shape).resolved()


def gpt2(config: ModelConfig) -> nn.Module:
    """Their GPT-2 of the shape of `gpt2_like(config)`: tokens in, logits out, so that it trains through our loss."""
    model = from_config("gpt2", gpt2_like(config), resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
    model.register_forward_hook(lambda module, inputs, output: output.logits)
    return model


def is_llama(config: ModelConfig) -> bool:
    """Return True if the model is a Llama, whatever its sizes: `llama` can copy it."""
    config = config.resolved()
    mixer, feedforward = config.mixer, config.feedforward
    if not isinstance(mixer, AttentionConfig) or not isinstance(feedforward, FeedForwardConfig):
        return False
    heads = {"n_heads": mixer.n_heads, "n_kv_heads": mixer.n_kv_heads, "d_head": mixer.d_head}
    names = ("vocab_size", "d_model", "n_layers", "max_seq_len", "norm_eps", "tie_embeddings", "dropout")
    sizes = {name: getattr(config, name) for name in names}
    rope, width = {"theta": config.rope.theta}, {"d_ff": feedforward.d_ff}
    return config == preset("llama", mixer=heads, feedforward=width, rope=rope, **sizes).resolved()


def llama(model: GPT) -> Any:
    """Their Llama with a copy of our model's weights."""
    config, weights = model.config, model.state_dict()
    rope = {"rope_type": "default", "rope_theta": config.rope.theta}
    shape = {
        "intermediate_size": config.feedforward.d_ff,
        "num_key_value_heads": config.mixer.n_kv_heads,
        "head_dim": config.mixer.d_head,
    }
    theirs = from_config("llama", config, **shape, rms_norm_eps=config.norm_eps, rope_parameters=rope)
    theirs = theirs.to(model.device, model.dtype).eval()
    for name, weight in rename(theirs.state_dict(), ARCHITECTURES["llama"].modules).items():
        weight.copy_(weights[name])
    return theirs


def from_config(kind: str, config: ModelConfig, **more: Any) -> Any:
    """Their model of our shape, with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.mixer.n_heads,
        "max_position_embeddings": config.max_seq_len,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": 0,
        "eos_token_id": None,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **more))
