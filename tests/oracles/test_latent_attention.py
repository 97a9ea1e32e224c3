"""Latent attention is that of transformers' DeepSeek-V2 and -V3, with the same random weights."""

from functools import partial

import pytest
import torch
import transformers
from torch import Tensor

from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.layers.rope import interleaved_to_half
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT

V2 = partial(transformers.DeepseekV2Config, first_k_dense_replace=2)
V3 = partial(transformers.DeepseekV3Config, first_k_dense_replace=2, num_mtp_layers=0)
SIZES = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,  # both dense, as first_k_dense_replace = 2
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 40,
    "kv_lora_rank": 12,
    "q_lora_rank": None,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "rms_norm_eps": 1e-6,  # that of the norms on the latents is fixed there
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
OTHER_WIDTHS = {"q_lora_rank": 7, "kv_lora_rank": 30, "v_head_dim": 5, "qk_nope_head_dim": 6}
CASES = {
    "V2": V2(**SIZES),
    "V2 with compressed queries": V2(**SIZES | {"q_lora_rank": 20}),
    "V2 with other widths": V2(**SIZES | OTHER_WIDTHS),
    "V2, one head": V2(**SIZES | {"num_attention_heads": 1, "num_key_value_heads": 1, "qk_rope_head_dim": 16}),
    "V3": V3(**SIZES),
    "V3 with compressed queries": V3(**SIZES | {"q_lora_rank": 20, "v_head_dim": 10}),
    "V3 whose pairs are half a head apart": V3(**SIZES | {"rope_interleave": False}),
    "V3 stretched": V3(**SIZES | {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}}),
}


def theirs(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """Their model, with weights so large that attention is far from uniform and no norm can be left out."""
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
        else:
            torch.nn.init.normal_(parameter, std=1.5 / parameter.shape[1] ** 0.5)
    return model


def ours(model: transformers.PreTrainedModel) -> GPT:
    """Our model with their weights."""
    config = model.config
    rope = config.rope_parameters
    scaling = {"default": "none"}.get(rope["rope_type"], rope["rope_type"])
    copy = GPT(
        ModelConfig(
            vocab_size=config.vocab_size,
            d_model=config.hidden_size,
            n_layers=config.num_hidden_layers,
            max_seq_len=config.max_position_embeddings,
            mixer=LatentAttentionConfig(
                n_heads=config.num_attention_heads,
                kv_rank=config.kv_lora_rank,
                q_rank=config.q_lora_rank,
                d_head=config.qk_nope_head_dim,
                d_rope=config.qk_rope_head_dim,
                d_value=config.v_head_dim,
            ),
            feedforward=FeedForwardConfig(d_ff=config.intermediate_size),
            rope=RopeConfig(theta=rope["rope_theta"], scaling=scaling, factor=rope.get("factor", 1.0)),
            norm_eps=1e-6,
            tie_embeddings=False,
        )
    ).eval()
    weights = {
        "embedding.weight": model.model.embed_tokens.weight,
        "final_norm.weight": model.model.norm.weight,
        "head.weight": model.lm_head.weight,
    }
    for i, layer in enumerate(model.model.layers):
        parts = {
            "mixer_norm.weight": layer.input_layernorm.weight,
            "feedforward_norm.weight": layer.post_attention_layernorm.weight,
            "feedforward.gate_proj.weight": layer.mlp.gate_proj.weight,
            "feedforward.up_proj.weight": layer.mlp.up_proj.weight,
            "feedforward.down_proj.weight": layer.mlp.down_proj.weight,
        }
        parts |= {f"mixer.{name}": weight for name, weight in attention_weights(layer.self_attn).items()}
        weights |= {f"blocks.{i}.{name}": weight for name, weight in parts.items()}
    copy.load_state_dict(weights)
    return copy


def attention_weights(attention: torch.nn.Module) -> dict[str, Tensor]:
    """The weights of their attention by our names, with rotary pairs half a head apart."""
    config = attention.config
    n_heads, d_head, d_rope = config.num_attention_heads, config.qk_nope_head_dim, config.qk_rope_head_dim
    interleaved = getattr(config, "rope_interleave", True)

    def rotary_rows_last(weight: Tensor, n_heads: int, before: int) -> Tensor:
        """In each of the heads, reorder the rows that follow the first `before` ones."""
        content, rotary = weight.unflatten(0, (n_heads, -1)).split((before, d_rope), dim=1)
        rotary = interleaved_to_half(rotary.mT).mT if interleaved else rotary
        return torch.cat((content, rotary), dim=1).flatten(0, 1)

    kv = attention.kv_b_proj.weight.unflatten(0, (n_heads, -1))
    weights = {
        "kv_latent_proj.weight": rotary_rows_last(attention.kv_a_proj_with_mqa.weight, 1, config.kv_lora_rank),
        "kv_norm.weight": attention.kv_a_layernorm.weight,
        "k_up_proj.weight": kv[:, :d_head].flatten(0, 1),
        "v_up_proj.weight": kv[:, d_head:].flatten(0, 1),
        "o_proj.weight": attention.o_proj.weight,
    }
    if config.q_lora_rank is None:
        return weights | {"q_proj.weight": rotary_rows_last(attention.q_proj.weight, n_heads, d_head)}
    return weights | {
        "q_latent_proj.weight": attention.q_a_proj.weight,
        "q_norm.weight": attention.q_a_layernorm.weight,
        "q_proj.weight": rotary_rows_last(attention.q_b_proj.weight, n_heads, d_head),
    }


@pytest.mark.parametrize("seq", [1, 40])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_are_those_of_deepseek(case, seq, assert_equal):
    model = theirs(CASES[case])
    tokens = torch.randint(61, (2, seq))
    expected = model(input_ids=tokens, use_cache=False).logits
    assert expected.std() > 0.5  # logits that say something
    assert_equal(ours(model)(tokens), expected)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_attention_alone_is_that_of_deepseek(case, assert_equal):
    model = theirs(CASES[case])
    copy = ours(model)
    x = torch.randn(2, 17, 48)
    tokens = torch.zeros(2, 17, dtype=torch.long)
    later = torch.full((17, 17), -torch.inf).triu(1)[None, None]
    angles = model.model.rotary_emb(x, position_ids=torch.arange(17)[None])
    attention = model.model.layers[0].self_attn
    expected, _ = attention(x, attention_mask=later, position_embeddings=angles)
    assert_equal(copy.blocks[0].mixer(x, copy.context(tokens)), expected)


@pytest.mark.parametrize("chunks", [[9, 1, 1, 1, 1, 1, 1, 1], [1] * 16, [3, 6, 7]], ids=str)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_decoding_with_a_cache_is_that_of_deepseek_with_theirs(case, chunks, assert_equal):
    model = theirs(CASES[case])
    copy = ours(model)
    cache, their_cache = new_cache(copy, 2), transformers.DynamicCache(config=model.config)
    for tokens in torch.randint(61, (2, 16)).split(chunks, dim=1):
        expected = model(input_ids=tokens, past_key_values=their_cache, use_cache=True).logits
        assert_equal(copy(tokens, cache), expected)
    # and both caches contain the same latents
    compressed = cache.layers[0].tensors[0][:, :, :16]
    assert_equal(compressed[..., : model.config.kv_lora_rank], their_cache.layers[0].keys)


def test_parameters_are_as_many():
    for config in CASES.values():
        model = theirs(config)
        assert ours(model).n_params() == model.num_parameters()
