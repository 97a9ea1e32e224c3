"""Writing by denoising: given text stays, every mask is replaced by a token, and a seed decides which."""

import math
from dataclasses import replace

import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.inference.diffusion import (
    check_options,
    denoise,
    fill_in,
    mask_id,
    most_confident,
    remask_probability,
    reveal_probability,
    write,
)
from pocketgpt.inference.generate import generate
from pocketgpt.inference.sampling import Sampler

MASK = 60  # of the small presets, whose vocabulary has 61 tokens
GREEDY = Sampler(temperature=0.0)


@pytest.fixture(scope="module")
def model(small, lively):
    return lively(small("pocket-diffusion"))


def masks(rows, seq):
    return torch.full((rows, seq), MASK)


def test_four_passes_reveal_a_fourth_a_third_a_half_and_the_rest():
    times = [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
    assert [reveal_probability(t, s) for t, s in times] == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])


def test_as_many_more_are_revealed_as_are_hidden_again():
    # Of 100 tokens 50 are hidden, 40 should be afterwards. A tenth of the 50 others is hidden again: 5.
    assert reveal_probability(0.5, 0.4, 0.1) == pytest.approx(15 / 50)


def test_no_more_are_hidden_again_than_may_be_hidden():
    assert remask_probability(0.5, 0.4, 0.1) == 0.1
    assert remask_probability(0.2, 0.1, 0.9) == pytest.approx(1 / 8)  # 0.1 of all are 1/8 of the 0.8 revealed
    assert remask_probability(0.1, 0.0, 0.9) == 0.0
    assert remask_probability(1.0, 0.9, 0.5) == 0.0  # nothing is revealed yet


@pytest.mark.parametrize("order", ["random", "confident"])
@pytest.mark.parametrize("remask", [0.0, 0.3])
def test_after_each_pass_the_share_of_masks_is_that_of_its_time(model, order, remask):
    generator = torch.Generator().manual_seed(0)
    shares = [
        (tokens == MASK).float().mean().item()
        for tokens in denoise(model, masks(300, 20), passes=5, order=order, remask=remask, generator=generator)
    ]
    assert shares == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0], abs=0.03)
    assert shares[-1] == 0


@pytest.mark.parametrize("order", ["random", "confident"])
@pytest.mark.parametrize("remask", [0.0, 0.5])
def test_given_tokens_stay(model, order, remask):
    text = torch.randint(MASK, (4, 20))
    gaps = torch.rand(4, 20) < 0.5
    for tokens in denoise(model, text.masked_fill(gaps, MASK), passes=6, order=order, remask=remask):
        assert torch.equal(tokens[~gaps], text[~gaps])
    assert (tokens != MASK).all()


def test_without_remasking_a_revealed_token_stays_and_with_it_some_change(model):
    def changed(remask):
        generator, before, n = torch.Generator().manual_seed(0), masks(20, 20), 0
        for tokens in denoise(model, before, passes=10, remask=remask, generator=generator):
            n += ((before != MASK) & (tokens != before)).sum().item()
            before = tokens
        return n

    assert changed(0.0) == 0
    assert changed(0.3) > 0


@pytest.mark.parametrize("sampler", [GREEDY, Sampler(temperature=10.0, top_k=None)])
def test_the_mask_is_never_drawn_even_where_it_has_the_highest_score(small, lively, sampler):
    model = lively(replace(small("pocket-diffusion"), tie_embeddings=False))
    features = model.features(masks(1, 20))[0]
    model.head.weight.data[MASK] = 100 * features.mean(dim=0)
    assert (model(masks(1, 20)).argmax(dim=-1) == MASK).any()
    *_, tokens = denoise(model, masks(20, 20), passes=3, sampler=sampler)
    assert (tokens < MASK).all()


def test_greedy_in_one_pass_is_the_most_probable_token_of_every_position(model):
    [tokens] = denoise(model, masks(1, 20), passes=1, sampler=GREEDY)
    assert torch.equal(tokens, model(masks(1, 20))[..., :MASK].argmax(dim=-1))


def test_the_most_confident_of_the_hidden_are_revealed_and_the_first_of_equals():
    hidden = torch.tensor([[True, False, True, True, True], [True, True, True, True, True]])
    confidence = torch.tensor([[0.2, 0.9, 0.5, 0.5, 0.1], [0.1, 0.1, 0.1, 0.1, 0.3]])
    chosen = most_confident(hidden, confidence, torch.tensor([[2], [2]]))
    assert chosen.tolist() == [[False, False, True, True, False], [True, False, False, False, True]]
    assert not most_confident(hidden, confidence, torch.tensor([[0], [0]])).any()
    assert torch.equal(most_confident(hidden, confidence, torch.tensor([[4], [5]])), hidden)


