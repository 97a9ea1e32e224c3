"""Exercise `masked_softmax`: softmax over the allowed keys."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pocketgpt.course.ch02_attention.shared import WHOLE_ATTENTION, random_mask, right_softmax
from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("weights",),
    picture="weights",
    forbidden=WHOLE_ATTENTION,
    replaces="masked_softmax",
    gradients=("scores",),
)
def masked_softmax(
    scores: Float[Tensor, "*batch seq keys"], mask: Bool[Tensor, "*#batch seq keys"]
) -> Float[Tensor, "*batch seq keys"]:
    """Weights that sum to 1 over the allowed keys; a query that may look nowhere has zeros."""
    identity = torch.eye(scores.shape[-1]).expand(*scores.shape[:-2], -1, -1)  # softmax(scores · I) · I
    return F.scaled_dot_product_attention(scores, identity, identity, attn_mask=mask, scale=1.0)


@masked_softmax.inputs
def _(rng):
    for queries, keys in ((3, 4), (4, 6)):
        nowhere = random_mask(rng, queries, keys)
        nowhere[1] = False
        yield torch.randn(queries, keys, generator=rng), nowhere
    yield 1000 * torch.randn(2, 3, 5, 7, generator=rng).abs(), random_mask(rng, 5, 7)
    hidden = random_mask(rng, 4, 5)
    yield torch.randn(4, 5, generator=rng) + 500 * ~hidden, hidden  # the largest scores are hidden
    for far_below in (-5000, -20_000):  # no number but −∞ is below all scores
        yield torch.randn(4, 5, generator=rng) + far_below, random_mask(rng, 4, 5)


@masked_softmax.mistake(hint=1)
def mask_ignored(scores, mask):
    """The mask is not used: hidden keys get weight, too."""
    return torch.softmax(scores, dim=-1)


@masked_softmax.mistake(hint=1)
def mask_after_softmax(scores, mask):
    """The mask comes after the softmax, so the rows no longer sum to 1: hide the scores first, with −∞."""
    return torch.softmax(scores, dim=-1) * mask


@masked_softmax.mistake(hint=1)
def zero_instead_of_minus_infinity(scores, mask):
    """Hidden scores are set to 0, and exp(0) = 1 is a weight like any other: set them to −∞."""
    return torch.softmax(scores.masked_fill(~mask, 0.0), dim=-1)


@masked_softmax.mistake(hint=2)
def mask_upside_down(scores, mask):
    """The allowed keys are hidden and the hidden ones allowed: the mask is True where attention is allowed."""
    return right_softmax(scores, ~mask)


@masked_softmax.mistake(hint=2)
def over_the_queries(scores, mask):
    """The softmax runs over the queries: each query's weights over the keys, the last axis, sum to 1."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-2).nan_to_num()


