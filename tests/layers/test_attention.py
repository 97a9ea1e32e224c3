import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.layers.attention import Attention, AttentionConfig
from pocketgpt.layers.attention_backends import attention, causal_mask
from pocketgpt.layers.context import Context
from pocketgpt.models.config import ModelConfig

SIZES = {"vocab_size": 9, "d_model": 24, "n_layers": 1, "max_seq_len": 16, "positions": "none"}


def layer_of(window: int | None = None, **changes) -> Attention:
    config = ModelConfig(**SIZES | changes, mixer=AttentionConfig(n_heads=6, n_kv_heads=2, window=window)).resolved()
    return Attention(config.mixer, config)


def context(seq: int, rotations: dict | None = None) -> Context:
    return Context(torch.arange(seq)[None], rotations or {})


@given(places=st.lists(st.integers(0, 30), min_size=1, max_size=8), window=st.none() | st.integers(1, 10))
def test_causal_mask_lets_each_position_see_itself_and_what_the_window_holds(places, window):
    mask = causal_mask(torch.tensor(places), torch.arange(31), window)
    for row, place in zip(mask.tolist(), places, strict=True):
        first = 0 if window is None else max(0, place - window + 1)
        assert [key for key, visible in enumerate(row) if visible] == list(range(first, place + 1))


def test_causal_mask_of_a_batch_has_a_row_per_sequence():
    positions = torch.tensor([[0, 1], [4, 5]])
    mask = causal_mask(positions, torch.arange(6).expand(2, -1))
    assert mask.shape == (2, 2, 6)
    assert mask.sum(-1).tolist() == [[1, 2], [5, 6]]


def test_weights_sum_to_one_and_vanish_where_masked():
    q, k, v = torch.randn(3, 2, 4, 5, 8)
    mask = torch.ones(5, 5).tril().bool()
    _, weights = attention(q, k, v, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    assert (weights[..., ~mask] == 0).all() and (weights[..., mask] > 0).all()


def test_equal_keys_give_the_mean_of_the_values():
    q, v = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 5, 8)
    out, _ = attention(q, torch.ones(1, 2, 5, 8), v)
    torch.testing.assert_close(out, v.mean(2, keepdim=True).expand_as(out))


def test_scores_are_divided_by_the_root_of_d_head():
    q, k = torch.zeros(1, 1, 1, 16), torch.zeros(1, 1, 2, 16)
    q[..., 0], k[..., 0, 0] = 4.0, math.log(3)  # one score of 4 · ln 3, divided by √16: weights 3 to 1
    _, weights = attention(q, k, k)
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.75, 0.25]))


def test_another_backend_and_another_rotation_take_their_place():
    layer, x = layer_of(positions="rope"), torch.randn(1, 5, 24)
    rotation = (torch.ones(1, 1, 5, 2), torch.zeros(1, 1, 5, 2))
    seen = []
    layer.rotate = lambda x, cos, sin: seen.append(x.shape[1]) or x
    layer.attend = lambda q, k, v, mask=None, is_causal=False, dropout=0.0: torch.zeros_like(q)
    assert layer(x, context(5, {4: rotation})).abs().max() == 0
    assert seen == [6, 2]  # queries and keys; values are not rotated


def test_dropout_acts_in_training_only():
    layer, x = layer_of(dropout=0.5), torch.randn(1, 8, 24)
    assert not torch.equal(layer(x, context(8)), layer(x, context(8)))
    layer.eval()
    assert torch.equal(layer(x, context(8)), layer(x, context(8)))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("causal", "window"), [(True, None), (True, 3), (False, None)])
def test_padding_is_seen_by_no_token(causal, window, side, assert_equal):
    layer, x = layer_of(window, causal=causal), torch.randn(3, 8, 24)
    for row, length in enumerate([8, 1, 5]):
        tokens = slice(0, length) if side == "right" else slice(8 - length, 8)
        mask = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
        mask[..., tokens] = True
        padded = layer(x, Context(torch.arange(8)[None], {}, mask))
        alone = layer(x[row : row + 1, tokens], context(length))
        assert_equal(padded[row, tokens].detach(), alone[0].detach())


def test_without_padding_the_backend_gets_no_mask():
    """A mask would be slower than `is_causal`."""
    for causal in (True, False):
        layer, seen = layer_of(causal=causal), []
        layer.attend = lambda q, k, v, mask=None, is_causal=False, dropout=0.0: seen.append((mask, is_causal)) or q  # noqa: B023
        layer(torch.randn(1, 8, 24), context(8))
        assert seen == [(None, causal)]


def test_window_of_the_whole_sequence_changes_nothing():
    layer, x = layer_of(), torch.randn(1, 8, 24)
    full = layer(x, context(8))
    for window, changed in ((8, [False] * 8), (7, [False] * 7 + [True])):
        other = layer_of(window)
        other.load_state_dict(layer.state_dict())
        assert ((other(x, context(8)) - full).abs().amax(-1)[0] > 0).tolist() == changed
