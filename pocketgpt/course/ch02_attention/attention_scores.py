"""Exercise `attention_scores`: scaled dot products."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch02_attention.shared import WHOLE_ATTENTION
from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("scores",),
    forbidden=WHOLE_ATTENTION,
    replaces="attention_scores",
    gradients=("q", "k"),
)
def attention_scores(
    q: Float[Tensor, "*batch seq d"], k: Float[Tensor, "*batch keys d"]
) -> Float[Tensor, "*batch seq keys"]:
    """Dot product of each query with each key, divided by √d."""
    return torch.einsum("...td,...sd->...ts", q, k) / math.sqrt(q.shape[-1])


@attention_scores.mistake(hint=3)
def not_scaled(q, k):
    """These are the scores without the 1/√d_head scale: divide the products by √d_head."""
    return q @ k.mT


@attention_scores.mistake(hint=3)
def scaled_by_d(q, k):
    """The products are divided by d_head; divide them by its square root."""
    return q @ k.mT / q.shape[-1]


@attention_scores.mistake(hint=3)
def multiplied_by_the_scale(q, k):
    """The products are multiplied by √d_head; divide them by it."""
    return q @ k.mT * q.shape[-1] ** 0.5


@attention_scores.mistake(hint=3)
def scaled_by_queries(q, k):
    """The products are divided by the square root of the number of queries; the width d_head is the last axis of q."""
    return q @ k.mT / q.shape[-2] ** 0.5


@attention_scores.mistake(hint=3)
def scaled_by_keys(q, k):
    """The products are divided by the square root of the number of keys; the width d_head is the last axis of k."""
    return q @ k.mT / k.shape[-2] ** 0.5


@attention_scores.mistake(hint=2)
def keys_times_queries(q, k):
    """These scores have a row for each key and a column for each query: a row belongs to a query, so q comes first."""
    return k @ q.mT / q.shape[-1] ** 0.5


@attention_scores.mistake
def softmax_already(q, k):
    """These are weights already: return the scores, the softmax is the next exercise."""
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1)


@attention_scores.mistake(hint=2)
def all_axes_turned(q, k):
    """Here `k.T` turns all axes around, those in front, too: swap the last two, with `k.transpose(-2, -1)`."""
    return q @ k.T / q.shape[-1] ** 0.5


@attention_scores.mistake(hint=2)
def keys_not_turned(q, k):
    """The keys are rows here, and a matrix product needs them as columns: swap the last two axes of `k`."""
    return q @ k / q.shape[-1] ** 0.5


@attention_scores.mistake(hint=2)
def first_two_axes_swapped(q, k):
    """With transpose(0, 1) you swap the first two axes, which are batch and heads if there are four: count from
    the end, transpose(-2, -1)."""
    return q @ k.transpose(0, 1) / q.shape[-1] ** 0.5


@attention_scores.mistake(hint=2)
def axes_for_one_batch(q, k):
    """The call transpose(1, 2) is right with one axis in front: count from the end, transpose(-2, -1)."""
    return q @ k.transpose(1, 2) / q.shape[-1] ** 0.5


@attention_scores.mistake(hint=2)
def width_from_the_second_axis(q, k):
    """The scale is made from axis 1 of q, which is d_head only without axes in front: take q.shape[-1]."""
    return q @ k.mT / q.shape[1] ** 0.5


@attention_scores.mistake(hint=2)
def axes_of_size_1_lost(q, k):
    """Axes of size 1 are gone: squeeze() removes them all, also a batch of one."""
    return (q @ k.mT / q.shape[-1] ** 0.5).squeeze()


@attention_scores.mistake(hint=2)
def reshaped(q, k):
    """With reshape or view the numbers of `k` stay in their order and land in the wrong places: swap its last two axes
    with transpose(-2, -1)."""
    return q @ k.reshape(*k.shape[:-2], k.shape[-1], k.shape[-2]) / q.shape[-1] ** 0.5


@attention_scores.mistake(hint=3)
def root_rounded_down(q, k):
    """The root of d_head is rounded down to a whole number: leave int() or // out."""
    return q @ k.mT / int(q.shape[-1] ** 0.5)


@attention_scores.mistake(hint=2)
def width_from_the_first_axis(q, k):
    """The scale is made from len(q), the first axis of q: d_head is the last, q.shape[-1]."""
    return q @ k.mT / len(q) ** 0.5


@attention_scores.mistake(hint=2)
def width_from_the_third_axis(q, k):
    """The scale is made from axis 2 of q, which is d_head only with one axis in front: take q.shape[-1]."""
    return q @ k.mT / q.shape[2] ** 0.5


@attention_scores.mistake(hint=3)
def divided_by_8(q, k):
    """Everything is divided by 8, which is √d_head where d_head is 64: take q.shape[-1]."""
    return q @ k.mT / 8


