"""Faster ways to the same numbers: PyTorch's fused operator is the oracle, forward and backward."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.device import bf16_is_native
from pocketgpt.gpt import GPT
from pocketgpt.layers.attention import fused_attention
from pocketgpt.training import kernels
from pocketgpt.training.kernels import keep_allocations, prepare_for_training, short_attention

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
    monkeypatch.setattr(kernels, "LONGEST_PRODUCTS", 8)
    monkeypatch.setattr(
        kernels, "fused_attention", lambda q, *rest: lengths.append(q.shape[2]) or fused_attention(q, *rest)
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


@pytest.mark.skipif(not bf16_is_native(CPU), reason="this CPU does not multiply bf16 itself")
def test_bf16_training_on_a_cpu_takes_short_attention(small):
    model = GPT(small("llama"))
    prepare_for_training(model, CPU, "auto")
    assert [block.attention.core for block in model.blocks] == [short_attention] * 2


@pytest.mark.parametrize("device, precision", [("cpu", "float32"), ("cuda", "bf16")])
def test_anywhere_else_attention_stays_as_it_is(small, device, precision):
    model = GPT(small("llama"))
    prepare_for_training(model, torch.device(device), precision)
    assert [block.attention.core for block in model.blocks] == [fused_attention] * 2


def test_an_attention_that_was_exchanged_by_hand_is_left_alone(small):
    model, mine = GPT(small("llama")), lambda q, *rest, **options: q
    model.blocks[0].attention.core = mine
    prepare_for_training(model, CPU, "auto")
    assert model.blocks[0].attention.core is mine


FAULTS = """
import resource, sys, torch
from pocketgpt.training.kernels import keep_allocations
if sys.argv[1] == "keep":
    assert keep_allocations()
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB, 16,384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_kept_memory_is_not_asked_of_the_system_again():
    # In processes of their own: the setting stays for good. In three, because addresses are drawn at random, and once
    # in a while something lies where the heap would grow, so that glibc has to ask for other memory.
    def page_faults(mode: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert min(page_faults("keep") for _ in range(3)) < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_that_is_no_longer_kept_goes_back_to_the_system():
    code = FAULTS.replace("assert keep_allocations()", "assert keep_allocations() and keep_allocations(False)")
    done = subprocess.run([sys.executable, "-c", code, "keep"], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1000


def test_keeping_memory_is_declined_where_there_is_no_glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_allocations()
