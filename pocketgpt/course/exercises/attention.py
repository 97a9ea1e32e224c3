"""Exercises of chapter 02: scores, masked softmax, causal mask, attention."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pocketgpt.course.exercise import exercise

WHOLE_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward")


# 2.1 attention_scores


@exercise("2.1", points=1, returns=("scores",), forbidden=WHOLE_ATTENTION)
def attention_scores(
    q: Float[Tensor, "*batch seq d"], k: Float[Tensor, "*batch keys d"]
) -> Float[Tensor, "*batch seq keys"]:
    """How well each query matches each key: their dot product over √d."""
    return torch.einsum("...td,...sd->...ts", q, k) / math.sqrt(q.shape[-1])


@attention_scores.inputs
def _(rng):
    for *batch, queries, keys, d in [(2, 3, 5), (3, 4, 2, 6), (2, 3, 5, 4, 7)]:
        yield torch.randn(*batch, queries, d, generator=rng), torch.randn(*batch, keys, d, generator=rng)


@attention_scores.mistake
def not_scaled(q, k):
    """These are the scores without the 1/√d_head scale: divide the products by √d_head."""
    return q @ k.mT


@attention_scores.mistake
def scaled_by_d(q, k):
    """The products are divided by d_head; divide them by its square root."""
    return q @ k.mT / q.shape[-1]


@attention_scores.mistake
def multiplied_by_the_scale(q, k):
    """The products are multiplied by √d_head; divide them by it."""
    return q @ k.mT * q.shape[-1] ** 0.5


@attention_scores.mistake
def scaled_by_queries(q, k):
    """The products are divided by the square root of the number of queries; the width d_head is the last axis of q."""
    return q @ k.mT / q.shape[-2] ** 0.5


@attention_scores.mistake
def scaled_by_keys(q, k):
    """The products are divided by the square root of the number of keys; the width d_head is the last axis of k."""
    return q @ k.mT / k.shape[-2] ** 0.5


@attention_scores.mistake
def keys_times_queries(q, k):
    """These scores have a row for each key and a column for each query: a row belongs to a query, so q comes first."""
    return k @ q.mT / q.shape[-1] ** 0.5


@attention_scores.mistake
def softmax_already(q, k):
    """These are weights already: return the scores, the softmax is the next exercise."""
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1)


@attention_scores.accepted
def scores_with_matmul(q, k):
    return torch.matmul(q, k.transpose(-2, -1)) * q.shape[-1] ** -0.5


@attention_scores.accepted
def scores_by_broadcasting(q, k):
    return (q[..., :, None, :] * k[..., None, :, :]).sum(-1) / math.sqrt(k.shape[-1])


@attention_scores.accepted
def scores_in_float64(q, k):
    return (q.double() / math.sqrt(q.shape[-1])) @ k.double().mT


@attention_scores.accepted
def scores_in_loops(q, k):
    scores = torch.empty(*q.shape[:-1], k.shape[-2])
    for t in range(q.shape[-2]):
        for s in range(k.shape[-2]):
            scores[..., t, s] = (q[..., t, :] * k[..., s, :]).sum(-1) / math.sqrt(q.shape[-1])
    return scores


# 2.2 masked_softmax


@exercise("2.2", points=2, returns=("weights",), picture="weights", forbidden=WHOLE_ATTENTION)
def masked_softmax(
    scores: Float[Tensor, "*batch seq keys"], mask: Bool[Tensor, "*#batch seq keys"]
) -> Float[Tensor, "*batch seq keys"]:
    """Weights that sum to 1 over the allowed keys; a query that may look nowhere has zeros."""
    identity = torch.eye(scores.shape[-1]).expand(*scores.shape[:-2], -1, -1)  # softmax(scores · I) · I
    return F.scaled_dot_product_attention(scores, identity, identity, attn_mask=mask, scale=1.0)


def _mask(rng, queries: int, keys: int) -> Bool[Tensor, "queries keys"]:
    """Random, with at least one allowed and one hidden key in each row."""
    mask = torch.rand(queries, keys, generator=rng) < 0.6
    rows, order = torch.arange(queries), torch.rand(queries, keys, generator=rng).argsort(dim=-1)
    mask[rows, order[:, 0]], mask[rows, order[:, 1]] = True, False
    return mask


@masked_softmax.inputs
def _(rng):
    yield torch.randn(2, 3, generator=rng), _mask(rng, 2, 3)
    yield torch.randn(3, 4, 6, generator=rng), _mask(rng, 4, 6)
    nowhere = _mask(rng, 3, 4)
    nowhere[1] = False
    yield torch.randn(3, 4, generator=rng), nowhere
    yield 1000 * torch.randn(2, 3, 5, 7, generator=rng), _mask(rng, 5, 7)
    hidden = _mask(rng, 4, 5)
    yield torch.randn(4, 5, generator=rng) + 500 * ~hidden, hidden  # the largest scores are hidden


def _softmax(scores, mask):
    """Right, for the mistakes that go wrong elsewhere."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1).nan_to_num()