@masked_softmax.mistake(hint=2)
def nan_where_nothing_is_allowed(scores, mask):
    """A row with nothing allowed becomes 0/0 = NaN: such a row gets zeros."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)


@masked_softmax.mistake(hint=2)
def uniform_where_nothing_is_allowed(scores, mask):
    """A row with nothing allowed gets equal weights, because each score is the same large negative number: such a row
    gets zeros."""
    return torch.softmax(scores.masked_fill(~mask, -1e9), dim=-1)


@masked_softmax.mistake
def not_normalized(scores, mask):
    """The exponentials are not divided by their sum: each row with an allowed key sums to 1."""
    hidden = scores.masked_fill(~mask, -torch.inf)
    return (hidden - hidden.amax(-1, keepdim=True)).exp().nan_to_num()


@masked_softmax.mistake
def exp_overflows(scores, mask):
    """The exp of a large score overflows: subtract the largest score of the row first, which changes no weight."""
    raised = scores.exp() * mask
    return raised / raised.sum(-1, keepdim=True)


@masked_softmax.mistake
def largest_of_the_hidden(scores, mask):
    """The mask comes after the exponentials or after the softmax. When a hidden key has the largest score, all allowed
    exponentials become 0: hide the scores first."""
    raised = (scores - scores.amax(-1, keepdim=True)).exp() * mask
    return raised / raised.sum(-1, keepdim=True).clamp_min(1e-30)


@masked_softmax.mistake(hint=1)
def added_as_it_is(scores, mask):
    """The boolean mask itself is added: True adds 1 and False adds 0. The M of the equation is 0 and −∞."""
    return torch.softmax(scores + mask, dim=-1)


@masked_softmax.mistake(hint=2)
def minus_infinity_times_zero(scores, mask):
    """The mask is made by multiplying −∞, and 0 · (−∞) is NaN at every allowed key: use masked_fill or torch.where."""
    return torch.softmax(scores + (~mask).float() * -torch.inf, dim=-1)


@masked_softmax.mistake(hint=1)
def minus_ten_thousand(scores, mask):
    """Hidden scores become a number like −10,000, and an allowed score may be lower, such as −20,000: only −∞ hides in
    every case."""
    return torch.softmax(scores.masked_fill(~mask, -1e4), dim=-1)


@masked_softmax.mistake(hint=2)
def everything_sums_to_1(scores, mask):
    """All weights together sum to 1: the softmax runs over the last axis alone, so that each row sums to 1."""
    hidden = scores.masked_fill(~mask, -torch.inf)
    return hidden.flatten().softmax(0).view(hidden.shape).nan_to_num()


@masked_softmax.mistake(hint=1)
def minus_one_hundred(scores, mask):
    """Hidden scores become a number like −100 or −1000, and an allowed score may be lower: only −∞ hides in every
    case."""
    return torch.softmax(scores.masked_fill(~mask, -100.0), dim=-1)


@masked_softmax.mistake(hint=1)
def divided_by_what_is_left(scores, mask):
    """The mask comes after the softmax, and where a hidden key took everything, nothing is left to divide by: hide the
    scores first, with −∞."""
    weights = torch.softmax(scores, dim=-1) * mask
    return weights / weights.sum(-1, keepdim=True)


@masked_softmax.mistake(hint=1)
def multiplied_before_and_after(scores, mask):
    """The scores are multiplied by the mask before the softmax, where 0 hides nothing, and the weights after it, so the
    rows do not sum to 1: hide the scores with −∞, once."""
    return torch.softmax(scores * mask, dim=-1) * mask


@masked_softmax.mistake(hint=1)
def plus_infinity(scores, mask):
    """Hidden scores become +∞, and softmax makes NaN of it: set them to −∞."""
    return torch.softmax(scores.masked_fill(~mask, torch.inf), dim=-1)


@masked_softmax.mistake(hint=2)
def upside_down_with_nan(scores, mask):
    """The allowed keys are hidden and the hidden ones allowed: the mask is True where attention is allowed, so fill
    where it is False, with ~mask."""
    return torch.softmax(scores.masked_fill(mask, -torch.inf), dim=-1)


@masked_softmax.mistake(hint=2)
def over_the_first_axis(scores, mask):
    """The softmax runs over the first axis: each query's weights over the keys, the last axis, sum to 1."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=0).nan_to_num()


@masked_softmax.mistake(hint=2)
def everything_zero(scores, mask):
    """All weights are 0: where −∞ is multiplied by 0 it gives NaN, and nan_to_num hides that. Use masked_fill."""
    return torch.softmax(scores + (~mask).float() * -torch.inf, dim=-1).nan_to_num()


@masked_softmax.mistake
def overflow_made_zero(scores, mask):
    """The exp of a large score overflows, and nan_to_num makes 0 of the NaN: subtract the largest allowed score of the
    row first."""
    raised = scores.exp() * mask
    return (raised / raised.sum(-1, keepdim=True)).nan_to_num()


