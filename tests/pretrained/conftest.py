"""Small Llamas of transformers with random weights, and GGUF files of them as llama.cpp's converter writes them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

SHAPE = dict(
    vocab_size=61,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-3,  # far from every default, as theta
)
THETA = 500.0
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(weight: Tensor, n_heads: int) -> Tensor:
    """Row i of the first half of a head, then row i of the second, one pair after the other."""
    heads = weight.reshape(n_heads, 2, -1, *weight.shape[1:])
    return torch.stack((heads[:, 0], heads[:, 1]), dim=2).reshape(weight.shape)


def gguf_name(name: str) -> str:
    """The name of llama.cpp for a weight of transformers."""
    module, _, kind = name.rpartition(".")
    if module.startswith("model.layers."):
        layer, _, inside = module.removeprefix("model.layers.").partition(".")
        return f"blk.{layer}.{NAMES[inside]}.{kind}"
    return f"{NAMES[module]}.{kind}"


@pytest.fixture(scope="session")
def random_llama():
    """random_llama(**changes) -> LlamaForCausalLM, with weights so large that every one of them counts."""

    def random_llama(**changes) -> LlamaForCausalLM:
        torch.manual_seed(0)
        rope = {"rope_type": "default", "rope_theta": THETA}
        config = LlamaConfig(**{**SHAPE, "tie_word_embeddings": True, "rope_parameters": rope, **changes})
        model = LlamaForCausalLM(config)
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
        return model.eval()

    return random_llama


@pytest.fixture(scope="session")
def write_gguf():
    """write_gguf(file, theirs, kind): a Llama of transformers, its matrices as `kind`.

    `add` writes more into the file; further fields replace those of the model, and None leaves one out.
    """
    return _write_gguf


def _write_gguf(
    file: Path, theirs: LlamaForCausalLM, kind: gguf.GGMLQuantizationType, add=lambda writer: None, **fields
) -> None:
    config = theirs.config
    writer = gguf.GGUFWriter(file, "llama")
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.dimension_count": d_head,
        "vocab_size": config.vocab_size,
    }
    if d_head != config.hidden_size // config.num_attention_heads:
        values |= {"attention.key_length": d_head, "attention.value_length": d_head}
    for name, value in (values | {"rope.freq_base": THETA, "attention.layer_norm_rms_epsilon": 1e-3} | fields).items():
        match value:
            case int():
                writer.add_uint32(f"llama.{name}", value)
            case float():
                writer.add_float32(f"llama.{name}", value)
            case str():
                writer.add_string(f"llama.{name}", value)
    add(writer)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in theirs.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        part = name.split(".")[-2]
        weight = interleaved(weight, heads[part]) if part in heads else weight
        array = weight.detach().numpy().astype(np.float32)
        if array.ndim == 1:
            writer.add_tensor(gguf_name(name), array)
        else:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
