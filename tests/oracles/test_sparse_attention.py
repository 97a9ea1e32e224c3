"""Windows with anchors against PyTorch's FlexAttention masks and fused operator, and against Longformer."""

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_mask
from transformers import LongformerConfig
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from pocketgpt.layers.attention import Attention, AttentionConfig
from pocketgpt.layers.attention_backends import causal_mask
from pocketgpt.layers.context import Context
from pocketgpt.layers.sparse_attention import tiled_attention, visible_pairs
from pocketgpt.models.config import ModelConfig

SHAPES = [(3, 0, 6), (1, 0, 5), (3, 1, 9), (2, 4, 11), (5, 3, 7), (5, 3, 8), (5, 3, 9)]  # window, anchors, seq


def their_mask(window: int, n_anchors: int, seq: int) -> torch.Tensor:
    def visible(_batch, _head, query, key):
        return (key <= query) & ((query - key < window) | (key < n_anchors))

    return create_mask(visible, None, None, seq, seq, device="cpu")[0, 0]


def layer_of(window: int, n_anchors: int, **changes) -> Attention:
    mixer = AttentionConfig(n_heads=3, window=window, n_anchors=n_anchors, **changes)
    shape = {"vocab_size": 9, "d_model": 24, "n_layers": 1, "max_seq_len": 200, "positions": "none"}
    config = ModelConfig(**shape, mixer=mixer).resolved()
    module = Attention(config.mixer, config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module


@pytest.mark.parametrize(("window", "n_anchors", "seq"), SHAPES)
def test_mask_is_that_of_flex_attention_and_its_pairs_are_counted(window, n_anchors, seq):
    positions = torch.arange(seq)
    expected = their_mask(window, n_anchors, seq)
    assert torch.equal(causal_mask(positions, positions, window, n_anchors), expected)
    assert visible_pairs(seq, window, n_anchors) == expected.sum()


@pytest.mark.parametrize(("window", "n_anchors", "seq"), SHAPES)
def test_layer_is_the_fused_operator_with_their_mask(window, n_anchors, seq, assert_equal):
    module, x = layer_of(window, n_anchors), torch.randn(2, seq, 24)
    q, k, v = (
        projection(x).unflatten(-1, (3, 8)).transpose(1, 2)
        for projection in (module.q_proj, module.k_proj, module.v_proj)
    )
    y = F.scaled_dot_product_attention(q, k, v, their_mask(window, n_anchors, seq))
    expected = module.o_proj(y.transpose(1, 2).flatten(2))
    context = Context(torch.arange(seq)[None], {})
    assert_equal(module(x, context), expected)
    module.attend = tiled_attention
    assert_equal(module(x, context), expected)


@torch.no_grad()
@pytest.mark.parametrize("n_anchors", [1, 2])
def test_last_token_of_every_prefix_sees_what_it_sees_in_longformer(n_anchors, assert_equal):
    """Longformer's encoder looks both ways, and its global tokens see everything. The last token of a text has nothing
    after it: what it reads is what ours reads."""
    reach = 4  # on either side
    theirs = LongformerSelfAttention(
        LongformerConfig(
            hidden_size=24,
            num_attention_heads=3,
            attention_window=[2 * reach],
            attention_probs_dropout_prob=0.0,
        ),
        0,
    ).eval()
    ours = layer_of(reach + 1, n_anchors, bias=True)
    ours.o_proj = torch.nn.Identity()
    for our, their in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
        getattr(theirs, their).load_state_dict(getattr(ours, our).state_dict())
    x = torch.randn(2, 24, 24)
    y = ours(x, Context(torch.arange(24)[None], {}))
    for last in range(n_anchors, 24):
        mask = torch.zeros(2, 24)  # 0: within the window, −10,000: padding, 10,000: seen by all
        mask[:, last + 1 :] = -10_000.0
        mask[:, :n_anchors] = 10_000.0
        read = theirs(x, mask, mask < 0, mask > 0, is_global_attn=True)[0]
        assert_equal(y[:, last], read[:, last])