def test_confidence_is_the_probability_before_temperature_and_filters(model):
    # At a low temperature every drawn token has probability 1 after it, so the order would be that of the positions.
    cold = Sampler(temperature=1e-3)
    text = torch.arange(24)[None].masked_fill(torch.arange(24) % 2 == 0, MASK)  # among masks alone, all are alike
    first, *_ = denoise(model, text, passes=4, order="confident", sampler=cold)
    probability = model(text)[0, ::2, :MASK].softmax(dim=-1).amax(dim=-1)
    ordered = probability.sort(descending=True).values
    assert ordered[2] - ordered[3] > 1e-4
    assert set((first[0, ::2] != MASK).nonzero().flatten().tolist()) == set(probability.topk(3).indices.tolist())


def test_a_gap_sees_both_sides(model):
    left = fill_in(model, [5, 6, MASK, 7], sampler=GREEDY, passes=1)
    others = {fill_in(model, [5, 6, MASK, last], sampler=GREEDY, passes=1)[2] for last in range(20)}
    assert left[:2] + left[3:] == [5, 6, 7]
    assert len(others) > 1


@pytest.mark.parametrize("options", [{}, {"order": "confident"}, {"remask": 0.2}])
def test_a_seed_decides_the_text(model, options):
    options = options | {"sampler": Sampler(temperature=3.0, top_k=None)}
    texts = [write(model, [1, 2], max_new_tokens=15, passes=8, seed=seed, **options) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    gaps = [3] + [MASK] * 10
    filled = [fill_in(model, gaps, passes=8, seed=seed, **options) for seed in (1, 1, 2)]
    assert filled[0] == filled[1] != filled[2]


@pytest.mark.parametrize("prompt_length", [0, 1, 23, 24, 60])
@pytest.mark.parametrize("n_new", [0, 1, 7, 50])
def test_a_text_may_be_longer_than_the_context(model, prompt_length, n_new):
    seen = []
    handle = model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    new = write(model, [7] * prompt_length, max_new_tokens=n_new, passes=2, seed=0)
    handle.remove()
    assert len(new) == n_new and MASK not in new
    assert all(tokens.shape[1] <= 24 and (tokens != MASK).sum() <= 23 for tokens in seen)
    if prompt_length and n_new:
        assert seen[0][0, 0] == 7  # the prompt is read
    if prompt_length + n_new > 24 and prompt_length and n_new:
        assert (seen[0] != MASK).sum() == min(prompt_length, 12)


def test_a_block_continues_the_one_before(model):
    seen = []
    handle = model.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    new = write(model, [7] * 4, max_new_tokens=30, passes=1, seed=0)
    handle.remove()
    first, second = seen
    assert second[:12].tolist() == new[8:20] and (second[12:] == MASK).sum() == 10
    assert (first == MASK).sum() == 20


def test_the_text_ends_before_the_first_stop_token(model):
    whole = write(model, [1], max_new_tokens=20, seed=3, passes=5)
    stops = (whole[12], whole[5])
    assert (
        write(model, [1], max_new_tokens=20, seed=3, passes=5, stop_tokens=stops) == whole[: whole.index(stops[1])][:5]
    )


def test_dropout_is_off(small, lively):
    model = lively(small("pocket-diffusion", dropout=0.5)).train()
    texts = [write(model, [1], max_new_tokens=10, passes=5, seed=0) for _ in range(2)]
    assert texts[0] == texts[1] and model.training


def test_the_mask_is_the_last_token(model):
    assert mask_id(model.config) == MASK


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": 0}, "passes = 0 cannot work: use a whole number of at least 1"),
        ({"order": "best"}, "order = 'best' cannot work: use one of random, confident"),
        ({"remask": 1.0}, "remask = 1.0 cannot work: use a number from 0 up to 1"),
        ({"remask": -0.1}, r"remask = -0\.1"),
        ({"remask": math.nan}, "remask = nan"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_an_option_that_cannot_work_is_named(model, options, message):
    with pytest.raises(PocketError, match=message):
        if "order" in options:  # the run-time checks of the tests would come first
            check_options(model, 1, options["order"], 0.0)
        fill_in(model, [MASK], **options)


def test_a_token_outside_the_vocabulary_is_named(model):
    with pytest.raises(PocketError, match="contains token 61, and the vocabulary has ids 0 to 60"):
        write(model, [1, 61], max_new_tokens=1)


def test_each_kind_of_model_writes_in_its_own_way(model, small, lively):
    with pytest.raises(PocketError, match=r"is causal.*Use `generate`"):
        write(lively(small("llama")), [1], max_new_tokens=1)
    with pytest.raises(PocketError, match=r"not causal.*pocketgpt\.inference\.diffusion"):
        generate(model, [[1]], max_new_tokens=1)


@pytest.mark.parametrize("order", ["random", "confident"])
def test_scores_that_are_not_finite_are_an_error(small, lively, order):
    model = lively(small("pocket-diffusion"))
    model.head.weight.data[:] = math.nan
    with pytest.raises(PocketError, match="NaN or infinite"):
        write(model, [1], max_new_tokens=5, passes=2, order=order)
