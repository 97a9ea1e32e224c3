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
    for *batch, queries, keys, d in [(2, 3, 4), (2, 3, 5, 4), (2, 3, 4, 6, 5)]:
        q, k, v = (torch.randn(*batch, length, d, generator=rng) for length in (queries, keys, keys))
        yield q, k, v, random_mask(rng, queries, keys)
    nowhere = random_mask(rng, 5, 6)
    nowhere[2] = False
    yield *(torch.randn(length, 3, generator=rng) for length in (5, 6, 6)), nowhere


def _weights(q, k, mask):
    """Right, for the mistakes that go wrong elsewhere."""
    return right_softmax(q @ k.mT / q.shape[-1] ** 0.5, mask)


@attention.mistake
def keys_summed(q, k, v, mask):
    """The weights sum up the keys: they belong to the values v."""
    weights = _weights(q, k, mask)
    return weights @ k, weights


@attention.mistake
def keys_and_values_exchanged(q, k, v, mask):
    """Keys and values are exchanged: the queries meet the keys k, and the weights sum up the values v."""
    weights = _weights(q, v, mask)
    return weights @ k, weights


@attention.mistake
def attention_not_scaled(q, k, v, mask):
    """The scores lack the 1/√d_head scale."""
    weights = right_softmax(q @ k.mT, mask)
    return weights @ v, weights


@attention.mistake
def attention_scaled_by_d(q, k, v, mask):
    """The scores are divided by d_head; divide them by its square root."""
    weights = right_softmax(q @ k.mT / q.shape[-1], mask)
    return weights @ v, weights


@attention.mistake
def scaled_after_softmax(q, k, v, mask):
    """The scale comes after the softmax: divide the scores, not the weights."""
    weights = right_softmax(q @ k.mT, mask) / q.shape[-1] ** 0.5
    return weights @ v, weights


@attention.mistake
def attention_over_the_queries(q, k, v, mask):
    """The softmax runs over the queries: each query's weights over the keys, the last axis, sum to 1."""
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    weights = torch.softmax(scores, dim=-2).nan_to_num()
    return weights @ v, weights


@attention.mistake
def attention_without_the_mask(q, k, v, mask):
    """The mask is not used: hidden keys get weight, too."""
    weights = _weights(q, k, torch.ones_like(mask))
    return weights @ v, weights


@attention.mistake
def attention_mask_upside_down(q, k, v, mask):
    """The allowed keys are hidden and the hidden ones allowed: the mask is True where attention is allowed."""
    weights = _weights(q, k, ~mask)
    return weights @ v, weights


@attention.mistake
def attention_mask_after_softmax(q, k, v, mask):
    """The mask comes after the softmax, so the weights no longer sum to 1: hide the scores first."""
    weights = _weights(q, k, torch.ones_like(mask)) * mask
    return weights @ v, weights


@attention.mistake
def attention_nan(q, k, v, mask):
    """A query that may look nowhere becomes NaN: it gets zeros. Your masked_softmax does that."""
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    return weights @ v, weights


@attention.mistake
def scores_for_weights(q, k, v, mask):
    """The output is right, and the second value holds the scores: return the weights after the softmax."""
    return _weights(q, k, mask) @ v, q @ k.mT / q.shape[-1] ** 0.5


@attention.mistake
def weights_first(q, k, v, mask):
    """Output and weights are exchanged: return (output, weights)."""
    weights = _weights(q, k, mask)
    return weights, weights @ v


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
    return [weights @ v.double(), weights]


@attention.accepted
def attention_query_by_query(q, k, v, mask):
    rows = []
    for t in range(q.shape[-2]):
        scores = (k @ q[..., t, :, None]).squeeze(-1) / math.sqrt(q.shape[-1])
        rows.append(right_softmax(scores, mask[t]))
    weights = torch.stack(rows, dim=-2)
    return (weights[..., None] * v[..., None, :, :]).sum(-2), weights
