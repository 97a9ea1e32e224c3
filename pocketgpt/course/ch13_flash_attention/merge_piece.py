"""Exercise `merge_piece`: the running softmax takes in one more piece."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch13_flash_attention.shared import nothing_seen, right_merge
from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("largest", "total", "weighted"), gradients=("scores", "values"))
def merge_piece(
    state: tuple[Float[Tensor, "*batch rows"], Float[Tensor, "*batch rows"], Float[Tensor, "*batch rows d"]],
    scores: Float[Tensor, "*batch rows keys"],
    values: Float[Tensor, "*batch keys d"],
) -> tuple[Float[Tensor, "*batch rows"], Float[Tensor, "*batch rows"], Float[Tensor, "*batch rows d"]]:
    """All that was seen before is one key, whose score is its log-sum-exp and whose value is its mean; then PyTorch's
    logsumexp and softmax over it and the new keys, in float64."""
    largest, total, weighted = (x.double() for x in state)
    new = torch.cat(((largest + total.log())[..., None], scores.double()), dim=-1)
    mean = torch.where(total[..., None] > 0, weighted / total[..., None], 0.0)
    top = torch.maximum(largest, scores.double().amax(-1))
    all_exps = (new.logsumexp(-1) - top).exp().nan_to_num()
    weights = new.softmax(-1).nan_to_num()
    output = weights[..., :1] * mean + weights[..., 1:] @ values.double()
    return top.to(scores.dtype), all_exps.to(scores.dtype), (output * all_exps[..., None]).to(scores.dtype)


def _after(scores, values):
    """The state after a first piece."""
    return right_merge(nothing_seen(scores.shape[:-1], values.shape[-1]), scores, values)


@merge_piece.values
def state(rng, scores, values):
    before = 2 * torch.randn(*scores.shape[:-1], 4, generator=rng)
    return _after(before, torch.randn(*values.shape[:-2], 4, values.shape[-1], generator=rng))


@merge_piece.inputs
def _(rng):
    def numbers(*shape):
        return torch.randn(shape, generator=rng)

    for leading in ((), (2,)):
        yield nothing_seen((*leading, 3), 5), numbers(*leading, 3, 4), numbers(*leading, 4, 5)
    hidden = numbers(3, 4)
    hidden[0], hidden[1, 1:3] = -math.inf, -math.inf
    yield nothing_seen((3,), 5), hidden, numbers(4, 5)  # nothing seen, and nothing to see for the first row
    yield _after(numbers(3, 2), numbers(2, 5)), hidden, numbers(4, 5)
    large = torch.tensor([300.0, -300.0, 0.0])[:, None]
    for sign in (1, -1):  # scores that fall, rise and stay, by far more than 88, the exponent at which exp overflows
        yield _after(sign * large + numbers(3, 2), numbers(2, 5)), numbers(3, 4), numbers(4, 5)


def _parts(state, scores):
    """New maximum, the number to subtract, factor of what was there, and the exps of the piece."""
    new = torch.maximum(state[0], scores.amax(-1))
    safe = torch.where(new == -math.inf, 0.0, new)
    return new, safe, (state[0] - safe).exp(), (scores - safe[..., None]).exp()


@merge_piece.mistake(hint=1)
def total_not_rescaled(state, scores, values):
    """The old total is added as it is: its exps were taken with the old maximum, so multiply it by exp(old − new)."""
    new, _, factor, exps = _parts(state, scores)
    return new, state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=1)
def weighted_not_rescaled(state, scores, values):
    """The old weighted sum is added as it is: its exps were taken with the old maximum, too, so multiply it by
    exp(old − new), as the total."""
    new, _, factor, exps = _parts(state, scores)
    return new, factor * state[1] + exps.sum(-1), state[2] + exps @ values


@merge_piece.mistake(hint=1)
def nothing_rescaled(state, scores, values):
    """Nothing is rescaled: when the maximum grows, total and weighted sum are still relative to the old one. Multiply
    both by exp(old − new)."""
    new, _, _, exps = _parts(state, scores)
    return new, state[1] + exps.sum(-1), state[2] + exps @ values


@merge_piece.mistake(hint=3)
def divided_here(state, scores, values):
    """The weighted sum is divided by the total already: the division comes once, after the last piece."""
    new, total, weighted = right_merge(state, scores, values)
    return new, total, weighted / torch.where(total == 0, 1.0, total)[..., None]


@merge_piece.mistake(hint=3)
def divided_here_by_zero(state, scores, values):
    """The weighted sum is divided by the total already, which makes 0/0 of a row that has seen nothing: the division
    comes once, after the last piece."""
    new, total, weighted = right_merge(state, scores, values)
    return new, total, weighted / total[..., None]


@merge_piece.mistake(hint=2)
def factor_upside_down(state, scores, values):
    """The factor is upside down: it is exp(old maximum − new maximum), at most 1."""
    new, _, _, exps = _parts(state, scores)
    factor = (new - state[0]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=1)
def maximum_of_the_piece(state, scores, values):
    """The new maximum is that of the piece alone: it must not fall, or exp(old − new) overflows. Take the larger of the
    old one and the piece's."""
    new = scores.amax(-1)
    factor, exps = (state[0] - new).exp(), (scores - new[..., None]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=1)
