"""Exercise `keep_top_k`: all but the k most likely tokens ruled out."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("filtered",),
    sizes={"vocab": (6, 7, 8, 9), "batch": (2, 3, 4, 5)},
    choices={"k": (2, 3, 4, 1, 50)},
    views=True,  # with k of at least V, the logits themselves are a right answer
)
def keep_top_k(logits: Float[Tensor, "batch vocab"], k: int) -> Float[Tensor, "batch vocab"]:
    """The k largest logits of each row unchanged, −∞ at all other tokens."""
    largest = logits.topk(min(k, logits.shape[-1]), dim=-1)
    return torch.full_like(logits, -math.inf).scatter(-1, largest.indices, largest.values)


@keep_top_k.inputs
def _(rng):
    yield torch.randn(2, 5, generator=rng), 2
    yield torch.randn(3, 6, generator=rng), 6
    yield torch.randn(3, 6, generator=rng), 7
    filtered_before = torch.randn(2, 7, generator=rng)
    filtered_before[:, ::2] = -math.inf
    yield filtered_before, 2
    yield 40 + torch.randn(4, 5, generator=rng), 3  # a 0 would be the smallest of all
    yield 100.0 * (1 + torch.rand(3, 6, generator=rng).argsort(dim=-1)), 3  # most probabilities are 0 in float32
    yield torch.randn(3, 7, generator=rng, dtype=torch.float64), 3


@keep_top_k.demand
def _(call, inputs):
    logits, kept = inputs[0], call().value
    if not torch.equal(kept[kept.isfinite()], logits[kept.isfinite()]):
        return "The logits that stay are rounded: return them unchanged, in the dtype of `logits`."
    return None


def _kept(logits, k, other=-math.inf):
    """Right, if nothing else is put in place of −∞, for the mistakes that go wrong elsewhere."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < kth, other)


@keep_top_k.mistake(hint=2)
def kth_dropped(logits, k):
    """The k-th token goes as well, because > leaves out the threshold itself: keep what is at least as large."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits <= kth, -math.inf)


@keep_top_k.mistake(hint=1)
def zeros(logits, k):
    """The others have the logit 0, which is a likely token: a token that is ruled out has −∞."""
    return _kept(logits, k, 0.0)


@keep_top_k.mistake(hint=1)
def large_negative_number(logits, k):
    """The others have a large negative number, which is not ruled out: use −∞, `-math.inf`."""
    return _kept(logits, k, -1e9)


@keep_top_k.mistake(hint=1)
def smallest_finite_number(logits, k):
    """The others have the smallest number of the dtype, which is not −∞: use `-math.inf`."""
    return _kept(logits, k, torch.finfo(logits.dtype).min)


@keep_top_k.mistake(hint=1)
def large_negative_ten_thousand(logits, k):
    """The others have −10,000, which is finite: a token that is ruled out has −∞, `-math.inf`."""
    return _kept(logits, k, -1e4)


@keep_top_k.mistake(hint=2)
def one_too_few(logits, k):
    """One token too few stays: the k-th itself is kept."""
    return _kept(logits, max(min(k, logits.shape[-1]) - 1, 1), -math.inf)


@keep_top_k.mistake(hint=2)
def k_above_the_vocabulary(logits, k):
    """This raises an error in `topk` if k is larger than the vocabulary: then everything stays."""
    kth = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_k.mistake(hint=2)
def over_the_batch(logits, k):
    """The k largest are taken over the texts of the batch: each row has its own, over the vocabulary."""
    kth = logits.topk(min(k, len(logits)), dim=0).values[-1:]
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_k.mistake(hint=2)
def of_the_whole_batch(logits, k):
    """The k largest of the whole batch stay, so some rows keep none: each row keeps its own k."""
    kth = logits.flatten().topk(min(k, logits.numel())).values[-1]
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_k.mistake(hint=2)
def threshold_of_the_first_row(logits, k):
    """Every row is compared with the threshold of the first: each row has its own."""
    kth = logits[0].topk(min(k, logits.shape[-1])).values[-1]
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_k.mistake(hint=3)
def probabilities_returned(logits, k):
    """These are probabilities: return logits, so that another filter, and the temperature, can follow."""
    return _kept(logits, k).softmax(dim=-1)


@keep_top_k.mistake(hint=3)
def probabilities_cut(logits, k):
    """This filters after the softmax, and the rest no longer sums to 1: filter the logits and return them."""
    p = logits.softmax(dim=-1)
    kth = p.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]
    return p.masked_fill(p < kth, 0.0)


@keep_top_k.mistake(hint=3)
def only_the_kept(logits, k):
    """Only the k values are returned, and nobody knows whose they are: return the whole row, each in its place."""
    return logits.topk(min(k, logits.shape[-1]), dim=-1).values


@keep_top_k.mistake(hint=1)
def threshold_on_probabilities(logits, k):
    """Probabilities are compared, and those of unlikely tokens are all rounded to 0, so more than k tokens stay:
    compare the logits."""
    p = logits.softmax(dim=-1)
    return logits.masked_fill(p < p.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:], -math.inf)


@keep_top_k.mistake(hint=1)
def smallest_kept(logits, k):
    """The smallest stay: keep the k largest."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1, largest=False).values[:, -1:]
    return logits.masked_fill(logits > kth, -math.inf)


