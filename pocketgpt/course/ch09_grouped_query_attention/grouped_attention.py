"""Exercise `grouped_attention`: attention whose query heads share keys and values, without copies of them."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("output",),
    forbidden=("scaled_dot_product_attention", "repeat_interleave", "repeat", "tile", "index_select"),
    replaces="grouped_attention",
    sizes={"heads": (6, 12), "kv_heads": (2, 3)},
    gradients=("q", "k", "v"),
)
def grouped_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_head"],
    mask: Bool[Tensor, "seq keys"],
) -> Float[Tensor, "batch heads seq d_head"]:
    """PyTorch's fused operator with `enable_gqa`."""
    return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)


@grouped_attention.inputs
def _(rng):
    for heads, kv_heads in [(6, 2), (12, 3), (6, 1), (5, 5), (8, 4)]:
        q = torch.randn(2, heads, 5, 4, generator=rng)
        k, v = torch.randn(2, 2, kv_heads, 7, 4, generator=rng)
        mask = torch.ones(5, 7, dtype=torch.bool).tril(2)
        yield q, k, v, mask
    large = 30 * torch.randn(2, 6, 5, 4, generator=rng)  # scores of hundreds
    yield large, *(torch.randn(2, 2, 2, 7, 4, generator=rng)), torch.ones(5, 7, dtype=torch.bool).tril(2)


def _tiled(x, n):
    return x.repeat(1, n // x.shape[1], 1, 1)


def _expanded(x, n):
    return x.repeat_interleave(n // x.shape[1], dim=1)


def _weights(q, k, mask, scale=None):
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(~mask, -math.inf).softmax(-1)


def _by_hand(q, k, v, mask, *, keys=_expanded, values=_expanded, weights=_weights):
    """Right, for the mistakes that go wrong elsewhere."""
    n = q.shape[1]
    return weights(q, keys(k, n), mask) @ values(v, n)


@grouped_attention.mistake(hint=1)
def groups_outside(q, k, v, mask):
    """The query heads are cut as (G, H_kv), so that heads 0, 2, 4, … share: neighbors share, (H_kv, G)."""
    return _by_hand(q, k, v, mask, keys=_tiled, values=_tiled)


@grouped_attention.mistake(hint=1)
def keys_alone_in_the_wrong_order(q, k, v, mask):
    """The values are shared by neighbors, and the keys by every H_kv-th head: both are shared by neighbors."""
    return _by_hand(q, k, v, mask, keys=_tiled)


@grouped_attention.mistake(hint=1)
def values_alone_in_the_wrong_order(q, k, v, mask):
    """The keys are shared by neighbors, and the values by every H_kv-th head: both are shared by neighbors."""
    return _by_hand(q, k, v, mask, values=_tiled)


@grouped_attention.mistake(hint=1)
def first_head_for_all(q, k, v, mask):
    """Every query head reads the first key/value head: that is right only where there is a single one."""
    return _by_hand(q, k[:, :1], v[:, :1], mask)


@grouped_attention.mistake(hint=1)
def groups_in_reverse(q, k, v, mask):
    """The groups are in reverse order: the first query heads read the first key/value head."""
    return _by_hand(q, k.flip(1), v.flip(1), mask)


@grouped_attention.mistake(hint=1)
def left_to_broadcasting(q, k, v, mask):
    """Queries and keys are multiplied as they are: PyTorch broadcasts an axis of size 1, so this runs with one
    key/value head, or with as many as query heads, and with no other number."""
    return _weights(q, k, mask) @ v


def _folded(q, k):
    """(B, H_kv, G · T, d_head)"""
    return q.unflatten(1, (k.shape[1], -1)).flatten(2, 3)


@grouped_attention.mistake(hint=2)
def mask_rows_repeated_beside_themselves(q, k, v, mask):
    """The rows of the mask are repeated beside themselves, 0 0 0 1 1 1 …: the folded queries come head after head, all
    positions of one, then all of the next."""
    q_folded = _folded(q, k)
    tall = mask.repeat_interleave(q.shape[1] // k.shape[1], dim=0)
    return (_weights(q_folded, k, tall) @ v).reshape(q.shape)


@grouped_attention.mistake(hint=2)
def unfolded_in_another_order(q, k, v, mask):
    """The result is unfolded as (T, G), and the queries were folded as (G, T)."""
    group = q.shape[1] // k.shape[1]
    y = _by_hand(q, k, v, mask).unflatten(1, (k.shape[1], -1)).flatten(2, 3)
    return y.unflatten(2, (-1, group)).transpose(2, 3).flatten(1, 2)


@grouped_attention.mistake(hint=3)
def output_in_the_order_of_groups(q, k, v, mask):
    """The output's heads are in another order: H_kv comes first and the group second, as in the queries."""
    y = _by_hand(q, k, v, mask)
    return y.unflatten(1, (k.shape[1], -1)).transpose(1, 2).flatten(1, 2)


@grouped_attention.mistake(hint=3)
def groups_left_as_an_axis(q, k, v, mask):
    """The output still has the groups as an axis: merge H_kv and G into n_heads."""
    return _by_hand(q, k, v, mask).unflatten(1, (k.shape[1], -1))


@grouped_attention.mistake(hint=1)
def queries_averaged(q, k, v, mask):
    """The queries of a group are averaged, so its heads return the same: only keys and values are shared."""
    mean = q.unflatten(1, (k.shape[1], -1)).mean(2)
    return _expanded(_weights(mean, k, mask) @ v, q.shape[1])


@grouped_attention.mistake(hint=1)
def one_output_for_each_group(q, k, v, mask):
    """The heads of a group are averaged in the output: every query head has an output of its own."""
    return _by_hand(q, k, v, mask).unflatten(1, (k.shape[1], -1)).mean(2)


@grouped_attention.mistake(hint=2)
def softmax_over_the_group(q, k, v, mask):
    """The softmax runs over the heads of a group, so that places hidden in all of them become NaN: it runs over the
    keys, the last axis."""
    scores = q.unflatten(1, (k.shape[1], -1)) @ k[:, :, None].mT / q.shape[-1] ** 0.5
    return (scores.masked_fill(~mask, -math.inf).softmax(2) @ v[:, :, None]).flatten(1, 2)


@grouped_attention.mistake(hint=2)
def softmax_over_the_queries(q, k, v, mask):
    """The softmax runs over the queries: it runs over the keys, the last axis."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -math.inf).softmax(-2)

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=2)
def softmax_over_the_heads(q, k, v, mask):
    """The softmax runs over all heads, axis 1: it runs over the keys, the last axis."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -math.inf).softmax(1)

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=3)
def no_scale(q, k, v, mask):
    """The scores are not divided by √d_head."""
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: _weights(q, k, mask, 1.0))


@grouped_attention.mistake(hint=3)
def divided_by_d_head(q, k, v, mask):
    """The scores are divided by d_head: divide by its root."""
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: _weights(q, k, mask, 1 / q.shape[-1]))


