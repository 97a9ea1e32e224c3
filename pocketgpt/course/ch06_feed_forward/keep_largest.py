"""Exercise `keep_largest`: all but the largest hidden numbers of each token set to 0."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("kept",),
    sizes={"d_ff": (9, 10, 11, 13)},  # a share of these is no whole number, and never equals one of another axis
    choices={"share": (0.25, 0.5, 0.625, 0.125, 1.0)},
)
def keep_largest(hidden: Float[Tensor, "*batch d_ff"], share: float) -> Float[Tensor, "*batch d_ff"]:
    """Zero all but the ⌈share · d_ff⌉ numbers of each token that are largest in size."""
    count = math.ceil(share * hidden.shape[-1])
    places = hidden.abs().topk(count, dim=-1).indices
    return torch.zeros_like(hidden).scatter(-1, places, hidden.gather(-1, places))


@keep_largest.inputs
def _(rng):
    for d_ff in (12, 13):
        yield torch.randn(5, d_ff, generator=rng), 0.25  # 3 of 12; 3.25 of 13, so 4
    one_large = torch.randn(4, 11, generator=rng)
    one_large[torch.arange(4), torch.randint(11, (4,), generator=rng)] = -30.0  # far below any share of the largest
    yield one_large, 0.5
    yield torch.randn(3, 10, generator=rng), 0.625  # 6.25, so 7: a quantile counts the gaps between, and finds 6
    yield torch.randn(3, 16, generator=rng), 0.75
    yield torch.randn(2, 3, 16, generator=rng), 0.0625  # one number a token


def _count(hidden, share):
    return math.ceil(share * hidden.shape[-1])


def _kept(hidden, places):
    """The numbers at these places of the last axis, and zeros."""
    return torch.zeros_like(hidden).scatter(-1, places, hidden.gather(-1, places))


@keep_largest.mistake(hint=1)
def by_value(hidden, share):
    """The largest by value are kept, so all large negative numbers go: large in size is what counts, `hidden.abs()`."""
    return _kept(hidden, hidden.topk(_count(hidden, share), dim=-1).indices)


@keep_largest.mistake(hint=1)
def smallest_kept(hidden, share):
    """The smallest are kept: keep those that are largest in size."""
    return _kept(hidden, hidden.abs().topk(_count(hidden, share), dim=-1, largest=False).indices)


@keep_largest.mistake(hint=1)
def lowest_kept(hidden, share):
    """The lowest by value are kept: keep those that are largest in size."""
    return _kept(hidden, hidden.topk(_count(hidden, share), dim=-1, largest=False).indices)


@keep_largest.mistake(hint=2)
def over_the_tokens(hidden, share):
    """The numbers of different tokens compete with each other: each token keeps its own, along the last axis."""
    places = hidden.abs().topk(math.ceil(share * hidden.shape[-2]), dim=-2).indices
    return torch.zeros_like(hidden).scatter(-2, places, hidden.gather(-2, places))


@keep_largest.mistake(hint=2)
def over_everything(hidden, share):
    """The largest of the whole tensor are kept, so one token may keep many and another none: choose for each token."""
    flat = hidden.flatten()
    return _kept(flat, flat.abs().topk(math.ceil(share * flat.numel())).indices).view(hidden.shape)


@keep_largest.mistake(hint=2)
def count_from_the_first_axis(hidden, share):
    """The count is a share of the first axis: it is a share of d_ff, the last one."""
    return _kept(hidden, hidden.abs().topk(math.ceil(share * hidden.shape[0]), dim=-1).indices)


@keep_largest.mistake(hint=2)
def count_from_the_second_axis(hidden, share):
    """The count is a share of the axis before the last, the tokens: it is a share of d_ff."""
    return _kept(hidden, hidden.abs().topk(math.ceil(share * hidden.shape[-2]), dim=-1).indices)


@keep_largest.mistake(hint=3)
def rounded_down(hidden, share):
    """The count is rounded down: round up, so that at least one is kept."""
    return _kept(hidden, hidden.abs().topk(int(share * hidden.shape[-1]), dim=-1).indices)


@keep_largest.mistake(hint=3)
def one_more(hidden, share):
    """One number too many is kept: where the share is a whole number, it is the count."""
    count = min(int(share * hidden.shape[-1]) + 1, hidden.shape[-1])
    return _kept(hidden, hidden.abs().topk(count, dim=-1).indices)


@keep_largest.mistake(hint=1)
def that_share_dropped(hidden, share):
    """This share of the numbers is set to 0: keep this share, and set the others to 0."""
    return hidden - _kept(hidden, hidden.abs().topk(_count(hidden, share), dim=-1, largest=False).indices)


@keep_largest.mistake(hint=1)
def largest_dropped(hidden, share):
    """The largest are set to 0 and the others kept: it is the other way round."""
    return hidden - _kept(hidden, hidden.abs().topk(_count(hidden, share), dim=-1).indices)


@keep_largest.mistake(hint=3)
def mask_returned(hidden, share):
    """This is 1 where a number is kept: return the number itself."""
    return (_kept(hidden, hidden.abs().topk(_count(hidden, share), dim=-1).indices) != 0).float()


@keep_largest.mistake(hint=3)
def sign_lost(hidden, share):
    """The kept numbers have lost their sign: the size decides which are kept, and the numbers themselves stay."""
    return _kept(hidden.abs(), hidden.abs().topk(_count(hidden, share), dim=-1).indices)


@keep_largest.mistake(hint=3)
def moved_to_the_front(hidden, share):
    """The kept numbers are at the front, ordered by size: each one stays at its place."""
    kept = torch.zeros_like(hidden)
    places = hidden.abs().topk(_count(hidden, share), dim=-1).indices
    kept[..., : places.shape[-1]] = hidden.gather(-1, places)
    return kept


@keep_largest.mistake(hint=3)
def only_the_kept(hidden, share):
    """Only the kept numbers are returned: the others stay in place, as zeros."""
    return hidden.gather(-1, hidden.abs().topk(_count(hidden, share), dim=-1).indices)


@keep_largest.mistake(hint=1)
def share_of_the_largest(hidden, share):
    """Numbers are kept that reach this share of the largest: keep this share of the count, however large they are."""
    size = hidden.abs()
    return hidden * (size >= share * size.amax(-1, keepdim=True))


@keep_largest.mistake(hint=1)
def share_of_the_sum(hidden, share):
    """Numbers are kept until they make this share of the sum of all sizes: keep this share of the count."""
    size, places = hidden.abs().sort(-1, descending=True)
    enough = size.cumsum(-1) - size < share * size.sum(-1, keepdim=True)
    return torch.zeros_like(hidden).scatter(-1, places, hidden.gather(-1, places) * enough)


@keep_largest.mistake(hint=1)
def first_ones_kept(hidden, share):
    """The first numbers of each token are kept, whatever their size."""
    return hidden * (torch.arange(hidden.shape[-1]) < _count(hidden, share))


@keep_largest.mistake
def scaled_up(hidden, share):
    """The kept numbers are divided by the share, as dropout does while training: leave them as they are."""
    return _kept(hidden, hidden.abs().topk(_count(hidden, share), dim=-1).indices) / share


def _threshold(hidden, share):
    """Size of the smallest number that is kept."""
    return hidden.abs().topk(_count(hidden, share), dim=-1).values[..., -1:]


@keep_largest.mistake(hint=1)
def negative_ones_lost(hidden, share):
    """The threshold is a size, and it is compared with `hidden`, so all negative numbers go: compare `hidden.abs()`."""
    return torch.where(hidden >= _threshold(hidden, share), hidden, 0.0)


@keep_largest.mistake(hint=3)
def above_the_threshold(hidden, share):
    """One number too few is kept: the threshold is the size of the last one to keep, so `>=` in place of `>`."""
    return torch.where(hidden.abs() > _threshold(hidden, share), hidden, 0.0)


@keep_largest.mistake(hint=3)
def rounded_to_nearest(hidden, share):
    """The count is rounded to the nearest whole number: round up, with math.ceil."""
    return _kept(hidden, hidden.abs().topk(round(share * hidden.shape[-1]), dim=-1).indices)


@keep_largest.mistake(hint=3)
def one_place_too_far(hidden, share):
    """The threshold is the first size that is not kept, so one number too many stays: sorted sizes have the last one to
    keep at count − 1, and with share 1 there is none behind it."""
    count = _count(hidden, share)
    threshold = hidden.abs().sort(dim=-1, descending=True).values[..., count : count + 1]
    return torch.where(hidden.abs() >= threshold, hidden, 0.0)


@keep_largest.mistake(hint=3)
def counted_from_the_small_end(hidden, share):
    """The threshold is counted from the smallest size on: sort descending, or count from the end."""
    threshold = hidden.abs().kthvalue(_count(hidden, share), dim=-1, keepdim=True).values
    return torch.where(hidden.abs() >= threshold, hidden, 0.0)


@keep_largest.mistake(hint=3)
def threshold_is_the_largest(hidden, share):
    """The threshold is the largest size, so one number is kept: it is the last of the count largest, `[..., -1:]`."""
    return torch.where(hidden.abs() >= hidden.abs().amax(-1, keepdim=True), hidden, 0.0)


@keep_largest.mistake(hint=2)
def threshold_without_its_axis(hidden, share):
    """The threshold has lost the last axis, so tokens are compared with those of others: keep it, `[..., -1:]`."""
    return torch.where(hidden.abs() >= _threshold(hidden, share)[..., 0], hidden, 0.0)


@keep_largest.mistake(hint=2)
def one_threshold_for_all(hidden, share):
    """One threshold serves all tokens, the lowest of theirs: each token has its own."""
    return torch.where(hidden.abs() >= _threshold(hidden, share).min(), hidden, 0.0)


@keep_largest.mistake(hint=2)
def mean_threshold_for_all(hidden, share):
    """One threshold serves all tokens, the mean of theirs: each token has its own."""
    return torch.where(hidden.abs() >= _threshold(hidden, share).mean(), hidden, 0.0)


@keep_largest.mistake(hint=2)
def along_the_first_axis(hidden, share):
    """The numbers along the first axis compete with each other: it is the last one, `dim=-1`."""
    places = hidden.abs().topk(math.ceil(share * hidden.shape[0]), dim=0).indices
    return torch.zeros_like(hidden).scatter(0, places, hidden.gather(0, places))


@keep_largest.mistake(hint=2)
def quantile(hidden, share):
    """A quantile counts the gaps between numbers, so with some widths one number too few is kept: count, with topk."""
    threshold = hidden.abs().quantile(1 - share, dim=-1, keepdim=True)
    return torch.where(hidden.abs() >= threshold, hidden, 0.0)


@keep_largest.mistake(hint=1)
def quantile_of_share(hidden, share):
    """The quantile at `share` keeps the others, 1 − share of the numbers, and a quantile counts gaps: count, with
    topk."""
    threshold = hidden.abs().quantile(share, dim=-1, keepdim=True)
    return torch.where(hidden.abs() >= threshold, hidden, 0.0)


@keep_largest.mistake(hint=2)
def places_of_all_tokens(hidden, share):
    """A number stays if its place is chosen for **any** token, because `hidden[..., places]` takes the places of all:
    use gather and scatter, or a threshold."""
    chosen = torch.zeros(hidden.shape[-1], dtype=torch.bool)
    chosen[hidden.abs().topk(_count(hidden, share), dim=-1).indices.flatten()] = True
    return hidden * chosen


@keep_largest.mistake(hint=2)
def places_taken_for_tokens(hidden, share):
    """The places are used on the first axis, `hidden[places]`: they count along the last one. Use gather and scatter,
    or a threshold."""
    places = hidden.abs().topk(_count(hidden, share)).indices
    kept = torch.zeros_like(hidden)
    kept[places] = hidden[places]
    return kept


@keep_largest.mistake(hint=2)
def places_taken_for_ranks(hidden, share):
    """What argsort returns are places, the largest number's first, and no ranks: a second argsort turns them into
    ranks."""
    return torch.where(hidden.abs().argsort(dim=-1, descending=True) < _count(hidden, share), hidden, 0.0)


@keep_largest.mistake(hint=3)
def mask_of_bools_returned(hidden, share):
    """This is True where a number is kept: return the number itself."""
    return hidden.abs() >= _threshold(hidden, share)


@keep_largest.mistake(hint=3)
def only_the_sizes_kept(hidden, share):
    """These are the sizes of the kept numbers: return the numbers themselves, at their places, and zeros."""
    return hidden.abs().topk(_count(hidden, share), dim=-1).values


@keep_largest.mistake(hint=3)
def picked_by_mask(hidden, share):
    """A mask in brackets picks the kept numbers into one long row: `torch.where` leaves them in place."""
    return hidden[hidden.abs() >= _threshold(hidden, share)]


@keep_largest.mistake(hint=3)
def picked_by_mask_in_rows(hidden, share):
    """Only the kept numbers are returned, in their order: the others stay in place, as zeros."""
    return hidden[hidden.abs() >= _threshold(hidden, share)].view(*hidden.shape[:-1], -1)


@keep_largest.mistake(hint=3)
def sorted_values(hidden, share):
    """The numbers come back sorted by value: size decides, and each one stays at its place."""
    kept = hidden.sort(dim=-1, descending=True).values
    kept[..., _count(hidden, share) :] = 0
    return kept


@keep_largest.mistake(hint=3)
def sorted_sizes(hidden, share):
    """The sizes come back, sorted: the numbers themselves are wanted, each at its place."""
    kept = hidden.abs().sort(dim=-1, descending=True).values
    kept[..., _count(hidden, share) :] = 0
    return kept


@keep_largest.mistake(hint=3)
def minus_infinity(hidden, share):
    """The others become −∞, as before a softmax: here they become 0."""
    return torch.where(hidden.abs() >= _threshold(hidden, share), hidden, -torch.inf)


@keep_largest.mistake(hint=3)
def not_a_number(hidden, share):
    """The others become NaN: they become 0."""
    return torch.where(hidden.abs() >= _threshold(hidden, share), hidden, torch.nan)


@keep_largest.mistake
def same_sum_of_sizes(hidden, share):
    """The kept numbers are scaled so that their sizes add up to as much as before: leave them as they are."""
    kept = torch.where(hidden.abs() >= _threshold(hidden, share), hidden, 0.0)
    return kept * hidden.abs().sum(-1, keepdim=True) / kept.abs().sum(-1, keepdim=True)


@keep_largest.mistake(hint=1)
def share_of_the_largest_of_all(hidden, share):
    """Numbers are kept that reach this share of the largest of all tokens: keep this share of the count, for each
    token."""
    return hidden * (hidden.abs() >= share * hidden.abs().max())


@keep_largest.mistake(hint=1)
def the_other_share(hidden, share):
    """The count is taken from 1 − share: keep this share, and set the others to 0."""
    count = max(1, math.ceil((1 - share) * hidden.shape[-1]))
    return _kept(hidden, hidden.abs().topk(count, dim=-1).indices)


@keep_largest.finished
def keep_largest_by_threshold(hidden, share):
    count = math.ceil(share * hidden.shape[-1])
    smallest_kept = hidden.abs().topk(count, dim=-1).values[..., -1:]
    return torch.where(hidden.abs() >= smallest_kept, hidden, 0.0)


@keep_largest.accepted
def keep_largest_by_mask(hidden, share):
    count = math.ceil(share * hidden.shape[-1])
    places = hidden.abs().argsort(dim=-1, descending=True)[..., :count]
    mask = torch.zeros(hidden.shape, dtype=torch.bool).scatter(-1, places, True)
    return hidden * mask


@keep_largest.accepted
def keep_largest_by_rank(hidden, share):
    rank = hidden.abs().argsort(-1).argsort(-1)
    kept = hidden.clone()
    kept[rank < int(hidden.shape[-1] * (1 - share))] = 0
    return kept


@keep_largest.accepted
def keep_largest_in_loops(hidden, share):
    rows = hidden.reshape(-1, hidden.shape[-1]).clone()
    for row in rows:
        row[row.abs().sort().indices[: len(row) - math.ceil(share * len(row))]] = 0.0
    return rows.view(hidden.shape)
