"""GGUF files: a Llama-shaped model in one file, usually quantized, into our model.

GGUF is the format of llama.cpp. Weights are stored in blocks of 32 or more with a scale each (Q4_1: 4 bits a weight,
and a scale and a minimum in float16). Here they become float32: the model is as exact as the file, and no smaller than
others. `gguf_tokenizer.py` reads the tokenizer of the same file.

Two layouts differ from ours:

- Their rows of q_proj and k_proj are permuted for interleaved RoPE, which rotates the neighbors (2i, 2i + 1). Ours
  rotates (i, i + d_head/2), as the published weights did before they were converted.
- A tied head is a file without `output.weight`.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT

ARCHITECTURE = "llama"

OUTSIDE = {"token_embd": "embedding", "output_norm": "final_norm", "output": "head"}
IN_BLOCK = {
    "attn_norm": "mixer_norm",
    "attn_q": "mixer.q_proj",
    "attn_k": "mixer.k_proj",
    "attn_v": "mixer.v_proj",
    "attn_output": "mixer.o_proj",
    "ffn_norm": "feedforward_norm",
    "ffn_gate": "feedforward.gate_proj",
    "ffn_up": "feedforward.up_proj",
    "ffn_down": "feedforward.down_proj",
}


def load_gguf(file: str | Path) -> GPT:
    """Load the model of a GGUF file, in float32 and evaluation mode.

    Raises PocketError if the file is missing or damaged, or if our model does not compute what it describes.
    """
    reader = open_gguf(file)
    with damage_named(file):
        config = read_config(reader)
        weights = read_weights(reader, config)
        with torch.device("meta"):  # no memory and time for random weights
            model = GPT(config)
        if config.tie_embeddings:
            weights["head.weight"] = weights["embedding.weight"]
        model.load_state_dict(weights, assign=True)
        if config.tie_embeddings:
            model.head.weight = model.embedding.weight
    return model.eval()


def load_gguf_config(file: str | Path) -> ModelConfig:
    """The config of a GGUF file. Raises PocketError as `load_gguf` does."""
    reader = open_gguf(file)
    with damage_named(file):
        return read_config(reader)


def open_gguf(file: str | Path) -> gguf.GGUFReader:
    """Open a GGUF file; its tensors are read from the disk as they are used. Raises PocketError if it is none."""
    if not Path(file).is_file():
        raise PocketError(f"There is no file {file}.")
    with damage_named(file):
        return gguf.GGUFReader(file)


@contextmanager
def damage_named(file: str | Path) -> Iterator[None]:
    """Context in which a file that is cut short or makes no sense ends in a PocketError."""
    try:
        yield
    except PocketError as error:
        raise PocketError(f"{file} cannot be loaded: {error}") from error
    except Exception as error:  # the libraries raise many kinds, and Exception itself
        raise PocketError(f"{file} is damaged, or no GGUF file: {error}. Download it again.") from error


def read_config(reader: gguf.GGUFReader) -> ModelConfig:
    """Convert the metadata of a file. Raises PocketError for a field that is missing or not supported."""
    architecture = value(reader, "general.architecture")
    if architecture != ARCHITECTURE:
        raise PocketError(f"its architecture {architecture!r} is not one we can load; {ARCHITECTURE!r} is.")

    def of_llama(name: str, *default: Any) -> Any:
        return value(reader, f"{ARCHITECTURE}.{name}", *default)

    d_model, n_heads = of_llama("embedding_length"), of_llama("attention.head_count")
    d_head = of_llama("attention.key_length", d_model // n_heads)
    supported = {
        "attention.value_length": d_head,
        "rope.dimension_count": d_head,  # every coordinate of a head is rotated
        "rope.scaling.type": "none",
        "rope.scaling.factor": 1.0,  # without a type llama.cpp stretches linearly
        "rope.scale_linear": 1.0,  # its old name
        "expert_count": 0,
    }
    for name, only in supported.items():
        if (found := of_llama(name, only)) != only:
            raise PocketError(f"{name} = {found!r} is not supported: our model computes {name} = {only!r}.")
    tensors = {tensor.name for tensor in reader.tensors}
    return ModelConfig(
        vocab_size=int(next(t.shape[-1] for t in reader.tensors if t.name == "token_embd.weight")),
        d_model=d_model,
        n_layers=of_llama("block_count"),
        max_seq_len=of_llama("context_length"),
        mixer=AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=of_llama("attention.head_count_kv", n_heads),
            d_head=d_head,
            bias="blk.0.attn_q.bias" in tensors,
            output_bias="blk.0.attn_output.bias" in tensors,
        ),
        feedforward=FeedForwardConfig(d_ff=of_llama("feed_forward_length"), bias="blk.0.ffn_up.bias" in tensors),
        rope=RopeConfig(theta=of_llama("rope.freq_base", 10_000.0)),
        # Stored as float32: 1e-5 becomes 9.999999747378752e-06 unless it is rounded to the digits that float32 has.
        norm_eps=float(f"{of_llama('attention.layer_norm_rms_epsilon'):.7g}"),
        tie_embeddings="output.weight" not in tensors,
    ).resolved()


def value(reader: gguf.GGUFReader, name: str, *default: Any) -> Any:
    """A field of the metadata, or the default. Raises PocketError for one that is missing and has no default."""
    field = reader.get_field(name)
    if field is not None:
        return field.contents()
    if not default:
        raise PocketError(f"the field {name} is missing.")
    return default[0]


def read_weights(reader: gguf.GGUFReader, config: ModelConfig) -> dict[str, Tensor]:
    """All weights in float32, under our names. Raises PocketError for one that has no place in our model."""
    n_heads = {"attn_q": config.mixer.n_heads, "attn_k": config.mixer.n_kv_heads}
    weights = {}
    for tensor in reader.tensors:
        *layer, module, kind = tensor.name.removeprefix("blk.").split(".")
        name = IN_BLOCK.get(module) if layer else OUTSIDE.get(module)
        if name is None:
            raise PocketError(f"the weight {tensor.name!r} has no place in our model.")
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        weight = torch.from_numpy(np.require(values, requirements="W"))  # float32 is not copied from the file otherwise
        if module in n_heads:
            weight = to_half_split(weight, n_heads[module])
        prefix = f"blocks.{layer[0]}." if layer else ""
        weights[f"{prefix}{name}.{kind}"] = weight
    return weights


def to_half_split(weight: Float[Tensor, "rows ..."], n_heads: int) -> Float[Tensor, "rows ..."]:
    """Reorder the rows of each head from (0, 0', 1, 1', …), where i and i' are a pair that RoPE rotates, to
    (0, 1, …, 0', 1', …)."""
    pairs = weight.unflatten(0, (n_heads, -1, 2))  # (H, d_head/2, 2, …)
    return pairs.transpose(1, 2).flatten(0, 2)  # (H · d_head, …)