def safe_maximum_of_the_piece(state, scores, values):
    """The new maximum is that of the piece alone, with a 0 to subtract where it is −∞: it must not fall below the old
    one, or exp(old − new) overflows. Take the larger of the two."""
    new = scores.amax(-1)
    safe = torch.where(new == -math.inf, 0.0, new)
    factor, exps = (state[0] - safe).exp(), (scores - safe[..., None]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=1)
def maximum_stays(state, scores, values):
    """The maximum stays the old one: it grows where the piece has a larger score, or exp(score − old) overflows."""
    old = state[0]
    safe = torch.where(old == -math.inf, 0.0, old)
    factor, exps = (old - safe).exp(), (scores - safe[..., None]).exp()
    return old, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=2)
def nothing_subtracted_from_the_piece(state, scores, values):
    """The exps of the piece are taken of its scores as they are, and the old parts are added as they are: everything
    is relative to the new maximum."""
    exps = scores.exp()
    return torch.maximum(state[0], scores.amax(-1)), state[1] + exps.sum(-1), state[2] + exps @ values


@merge_piece.mistake(hint=2)
def one_maximum_in_a_batch(state, scores, values):
    """The largest score of all rows is taken for each: `amax` runs over the keys alone, dim=-1."""
    highest = scores.amax((-2, -1), keepdim=True).expand(*scores.shape[:-1], 1)[..., 0]
    new = torch.maximum(state[0], highest)
    safe = torch.where(new == -math.inf, 0.0, new)
    factor, exps = (state[0] - safe).exp(), (scores - safe[..., None]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=2)
def nan_for_nothing(state, scores, values):
    """A row for which nothing was allowed so far makes NaN: −∞ − (−∞). Subtract 0 in place of a maximum of −∞."""
    new = torch.maximum(state[0], scores.amax(-1))
    factor, exps = (state[0] - new).exp(), (scores - new[..., None]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=2)
def safe_maximum_returned(state, scores, values):
    """Where nothing was allowed so far, the maximum is returned as 0: the 0 is for subtracting, the maximum stays −∞.
    Otherwise scores below 0 that come later are measured against a score that no key has."""
    _, safe, factor, exps = _parts(state, scores)
    return safe, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=2)
def exps_with_the_maximum_of_the_piece(state, scores, values):
    """The exps of the piece are taken with the piece's own maximum: subtract the new maximum from everything, else old
    and new parts have different units."""
    new, _, factor, _ = _parts(state, scores)
    own = scores.amax(-1)
    exps = (scores - torch.where(own == -math.inf, 0.0, own)[..., None]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=2)
def exps_with_the_old_maximum(state, scores, values):
    """The exps of the piece are taken with the old maximum: subtract the new one, or they overflow when scores rise."""
    new, _, factor, _ = _parts(state, scores)
    old = torch.where(state[0] == -math.inf, 0.0, state[0])
    exps = (scores - old[..., None]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=2)
def one_maximum_for_all_rows(state, scores, values):
    """One maximum is taken for all rows: each row has its own, scores.amax(dim=-1)."""
    new = torch.maximum(state[0], scores.max())
    factor, exps = (state[0] - new).exp(), (scores - new[..., None]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=2)
def total_of_all_rows(state, scores, values):
    """The exps of all rows are added up to one total: each row has its own, sum(dim=-1)."""
    new, _, factor, exps = _parts(state, scores)
    return new, factor * state[1] + exps.sum(), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=3)
def softmax_of_the_piece(state, scores, values):
    """The values of the piece are weighted with its softmax: weight them with exp(score − new maximum), undivided."""
    new, _, factor, exps = _parts(state, scores)
    weights = scores.softmax(-1).nan_to_num()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + weights @ values