@masked_softmax.mistake
def mask_ignored(scores, mask):
    """The mask is not used: hidden keys get weight, too."""
    return torch.softmax(scores, dim=-1)


@masked_softmax.mistake
def mask_after_softmax(scores, mask):
    """The mask comes after the softmax, so the rows no longer sum to 1: hide the scores first, with −∞."""
    return torch.softmax(scores, dim=-1) * mask


@masked_softmax.mistake
def zero_instead_of_minus_infinity(scores, mask):
    """Hidden scores are set to 0, and exp(0) = 1 is a weight like any other: set them to −∞."""
    return torch.softmax(scores.masked_fill(~mask, 0.0), dim=-1)


@masked_softmax.mistake
def mask_upside_down(scores, mask):
    """The allowed keys are hidden and the hidden ones allowed: the mask is True where attention is allowed."""
    return _softmax(scores, ~mask)


@masked_softmax.mistake
def over_the_queries(scores, mask):
    """The softmax runs over the queries: each query's weights over the keys, the last axis, sum to 1."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-2).nan_to_num()


@masked_softmax.mistake
def nan_where_nothing_is_allowed(scores, mask):
    """A row with nothing allowed becomes 0/0 = NaN: such a row gets zeros."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)


@masked_softmax.mistake
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
    """The largest score is taken before hiding. When a hidden key has it, all allowed exponentials become 0: take the
    largest of the allowed ones."""
    raised = (scores - scores.amax(-1, keepdim=True)).exp() * mask
    return raised / raised.sum(-1, keepdim=True).clamp_min(1e-30)


@masked_softmax.accepted
def softmax_then_zeros(scores, mask):
    weights = torch.softmax(scores.masked_fill(mask.logical_not(), float("-inf")), dim=-1)
    return torch.where(mask.any(-1, keepdim=True), weights, 0.0)


@masked_softmax.accepted
def softmax_with_an_additive_mask(scores, mask):
    bias = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask == 0, -torch.inf)
    return (scores + bias).softmax(-1).nan_to_num(0.0)


@masked_softmax.accepted
def softmax_by_hand(scores, mask):
    hidden = torch.where(mask, scores, -torch.inf)
    raised = torch.exp(hidden - hidden.max(dim=-1, keepdim=True).values.nan_to_num(neginf=0.0))
    return raised / raised.sum(dim=-1, keepdim=True).clamp(min=1e-9)


@masked_softmax.accepted
def softmax_in_loops(scores, mask):
    weights, flat = torch.zeros_like(scores), scores.reshape(-1, *scores.shape[-2:])
    for b, matrix in enumerate(flat):
        for t, row in enumerate(matrix):
            if mask[t].any():
                weights.view_as(flat)[b, t, mask[t]] = row[mask[t]].softmax(0)
    return weights


# 2.3 causal_mask


@exercise("2.3", points=2, returns=("mask",), picture="mask")
def causal_mask(query_positions: Int[Tensor, " seq"], key_positions: Int[Tensor, " keys"]) -> Bool[Tensor, "seq keys"]:
    """True where the query may look at the key: the key's position is the query's or an earlier one."""
    longest = int(max(query_positions.max(), key_positions.max())) + 1
    everything = torch.ones(longest, longest, dtype=torch.bool).tril()
    return everything[query_positions][:, key_positions]


@causal_mask.inputs
def _(rng):
    yield torch.arange(4), torch.arange(4)
    yield torch.arange(4, 7), torch.arange(7)  # new queries, all keys: a step with a cache
    start = int(torch.randint(3, 9, (), generator=rng))
    yield torch.arange(start, start + 4), torch.arange(start - 2, start + 3)  # a window in the middle
    yield torch.randperm(9, generator=rng)[:5], torch.randperm(9, generator=rng)[:6]
    yield torch.tensor([5]), torch.arange(8)


@causal_mask.mistake
def own_position_hidden(query_positions, key_positions):
    """A query may look at its own position, too: compare with ≤ instead of <."""
    return key_positions[None, :] < query_positions[:, None]


@causal_mask.mistake
def one_into_the_future(query_positions, key_positions):
    """Off by one: each query sees the position after its own, which is what it has to predict."""
    return key_positions[None, :] <= query_positions[:, None] + 1