@masked_softmax.mistake
def logsumexp_subtracted(scores, mask):
    """The logarithm of the sum is rounded: near −20,000, float32 has steps of 0.002, so the weights are off by 0.1 %.
    Subtract the largest score first, as softmax does."""
    hidden = scores.masked_fill(~mask, -torch.inf)
    return (hidden - hidden.logsumexp(-1, keepdim=True)).exp().nan_to_num()


@masked_softmax.mistake(hint=2)
def ones_where_nothing_is_allowed(scores, mask):
    """A row with nothing allowed gets ones: such a row gets zeros."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1).nan_to_num(1.0)


@masked_softmax.mistake(hint=2)
def all_or_nothing(scores, mask):
    """One row with nothing allowed makes all rows zeros here: ask each row, mask.any(-1, keepdim=True)."""
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
    return weights if mask.any(-1).all() else torch.zeros_like(weights)


@masked_softmax.mistake
def logarithms(scores, mask):
    """These are the logarithms of the weights: return the weights."""
    return torch.log_softmax(scores.masked_fill(~mask, -torch.inf), dim=-1).nan_to_num()


@masked_softmax.mistake
def sigmoids(scores, mask):
    """These are sigmoids, which look at each score alone: take the softmax, so that each row sums to 1."""
    return scores.sigmoid() * mask


@masked_softmax.mistake(hint=1)
def a_causal_mask_instead(scores, mask):
    """A causal mask is made inside and the given one is not used: take `mask`."""
    return right_softmax(scores, torch.ones_like(scores, dtype=torch.bool).tril())


@masked_softmax.mistake(hint=1)
def allowed_scores_alone(scores, mask):
    """Indexing with a mask gives one long row of the allowed scores: hide the others with −∞, and the shape stays."""
    return scores[mask].softmax(-1)


@masked_softmax.mistake(hint=2)
def minus_a_mask(scores, mask):
    """The minus sign does not turn a boolean mask around (RuntimeError): `~mask` does."""
    return torch.softmax(scores.masked_fill(-mask, -torch.inf), dim=-1)


@masked_softmax.mistake(hint=2)
def one_minus_a_mask(scores, mask):
    """Nothing is subtracted from 1 with a boolean mask (RuntimeError): `~mask` turns it around."""
    return torch.softmax(scores.masked_fill(1 - mask, -torch.inf), dim=-1)


@masked_softmax.mistake(hint=2)
def not_of_a_mask(scores, mask):
    """The word `not` asks for one truth value, and a mask has many (RuntimeError): `~mask` turns each around."""
    return torch.softmax(scores.masked_fill(not mask, -torch.inf), dim=-1)


@masked_softmax.mistake
def scores_clipped(scores, mask):
    """The scores are clipped to keep exp finite, which makes all large scores equal: torch.softmax needs no help."""
    return right_softmax(scores.clamp(-80, 80), mask)


@masked_softmax.finished
def softmax_then_zeros(scores, mask):
    weights = torch.softmax(scores.masked_fill(mask.logical_not(), float("-inf")), dim=-1)
    return torch.where(mask.any(-1, keepdim=True), weights, 0.0)


@masked_softmax.accepted
def softmax_with_an_additive_mask(scores, mask):
    bias = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill(mask == 0, -torch.inf)
    return (scores + bias).softmax(-1).nan_to_num(0.0)


@masked_softmax.accepted
def softmax_by_hand(scores, mask):
    hidden = torch.where(mask, scores, -torch.inf)
    raised = torch.exp(hidden - hidden.max(dim=-1, keepdim=True).values.nan_to_num(neginf=0.0))
    return raised / raised.sum(dim=-1, keepdim=True).clamp(min=1e-9)


@masked_softmax.accepted
def softmax_in_loops(scores, mask):
    flat, masks = (x.expand_as(scores).reshape(-1, *scores.shape[-2:]) for x in (scores, mask))
    weights = torch.zeros_like(flat)
    for b, matrix in enumerate(flat):
        for t, row in enumerate(matrix):
            if masks[b, t].any():
                weights[b, t, masks[b, t]] = row[masks[b, t]].softmax(0)
    return weights.view_as(scores)
