"""With a cache the logits are those without, however the sequence is cut into calls."""

from dataclasses import replace
from functools import cache as remember

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pocketgpt.errors import PocketError
from pocketgpt.inference.kv_cache import Ring, Slots, new_cache
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS
from pocketgpt.models.stack import ContextError

SEQ = 24  # max_seq_len of the small presets
LONG = 40  # beyond it
STRETCHED = {"factor": 4.0, "original_max_seq_len": 10}
LOCAL = AttentionConfig(n_heads=6, n_kv_heads=2, d_head=8, window=5)
FULL = AttentionConfig(n_heads=6, d_head=8)
VARIANTS = {
    **{name: (name, {}) for name in PRESETS},
    "window 1": ("llama", {"window": 1}),
    "window 5": ("llama", {"window": 5}),
    "window 5, 3 anchors": ("llama", {"window": 5, "n_anchors": 3}),
    "window 3, 5 anchors": ("gpt2", {"window": 3, "n_anchors": 5}),
    "window 5, learned": ("gpt2", {"window": 5}),
    "window 5, dynamic": ("brain", {"window": 5}),
    "window as long as the sequence": ("llama", {"window": SEQ}),
    "sinusoidal": ("gpt2", {"positions": "sinusoidal"}),
    "no positions": ("gpt2", {"positions": "none"}),
    "post-norm": ("gpt2", {"norm_order": "post"}),
    "local and full": ("llama", {"mixer": (LOCAL, LOCAL, FULL), "n_layers": 3}),
    "two windows and full": ("llama", {"mixer": (LOCAL, replace(LOCAL, window=3), FULL), "n_layers": 4}),
    "with and without anchors": ("llama", {"mixer": (LOCAL, replace(LOCAL, n_anchors=2)), "n_layers": 2}),
    "qk-norm": ("llama", {"qk_norm": True}),
    "one kv head": ("llama", {"n_kv_heads": 1}),
    "linear": ("llama", {"rope": RopeConfig(scaling="linear", factor=4.0)}),
    "ntk": ("llama", {"rope": RopeConfig(scaling="ntk", factor=4.0)}),
    "yarn": ("llama", {"rope": RopeConfig(scaling="yarn", **STRETCHED)}),
    "llama3": ("llama", {"rope": RopeConfig(scaling="llama3", **STRETCHED)}),
}
DYNAMIC = ["brain", "window 5, dynamic"]
CHUNKS = st.lists(st.integers(1, 9), min_size=1, max_size=10).filter(lambda chunks: sum(chunks) <= SEQ)
FEW = settings(max_examples=8)


@pytest.fixture(scope="module")
def model_of(small, lively):
    @remember
    def model_of(variant: str) -> GPT:
        name, changes = VARIANTS[variant]
        return lively(small(name, **changes))

    return model_of