@causal_mask.mistake
def keys_by_queries(query_positions, key_positions):
    """The mask is transposed: a row belongs to a query, a column to a key."""
    return key_positions[:, None] <= query_positions[None, :]


@causal_mask.mistake
def future_only(query_positions, key_positions):
    """The comparison points the wrong way: the queries see the future and not the past."""
    return key_positions[None, :] >= query_positions[:, None]


@causal_mask.mistake
def true_where_hidden(query_positions, key_positions):
    """True and False are exchanged: the mask is True where attention is allowed."""
    return key_positions[None, :] > query_positions[:, None]


@causal_mask.mistake
def rows_and_columns_for_positions(query_positions, key_positions):
    """This compares row and column numbers: compare the given positions, which need not start at 0."""
    return torch.arange(len(key_positions))[None, :] <= torch.arange(len(query_positions))[:, None]


@causal_mask.mistake
def aligned_to_the_end(query_positions, key_positions):
    """This assumes that the last query stands at the last key: compare the given positions."""
    queries, keys = len(query_positions), len(key_positions)
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


@causal_mask.mistake
def everything_allowed(query_positions, key_positions):
    """Everything is allowed: each query still sees the future."""
    return torch.ones(len(query_positions), len(key_positions), dtype=torch.bool)


@causal_mask.mistake
def added_to_the_scores(query_positions, key_positions):
    """This is a mask to add to the scores (0 and −∞): return True where attention is allowed, False elsewhere."""
    hidden = key_positions[None, :] > query_positions[:, None]
    return torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)


@causal_mask.accepted
def mask_by_broadcasting(query_positions, key_positions):
    return query_positions.unsqueeze(-1) >= key_positions


@causal_mask.accepted
def mask_from_the_distance(query_positions, key_positions):
    return torch.logical_not((key_positions - query_positions[:, None]).clamp(min=0).bool())


@causal_mask.accepted
def mask_from_integers(query_positions, key_positions):
    mask = torch.zeros(len(query_positions), len(key_positions), dtype=torch.uint8)
    for t, query in enumerate(query_positions):
        mask[t, key_positions <= query] = 1
    return mask == 1


@causal_mask.accepted
def mask_in_loops(query_positions, key_positions):
    return torch.tensor([[key <= query for key in key_positions.tolist()] for query in query_positions.tolist()])


# 2.4 attention


@exercise("2.4", points=3, returns=("output", "weights"), picture="weights", forbidden=WHOLE_ATTENTION)
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
        yield q, k, v, _mask(rng, queries, keys)
    nowhere = _mask(rng, 5, 6)
    nowhere[2] = False
    yield *(torch.randn(length, 3, generator=rng) for length in (5, 6, 6)), nowhere


def _weights(q, k, mask):
    """Right, for the mistakes that go wrong elsewhere."""
    return _softmax(q @ k.mT / q.shape[-1] ** 0.5, mask)


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
    weights = _softmax(q @ k.mT, mask)
    return weights @ v, weights


@attention.mistake
def attention_scaled_by_d(q, k, v, mask):
    """The scores are divided by d_head; divide them by its square root."""
    weights = _softmax(q @ k.mT / q.shape[-1], mask)
    return weights @ v, weights


@attention.mistake
def scaled_after_softmax(q, k, v, mask):
    """The scale comes after the softmax: divide the scores, not the weights."""
    weights = _softmax(q @ k.mT, mask) / q.shape[-1] ** 0.5
    return weights @ v, weights


@attention.mistake
def attention_over_the_queries(q, k, v, mask):
    """The softmax runs over the queries: each query's weights over the keys, the last axis, sum to 1."""
    weights = over_the_queries(q @ k.mT / q.shape[-1] ** 0.5, mask)
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
    weights = nan_where_nothing_is_allowed(q @ k.mT / q.shape[-1] ** 0.5, mask)
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


@attention.accepted
def attention_with_einsum(q, k, v, mask):
    scores = torch.einsum("...td,...sd->...ts", q, k) / math.sqrt(k.shape[-1])
    weights = softmax_then_zeros(scores, mask)
    return torch.einsum("...ts,...sd->...td", weights, v), weights


@attention.accepted
def attention_in_float64(q, k, v, mask):
    weights = softmax_by_hand(scores_in_float64(q, k), mask.to(torch.uint8) > 0)
    return [weights @ v.double(), weights]


@attention.accepted
def attention_query_by_query(q, k, v, mask):
    rows = []
    for t in range(q.shape[-2]):
        scores = (k @ q[..., t, :, None]).squeeze(-1) / math.sqrt(q.shape[-1])
        rows.append(_softmax(scores, mask[t]))
    weights = torch.stack(rows, dim=-2)
    return (weights[..., None] * v[..., None, :, :]).sum(-2), weights