@keep_top_k.mistake(hint=1)
def that_many_dropped(logits, k):
    """As many as k tokens are ruled out: k tokens stay."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1, largest=False).values[:, -1:]
    return logits.masked_fill(logits <= kth, -math.inf)


@keep_top_k.mistake(hint=2)
def one_too_many(logits, k):
    """One token too many stays: in a sorted row the k-th has the index k − 1."""
    ordered = logits.sort(dim=-1, descending=True).values
    threshold = ordered[:, min(k, logits.shape[-1] - 1)]
    return logits.masked_fill(logits < threshold[:, None], -math.inf)


@keep_top_k.mistake(hint=3)
def sorted_row(logits, k):
    """The row comes back sorted: each logit keeps its place, which is the id of its token."""
    ordered = logits.sort(dim=-1, descending=True).values
    ordered[:, k:] = -math.inf
    return ordered


@keep_top_k.mistake(hint=1)
def first_k_ids(logits, k):
    """The first k ids of the vocabulary stay, whatever their logits."""
    return logits.masked_fill(torch.arange(logits.shape[-1]) >= k, -math.inf)


@keep_top_k.mistake(hint=2)
def one_too_few_of_k(logits, k):
    """One token too few stays, unless k is larger than the vocabulary: the k-th itself is kept."""
    kth = logits.topk(max(1, min(k - 1, logits.shape[-1])), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_k.mistake(hint=2)
def threshold_without_its_axis(logits, k):
    """The thresholds have the shape (B,), which meets the axis of the vocabulary: keep the axis, `[:, -1:]`, so that
    each row is compared with its own."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1]
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_k.mistake(hint=2)
def threshold_of_the_lowest_row(logits, k):
    """Every row is compared with the lowest threshold of the batch: each row has its own."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values.min()
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_k.mistake(hint=3)
def log_probabilities_returned(logits, k):
    """These are log-probabilities: return the logits that stay as they are."""
    return _kept(logits.log_softmax(dim=-1), k)


@keep_top_k.mistake(hint=2)
def k_limited_by_the_batch(logits, k):
    """At most B tokens stay, as k is limited by the number of texts: limit it by the vocabulary, the last axis."""
    return _kept(logits, min(k, len(logits)))


@keep_top_k.mistake(hint=2)
def nothing_left_of_a_large_k(logits, k):
    """Where k is as large as the vocabulary or larger, everything is ruled out: then everything stays."""
    return torch.full_like(logits, -math.inf) if k >= logits.shape[-1] else _kept(logits, k)


@keep_top_k.mistake(hint=1)
def sizes_without_signs(logits, k):
    """The largest are looked for without their signs: −3 is smaller than 1."""
    size = logits.abs()
    return logits.masked_fill(size < size.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:], -math.inf)


@keep_top_k.finished
def below_the_kth(logits, k):
    k = min(k, logits.shape[-1])
    kth = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_k.accepted
def by_rank(logits, k):
    rank = logits.argsort(dim=-1, descending=True).argsort(dim=-1)
    return torch.where(rank < k, logits, -math.inf)


@keep_top_k.accepted
def row_by_row(logits, k):
    filtered = torch.full_like(logits, -math.inf)
    for row, its in zip(filtered, logits, strict=True):
        for token in sorted(range(len(its)), key=lambda i: -its[i].item())[:k]:
            row[token] = its[token]
    return filtered
