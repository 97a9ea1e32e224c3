"""The same shapes, and where the architecture is the same the same weights, in Hugging Face transformers.

transformers belongs to the extra `dev`: where it is missing, its rows are left out with a sentence.
"""

from importlib.util import find_spec
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.config import ModelConfig
from pocketgpt.gpt import GPT
from pocketgpt.pretrained.huggingface import ARCHITECTURES

MISSING = "transformers is not installed, so its rows are missing: pip install transformers"


def available() -> bool:
    return find_spec("transformers") is not None


class Logits(nn.Module):
    """Tokens in, logits out: their model as ours, so that both learn through the same loss."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        return self.model(input_ids=tokens, use_cache=False).logits


def gpt2(config: ModelConfig) -> Logits:
    """Their GPT-2 of this width, depth, number of heads, context and vocabulary; without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(
        vocab_size=config.vocab_size,
        n_embd=config.d_model,
        n_layer=config.n_layers,
        n_head=config.n_heads,
        n_positions=config.max_seq_len,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return Logits(GPT2LMHeadModel(shape))


def gpt2_flops_per_token(config: ModelConfig, seq: int) -> int:
    """What `GPT.flops_per_token` counts, for `gpt2(config)`: 12 · d_model² weights a block, and the head."""
    products = 12 * config.n_layers * config.d_model**2 + config.vocab_size * config.d_model
    return 2 * products + 4 * config.n_layers * config.d_model * seq


def llama(model: GPT) -> Any:
    """Their Llama with the weights of our model, copied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config
    shape = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        intermediate_size=config.d_ff,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        head_dim=config.d_head,
        max_position_embeddings=config.max_seq_len,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope.theta},
        tie_word_embeddings=config.tie_embeddings,
        bos_token_id=0,
        eos_token_id=None,
    )
    theirs = LlamaForCausalLM(shape).to(model.device, model.dtype)
    ours = model.state_dict()
    for name, weight in theirs.state_dict().items():
        weight.copy_(ours[our_name(name)])
    return theirs.eval()


def our_name(name: str) -> str:
    """model.layers.3.mlp.up_proj.weight → blocks.3.feedforward.up_proj.weight"""
    *path, kind = name.removeprefix("model.").split(".")
    block = f"blocks.{path[1]}." if path[0] == "layers" else ""
    module = ".".join(path[2:] if block else path)
    return f"{block}{ARCHITECTURES['llama'].modules[module]}.{kind}"
