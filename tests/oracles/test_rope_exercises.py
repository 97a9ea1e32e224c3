"""Chapter 08's references for RoPE against those of the library transformers."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from pocketgpt.course.syllabus import find_exercise


def answers(name: str) -> tuple:
    exercise = find_exercise(name)
    return exercise.reference, exercise.finished_answer


def llama(d_head: int, **rope) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=2 * d_head,
        num_attention_heads=2,
        head_dim=d_head,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, **rope},
    )


@pytest.mark.parametrize("d_head", [2, 8, 32])
def test_frequencies(d_head, assert_equal):
    theirs = LlamaRotaryEmbedding(llama(d_head)).inv_freq
    for function in answers("rope_frequencies"):
        assert_equal(function(d_head, 500.0), theirs)


def test_rotated_queries_and_keys(assert_equal):
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 7, 8), torch.randn(2, 1, 7, 8)
    cos, sin = LlamaRotaryEmbedding(llama(8))(q, torch.arange(7)[None])  # every column twice, half a head apart
    theirs = apply_rotary_pos_emb(q, k, cos, sin)
    for function in answers("apply_rope"):
        for x, turned in zip((q, k), theirs, strict=True):
            assert_equal(function(x, cos[0, :, :4], sin[0, :, :4]), turned)


def test_a_score(assert_equal):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 12, 8)
    rope = LlamaRotaryEmbedding(llama(8))
    turned_q, turned_k = apply_rotary_pos_emb(q, k, *rope(q, torch.arange(12)[None]))
    for function in answers("score_at"):
        score = function(q[0, 0, 11], k[0, 0, 4], 11, 4, rope.inv_freq)
        assert_equal(score, turned_q[0, 0, 11] @ turned_k[0, 0, 4])


@pytest.mark.parametrize("factor", [2.0, 5.0])
def test_linear_and_ntk(factor, assert_equal):
    config = llama(16, rope_type="linear", factor=factor)
    linear, _ = ROPE_INIT_FUNCTIONS["linear"](config, torch.device("cpu"))
    # Their dynamic NTK stretches by factor · length / trained − (factor − 1).
    length, stretched = 128, factor + 1
    dynamic = llama(16, rope_type="dynamic", factor=factor)
    ntk, _ = ROPE_INIT_FUNCTIONS["dynamic"](dynamic, torch.device("cpu"), seq_len=length)
    frequencies = LlamaRotaryEmbedding(llama(16)).inv_freq
    for function in answers("stretch"):
        assert_equal(function(frequencies, factor, "linear"), linear)
        assert_equal(function(frequencies, stretched, "ntk"), ntk)


def permute(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """The permutation of transformers' script convert_llama_weights_to_hf.py."""
    rows, columns = weight.shape
    return weight.view(n_heads, rows // n_heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def test_the_layout_of_published_llama_weights(assert_equal):
    weight = torch.randn(24, 10)
    for function in answers("to_half_split"):
        assert_equal(function(weight, 3), permute(weight, 3))
