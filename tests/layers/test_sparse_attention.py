import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.checked import ConfigError
from pocketgpt.inference.kv_cache import Ring, Slots, new_cache
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.attention_backends import causal_mask, fused_attention, step_by_step_attention
from pocketgpt.layers.sparse_attention import needed_tiles, tiled_attention, visible_pairs
from pocketgpt.models.presets import preset


def mask_of(seq: int, window: int | None, n_anchors: int = 0) -> torch.Tensor:
    return causal_mask(torch.arange(seq), torch.arange(seq), window, n_anchors)


def test_pairs_by_hand():
    assert visible_pairs(6, 3) == 1 + 2 + 3 + 3 + 3 + 3
    assert visible_pairs(6, 2, 1) == 15  # as many: the anchor is the third
    assert visible_pairs(6, 10) == visible_pairs(6, 1, 9) == 21


@pytest.mark.parametrize("shape", [(30, 30), (1, 30, 30), (2, 1, 30, 30), (2, 6, 30, 30)])
@pytest.mark.parametrize("tile", [1, 4, 30, 64])
def test_any_mask_can_be_computed_in_tiles(shape, tile, assert_equal):
    q, k, v = torch.randn(2, 6, 30, 8), torch.randn(2, 2, 30, 8), torch.randn(2, 2, 30, 8)
    mask = torch.rand(shape) < 0.05
    mask |= torch.eye(30, dtype=torch.bool)
    assert_equal(tiled_attention(q, k, v, mask, tile=tile), fused_attention(q, k, v, mask))


def test_a_bias_of_zero_hides_nothing_in_tiles(assert_equal):
    q, k, v = torch.randn(3, 2, 6, 30, 8)
    bias = torch.randn(1, 6, 30, 30)
    bias[..., 8:] = 0.0
    for hidden in (-torch.inf, torch.finfo(torch.float32).min):
        bias = bias.masked_fill(torch.ones(30, 30, dtype=torch.bool).triu(1), hidden)
        assert_equal(tiled_attention(q, k, v, bias, tile=4), fused_attention(q, k, v, bias))
        assert_equal(tiled_attention(q, k, v, torch.zeros(1, 6, 30, 30), tile=4), fused_attention(q, k, v))


def test_queries_that_start_late_are_computed_in_tiles(assert_equal):
    q, k, v = torch.randn(2, 6, 5, 8), torch.randn(2, 6, 19, 8), torch.randn(2, 6, 19, 8)
    mask = causal_mask(torch.arange(14, 19), torch.arange(19), 4)
    assert_equal(tiled_attention(q, k, v, mask, tile=4), fused_attention(q, k, v, mask))
    assert_equal(tiled_attention(q[:, :, -1:], k, v, mask[-1:]), fused_attention(q[:, :, -1:], k, v, mask[-1:]))
    q = torch.randn(2, 6, 19, 8)
    assert_equal(tiled_attention(q, k, v, is_causal=True, tile=4), fused_attention(q, k, v, is_causal=True))
    assert_equal(tiled_attention(q, k, v), fused_attention(q, k, v))


@pytest.mark.parametrize(("window", "n_anchors"), [(8, 0), (8, 3), (9, 0), (64, 0)])
def test_only_needed_tiles_are_computed(window, n_anchors):
    q, k, v = torch.randn(3, 2, 6, 64, 16)
    mask = mask_of(64, window, n_anchors)
    with FlopCounterMode(display=False) as counter:
        tiled_attention(q, k, v, mask, tile=8, attend=step_by_step_attention)
    visible = {(row // 8, column // 8) for row, column in mask.nonzero().tolist()}
    assert counter.get_total_flops() == 4 * 2 * 6 * 16 * 8 * 8 * len(visible)
    with FlopCounterMode(display=False) as counter:
        step_by_step_attention(q, k, v, mask)
    assert counter.get_total_flops() == 4 * 2 * 6 * 16 * 64 * 64  # the mask alone saves nothing


def test_tiles_of_the_docstring():
    mask = mask_of(1024, 64, 4)
    counted = (visible_pairs(1024, 1024), visible_pairs(1024, 64, 4), 64 * 64 * int(needed_tiles(mask).sum()))
    assert counted == (524_800, 67_354, 184_320)


@torch.no_grad()
def test_a_model_computes_the_same_in_tiles(small, lively, assert_equal):
    model, tokens = lively(small("pocket-sparse")), torch.randint(61, (2, 24))
    expected = model(tokens)
    cache = new_cache(model, 2)
    model.use_attention(tiled_attention)
    assert_equal(model(tokens), expected)
    assert_equal(torch.cat([model(part, cache) for part in tokens.split([9, 1, 14], dim=1)], dim=1), expected)


def test_a_token_sees_the_anchors_and_its_window_and_nothing_else(small, lively):
    model = lively(small("pocket-sparse", n_layers=1))  # window 5, 2 anchors
    tokens = torch.randint(61, (1, 24))
    seen = []
    for position in range(24):
        changed = tokens.clone()
        changed[0, position] = (tokens[0, position] + 1) % 61
        seen.append(bool((model(changed)[0, 15] != model(tokens)[0, 15]).any()))
    assert [position for position, changes in enumerate(seen) if changes] == [0, 1, 11, 12, 13, 14, 15]


def test_the_cache_holds_window_and_anchors(small, lively):
    model = lively(small("pocket-sparse"))
    cache = new_cache(model, 3, 20)
    assert [type(store) for store in cache.layers] == [Ring, Ring]
    assert [type(store) for store in new_cache(model, 3, 8).layers] == [Ring, Ring]
    assert [type(store) for store in new_cache(model, 3, 7).layers] == [Slots, Slots]  # the ring would not be shorter
    assert {tensor.shape for store in cache.layers for tensor in store.tensors} == {(3, 2, 7, 8)}
    allocated = sum(tensor.untyped_storage().nbytes() for store in cache.layers for tensor in store.tensors)
    assert model.cache_bytes(3, 20) == model.cache_bytes(3, 7) == allocated
    assert model.cache_bytes(3, 6) < allocated


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_anchors": 2}, "n_anchors = 2 cannot work: use 0, or a window"),
        ({"n_anchors": -1, "window": 3}, "n_anchors = -1 cannot work: use a whole number of at least 1"),
    ],
)
def test_anchors_that_cannot_work_are_answered_with_ones_that_can(changes, message):
    with pytest.raises(ConfigError, match=message):
        AttentionConfig(n_heads=2, **changes)


def test_a_model_that_looks_ahead_has_no_window():
    with pytest.raises(ConfigError, match="window = 32 cannot work: use None, or causal = True"):
        preset("pocket-sparse", causal=False)
