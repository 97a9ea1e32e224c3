"""Exercise `streamed_softmax`: softmax and weighted mean, one piece at a time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch13_flash_attention.shared import LargestTensor, divided, nothing_seen, right_merge
from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("output",))
def streamed_softmax(pieces: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "*batch rows d"]:
    """PyTorch's softmax of all scores side by side, times all values."""
    scores = torch.cat([scores for scores, _ in pieces], dim=-1)
    return scores.softmax(-1).nan_to_num() @ torch.cat([values for _, values in pieces], dim=-2)


@streamed_softmax.inputs
def _(rng):
    def drawn(leading, lengths, rows=3, d=5, level=0.0, step=0.0):
        """Pieces of these lengths; the scores of each are `step` higher than those of the one before."""
        return [
            (
                level + step * i + torch.randn(*leading, rows, length, generator=rng),
                torch.randn(*leading, length, d, generator=rng),
            )
            for i, length in enumerate(lengths)
        ]

    for leading, lengths in [((), (2, 4)), ((), (3, 1, 2)), ((2,), (4, 2, 3)), ((2, 4), (3, 2)), ((), (4,))]:
        yield (drawn(leading, lengths),)
    yield (drawn((), (2, 1, 4), step=-100.0),)  # scores that fall by more than 88
    yield (drawn((), (2, 4, 3), step=100.0),)
    yield (drawn((), (3, 2), level=-120.0),)  # all far below 0
    yield (drawn((), (1,) * 7, rows=2),)
    hidden = drawn((), (2, 3, 4))
    hidden[0][0][0], hidden[1][0][1, 1:], hidden[2][0][2] = -math.inf, -math.inf, -math.inf
    yield (hidden,)  # the first row begins with a piece in which nothing is allowed
    nowhere = drawn((2,), (2, 3))
    for scores, _ in nowhere:
        scores[:, 1] = -math.inf
    yield (nowhere,)


@streamed_softmax.demand
def no_whole_rows(call, inputs):
    """No tensor is as wide as all pieces together."""
    lengths = [scores.shape[-1] for scores, _ in inputs[0]]
    rows = inputs[0][0][0].shape[-2]
    if len(lengths) < 3 or sum(lengths) <= 5:
        return None
    with LargestTensor() as seen:
        call()
    if not any(made == rows and columns >= sum(lengths) for made, columns in seen.shapes):
        return None
    return (
        f"The values are right, but all {sum(lengths)} scores of a row are put side by side again. Take in one piece "
        "after the other, and keep the state only."
    )


def _streamed(pieces, merge=right_merge, start=None, end=divided, first=None):
    scores, values = first or pieces[0]
    state = start or nothing_seen(scores.shape[:-1], values.shape[-1])
    for scores, values in pieces:
        state = merge(state, scores, values)
    return end(state[2], state[1])


@streamed_softmax.mistake(hint=1)
def softmaxes_averaged(pieces):
    """Each piece has a softmax of its own and the results are averaged: a piece with higher scores has to count more.
    Carry the state from piece to piece."""
    return sum(scores.softmax(-1).nan_to_num() @ values for scores, values in pieces) / len(pieces)


@streamed_softmax.mistake(hint=1)
def softmaxes_averaged_by_length(pieces):
    """Each piece has a softmax of its own and counts by its length: it has to count by the sum of its exps."""
    total = sum(scores.shape[-1] for scores, _ in pieces)
    return sum(s.shape[-1] * (s.softmax(-1).nan_to_num() @ values) for s, values in pieces) / total


@streamed_softmax.mistake(hint=1)
def softmaxes_added(pieces):
    """Each piece has a softmax of its own and the results are added: then the weights of a row sum to the number of
    pieces."""
    return sum(scores.softmax(-1).nan_to_num() @ values for scores, values in pieces)


@streamed_softmax.mistake(hint=3)
def never_divided(pieces):
    """The weighted sum is not divided by the total: do it once, after the last piece."""
    return _streamed(pieces, end=lambda weighted, total: weighted)


@streamed_softmax.mistake(hint=2)
def nan_where_nothing_is_allowed(pieces):
    """A row in which nothing is allowed gives 0/0, which is NaN: it should be zeros."""
    return _streamed(pieces, end=lambda weighted, total: weighted / total[..., None])


@streamed_softmax.mistake(hint=2)
def total_from_one(pieces):
    """The maximum begins at 0 and the total at 1, as if a score of 0 had been seen: begin at −∞ and at 0."""
    largest, total, weighted = nothing_seen(pieces[0][0].shape[:-1], pieces[0][1].shape[-1])
    return _streamed(pieces, start=(torch.zeros_like(largest), total + 1, weighted))


@streamed_softmax.mistake(hint=2)
def largest_from_zero(pieces):
    """The maximum begins at 0: scores far below 0 then have the exp 0, and the row is 0/0. Begin at −∞."""
    largest, total, weighted = nothing_seen(pieces[0][0].shape[:-1], pieces[0][1].shape[-1])
    return _streamed(pieces, start=(torch.zeros_like(largest), total, weighted))


