"""Exercise `attention`: masked attention."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pocketgpt.course.ch02_attention.shared import WHOLE_ATTENTION, random_mask, right_softmax
from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=3,
    returns=("output", "weights"),
    picture="weights",
    forbidden=WHOLE_ATTENTION,
    replaces="attention",
    gradients=("q", "k", "v"),
)
def attention(
    q: Float[Tensor, "*batch seq d"],
    k: Float[Tensor, "*batch keys d"],
    v: Float[Tensor, "*batch keys d"],
    mask: Bool[Tensor, "seq keys"],
) -> tuple[Float[Tensor, "*batch seq d"], Float[Tensor, "*batch seq keys"]]:
    """The weighted sum of the values for each query, and the weights."""
    identity = torch.eye(k.shape[-2]).expand(*k.shape[:-2], -1, -1)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return output, F.scaled_dot_product_attention(q, k, identity, attn_mask=mask)


@attention.inputs
def _(rng):
    for queries, keys in ((5, 6), (4, 3)):
        nowhere = random_mask(rng, queries, keys)
        nowhere[2] = False
        yield *(torch.randn(length, 3, generator=rng) for length in (queries, keys, keys)), nowhere
    # Scores around −20,000, −5000 and 20,000, and far from that where hidden. Whole numbers and d = 4: no rounding.
    for large, sign in ((200.0, -1), (100.0, -1), (200.0, 1)):
        q, k = (torch.randint(-1, 2, (length, 4), generator=rng).float() for length in (5, 6))
        q[:, 0], k[:, 0], k[2, 0] = sign * large, large, large - 10
        mask = random_mask(rng, 5, 6)
        mask[:, 2] = False
        yield q, k, torch.randn(6, 4, generator=rng), mask


@attention.composed
def _(q, k, v, mask, *, attention_scores, masked_softmax):
    weights = masked_softmax(attention_scores(q, k), mask)
    return weights @ v, weights


def _weights(q, k, mask):
    """Right, for the mistakes that go wrong elsewhere."""
    return right_softmax(q @ k.mT / q.shape[-1] ** 0.5, mask)


@attention.mistake(hint=1)
def keys_summed(q, k, v, mask):
    """The weights sum up the keys: they belong to the values v."""
    weights = _weights(q, k, mask)
    return weights @ k, weights


@attention.mistake(hint=3)
def keys_and_values_exchanged(q, k, v, mask):
    """Keys and values are exchanged: the queries meet the keys k, and the weights sum up the values v."""
    weights = _weights(q, v, mask)
    return weights @ k, weights


@attention.mistake(hint=3)
def scaled_after_softmax(q, k, v, mask):
    """The scale comes after the softmax: divide the scores, not the weights."""
    weights = right_softmax(q @ k.mT, mask) / q.shape[-1] ** 0.5
    return weights @ v, weights


@attention.mistake(hint=3)
def scores_for_weights(q, k, v, mask):
    """The output is right, and the second value is the scores: return the weights after the softmax."""
    return _weights(q, k, mask) @ v, q @ k.mT / q.shape[-1] ** 0.5


@attention.mistake(hint=3)
def weights_first(q, k, v, mask):
    """Output and weights are exchanged: return (output, weights)."""
    weights = _weights(q, k, mask)
    return weights, weights @ v


@attention.mistake(hint=3)
def output_alone(q, k, v, mask):
    """Only the output is returned: return two tensors, (output, weights)."""
    return _weights(q, k, mask) @ v


@attention.mistake(hint=1)
def keys_instead_of_queries(q, k, v, mask):
    """The keys meet themselves: the scores are those of every query with every key."""
    weights = _weights(k, k, torch.ones(k.shape[-2], k.shape[-2], dtype=torch.bool))
    return weights @ v, weights


@attention.mistake(hint=3)
def equation_as_printed(q, k, v, mask):
    """The boolean mask itself is added, as the M of the equation: M is 0 where a query may look and −∞ elsewhere."""
    weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5 + mask, dim=-1)
    return weights @ v, weights


@attention.mistake
def queries_added(q, k, v, mask):
    """The queries are added to the output, as a residual connection does: that comes later, outside of attention."""
    weights = _weights(q, k, mask)
    return weights @ v + q, weights


@attention.mistake(hint=3)
def relu_for_softmax(q, k, v, mask):
    """The weights are the positive scores, by ReLU: take the softmax, so that each row sums to 1."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5).relu() * mask
    return weights @ v, weights


@attention.mistake(hint=3)
def sigmoid_for_softmax(q, k, v, mask):
    """The weights are sigmoids of the scores: take the softmax, so that each row sums to 1."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5).sigmoid() * mask
    return weights @ v, weights


@attention.mistake(hint=3)
def scores_sum_the_values(q, k, v, mask):
    """The values are summed up with the scores: that is what the weights are for, after the softmax."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores @ v, _weights(q, k, mask)


@attention.mistake(hint=3)
def hidden_scores_for_weights(q, k, v, mask):
    """The output is right, and the second value is the hidden scores: return the weights after the softmax."""
    return _weights(q, k, mask) @ v, (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)