@grouped_attention.mistake(hint=3)
def scale_of_d_model(q, k, v, mask):
    """The scale is made from n_heads · d_head: a score sums over the numbers of one head, so it is 1/√d_head."""
    width = q.shape[1] * q.shape[-1]
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: _weights(q, k, mask, width**-0.5))


@grouped_attention.mistake(hint=3)
def scale_of_the_pocket_model(q, k, v, mask):
    """A d_head of 32 is written into the scale: take it from the shape of `q`."""
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: _weights(q, k, mask, 32**-0.5))


@grouped_attention.mistake(hint=2)
def mask_ignored(q, k, v, mask):
    """The mask is not used: hidden keys get weight, too."""
    return _by_hand(q, k, v, torch.ones_like(mask))


@grouped_attention.mistake(hint=2)
def mask_upside_down(q, k, v, mask):
    """The mask is used upside down: True means that looking is allowed."""
    return _by_hand(q, k, v, ~mask)


@grouped_attention.mistake(hint=2)
def causal_whatever_the_mask(q, k, v, mask):
    """A causal mask is made here, whatever `mask` says: the caller knows where queries and keys stand."""
    return _by_hand(q, k, v, torch.ones_like(mask).tril())


@grouped_attention.mistake(hint=2)
def masked_after_the_softmax(q, k, v, mask):
    """Weights are set to zero after the softmax, so that rows no longer sum to 1: mask the scores, before it."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * mask

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=2)
def filled_with_zero(q, k, v, mask):
    """Hidden scores are 0, which is a score like any other: fill them with −infinity."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5 * mask).softmax(-1)

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=3)
def softmax_forgotten(q, k, v, mask):
    """The scores themselves are used as weights: a softmax over the keys comes between."""
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: q @ k.mT / q.shape[-1] ** 0.5 * mask)


@grouped_attention.mistake(hint=3)
def keys_for_values(q, k, v, mask):
    """The weighted mean is of the keys: it is of the values."""
    return _by_hand(q, k, k, mask)


@grouped_attention.mistake
def weights_returned_too(q, k, v, mask):
    """Output and weights are returned: here it is the output alone."""
    n = q.shape[1]
    weights = _weights(q, _expanded(k, n), mask)
    return weights @ _expanded(v, n), weights


@grouped_attention.finished
def queries_folded(q, k, v, mask):
    kv_heads, d_head = k.shape[1], q.shape[-1]
    folded = q.unflatten(1, (kv_heads, -1)).flatten(2, 3)
    scores = folded @ k.transpose(-2, -1) / math.sqrt(d_head)
    scores = scores.unflatten(2, (-1, q.shape[2])).masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1).flatten(2, 3)
    return (weights @ v).reshape(q.shape)


@grouped_attention.accepted
def broadcast_over_groups(q, k, v, mask):
    grouped = q.reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
    scores = grouped @ k.unsqueeze(2).transpose(-2, -1) * q.shape[-1] ** -0.5
    weights = torch.where(mask, scores, -torch.inf).softmax(-1)
    return (weights @ v.unsqueeze(2)).flatten(1, 2)


@grouped_attention.accepted
def with_einsum(q, k, v, mask):
    grouped = q.unflatten(1, (k.shape[1], -1))
    scores = torch.einsum("bhgtd,bhsd->bhgts", grouped, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("bhgts,bhsd->bhgtd", weights, v).flatten(1, 2)


@grouped_attention.accepted
def head_by_head(q, k, v, mask):
    group, outputs = q.shape[1] // k.shape[1], []
    for h in range(q.shape[1]):
        scores = q[:, h] @ k[:, h // group].mT / q.shape[-1] ** 0.5
        outputs.append(scores.masked_fill(~mask, -math.inf).softmax(-1) @ v[:, h // group])
    return torch.stack(outputs, dim=1)