@streamed_softmax.mistake(hint=1)
def only_the_first_piece(pieces):
    """Only the first piece is in the result. Move the return line out of the loop."""
    return _streamed(pieces[:1])


@streamed_softmax.mistake(hint=3)
def only_the_last_piece(pieces):
    """Only the last piece is in the result: make the first state before the loop, and carry it on."""
    return _streamed(pieces[-1:])


@streamed_softmax.mistake(hint=3)
def one_piece_left_out(pieces):
    """The last piece is left out: the loop ends too early."""
    return _streamed(pieces[:-1]) if len(pieces) > 1 else torch.zeros_like(_streamed(pieces))


@streamed_softmax.mistake(hint=3)
def first_piece_left_out(pieces):
    """The first piece is left out: it gives the shapes of the state, and has to be merged as well."""
    return _streamed(pieces[1:], start=nothing_seen(pieces[0][0].shape[:-1], pieces[0][1].shape[-1]), first=pieces[0])


@streamed_softmax.mistake(hint=3)
def first_piece_twice(pieces):
    """The first piece is merged twice, once to make the state and once in the loop: begin with (−∞, 0, 0)."""
    return _streamed([pieces[0], *pieces])


@streamed_softmax.mistake(hint=3)
def divided_at_every_piece(pieces):
    """The weighted sum is divided at every piece: what is divided once is rescaled and divided again. Divide after the
    last one."""

    def merge(state, scores, values):
        largest, total, weighted = right_merge(state, scores, values)
        return largest, total, divided(weighted, total)

    return _streamed(pieces, merge, end=lambda weighted, total: weighted)


@streamed_softmax.mistake(hint=1)
def halves(pieces):
    """The result so far and the new piece are averaged at each step, so the order of the pieces decides how much each
    counts. They count by the sums of their exps."""
    output = _streamed(pieces[:1])
    for each in pieces[1:]:
        output = (output + _streamed([each])) / 2
    return output


@streamed_softmax.mistake(hint=1)
def maximum_of_the_first_piece(pieces):
    """The maximum of the first piece is used for all: exp overflows when a later score is higher by 89. `merge_piece`
    lets it grow."""
    largest = pieces[0][0].amax(-1, keepdim=True)
    safe = torch.where(largest == -math.inf, 0.0, largest)
    total = sum((scores - safe).exp().sum(-1) for scores, _ in pieces)
    return divided(sum((scores - safe).exp() @ values for scores, values in pieces), total)


@streamed_softmax.mistake(hint=1)
def without_a_maximum(pieces):
    """No maximum is subtracted: the exp of a score of 89 is infinite, and that of −110 is 0. `merge_piece` keeps track
    of the largest."""
    total = sum(scores.exp().sum(-1) for scores, _ in pieces)
    return divided(sum(scores.exp() @ values for scores, values in pieces), total)


@streamed_softmax.mistake(hint=2)
def total_shared_by_all_rows(pieces):
    """All rows are divided by the same total: each row has its own, of shape (…, R)."""
    return _streamed(pieces, end=lambda weighted, total: weighted / total.sum())


@streamed_softmax.mistake(hint=3)
def log_sum_exp_for_the_total(pieces):
    """The weighted sum is divided by the log-sum-exp: divide by the total itself."""
    state = nothing_seen(pieces[0][0].shape[:-1], pieces[0][1].shape[-1])
    for each in pieces:
        state = right_merge(state, *each)
    return state[2] / (state[0] + state[1].log())[..., None]


@streamed_softmax.finished
def streamed_with_states(pieces):
    scores, values = pieces[0]
    largest = scores.new_full(scores.shape[:-1], -math.inf)
    total = scores.new_zeros(scores.shape[:-1])
    weighted = scores.new_zeros(*scores.shape[:-1], values.shape[-1])
    for scores, values in pieces:
        new = torch.maximum(largest, scores.amax(dim=-1))
        safe = torch.where(new == -math.inf, 0.0, new)
        factor, exps = torch.exp(largest - safe), torch.exp(scores - safe[..., None])
        weighted = factor[..., None] * weighted + exps @ values
        largest, total = new, factor * total + exps.sum(dim=-1)
    return weighted / torch.where(total == 0, 1.0, total)[..., None]


@streamed_softmax.accepted
def mean_and_log_sum_exp(pieces):
    seen, output = None, None
    for scores, values in pieces:
        new, mean = scores.logsumexp(-1), scores.softmax(-1).nan_to_num() @ values
        if seen is None:
            seen, output = new, mean
        else:
            both = torch.logaddexp(seen, new)
            old_share, new_share = ((x - both).exp().nan_to_num()[..., None] for x in (seen, new))
            seen, output = both, old_share * output + new_share * mean
    return output


@streamed_softmax.accepted
def two_passes(pieces):
    largest = torch.stack([scores.amax(-1) for scores, _ in pieces]).amax(0)
    safe = torch.where(largest == -math.inf, 0.0, largest)[..., None]
    total = sum((scores - safe).exp().sum(-1) for scores, _ in pieces)
    weighted = sum((scores - safe).exp() @ values for scores, values in pieces)
    return (weighted / total.unsqueeze(-1)).nan_to_num()