def tokens_for(model: GPT, batch: int, seq: int, seed: int = 0) -> Tensor:
    return torch.randint(model.config.vocab_size, (batch, seq), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def without_cache(model: GPT, tokens: Tensor, capacity: int) -> Tensor:
    """Logits of an uncached run. Dynamic RoPE looks at the length: there the run is as long as the cache."""
    seq = tokens.shape[1]
    if model.config.rope.scaling == "dynamic":
        tokens = torch.nn.functional.pad(tokens, (0, capacity - seq))
    return model(tokens)[:, :seq]


@torch.no_grad()
def with_cache(model: GPT, tokens: Tensor, chunks: list[int], cache) -> Tensor:
    return torch.cat([model(chunk, cache) for chunk in tokens.split(chunks, dim=1)], dim=1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_way_of_cutting(variant, model_of, assert_equal):
    model = model_of(variant)

    @FEW
    @given(chunks=CHUNKS)
    def check(chunks):
        tokens = tokens_for(model, 2, sum(chunks))
        expected = without_cache(model, tokens, SEQ)
        assert_equal(with_cache(model, tokens, chunks, new_cache(model, 2)), expected)

    check()


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_token_at_a_time_to_the_last_position(variant, model_of, assert_equal):
    model = model_of(variant)
    tokens = tokens_for(model, 1, SEQ)
    expected = without_cache(model, tokens, SEQ)
    assert_equal(with_cache(model, tokens, [1] * SEQ, new_cache(model, 1, SEQ)), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_different_lengths_padded_on_the_right(variant, model_of, assert_equal):
    """Every call brings each row some real tokens (maybe none), and padding after them."""
    model, batch = model_of(variant), 3
    rounds = st.lists(
        st.lists(st.integers(0, 6), min_size=batch, max_size=batch).filter(any), min_size=1, max_size=6
    ).filter(lambda rounds: sum(max(added) for added in rounds) <= SEQ)

    @FEW
    @given(rounds=rounds, seed=st.integers(0, 99))
    @torch.no_grad()
    def check(rounds, seed):
        texts = [tokens_for(model, 1, SEQ, seed + row) for row in range(batch)]
        cache, read = new_cache(model, batch, SEQ), [0] * batch
        logits = [[] for _ in range(batch)]
        for added in rounds:
            tokens = tokens_for(model, batch, max(added), seed=100 + seed)  # any tokens are padding
            for row, n in enumerate(added):
                tokens[row, :n] = texts[row][0, read[row] : read[row] + n]
                read[row] += n
            cache.added = torch.tensor(added)
            out = model(tokens, cache)
            for row, n in enumerate(added):
                logits[row].append(out[row, :n])
        assert cache.lengths.tolist() == read
        for row in range(batch):
            if read[row]:
                expected = without_cache(model, texts[row][:, : read[row]], SEQ)[0]
                assert_equal(torch.cat(logits[row]), expected)

    check()


@pytest.mark.parametrize("variant", ["llama", "window 5"])
def test_padding_is_announced_for_one_call(variant, model_of):
    model = model_of(variant)
    cache = new_cache(model, 2, SEQ)
    cache.added = torch.tensor([2, 4])
    model(tokens_for(model, 2, 4), cache)
    model(tokens_for(model, 2, 3), cache)
    assert cache.lengths.tolist() == [2 + 3, 4 + 3]


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - set(DYNAMIC)))
def test_beyond_max_seq_len_is_an_error(variant, model_of):
    model = model_of(variant)
    with pytest.raises(ContextError, match=f"{SEQ + 1} tokens are more than the {SEQ} .*max_seq_len"):
        new_cache(model, 1, SEQ + 1)
    with pytest.raises(ContextError, match=f"{SEQ + 1} tokens are more than the {SEQ} .*max_seq_len"):
        model(tokens_for(model, 1, SEQ + 1))


@pytest.mark.parametrize("variant", DYNAMIC)
def test_dynamic_rope_goes_beyond_max_seq_len(variant, model_of, assert_equal):
    model = model_of(variant)

    @FEW
    @given(chunks=CHUNKS)
    def check(chunks):
        tokens = tokens_for(model, 2, LONG)
        expected = without_cache(model, tokens, LONG)
        cache = new_cache(model, 2, LONG)
        assert_equal(with_cache(model, tokens, [*chunks, LONG - sum(chunks)], cache), expected)

    check()


@pytest.mark.parametrize("variant", ["llama", "window 5", "brain"])
def test_more_tokens_than_the_cache_takes_are_an_error_that_changes_nothing(variant, model_of, assert_equal):
    model = model_of(variant)
    tokens = tokens_for(model, 1, 9)
    cache = new_cache(model, 1, 8)
    with_cache(model, tokens[:, :7], [7], cache)
    with pytest.raises(ContextError, match="contains 7 of at most 8 tokens and cannot take 2 more"):
        model(tokens[:, 7:], cache)
    assert_equal(with_cache(model, tokens[:, 7:8], [1], cache), without_cache(model, tokens[:, :8], 8)[:, 7:])


def test_a_window_forgets_what_lies_behind_it(model_of, small, lively):
    # Two layers see twice as far, so the test looks at the first one's keys: the ring contains the last five.
    model, full = model_of("window 5"), lively(small("llama"))  # of the same weights
    ring, slots = new_cache(model, 1, SEQ), new_cache(full, 1, SEQ)
    tokens = tokens_for(model, 1, 13)
    with_cache(model, tokens, [4, 9], ring)
    with_cache(full, tokens, [4, 9], slots)
    for position in range(8, 13):
        for ours, theirs in zip(ring.layers[0].tensors, slots.layers[0].tensors, strict=True):
            torch.testing.assert_close(ours[:, :, position % 5], theirs[:, :, position])


def test_each_layer_has_the_store_that_suits_it(model_of, small):
    def stores(model: GPT, capacity: int | None = None) -> list[type]:
        return [type(store) for store in new_cache(model, 1, capacity).layers]

    assert stores(model_of("llama")) == [Slots, Slots]
    assert stores(model_of("window 5")) == [Ring, Ring]
    assert stores(model_of("window 5"), capacity=5) == [Slots, Slots]  # the ring would not be shorter
    assert stores(model_of("local and full")) == [Ring, Ring, Slots]
    assert new_cache(model_of("llama"), 1).capacity == SEQ


def test_the_cache_holds_the_dtype_of_the_model(model_of, small, lively):
    model = lively(small("llama")).to(torch.bfloat16)
    cache = new_cache(model, 1)
    assert cache.layers[0].tensors[0].dtype == torch.bfloat16
    assert model(torch.tensor([[1, 2]]), cache).dtype == torch.bfloat16


def test_a_later_token_changes_no_earlier_logits(model_of):
    for variant in VARIANTS:
        model = model_of(variant)
        tokens = tokens_for(model, 1, SEQ)
        changed = tokens.clone()
        changed[0, 15] = (tokens[0, 15] + 1) % model.config.vocab_size
        one, other = (with_cache(model, x, [6, 6, 6, 6], new_cache(model, 1, SEQ)) for x in (tokens, changed))
        # An expert's product rounds differently when another number of tokens takes part in it.
        tolerance = 1e-5 if model.n_active_params() < model.n_params() else 0.0
        torch.testing.assert_close(one[:, :15], other[:, :15], rtol=tolerance, atol=tolerance)
        assert (one[:, 15] - other[:, 15]).abs().max() > 100 * tolerance


def test_a_model_that_looks_ahead_has_no_cache(small, lively):
    with pytest.raises(PocketError, match="causal = False"):
        new_cache(lively(small("llama", causal=False)), 1)


def test_a_static_cache_grows_in_steps_and_keeps_what_it_holds(small, lively, monkeypatch, assert_equal):
    monkeypatch.setattr("pocketgpt.inference.kv_cache.SLOT_STEP", 4)
    model = lively(small("llama"))
    tokens = torch.randint(61, (2, 24))
    cache, slots, logits = new_cache(model, 2), [], []
    with torch.no_grad():
        for part in tokens.split([3, 1, 1, 7, 12], dim=1):
            logits.append(model(part, cache))
            slots.append(cache.layers[0].tensors[0].shape[2])
    assert slots == [4, 4, 8, 12, 24]
    assert_equal(torch.cat(logits, dim=1), model(tokens))


def test_the_first_tokens_need_no_mask_and_see_what_they_would_with_one(small, lively, assert_equal):
    model = lively(small("llama"))
    tokens = torch.randint(61, (2, 9))
    first, second = new_cache(model, 2), new_cache(model, 2)
    with torch.no_grad():
        at_once = model(tokens, first)
        in_parts = torch.cat([model(tokens[:, :1], second), model(tokens[:, 1:], second)], dim=1)
    assert first.first and not second.first
    assert_equal(at_once, in_parts)
