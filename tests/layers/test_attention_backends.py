"""Faster ways to the same numbers: PyTorch's fused operator is the oracle, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.layers import attention_backends
from pocketgpt.layers.attention_backends import fused_attention, short_attention, step_by_step_attention

CPU = torch.device("cpu")
SHAPES = [(2, 6, 2, 5, 8), (1, 4, 4, 17, 16), (3, 4, 1, 8, 4), (1, 1, 1, 1, 2)]  # batch, heads, kv heads, seq, d_head


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    batch, heads, kv_heads, seq, d_head = shape
    # As in the model, where heads stand inside tokens in memory.
    return [
        torch.randn(batch, seq, n, d_head, dtype=dtype).transpose(1, 2).requires_grad_()
        for n in (heads, kv_heads, kv_heads)
    ]


def oracle(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_short_attention_is_the_fused_operator(shape, assert_equal):
    q, k, v = inputs(shape)
    assert_equal(short_attention(q, k, v, is_causal=True), oracle(q, k, v))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_short_attention_are_those_of_the_fused_operator(shape, assert_equal):
    q, k, v = inputs(shape)
    weight = torch.randn_like(q)
    ours = torch.autograd.grad((short_attention(q, k, v, is_causal=True) * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((oracle(q, k, v) * weight).sum(), (q, k, v))
    if shape[3] == 1:  # one token: its weight is 1 whatever q and k are
        theirs = (torch.zeros_like(q), torch.zeros_like(k), theirs[2])
        torch.testing.assert_close(ours[:2], theirs[:2])
        ours, theirs = ours[2:], theirs[2:]
    for our, their in zip(ours, theirs, strict=True):
        assert_equal(our, their)


def test_short_attention_in_bf16_is_as_near_to_float32_as_bf16_numbers_are(assert_equal):
    q, k, v = inputs((2, 6, 2, 64, 32), torch.bfloat16)
    ours = short_attention(q, k, v, is_causal=True)
    assert ours.dtype == torch.bfloat16
    assert_equal(ours.float(), oracle(q.float(), k.float(), v.float()), tolerance=2**-7)


def test_long_sequences_take_the_fused_operator(monkeypatch):
    lengths = []
    monkeypatch.setattr(attention_backends, "LONGEST_SHORT", 8)
    monkeypatch.setattr(
        attention_backends, "fused_attention", lambda q, *rest: lengths.append(q.shape[2]) or fused_attention(q, *rest)
    )
    for seq in (7, 8, 9):
        short_attention(*inputs((1, 2, 2, seq, 4)), is_causal=True)
    assert lengths == [9]


def test_a_mask_and_causality_at_once_are_left_to_the_fused_operator(assert_equal):
    q, k, v = inputs((1, 2, 2, 4, 4))
    mask = torch.eye(4, dtype=torch.bool)
    assert_equal(short_attention(q, k, v, mask=mask, is_causal=True), fused_attention(q, k, v, mask, is_causal=True))


def test_a_mask_is_obeyed(assert_equal):
    q, k, v = inputs((2, 4, 2, 9, 8))
    mask = torch.rand(9, 9) > 0.5
    mask |= torch.eye(9, dtype=torch.bool)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert_equal(short_attention(q, k, v, mask=mask), expected)


def test_without_causality_every_token_is_seen(assert_equal):
    q, k, v = inputs((2, 4, 2, 9, 8))
    assert_equal(short_attention(q, k, v), F.scaled_dot_product_attention(q, k, v, enable_gqa=True))


def test_dropout_drops_weights_and_keeps_their_mean():
    q, k, v = (torch.zeros(64, 1, 64, 8), torch.zeros(64, 1, 64, 8), torch.ones(64, 1, 64, 8))
    y = short_attention(q, k, v, is_causal=True, dropout=0.25)
    first = y[:, :, 0]  # the first token has one weight, 1: it is dropped, or becomes 1 / 0.75
    assert first.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert y.mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("numbers", [False, True])
def test_a_query_that_may_attend_to_nothing_has_output_zero_and_finite_gradients(numbers):
    q, k, v = (torch.randn(1, 2, 4, 8, requires_grad=True) for _ in range(3))
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    mask[2] = False
    if numbers:
        mask = torch.randn(4, 4).masked_fill(~mask, -torch.inf)
    output = step_by_step_attention(q, k, v, mask)
    torch.testing.assert_close(output, fused_attention(q, k, v, mask))
    assert (output[:, :, 2] == 0).all()
    output.sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))