@merge_piece.mistake(hint=2)
def mean_of_the_exps(state, scores, values):
    """The exps are averaged: the total is their sum."""
    new, _, factor, exps = _parts(state, scores)
    return new, factor * state[1] + exps.mean(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=3)
def piece_rescaled_too(state, scores, values):
    """The factor multiplies the exps of the piece, too: they have the new maximum already. Only what was there is
    rescaled."""
    new, _, factor, exps = _parts(state, scores)
    return new, factor * (state[1] + exps.sum(-1)), factor[..., None] * (state[2] + exps @ values)


@merge_piece.mistake(hint=3)
def old_weighted_forgotten(state, scores, values):
    """The weighted sum contains the new piece alone: add it to the rescaled old one."""
    new, _, factor, exps = _parts(state, scores)
    return new, factor * state[1] + exps.sum(-1), exps @ values


@merge_piece.mistake(hint=3)
def old_total_forgotten(state, scores, values):
    """The total contains the new piece alone: add it to the rescaled old one."""
    new, _, factor, exps = _parts(state, scores)
    return new, exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.mistake(hint=3)
def state_thrown_away(state, scores, values):
    """This is the state after the new piece alone: what was seen before has to stay in it."""
    return right_merge(nothing_seen(state[1].shape, values.shape[-1]), scores, values)


@merge_piece.mistake(hint=3)
def old_maximum_returned(state, scores, values):
    """The old maximum is returned with the new total and weighted sum: return the one that was subtracted."""
    return state[0], *right_merge(state, scores, values)[1:]


@merge_piece.mistake(hint=3)
def total_first(state, scores, values):
    """The right three tensors in another order: (largest, total, weighted)."""
    new, total, weighted = right_merge(state, scores, values)
    return total, new, weighted


@merge_piece.mistake(hint=2)
def no_maximum_subtracted(state, scores, values):
    """Nothing is subtracted before exp: it overflows from a score of 89 on. Subtract the new maximum."""
    largest, total, weighted = state
    old = torch.where(largest == -math.inf, 0.0, largest)
    exps = scores.exp()
    total = total * old.exp() + exps.sum(-1)
    return torch.maximum(largest, scores.amax(-1)), total, weighted * old.exp()[..., None] + exps @ values


@merge_piece.mistake(hint=2)
def lowest_number_for_infinity(state, scores, values):
    """Instead of −∞ there is a very low number, so a row for which nothing is allowed counts its hidden keys: exp of
    low − low is 1."""
    low = scores.clamp(min=-1e9)
    new = torch.maximum(state[0].clamp(min=-1e9), low.amax(-1))
    factor, exps = (state[0] - new).exp(), (low - new[..., None]).exp()
    return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values


@merge_piece.finished
def merge_with_where(state, scores, values):
    largest, total, weighted = state
    new = torch.maximum(largest, scores.amax(dim=-1))
    safe = torch.where(new == -math.inf, 0.0, new)
    factor = torch.exp(largest - safe)
    exps = torch.exp(scores - safe[..., None])
    return new, factor * total + exps.sum(dim=-1), factor[..., None] * weighted + exps @ values


@merge_piece.accepted
def merge_with_masked_fill(state, scores, values):
    largest, total, weighted = state
    new = torch.cat((largest[..., None], scores), dim=-1).max(dim=-1).values
    nothing = new == -math.inf
    factor = torch.exp((largest - new).masked_fill(nothing, -math.inf))
    exps = torch.exp((scores - new.unsqueeze(-1)).masked_fill(nothing[..., None], -math.inf))
    weighted = weighted * factor.unsqueeze(-1) + torch.einsum("...rk,...kd->...rd", exps, values)
    return new, total * factor + exps.sum(-1), weighted


@merge_piece.accepted
def merge_two_states(state, scores, values):
    own = scores.amax(-1)
    safe_own = own.masked_fill(own.isinf(), 0.0)
    exps = (scores - safe_own[..., None]).exp()
    new = torch.maximum(state[0], own)
    safe = new.masked_fill(new.isinf(), 0.0)
    old_factor, own_factor = (state[0] - safe).exp(), (own - safe).exp()
    total = state[1] * old_factor + exps.sum(-1) * own_factor
    return [new, total, state[2] * old_factor[..., None] + (exps @ values) * own_factor[..., None]]
