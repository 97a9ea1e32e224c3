"""Latent attention against DeepSeek-V3 as transformers implements it, with the same random weights."""

import pytest
import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.layers.rope import interleaved_to_half
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT

SHAPE = {"n_heads": 4, "kv_rank": 20, "d_head": 12, "d_rope": 8, "d_value": 10}
TOKENS = torch.randint(61, (2, 17), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[None, 14], ids=["queries direct", "queries compressed"])
def pair(request) -> tuple[GPT, DeepseekV3ForCausalLM]:
    """Our model and theirs, with the same weights, far from uniform attention."""
    torch.manual_seed(0)
    theirs = DeepseekV3ForCausalLM(
        DeepseekV3Config(
            vocab_size=61,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            first_k_dense_replace=2,  # no experts
            num_attention_heads=4,
            num_key_value_heads=4,
            q_lora_rank=request.param,
            kv_lora_rank=20,
            qk_nope_head_dim=12,
            qk_rope_head_dim=8,
            v_head_dim=10,
            max_position_embeddings=64,
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
        )
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    config = ModelConfig(
        vocab_size=61,
        d_model=32,
        n_layers=2,
        max_seq_len=64,
        mixer=LatentAttentionConfig(**SHAPE, q_rank=request.param),
        feedforward=FeedForwardConfig(d_ff=48),
        norm_eps=1e-6,
    )
    ours = GPT(config).eval()
    ours.load_state_dict(renamed(theirs.state_dict()))
    return ours, theirs


NAMES = {
    "model.embed_tokens": "embedding",
    "lm_head": "head",
    "model.norm": "final_norm",
    "model.layers": "blocks",
    "input_layernorm": "mixer_norm",
    "post_attention_layernorm": "feedforward_norm",
    "self_attn.q_a_proj": "mixer.q_proj.0",
    "self_attn.q_a_layernorm": "mixer.q_proj.1",
    "self_attn.q_b_proj": "mixer.q_proj.2",
    "self_attn.kv_a_proj_with_mqa": "mixer.kv_down_proj",
    "self_attn.kv_a_layernorm": "mixer.kv_norm",
    "self_attn.kv_b_proj": "mixer.kv_up_proj",
    "self_attn": "mixer",
    "mlp": "feedforward",
}


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Their weights by our names; the rows that are rotated, from pairs side by side to pairs half apart."""
    ours = {}
    for name, weight in weights.items():
        if "q_proj" in name or "q_b_proj" in name:
            heads = weight.unflatten(0, (4, 12 + 8)).clone()
            heads[:, 12:] = interleaved_to_half(heads[:, 12:].mT).mT
            weight = heads.flatten(0, 1)
        if "kv_a_proj" in name:
            weight = torch.cat((weight[:20], interleaved_to_half(weight[20:].T).T))
        for their, our in NAMES.items():
            name = name.replace(their, our)
        ours[name] = weight
    return ours


@torch.no_grad()
def test_logits_are_theirs(pair, assert_equal):
    ours, theirs = pair
    assert_equal(ours(TOKENS), theirs(TOKENS).logits)


@torch.no_grad()
def test_decoding_with_the_latent_in_the_cache_gives_their_logits(pair, assert_equal):
    ours, theirs = pair
    expected = theirs(TOKENS).logits
    cache = new_cache(ours, 2)
    assert_equal(ours(TOKENS[:, :5], cache), expected[:, :5])
    for position in range(5, 17):
        assert_equal(ours(TOKENS[:, position, None], cache), expected[:, position, None])


@torch.no_grad()
def test_the_absorbed_form_is_the_expanded_one(pair, assert_equal, monkeypatch):
    ours, _ = pair
    absorbed, used = type(ours.blocks[0].mixer).absorbed, []

    def noted(self, *inputs):
        used.append(inputs[0].shape[2])
        return absorbed(self, *inputs)

    monkeypatch.setattr(type(ours.blocks[0].mixer), "absorbed", noted)
    expected = ours(TOKENS)
    assert used == []
    cache = new_cache(ours, 2)
    ours(TOKENS[:, :5], cache)
    assert used == []  # the first tokens attend to each other only, as a whole sequence does
    assert_equal(ours(TOKENS[:, 5:], cache), expected[:, 5:])
    assert used == [12, 12]


def test_the_cache_contains_the_latent_and_nothing_for_each_head(pair):
    ours, _ = pair
    cache = new_cache(ours, 2, 7)
    assert [[tuple(tensor.shape) for tensor in store.tensors] for store in cache.layers] == [[(2, 1, 7, 20 + 8)]] * 2
