import pytest
import torch

from pocketgpt.checked import ConfigError
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.linear_attention import CHUNK, LinearAttentionConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.presets import preset

KINDS = ["pocket-linear", "pocket-delta"]


@pytest.fixture(params=KINDS)
def model(request, small, lively):
    return lively(small(request.param))


def test_a_state_is_as_large_after_one_token_as_after_many(model):
    assert model.cache_bytes(2, 1) == model.cache_bytes(2, 24, torch.bfloat16)
    cache = new_cache(model, 2)
    shapes = [[tensor.shape for tensor in store.tensors] for store in cache.layers]
    model(torch.randint(61, (2, 20)), cache)
    assert [[tensor.shape for tensor in store.tensors] for store in cache.layers] == shapes
    allocated = sum(tensor.untyped_storage().nbytes() for store in cache.layers for tensor in store.tensors)
    assert model.cache_bytes(2, 20) == allocated


@torch.no_grad()
def test_padding_does_not_touch_the_state(model, assert_equal):
    alone, padded = new_cache(model, 1), new_cache(model, 1)
    tokens = torch.randint(61, (1, 5))
    model(tokens, alone)
    padded.added = torch.tensor([5])
    model(torch.cat((tokens, torch.randint(61, (1, 7))), dim=1), padded)
    for ours, theirs in zip(padded.layers, alone.layers, strict=True):
        for mine, expected in zip(ours.tensors, theirs.tensors, strict=True):
            assert_equal(mine, expected)


@torch.no_grad()
def test_a_row_of_nothing_but_padding_leaves_its_state_empty(model):
    cache = new_cache(model, 2)
    cache.added = torch.tensor([3, 0])
    assert model(torch.randint(61, (2, 3)), cache).isfinite().all()
    for store in cache.layers:
        assert all((tensor[1] == 0).all() and (tensor[0] != 0).any() for tensor in store.tensors)


def test_sums_are_in_float32_whatever_the_weights_are(model):
    model, tokens = model.to(torch.bfloat16), torch.randint(61, (1, 5))
    cache = new_cache(model, 1)
    assert model(tokens, cache).dtype == torch.bfloat16
    assert {tensor.dtype for store in cache.layers for tensor in store.tensors} == {torch.float32}


@torch.no_grad()
def test_autocast_does_not_round_the_state(small, lively, assert_equal):
    config = small("pocket-linear", n_layers=1)
    model = lively(config)
    ones = torch.ones(1, 24, 48)
    mixer = model.blocks[0].mixer
    for projection in (mixer.q_proj, mixer.k_proj, mixer.v_proj, mixer.o_proj):
        projection.weight.fill_(0.0)  # features of zero are exactly 1
    context, cache = model.context(torch.zeros(1, 24, dtype=torch.long)), new_cache(model, 1)
    cache.begin(24)
    mixer.v_proj.weight.copy_(torch.eye(48) * (1 + 2**-7))  # 24 of these need more bits than bfloat16 has
    with torch.autocast("cpu", torch.bfloat16):
        mixer(
            ones,
            type(context)(context.positions, {8: (torch.ones(1, 1, 24, 4), torch.zeros(1, 1, 24, 4))}),
            cache.layers[0],
        )
    assert torch.equal(cache.layers[0].tensors[0], torch.full((1, 6, 8, 8), 24 * (1 + 2**-7)))


def test_work_per_token_does_not_grow_with_the_sequence(model):
    assert model.flops_per_token(1) < model.flops_per_token(CHUNK)
    assert model.flops_per_token(CHUNK) == model.flops_per_token(100 * CHUNK)


def test_a_model_that_looks_ahead_cannot_have_it():
    with pytest.raises(ConfigError, match="causal = False cannot work: use True with linear attention"):
        preset("pocket-linear", causal=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, "LinearAttentionConfig.n_heads = 5 cannot work: use a divisor of d_model = 24"),
        ({"n_heads": 0}, "n_heads = 0 cannot work: use a whole number of at least 1"),
        ({"n_heads": 2, "d_head": 7}, "d_head = 7 cannot work: use an even number, such as 8"),
        ({"n_heads": 2, "d_head": -1}, "d_head = -1 cannot work: use a whole number of at least 1"),
    ],
)
def test_sizes_that_cannot_work_are_answered_with_ones_that_can(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(vocab_size=9, d_model=24, n_layers=1, max_seq_len=8, mixer=LinearAttentionConfig(**changes))


def test_a_small_error_of_beta_is_not_made_by_quantization(small, lively):
    mixer = lively(small("pocket-delta")).blocks[0].mixer
    assert mixer.full_precision == ("beta_proj",) and mixer.adamw == ("beta_proj.weight",)
