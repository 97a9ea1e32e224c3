"""Exercise `grouped_attention`: attention whose query heads share keys and values, without copies of them."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("output",),
    forbidden=("scaled_dot_product_attention", "flex_attention", "multi_head_attention_forward"),
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
    mask = torch.ones(5, 7, dtype=torch.bool).tril(2)
    # Scores of hundreds, from numbers whose products have no rounding: right answers stay close to each other.
    large = (50 * torch.randn(2, 6, 5, 4, generator=rng)).round()
    yield large, (4 * torch.randn(2, 2, 7, 4, generator=rng)).round() / 4, torch.randn(2, 2, 7, 4, generator=rng), mask
    low = torch.randint(60, 80, (2, 6, 5, 4), generator=rng).float()  # and each of them -120 or less
    keys = -1 - torch.randint(5, (2, 2, 7, 4), generator=rng) / 4
    yield low, keys, torch.randn(2, 2, 7, 4, generator=rng), mask
    keys, values = torch.randn(2, 1, 2, LONG, 32, generator=rng)
    yield torch.randn(1, 8, 1, 32, generator=rng), keys, values, torch.rand(1, LONG, generator=rng) < 0.9


LONG = 256  # keys, so many that copies of them are larger than all else in the last case
PRODUCTS = ("matmul", "__matmul__", "__rmatmul__", "einsum", "bmm", "baddbmm")


class Copies(TorchFunctionMode):
    """Notes whether a tensor of more numbers than keys and values together have is made or handed on by anything but
    a product, which may copy inside as it likes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.found = most, False

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in PRODUCTS:
            for each in result if isinstance(result, tuple | list) else (result,):
                if isinstance(each, Tensor):
                    self.found |= each.untyped_storage().nbytes() > self.most * each.element_size()
        return result


@grouped_attention.demand
def no_copies(call: Callable, inputs: tuple) -> str | None:
    """Keys and values are not repeated for the heads that share them."""
    keys = inputs[1]
    if keys.shape[2] < LONG:
        return None
    with Copies(2 * keys.numel()) as copies:
        call()
    if not copies.found:
        return None
    return (
        "The values are right, but `k` or `v` is copied: a tensor as large as with a key/value head for every query "
        "head is made. Leave them as they are, and fold the queries of a group into one taller matrix."
    )


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


def _tall(q, k, v, mask, fold=_folded, keys=lambda k: k.mT, unfold=lambda s, seq: s.unflatten(2, (-1, seq))):
    """Right, with the queries folded, in replaceable steps."""
    scores = unfold(fold(q, k) @ keys(k) / math.sqrt(q.shape[-1]), q.shape[2])
    weights = scores.masked_fill(~mask, -math.inf).softmax(-1).flatten(2, 3)
    return (weights @ v).unflatten(2, (-1, q.shape[2])).flatten(1, 2)


@grouped_attention.mistake(hint=1)
def groups_not_exchanged(q, k, v, mask):
    """The query heads are cut as (G, H_kv), and the first of these axes meets the key/value heads: cut them as
    (H_kv, G)."""
    return _tall(q, k, v, mask, fold=lambda q, k: q.unflatten(1, (-1, k.shape[1])).flatten(2, 3))


@grouped_attention.mistake(hint=1)
def groups_exchanged_and_not_back(q, k, v, mask):
    """The query heads are cut as (G, H_kv) and exchanged, and not exchanged back. Cut them as (H_kv, G): then nothing
    has to be exchanged, and neighbors share."""
    return _tall(q, k, v, mask, fold=lambda q, k: q.unflatten(1, (-1, k.shape[1])).transpose(1, 2).flatten(2, 3))


@grouped_attention.mistake(hint=1)
def index_divided_by_kv_heads(q, k, v, mask):
    """Query head h reads key/value head h // H_kv: it is h // G, with G = H / H_kv heads in a group."""
    outputs = []
    for h in range(q.shape[1]):
        j = h // k.shape[1]
        outputs.append(_weights(q[:, h], k[:, j], mask) @ v[:, j])
    return torch.stack(outputs, dim=1)


@grouped_attention.mistake(hint=1)
def last_head_for_the_others(q, k, v, mask):
    """The first H_kv query heads read a head each and all others the last one: each head serves a group of the same
    size."""
    heads = torch.arange(q.shape[1]).clamp(max=k.shape[1] - 1)
    return _weights(q, k[:, heads], mask) @ v[:, heads]


@grouped_attention.mistake(hint=2)
def folded_in_another_order(q, k, v, mask):
    """The queries are folded as (T, G), and scores and result are unfolded as (G, T)."""
    return _tall(q, k, v, mask, fold=lambda q, k: q.unflatten(1, (k.shape[1], -1)).transpose(2, 3).flatten(2, 3))


@grouped_attention.mistake(hint=2)
def heads_after_the_positions(q, k, v, mask):
    """Heads and positions are exchanged before the axes are cut, as if heads were to be merged: `q` has its heads in
    axis 1 already."""
    return _tall(q, k, v, mask, fold=lambda q, k: q.transpose(1, 2).reshape(len(q), k.shape[1], -1, q.shape[-1]))


