"""Exercise `scaled_attention`: attention with a given scale."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=3,
    returns=("output", "weights"),
    picture="weights",
    forbidden=("scaled_dot_product_attention", "multi_head_attention_forward"),
    replaces="attention",
    choices={"scale": (None, 0.7, -1.3, 2, 0.0)},
    gradients=("q", "k", "v"),
)
def scaled_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch heads keys d_head"],
    v: Float[Tensor, "batch heads keys d_head"],
    mask: Bool[Tensor, "seq keys"],
    scale: float | int | None = None,
) -> tuple[Float[Tensor, "batch heads seq d_head"], Float[Tensor, "batch heads seq keys"]]:
    """Attention whose scores are multiplied by `scale`, 1/√d_head unless given; returns the output and the weights."""
    dtype = q.dtype
    if dtype == torch.float16:
        q, k, v = q.float(), k.float(), v.float()
    identity = torch.eye(k.shape[-2]).expand(*k.shape[:-2], -1, -1)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    weights = F.scaled_dot_product_attention(q, k, identity, attn_mask=mask, scale=scale)
    return output.to(dtype), weights.to(dtype)


@scaled_attention.inputs
def _(rng):
    # Scores around −20,000 and −5000, and far larger where they are hidden. Whole numbers and d = 4: no rounding.
    for large in (200.0, 100.0):
        q, k = (torch.randint(-1, 2, (1, 2, length, 4), generator=rng).float() for length in (5, 6))
        q[..., 0], k[..., 0], k[..., 2, 0] = -large, large, large - 10
        mask = torch.rand(5, 6, generator=rng) < 0.6
        mask[:, 1], mask[:, 2] = True, False
        yield q, k, torch.randn(1, 2, 6, 4, generator=rng), mask
    # The products are ±100,000, more than float16 can represent (65,504); scaled, they are ±12,500.
    direction = (100_000 / 64) ** 0.5 * torch.randn(64, generator=rng).sign()
    signs = 2.0 * torch.randint(2, (1, 3, 4, 1), generator=rng) - 1
    fits = torch.tensor([0.8, 1.0, -0.5, 0.0, -1.0])[torch.randperm(5, generator=rng)]
    v = torch.randn(1, 3, 5, 64, generator=rng)
    keys = (fits[:, None] * direction).expand(1, 3, -1, -1)
    for scale in (None, 0.2):
        yield (signs * direction).half(), keys.half(), v.half(), torch.ones(4, 5, dtype=torch.bool), scale


@scaled_attention.composed
def _(q, k, v, mask, scale=None, *, masked_softmax):
    weights = masked_softmax((q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT, mask)
    return weights @ v, weights


def _attend(q, k, v, mask, scale):
    """Right, for the mistakes that go wrong elsewhere."""
    weights = torch.softmax(((q * scale) @ k.mT).masked_fill(~mask, -torch.inf), dim=-1)
    return weights @ v, weights


@scaled_attention.mistake(hint=3)
def no_scale_unless_given(q, k, v, mask, scale=None):
    """Without a given scale yours uses none: None means 1/√d_head."""
    return _attend(q, k, v, mask, 1.0 if scale is None else scale)


@scaled_attention.mistake(hint=3)
def scale_of_one_over_d(q, k, v, mask, scale=None):
    """The scale is 1/d_head: it is the square root, 1/√d_head."""
    return _attend(q, k, v, mask, 1 / q.shape[-1] if scale is None else scale)


@scaled_attention.mistake(hint=3)
def root_not_inverted(q, k, v, mask, scale=None):
    """The scores are multiplied by √d_head, which makes them larger still: the scale is 1/√d_head."""
    return _attend(q, k, v, mask, q.shape[-1] ** 0.5 if scale is None else scale)


@scaled_attention.mistake(hint=2)
def scale_from_d_model(q, k, v, mask, scale=None):
    """The scale is made from d_model = heads · d_head: a score sums over one head, so it is 1/√d_head."""
    return _attend(q, k, v, mask, (q.shape[1] * q.shape[-1]) ** -0.5 if scale is None else scale)


@scaled_attention.mistake(hint=2)
def scale_from_the_length(q, k, v, mask, scale=None):
    """The scale is made from the number of queries: d_head is the last axis of q."""
    return _attend(q, k, v, mask, q.shape[-2] ** -0.5 if scale is None else scale)


@scaled_attention.mistake(hint=2)
def scale_from_the_keys(q, k, v, mask, scale=None):
    """The scale is made from the number of keys: d_head is the last axis of k."""
    return _attend(q, k, v, mask, k.shape[-2] ** -0.5 if scale is None else scale)


@scaled_attention.mistake(hint=3)
def scale_after_softmax(q, k, v, mask, scale=None):
    """The scale comes after the softmax, so the weights no longer sum to 1 and are as sharp as ever: scale before."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = _attend(q, k, v, mask, 1.0)[1] * scale
    return weights @ v, weights