@attention_scores.mistake(hint=3)
def divided_by_the_root_of_8(q, k):
    """Everything is divided by √8, whatever the width is: take q.shape[-1]."""
    return q @ k.mT / 8**0.5


@attention_scores.mistake(hint=3)
def scaled_by_d_model(q, k):
    """The scale is made from d_model, heads times d_head: a score sums over one head, so take q.shape[-1]."""
    return q @ k.mT / (q.shape[-3] * q.shape[-1] if q.ndim > 2 else q.shape[-1]) ** 0.5


@attention_scores.mistake(hint=1)
def cosines(q, k):
    """These are cosines: the lengths of the vectors count, so divide by √d_head alone."""
    return q / q.norm(dim=-1, keepdim=True) @ (k / k.norm(dim=-1, keepdim=True)).mT


@attention_scores.mistake(hint=1)
def own_key_only(q, k):
    """Here q and k are multiplied number by number, and each query would meet one key: every query meets every key, so
    take the matrix product."""
    return (q * k).sum(-1) / q.shape[-1] ** 0.5


@attention_scores.mistake(hint=3)
def divided_by_2(q, k):
    """Everything is divided by 2, as in the table above, where d_head is 4: divide by √d_head, from q.shape[-1]."""
    return q @ k.mT / 2


@attention_scores.mistake(hint=3)
def half_of_one_over_d(q, k):
    """Here d_head divides before the 0.5, which is not its exponent: ** 0.5 is the root."""
    return q @ k.mT / q.shape[-1] * 0.5


@attention_scores.mistake(hint=2)
def width_from_the_first_axis_of_k(q, k):
    """The scale is made from k.shape[0], the first axis: d_head is the last, k.shape[-1]."""
    return q @ k.mT / k.shape[0] ** 0.5


@attention_scores.mistake(hint=2)
def width_from_the_second_axis_of_k(q, k):
    """The scale is made from axis 1 of k, which is d_head only without axes in front: take k.shape[-1]."""
    return q @ k.mT / k.shape[1] ** 0.5


@attention_scores.mistake(hint=3)
def scaled_by_all_numbers(q, k):
    """The scale is made from q.numel(), how many numbers q has in all: d_head is the last axis, q.shape[-1]."""
    return q @ k.mT / q.numel() ** 0.5


@attention_scores.mistake(hint=3)
def scaled_by_the_number_of_axes(q, k):
    """The scale is made from q.ndim, how many axes q has: d_head is the size of the last, q.shape[-1]."""
    return q @ k.mT / q.ndim**0.5


@attention_scores.mistake(hint=2)
def viewed(q, k):
    """With view the numbers of `k` stay in their order and land in the wrong places: swap its last two axes with
    transpose(-2, -1)."""
    return q @ k.view(*k.shape[:-2], k.shape[-1], k.shape[-2]) / q.shape[-1] ** 0.5


@attention_scores.mistake(hint=1)
def scaled_cosines(q, k):
    """These are cosines over √d_head: the lengths of the vectors count, so leave them as they are."""
    return q / q.norm(dim=-1, keepdim=True) @ (k / k.norm(dim=-1, keepdim=True)).mT / q.shape[-1] ** 0.5


@attention_scores.mistake(hint=3)
def root_of_everything(q, k):
    """The root is taken of the products, too, and that of a negative one is NaN: take it of d_head alone."""
    return (q @ k.mT).sqrt() / q.shape[-1]


@attention_scores.mistake(hint=3)
def root_of_the_quotients(q, k):
    """The root is taken of the quotient, and that of a negative one is NaN: take it of d_head alone."""
    return (q @ k.mT / q.shape[-1]) ** 0.5


@attention_scores.mistake(hint=1)
def number_by_number(q, k):
    """Here q and k are multiplied number by number: a score is a dot product of a query with a key, so take the matrix
    product."""
    return q * k / q.shape[-1] ** 0.5


@attention_scores.mistake
def hidden_already(q, k):
    """The scores above the diagonal are hidden already: return all, the mask comes in a later exercise."""
    return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(torch.ones(q.shape[-2], k.shape[-2]).triu(1).bool(), -torch.inf)


@attention_scores.finished
def scores_with_matmul(q, k):
    return torch.matmul(q, k.transpose(-2, -1)) * q.shape[-1] ** -0.5


@attention_scores.accepted
def scores_by_broadcasting(q, k):
    return (q[..., :, None, :] * k[..., None, :, :]).sum(-1) / math.sqrt(k.shape[-1])


@attention_scores.accepted
def scores_in_float64(q, k):
    return ((q.double() / math.sqrt(q.shape[-1])) @ k.double().mT).to(q.dtype)


@attention_scores.accepted
def scores_in_loops(q, k):
    scores = torch.empty(*q.shape[:-1], k.shape[-2])
    for t in range(q.shape[-2]):
        for s in range(k.shape[-2]):
            scores[..., t, s] = (q[..., t, :] * k[..., s, :]).sum(-1) / math.sqrt(q.shape[-1])
    return scores