@grouped_attention.mistake(hint=2)
def scores_unfolded_in_another_order(q, k, v, mask):
    """The scores are unfolded as (T, G), and the queries were folded as (G, T): the mask meets wrong rows."""
    return _tall(q, k, v, mask, unfold=lambda s, seq: s.unflatten(2, (seq, -1)).transpose(2, 3))


@grouped_attention.mistake(hint=3)
def left_folded(q, k, v, mask):
    """The result is still folded, (B, H_kv, G · T, d_head): give it the shape of `q`."""
    return _folded(_by_hand(q, k, v, mask), k)


@grouped_attention.mistake(hint=2)
def keys_not_transposed(q, k, v, mask):
    """The keys are not transposed: scores are queries times keys, (…, d_head) @ (d_head, S)."""
    return _tall(q, k, v, mask, keys=lambda k: k)


@grouped_attention.mistake(hint=2)
def keys_reshaped(q, k, v, mask):
    """The keys are brought to (d_head, S) by `reshape`, which mixes the numbers of several keys: transpose them."""
    return _tall(q, k, v, mask, keys=lambda k: k.reshape(k.mT.shape))


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
def softmax_over_the_kv_heads(q, k, v, mask):
    """The softmax runs over the key/value heads, axis 1, so that places hidden in all of them become NaN: it runs over
    the keys, the last axis."""
    scores = q.unflatten(1, (k.shape[1], -1)) @ k[:, :, None].mT / q.shape[-1] ** 0.5
    return (scores.masked_fill(~mask, -math.inf).softmax(1) @ v[:, :, None]).flatten(1, 2)


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


@grouped_attention.mistake(hint=3)
def multiplied_by_the_root(q, k, v, mask):
    """The scores are multiplied by √d_head: divide by it."""
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: _weights(q, k, mask, q.shape[-1] ** 0.5))


@grouped_attention.mistake(hint=3)
def scale_of_the_keys(q, k, v, mask):
    """The scale is the root of the number of keys: a score sums over the numbers of one head, so it is 1/√d_head."""
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: _weights(q, k, mask, k.shape[2] ** -0.5))


@grouped_attention.mistake(hint=3)
def scale_of_the_queries(q, k, v, mask):
    """The scale is the root of the number of queries: a score sums over the numbers of one head, so it is 1/√d_head."""
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: _weights(q, k, mask, q.shape[2] ** -0.5))


@grouped_attention.mistake(hint=3)
def scale_of_the_group(q, k, v, mask):
    """The scale has G in it: a group makes the matrix taller, and a score still sums over d_head numbers."""
    width = q.shape[1] // k.shape[1] * q.shape[-1]
    return _by_hand(q, k, v, mask, weights=lambda q, k, mask: _weights(q, k, mask, width**-0.5))


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
def causal_from_the_end(q, k, v, mask):
    """A causal mask is made here that ends at the last key, whatever `mask` says: the caller knows what is hidden."""
    return _by_hand(q, k, v, torch.ones_like(mask).tril(k.shape[2] - q.shape[2]))


@grouped_attention.mistake(hint=2)
def mask_added(q, k, v, mask):
    """The mask is added to the scores, so that allowed ones are 1 higher: fill hidden ones with −infinity."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5 + mask).softmax(-1)

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=2)
def filled_with_minus_ten(q, k, v, mask):
    """Hidden scores are a number like −10, and allowed ones can be lower: fill them with −infinity."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -10).softmax(-1)

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=2)
def filled_with_minus_a_hundred(q, k, v, mask):
    """Hidden scores are a number like −100, and allowed ones can be lower: fill them with −infinity."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -100).softmax(-1)

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=2)
def softmax_over_the_texts(q, k, v, mask):
    """The softmax runs over the texts of the batch, axis 0: it runs over the keys, the last axis."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -math.inf).softmax(0)

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=3)
def exponentials_alone(q, k, v, mask):
    """The weights are exponentials that do not sum to 1: divide by their sum over the keys, or call softmax."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -math.inf).exp()

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=3)
def overflow(q, k, v, mask):
    """The exponentials are divided by their sum, and with scores of hundreds they become infinite or all 0: subtract
    the largest score of the row before, or call softmax."""

    def weights(q, k, mask):
        exps = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -math.inf).exp()
        return exps / exps.sum(-1, keepdim=True)

    return _by_hand(q, k, v, mask, weights=weights)


@grouped_attention.mistake(hint=3)
def sigmoid(q, k, v, mask):
    """Each score goes through a sigmoid, so that weights do not sum to 1: a softmax over the keys is meant."""

    def weights(q, k, mask):
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -math.inf).sigmoid()

    return _by_hand(q, k, v, mask, weights=weights)


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
def with_a_taller_mask(q, k, v, mask):
    kv_heads, group = k.shape[1], q.shape[1] // k.shape[1]
    folded = q.reshape(len(q), kv_heads, group * q.shape[2], q.shape[-1])
    scores = folded @ k.mT / math.sqrt(q.shape[-1])
    return (scores.masked_fill(~mask.repeat(group, 1), -math.inf).softmax(-1) @ v).reshape(q.shape)


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
