"""The exercises of chapter 12 agree with transformers' cached attention, and with what a model really does."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from pocketgpt.course.syllabus import find_exercise
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.attention_backends import causal_mask, fused_attention
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

D_HEAD, HEADS, KV_HEADS, D_MODEL = 8, 6, 2, 24
ANSWERS = ["reference", "finished_answer"]


class Rope:
    """The rotation of transformers, with the signature that the exercise passes."""

    def __init__(self, config: LlamaConfig) -> None:
        self.embedding = LlamaRotaryEmbedding(config)

    def __call__(self, x, positions):
        cos, sin = self.embedding(x, positions[None])
        first, second = x.chunk(2, dim=-1)
        return x * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]


@pytest.mark.parametrize("answer", ANSWERS)
@torch.inference_mode()
def test_the_cached_layer_is_that_of_transformers(answer):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=D_MODEL, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=D_HEAD,
        attn_implementation="eager",
    )  # fmt: skip
    theirs, rope, cache = LlamaAttention(config, layer_idx=0).eval(), Rope(config), DynamicCache()
    weights = {name: getattr(theirs, name).weight for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    layer = getattr(find_exercise("cached_layer"), answer)
    kept, start = (torch.zeros(2, KV_HEADS, 0, D_HEAD),) * 2, 0
    for seq in (5, 1, 1, 3, 1):
        x, positions = torch.randn(2, seq, D_MODEL), torch.arange(start, start + seq)
        mask = torch.where(causal_mask(positions, torch.arange(start + seq)), 0.0, -torch.inf)[None, None]
        expected, _ = theirs(x, rope.embedding(x, positions[None]), mask, past_key_values=cache)
        output, kept = layer(x, weights, kept, start, rope)
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        for mine, other in zip(kept, (cache.layers[0].keys, cache.layers[0].values), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
        start += seq


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("window", [None, 1, 4])
@torch.inference_mode()
def test_decode_attention_is_the_last_rows_of_full_attention(answer, window):
    torch.manual_seed(0)
    q, keys, values = (torch.randn(2, heads, 9, D_HEAD) for heads in (HEADS, KV_HEADS, KV_HEADS))
    positions = torch.arange(9)
    full = fused_attention(q, keys, values, causal_mask(positions, positions, window))
    decode_attention = getattr(find_exercise("decode_attention"), answer)
    for seq in (1, 3, 9):
        last = q[:, :, -seq:]
        turned = [x.roll(2, dims=2) for x in (keys, values)]
        mine = decode_attention(last, *turned, positions[-seq:], positions.roll(2), window)
        torch.testing.assert_close(mine, full[:, :, -seq:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cached", [True, False])
@torch.inference_mode()
def test_work_is_what_hooks_count_in_a_model_that_writes(cached):
    model = GPT(preset("pocket-shakespeare", n_layers=1, vocab_size=50, d_model=24, max_seq_len=64)).eval()
    counts = [0, 0]

    def counting(q, k, v, mask=None, is_causal=False, dropout=0.0):
        visible = torch.ones(q.shape[2], k.shape[2]).tril() if mask is None else mask[0, 0]
        counts[0] += q.shape[2]
        counts[1] += int(visible.sum())
        return fused_attention(q, k, v, mask, is_causal, dropout)

    model.use_attention(counting)
    tokens, cache = torch.zeros(1, 7, dtype=torch.long), new_cache(model, 1) if cached else None
    unread = tokens
    for _ in range(5):
        logits = model(unread, cache) if cached else model(tokens)
        unread = logits[:, -1:].argmax(-1)
        tokens = torch.cat((tokens, unread), dim=1)
    assert tuple(counts) == find_exercise("work").reference(7, 5, cached)


@pytest.mark.parametrize("n_seen", [5, 6, 17, 30])
@torch.inference_mode()
def test_ring_positions_are_those_of_the_library(n_seen):
    model = GPT(
        preset("pocket-shakespeare", n_layers=1, vocab_size=50, d_model=24, max_seq_len=64, mixer={"window": 5})
    )
    cache = new_cache(model, 1)
    model(torch.zeros(1, n_seen, dtype=torch.long), cache)
    assert torch.equal(cache.layers[0].newest(cache.lengths)[0], find_exercise("ring_positions").reference(n_seen, 5))
