import pytest
import torch

from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.block import Block, build_block
from pocketgpt.layers.context import Context
from pocketgpt.models.config import ModelConfig

SIZES = {"vocab_size": 9, "d_model": 16, "n_layers": 1, "max_seq_len": 8, "positions": "none"}
CONTEXT = Context(torch.arange(3)[None], {})


def block_of(order: str, **changes) -> Block:
    config = ModelConfig(**SIZES, norm_order=order, mixer=AttentionConfig(n_heads=2), **changes).resolved()
    return build_block(config.mixer, config.feedforward, config)


def block_without_mixing(order: str) -> torch.nn.Module:
    """A block whose mixer and feed-forward double what they are given."""
    block = block_of(order)

    class Double(torch.nn.Module):
        def forward(self, x, *others):
            return 2 * x

    block.mixer = block.feedforward = Double()
    return block


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def test_pre_norm_adds_to_a_stream_that_is_never_normalized(assert_equal):
    x = 5 * torch.randn(1, 3, 16)
    y = x + 2 * rms_norm(x)
    assert_equal(block_without_mixing("pre")(x, CONTEXT), y + 2 * rms_norm(y))


def test_post_norm_normalizes_the_sum(assert_equal):
    x = 5 * torch.randn(1, 3, 16)
    y = rms_norm(x + 2 * x)
    assert_equal(block_without_mixing("post")(x, CONTEXT), rms_norm(y + 2 * y))


@pytest.mark.parametrize("order", ["pre", "post"])
def test_dropout_acts_on_both_branches(order):
    block = block_of(order, dropout=0.5)
    x = torch.randn(1, 3, 16)
    assert not torch.equal(block(x, CONTEXT), block(x, CONTEXT))
    assert torch.equal(block.eval()(x, CONTEXT), block(x, CONTEXT))


def test_a_block_without_feedforward_adds_its_mixer_only(assert_equal):
    block, x = block_of("pre", feedforward=None), torch.randn(1, 3, 16)
    assert not hasattr(block, "feedforward") and not hasattr(block, "feedforward_norm")
    assert_equal(block(x, CONTEXT).detach(), (x + block.mixer(rms_norm(x), CONTEXT)).detach())
