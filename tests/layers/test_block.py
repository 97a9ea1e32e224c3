import pytest
import torch

from pocketgpt.config import ModelConfig
from pocketgpt.layers.block import BLOCKS

SIZES = {"vocab_size": 9, "d_model": 16, "n_layers": 1, "n_heads": 2, "max_seq_len": 8}


def block_without_mixing(order: str) -> torch.nn.Module:
    """A block whose attention and feed-forward double what they are given."""
    block = BLOCKS[order](ModelConfig(**SIZES, norm_order=order))

    class Double(torch.nn.Module):
        def forward(self, x, *others):
            return 2 * x

    block.attention = block.feedforward = Double()
    return block


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def test_pre_norm_adds_to_a_stream_that_is_never_normalized(assert_equal):
    x = 5 * torch.randn(1, 3, 16)
    y = x + 2 * rms_norm(x)
    assert_equal(block_without_mixing("pre")(x, None), y + 2 * rms_norm(y))


def test_post_norm_normalizes_the_sum(assert_equal):
    x = 5 * torch.randn(1, 3, 16)
    y = rms_norm(x + 2 * x)
    assert_equal(block_without_mixing("post")(x, None), rms_norm(y + 2 * y))


@pytest.mark.parametrize("order", BLOCKS)
def test_dropout_acts_on_both_branches(order):
    block = BLOCKS[order](ModelConfig(**SIZES, norm_order=order, dropout=0.5))
    x = torch.randn(1, 3, 16)
    assert not torch.equal(block(x, None), block(x, None))
    assert torch.equal(block.eval()(x, None), block(x, None))