@attention.mistake
def a_mask_of_its_own(q, k, v, mask):
    """A causal mask is made inside and the given one is not used: take `mask`."""
    weights = _weights(q, k, torch.ones_like(mask).tril())
    return weights @ v, weights


@attention.mistake
def mean_of_the_values(q, k, v, mask):
    """The weighted values are averaged over the keys: add them up. The weights make it a mean already."""
    weights = _weights(q, k, mask)
    return weights @ v / k.shape[-2], weights


@attention.mistake(hint=1)
def queries_summed(q, k, v, mask):
    """The weights sum up the queries, and their number is not that of the keys: they belong to the values v."""
    weights = _weights(q, k, mask)
    return weights @ q, weights


@attention.mistake(hint=2)
def weights_turned(q, k, v, mask):
    """The weights are transposed before they sum up the values: (…, T, S) @ (…, S, d_head) needs them as they are."""
    weights = _weights(q, k, mask)
    return weights.mT @ v, weights


@attention.mistake
def softmax_twice(q, k, v, mask):
    """There are two softmaxes: the weights of the first are what you need."""
    weights = _weights(q, k, mask).softmax(-1)
    return weights @ v, weights


@attention.mistake
def softmax_of_the_weights(q, k, v, mask):
    """There are two softmaxes, and the mask is used in both: the weights of the first are what you need."""
    weights = right_softmax(_weights(q, k, mask), mask)
    return weights @ v, weights


@attention.mistake(hint=3)
def hidden_scores_sum_the_values(q, k, v, mask):
    """The values are summed up with the scores, 0 where hidden: that is what the weights are for, after the softmax."""
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, 0.0)
    return scores @ v, _weights(q, k, mask)


@attention.mistake(hint=3)
def nan_left_in_the_weights(q, k, v, mask):
    """The output is right, and the weights are NaN where a query may look nowhere: replace the NaN in the weights,
    before the sum."""
    weights = torch.softmax((q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf), dim=-1)
    return (weights @ v).nan_to_num(), weights


@attention.mistake(hint=3)
def weights_alone(q, k, v, mask):
    """Only the weights are returned: return two tensors, (output, weights)."""
    return _weights(q, k, mask)


@attention.mistake(hint=2)
def values_turned(q, k, v, mask):
    """The values are transposed: (…, T, S) @ (…, S, d_head) needs them as they are."""
    weights = _weights(q, k, mask)
    return weights @ v.mT, weights


@attention.mistake(hint=2)
def values_first(q, k, v, mask):
    """The values come first in the product: weights @ v, (…, T, S) @ (…, S, d_head)."""
    weights = _weights(q, k, mask)
    return v @ weights, weights


@attention.mistake(hint=2)
def weights_times_values(q, k, v, mask):
    """Weights and values are multiplied number by number: take the matrix product, weights @ v."""
    weights = _weights(q, k, mask)
    return weights * v, weights


@attention.mistake(hint=2)
def output_summed_over_the_queries(q, k, v, mask):
    """The output is summed over the queries: each query keeps its own, and `@` has summed over the keys."""
    weights = _weights(q, k, mask)
    return (weights @ v).sum(-2), weights


@attention.mistake
def softmax_of_the_output(q, k, v, mask):
    """There is a softmax over the output, too: it is the weighted mean of the values as it is."""
    weights = _weights(q, k, mask)
    return (weights @ v).softmax(-1), weights


@attention.mistake(hint=3)
def values_for_keys(q, k, v, mask):
    """The queries meet the values: the scores are those of queries and keys."""
    weights = _weights(q, v, mask)
    return weights @ v, weights


@attention.mistake
def output_scaled(q, k, v, mask):
    """The output is divided by √d_head as well: the scale belongs to the scores alone."""
    weights = _weights(q, k, mask)
    return weights @ v / q.shape[-1] ** 0.5, weights


@attention.finished
def attention_with_einsum(q, k, v, mask):
    scores = torch.einsum("...td,...sd->...ts", q, k) / math.sqrt(k.shape[-1])
    weights = torch.softmax(scores.masked_fill(mask.logical_not(), float("-inf")), dim=-1)
    weights = torch.where(mask.any(-1, keepdim=True), weights, 0.0)
    return torch.einsum("...ts,...sd->...td", weights, v), weights


@attention.accepted
def attention_in_float64(q, k, v, mask):
    scores = (q.double() / math.sqrt(q.shape[-1])) @ k.double().mT
    hidden = torch.where(mask.to(torch.uint8) > 0, scores, -torch.inf)
    raised = torch.exp(hidden - hidden.max(dim=-1, keepdim=True).values.nan_to_num(neginf=0.0))
    weights = raised / raised.sum(dim=-1, keepdim=True).clamp(min=1e-9)
    return [(weights @ v.double()).type_as(v), weights.type_as(q)]


@attention.accepted
def attention_query_by_query(q, k, v, mask):
    rows = []
    for t in range(q.shape[-2]):
        scores = (k @ q[..., t, :, None]).squeeze(-1) / math.sqrt(q.shape[-1])
        rows.append(right_softmax(scores, mask[t]))
    weights = torch.stack(rows, dim=-2)
    return (weights[..., None] * v[..., None, :, :]).sum(-2), weights