@scaled_attention.mistake
def output_scaled(q, k, v, mask, scale=None):
    """The output is scaled, and the weights are not: the scale belongs to the scores."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    output, weights = _attend(q, k, v, mask, 1.0)
    return output * scale, weights


@scaled_attention.mistake(hint=1)
def scaled_twice(q, k, v, mask, scale=None):
    """Queries and keys are both scaled, so the scores are scaled twice: scale one of them."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _attend(q * scale, k, v, mask, scale)


@scaled_attention.mistake
def given_scale_divides(q, k, v, mask, scale=None):
    """The scores are divided by a given scale: multiply them by it."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5) if scale is None else _attend(q / scale, k, v, mask, 1.0)


@scaled_attention.mistake
def given_scale_ignored(q, k, v, mask, scale=None):
    """A given scale is not used: 1/√d_head is for the case that `scale` is None."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5)


@scaled_attention.mistake(hint=3)
def zero_taken_for_none(q, k, v, mask, scale=None):
    """A given scale of 0 is taken for none: ask `if scale is None`, because 0 counts as false, too."""
    return _attend(q, k, v, mask, scale or q.shape[-1] ** -0.5)


@scaled_attention.mistake(hint=1)
def products_overflow(q, k, v, mask, scale=None):
    """In float16 the products overflow before they are scaled, and ∞ − ∞ is NaN: scale the queries, then multiply."""
    scores = (q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
    return weights @ v, weights


@scaled_attention.mistake(hint=2)
def mask_before_the_scale(q, k, v, mask, scale=None):
    """The hidden scores, −∞, are scaled as well, and −∞ · 0 is NaN: scale first, then hide."""
    scores = (q @ k.mT).masked_fill(~mask, -torch.inf) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.softmax(scores, dim=-1)
    return weights @ v, weights


@scaled_attention.mistake(hint=3)
def scaled_without_the_mask(q, k, v, mask, scale=None):
    """The mask is not used: hidden keys get weight, too."""
    return _attend(q, k, v, torch.ones_like(mask), q.shape[-1] ** -0.5 if scale is None else scale)


@scaled_attention.mistake(hint=3)
def default_of_one(q, k, v, mask, scale=1.0):
    """Without `scale` yours multiplies by its default, 1.0: the default is None, which means 1/√d_head."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale)


@scaled_attention.mistake(hint=3)
def positive_scales_only(q, k, v, mask, scale=None):
    """A negative scale is taken for none: any number is allowed, ask `if scale is None`."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None or scale < 0 else scale)


@scaled_attention.mistake(hint=1)
def nan_to_zero(q, k, v, mask, scale=None):
    """In float16 the products overflow, and `nan_to_num` hides the NaN: these queries get zeros. Scale the queries
    first, then multiply, and nothing overflows."""
    scores = (q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1).nan_to_num()
    return weights @ v, weights


@scaled_attention.mistake(hint=3)
def minus_one_billion(q, k, v, mask, scale=None):
    """The number −10⁹ does not fit into float16, which ends at −65,504, and PyTorch raises RuntimeError: hide with
    −math.inf, which every dtype has."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT
    weights = torch.softmax(scores.masked_fill(~mask, -1e9), dim=-1)
    return weights @ v, weights


@scaled_attention.mistake(hint=2)
def scale_from_the_heads(q, k, v, mask, scale=None):
    """The scale is made from axis 1 of q, the number of heads: d_head is the last axis."""
    return _attend(q, k, v, mask, q.shape[1] ** -0.5 if scale is None else scale)


@scaled_attention.mistake
def given_scale_on_top(q, k, v, mask, scale=None):
    """A given scale is multiplied on top of 1/√d_head: it takes its place."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5 * (1.0 if scale is None else scale))


@scaled_attention.mistake(hint=2)
def scale_of_width_32(q, k, v, mask, scale=None):
    """Without a given scale yours takes 1/√32 whatever the width is: take q.shape[-1]."""
    return _attend(q, k, v, mask, 32**-0.5 if scale is None else scale)


@scaled_attention.mistake(hint=2)
def scale_of_width_64(q, k, v, mask, scale=None):
    """Without a given scale yours takes 1/√64 = 1/8 whatever the width is: take q.shape[-1]."""
    return _attend(q, k, v, mask, 64**-0.5 if scale is None else scale)


@scaled_attention.mistake(hint=3)
def only_above_zero(q, k, v, mask, scale=None):
    """A scale of 0 and a negative one are taken for none: any number is allowed, ask `if scale is None`."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None or scale <= 0 else scale)


@scaled_attention.mistake
def sign_of_the_scale_lost(q, k, v, mask, scale=None):
    """The sign of a given scale is lost: multiply by it as it is."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else abs(scale))


@scaled_attention.mistake
def keys_summed_here(q, k, v, mask, scale=None):
    """The weights sum up the keys: they belong to the values v."""
    weights = _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale)[1]
    return weights @ k, weights


