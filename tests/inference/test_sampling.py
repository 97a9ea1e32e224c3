import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.errors import PocketError
from pocketgpt.inference.sampling import Sampler, apply_temperature, greedy, min_p, top_k, top_p

ROWS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30).map(lambda row: torch.tensor([row]))


def kept(logits: torch.Tensor) -> torch.Tensor:
    return ~logits.isneginf()


def probabilities(*values: float) -> torch.Tensor:
    return torch.tensor([values]).log()


@given(logits=ROWS, k=st.integers(1, 40))
def test_top_k_keeps_k_tokens_and_whatever_ties_with_the_last(logits, k):
    row = logits[0].tolist()
    smallest = sorted(row, reverse=True)[min(k, len(row)) - 1]
    assert kept(top_k(logits, k))[0].tolist() == [value >= smallest for value in row]


@given(logits=ROWS, p=st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_tokens_that_reach_p(logits, p):
    mask = kept(top_p(logits, p))[0]
    share = logits.double().softmax(-1)[0]
    assert share[mask].sum() >= p - 1e-5  # the token that crosses p stays
    assert share[mask].sum() - share[mask].min() <= p + 1e-5  # and none after it
    if not mask.all():
        assert share[mask].min() >= share[~mask].max()


def test_top_p_keeps_the_token_that_crosses():
    assert kept(top_p(probabilities(0.5, 0.3, 0.2), 0.6)).tolist() == [[True, True, False]]


@pytest.mark.parametrize("p", [1e-6, 1e-8, 1e-30])
def test_top_p_keeps_one_token_however_small_p_is(p):
    assert kept(top_p(probabilities(0.25, 0.4, 0.35), p)).tolist() == [[False, True, False]]


def test_top_p_of_one_keeps_everything():
    assert kept(top_p(probabilities(0.4, 0.35, 0.25), 1.0)).all()


@given(logits=ROWS, p=st.floats(0.001, 1))
def test_min_p_keeps_what_has_p_times_the_highest_probability(logits, p):
    mask = kept(min_p(logits, p))[0]
    ratio = (logits.double() - logits.double().max()).exp()[0]
    assert mask[ratio >= p * (1 + 1e-4)].all() and not mask[ratio < p * (1 - 1e-4)].any()


@given(logits=ROWS, k=st.integers(1, 40), p=st.floats(0.01, 1))
def test_filters_keep_the_best_token_and_change_no_logit_they_keep(logits, k, p):
    for filtered in (top_k(logits, k), top_p(logits, p), min_p(logits, p)):
        mask = kept(filtered)
        assert mask[0, logits.argmax()]
        assert torch.equal(filtered[mask], logits[mask])


@given(logits=ROWS)
def test_filters_look_at_each_row_alone(logits):
    both = torch.cat((logits, logits.flip(-1) * 0.5))
    for kind, value in ((top_k, 3), (top_p, 0.7), (min_p, 0.1)):
        assert torch.equal(kind(both, value)[:1], kind(logits, value))


def test_filters_combine():
    # top-k leaves 0.5 0.3 0.15, which top-p sees as 0.53 0.32 0.16
    logits = top_p(top_k(probabilities(0.5, 0.3, 0.15, 0.05), 3), 0.52)
    assert kept(logits).tolist() == [[True, False, False, False]]


def test_temperature_sharpens_below_one_and_flattens_above():
    logits = probabilities(0.6, 0.4)
    highest = [apply_temperature(logits, t).softmax(-1)[0, 0].item() for t in (0.1, 1.0, 10.0)]
    assert highest == pytest.approx([0.983, 0.6, 0.510], abs=1e-3)


def test_temperature_zero_takes_the_best_token():
    logits = torch.randn(5, 30)
    assert torch.equal(Sampler(temperature=0.0)(logits), logits.argmax(-1))
    assert torch.equal(greedy(logits), logits.argmax(-1))


def test_draws_follow_the_distribution():
    generator, sampler = torch.Generator().manual_seed(0), Sampler(temperature=1.0, top_k=None)
    tokens = sampler(probabilities(0.5, 0.3, 0.2).expand(20_000, -1), generator)
    share = tokens.bincount(minlength=3) / len(tokens)
    # four standard deviations of a share of 20,000 draws
    torch.testing.assert_close(share, torch.tensor([0.5, 0.3, 0.2]), rtol=0, atol=4 * math.sqrt(0.25 / 20_000))


def test_a_token_that_is_ruled_out_is_never_drawn():
    generator, sampler = torch.Generator().manual_seed(0), Sampler(temperature=5.0, top_k=2)
    tokens = sampler(torch.tensor([[1.0, 3.0, 2.0, 0.0]]).expand(1000, -1), generator)
    assert set(tokens.tolist()) == {1, 2}


def test_equal_seeds_draw_equal_tokens():
    logits, sampler = torch.randn(20, 50), Sampler()
    draws = [sampler(logits, torch.Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_half_precision_logits_are_sampled_in_float32():
    assert Sampler()(torch.randn(4, 50).bfloat16()).shape == (4,)


WRONG = [
    ("temperature", -0.5, 0.8),
    ("temperature", math.nan, 0.8),
    ("top_k", 0, 40),
    ("top_p", 0.0, 0.95),
    ("top_p", 1.5, 0.95),
    ("min_p", -0.1, 0.05),
    ("min_p", 2.0, 0.05),
]


@pytest.mark.parametrize(("field", "value", "instead"), WRONG)
def test_a_bad_value_is_named_with_one_that_works(field, value, instead):
    with pytest.raises(PocketError) as error:
        Sampler(**{field: value})
    assert f"Sampler.{field} = {value!r}" in str(error.value) and str(instead) in str(error.value)
    Sampler(**{field: instead})


def test_top_p_of_one_keeps_tokens_however_improbable():
    logits = torch.randn(1, 50_000, generator=torch.Generator().manual_seed(0)) * 20
    assert kept(top_p(logits, 1.0)).all()


def test_top_p_adds_small_probabilities_exactly():
    logits = torch.randn(1, 50_000, generator=torch.Generator().manual_seed(0)) * 3
    share = logits.double().softmax(-1).sort(descending=True).values[0]
    needed = int((share.cumsum(0) < 0.9999).sum()) + 1
    assert abs(int(kept(top_p(logits, 0.9999)).sum()) - needed) <= 2