@scaled_attention.mistake(hint=3)
def scaled_scores_for_weights(q, k, v, mask, scale=None):
    """The output is right, and the second value is the scores: return the weights after the softmax."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _attend(q, k, v, mask, scale)[0], (q * scale) @ k.mT


@scaled_attention.mistake(hint=2)
def over_the_heads(q, k, v, mask, scale=None):
    """The softmax runs over the heads, axis 1: it runs over the keys, the last axis."""
    scores = ((q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT).masked_fill(~mask, -torch.inf)
    weights = scores.softmax(1).nan_to_num()
    return weights @ v, weights


@scaled_attention.mistake
def queries_added(q, k, v, mask, scale=None):
    """The queries are added to the output, as a residual connection does: that comes outside of attention."""
    output, weights = _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale)
    return output + q, weights


@scaled_attention.mistake(hint=2)
def scale_from_the_batch(q, k, v, mask, scale=None):
    """The scale is made from len(q), the number of texts: d_head is the last axis of q."""
    return _attend(q, k, v, mask, len(q) ** -0.5 if scale is None else scale)


@scaled_attention.mistake
def division_by_a_scale_of_zero(q, k, v, mask, scale=None):
    """The scores are divided by a given scale, and 0.0 raises ZeroDivisionError: multiply them by it."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else 1 / scale)


@scaled_attention.mistake
def output_scaled_too(q, k, v, mask, scale=None):
    """The weights are right, and the output is scaled once more: the scale belongs to the scores alone."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    output, weights = _attend(q, k, v, mask, scale)
    return output * scale, weights


@scaled_attention.mistake(hint=3)
def over_the_queries_with_nan(q, k, v, mask, scale=None):
    """The softmax runs over the queries, dim=-2: each query's weights over the keys, the last axis, sum to 1."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-2)
    return weights @ v, weights


@scaled_attention.mistake(hint=2)
def hidden_before_the_scale(q, k, v, mask, scale=None):
    """The hidden scores are a large negative number that is scaled as well: a scale of 0 shows them, and a negative one
    makes them the largest. Scale first, then hide."""
    scores = (q @ k.mT).masked_fill(~mask, -1e9) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.softmax(scores, dim=-1)
    return weights @ v, weights


@scaled_attention.mistake(hint=3)
def whole_numbers_only(q, k, v, mask, scale=None):
    """The scale is rounded to a whole number, and 0.7 becomes 0: leave out int()."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else int(scale))


@scaled_attention.mistake(hint=3)
def scaled_upside_down(q, k, v, mask, scale=None):
    """The allowed keys are hidden and the hidden ones allowed: the mask is True where looking is allowed, so hide where
    it is False, with ~mask."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT
    weights = scores.masked_fill(mask, -torch.inf).softmax(-1)
    return weights @ v, weights


@scaled_attention.mistake(hint=3)
def scaled_output_alone(q, k, v, mask, scale=None):
    """Only the output is returned: return two tensors, (output, weights)."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale)[0]


@scaled_attention.mistake(hint=2)
def values_turned_here(q, k, v, mask, scale=None):
    """The values are transposed: (…, T, S) @ (…, S, d_head) needs them as they are."""
    weights = _attend(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale)[1]
    return weights @ v.mT, weights


@scaled_attention.mistake(hint=2)
def keys_turned_around(q, k, v, mask, scale=None):
    """Here `k.T` turns all four axes around: swap the last two, with k.transpose(-2, -1)."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.T
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights @ v, weights


@scaled_attention.mistake(hint=2)
def length_and_heads_swapped(q, k, v, mask, scale=None):
    """With transpose(1, 2) the heads and the keys change places: swap the last two axes, with transpose(-2, -1)."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(1, 2)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights @ v, weights


@scaled_attention.mistake
def scores_clipped_here(q, k, v, mask, scale=None):
    """The scores are clipped, which makes all large ones equal: scale the queries first, and nothing overflows."""
    scores = ((q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT).clamp(-80, 80)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights @ v, weights


@scaled_attention.finished
def queries_scaled_first(q, k, v, mask, scale=None):
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    scores = (q * scale) @ k.transpose(-2, -1)
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1).nan_to_num()
    return weights @ v, weights


@scaled_attention.accepted
def keys_scaled_first(q, k, v, mask, scale=None):
    scores = q @ (k * (k.shape[-1] ** -0.5 if scale is None else scale)).mT
    weights = torch.softmax(torch.where(mask, scores, -torch.inf), dim=-1)
    return [weights @ v, weights]


@scaled_attention.accepted
def products_in_float32(q, k, v, mask, scale=None):
    scores = torch.einsum("bhtd,bhsd->bhts", q.float(), k.float())
    scores = scores / math.sqrt(q.shape[-1]) if scale is None else scores * scale
    weights = scores.masked_fill(mask.logical_not(), float("-inf")).softmax(-1)
    return (weights @ v.float()).to(q.dtype), weights.to(q.dtype)


@scaled_attention.accepted
def one_factor_for_each(q, k, v, mask, scale=None):
    if scale is None:
        q, k = q * q.shape[-1] ** -0.25, k * k.shape[-1] ** -0.25
        scale = 1.0
    return _attend(q, k, v, mask, scale)
