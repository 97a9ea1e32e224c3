"""Exercise `draw`: the token whose slice of [0, 1) a number falls into."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=2,
    returns=("tokens",),
    forbidden=("multinomial", "Categorical"),
    sizes={"vocab": (6, 7, 8, 9), "batch": (3, 4, 5)},
    dtype=torch.int64,
)
def draw(probabilities: Float[Tensor, "batch vocab"], u: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Row by row, the token i with P₀ + … + Pᵢ₋₁ ≤ u < P₀ + … + Pᵢ."""
    sums = probabilities.cumsum(dim=-1)
    found = torch.searchsorted(sums, u[:, None].contiguous(), right=True)[:, 0]
    last = (probabilities > 0).long().cumsum(dim=-1).argmax(dim=-1)  # the last token that is possible
    return torch.minimum(found, last)


def _drawn(rng, batch, vocab):
    return (1.5 * torch.randn(batch, vocab, generator=rng)).softmax(dim=-1)


def _inside(probabilities, rng):
    """Numbers well inside the slice of some token: each token is as likely as any, and no rounding decides."""
    rows = torch.arange(len(probabilities))
    tokens = torch.rand(probabilities.shape, generator=rng).masked_fill(probabilities == 0, -1).argmax(dim=-1)
    place = 0.1 + 0.8 * torch.rand(len(probabilities), generator=rng)
    sums = probabilities.cumsum(dim=-1)
    return sums[rows, tokens] - (1 - place) * probabilities[rows, tokens]


@draw.values
def probabilities(rng, batch, vocab):
    return _drawn(rng, batch, vocab)


@draw.values
def u(rng, probabilities):
    return _inside(probabilities, rng)


@draw.inputs
def _(rng):
    for batch, vocab in ((3, 4), (6, 5)):
        some = _drawn(rng, batch, vocab)
        yield some, _inside(some, rng)
    halves = torch.tensor([0.25, 0.5, 0.125, 0.125]).repeat(4, 1)
    yield halves, torch.tensor([0.0, 0.25, 0.75, 0.875])  # at the borders
    yield halves.flip(-1), torch.tensor([0.5, 0.125, 0.25, 0.75])
    filtered = _drawn(rng, 4, 7)
    filtered[:, 0] = filtered[:, 3] = 0
    filtered = filtered / filtered.sum(dim=-1, keepdim=True)
    yield filtered, torch.cat((torch.zeros(1), _inside(filtered, rng)[1:]))  # 0 is no number of an impossible token
    short = torch.tensor([[0.25, 0.0, 0.7499, 0.0], [0.5, 0.25, 0.125, 0.1249], [0.0, 0.4, 0.5999, 0.0]])
    yield short, torch.tensor([0.99995, 0.99995, 0.99995])  # sums that rounding left below 1, much exaggerated


def _right(probabilities, u):
    """Right, for the mistakes that go wrong elsewhere."""
    sums = probabilities.cumsum(dim=-1)
    return (sums <= u[:, None] * sums[:, -1:]).sum(dim=-1)


@draw.mistake(hint=1)
def most_likely(probabilities, u):
    """This is always the most likely token: u decides which one."""
    return probabilities.argmax(dim=-1)


@draw.mistake(hint=2)
def wrong_side_of_a_border(probabilities, u):
    """At a border the token below is taken: a slice contains its lower end and not its upper one, so that u = 0 is
    never an impossible token."""
    sums = probabilities.cumsum(dim=-1)
    return (sums < u[:, None] * sums[:, -1:]).sum(dim=-1)


@draw.mistake(hint=3)
def past_the_end(probabilities, u):
    """Where rounding leaves the last sum at or below u, this returns an id beyond the vocabulary: take the last token
    that is possible."""
    return (probabilities.cumsum(dim=-1) <= u[:, None]).sum(dim=-1)


@draw.mistake(hint=3)
def clamped_to_the_last_id(probabilities, u):
    """Where rounding leaves the last sum at or below u, this takes the last id of the vocabulary, which may have
    probability 0: take the last token that is possible."""
    return (probabilities.cumsum(dim=-1) <= u[:, None]).sum(dim=-1).clamp_max(probabilities.shape[-1] - 1)


@draw.mistake(hint=3)
def first_id_past_the_end(probabilities, u):
    """Where rounding leaves the last sum at or below u, this takes token 0, because `argmax` of no True at all is 0."""
    return (probabilities.cumsum(dim=-1) > u[:, None]).int().argmax(dim=-1)


@draw.mistake(hint=2)
def one_number_for_all(probabilities, u):
    """The first number of u decides for every row: each row has its own."""
    return _right(probabilities, u[:1].expand(len(u)))


@draw.mistake(hint=2)
def ids_of_the_sorted_row(probabilities, u):
    """The probabilities are sorted and the place in the sorted row is returned: it is not the id of a token. No sorting
    is needed."""
    return _right(probabilities.sort(dim=-1, descending=True).values, u)


@draw.mistake(hint=3)
def probability_returned(probabilities, u):
    """This is the probability of the token: return its id."""
    return probabilities.gather(-1, _right(probabilities, u)[:, None])[:, 0]


@draw.mistake(hint=3)
def axis_kept(probabilities, u):
    """There is an axis of size 1 too many: return one id for each row, of shape (B,)."""
    return _right(probabilities, u)[:, None]


@draw.mistake(hint=2)
def one_too_far(probabilities, u):
    """This is the token after the right one: the first whose sum is above u is the one, so count the sums that are
    not."""
    return _right(probabilities, u) + 1


@draw.mistake(hint=2)
def one_too_low(probabilities, u):
    """This is the token before the right one, as if the slice of token i began at the sum with token i itself."""
    return (_right(probabilities, u) - 1).clamp_min(0)


@draw.mistake(hint=1)
def without_sums(probabilities, u):
    """The number u is compared with single probabilities: slices lie end to end, so compare with their sums."""
    return (probabilities > u[:, None]).int().argmax(dim=-1)


@draw.mistake(hint=1)
def evenly(probabilities, u):
    """The range [0, 1) is cut into equal slices, so all tokens are equally likely: a slice is as long as its
    probability."""
    return (u * probabilities.shape[-1]).long().clamp_max(probabilities.shape[-1] - 1)


@draw.mistake(hint=2)
def sums_over_the_batch(probabilities, u):
    """The sums run over the texts of the batch: add up along the vocabulary, the last axis."""
    return (probabilities.cumsum(dim=0) <= u[:, None]).sum(dim=-1)


@draw.mistake(hint=2)
def from_the_far_end(probabilities, u):
    """The slices begin with the last token of the vocabulary: token 0 has the first."""
    return probabilities.shape[-1] - 1 - _right(probabilities.flip(-1), u)


@draw.mistake(hint=2)
def sums_above_counted(probabilities, u):
    """The sums above u are counted: count those that are not, which belong to the tokens before."""
    return (probabilities.cumsum(dim=-1) > u[:, None]).sum(dim=-1)


@draw.mistake(hint=2)
def scaled_sums_above_counted(probabilities, u):
    """The sums above u times the last sum are counted: count those that are not, which belong to the tokens before."""
    sums = probabilities.cumsum(dim=-1)
    return (sums > u[:, None] * sums[:, -1:]).sum(dim=-1)


@draw.mistake(hint=1)
def likely_ones_first(probabilities, u):
    """The slices lie in the order of their probabilities, the largest first: they lie in the order of the vocabulary.
    No sorting is needed."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    return order.gather(-1, _right(ordered, u)[:, None])[:, 0]


@draw.mistake(hint=2)
def scaled_sums_over_the_batch(probabilities, u):
    """The sums run over the texts of the batch, the last one included: add up along the vocabulary, the last axis."""
    sums = probabilities.cumsum(dim=0)
    return (sums <= u[:, None] * sums[:, -1:]).sum(dim=-1)


@draw.mistake(hint=1)
def one_minus_u(probabilities, u):
    """This draws with 1 − u: slices are counted from 0 up, and u says where."""
    return _right(probabilities, 1 - u)


@draw.mistake(hint=2)
def first_at_or_above(probabilities, u):
    """At a border the token below is taken, and past the end token 0: look for the first sum **above** u, and where
    there is none take the last token that is possible."""
    return (probabilities.cumsum(dim=-1) >= u[:, None]).int().argmax(dim=-1)


@draw.mistake(hint=3)
def most_likely_past_the_end(probabilities, u):
    """Where rounding leaves the last sum at or below u, this takes the most likely token: take the last one that is
    possible."""
    found = (probabilities.cumsum(dim=-1) <= u[:, None]).sum(dim=-1)
    return torch.where(found == probabilities.shape[-1], probabilities.argmax(dim=-1), found)


@draw.mistake(hint=3)
def number_of_possible_tokens(probabilities, u):
    """The largest id allowed is the number of possible tokens less 1: with zeros between them, the last one has a
    larger id."""
    found = (probabilities.cumsum(dim=-1) <= u[:, None]).sum(dim=-1)
    return torch.minimum(found, (probabilities > 0).sum(dim=-1) - 1)


@draw.mistake(hint=2)
def nearest_sum(probabilities, u):
    """This is the token whose sum is nearest to u: it is the first whose sum is above u."""
    return (probabilities.cumsum(dim=-1) - u[:, None]).abs().argmin(dim=-1)


@draw.mistake(hint=2)
def numbers_without_an_axis(probabilities, u):
    """The numbers u have the shape (B,), which meets the axis of the vocabulary: give them an axis, `u[:, None]`."""
    return (probabilities.cumsum(dim=-1) <= u).sum(dim=-1)


@draw.finished
def sums_not_above(probabilities, u):
    sums = probabilities.cumsum(dim=-1)
    return (sums <= u[:, None] * sums[:, -1:]).sum(dim=-1)


@draw.accepted
def not_beyond_the_last(probabilities, u):
    places = torch.arange(probabilities.shape[-1])
    last = torch.where(probabilities > 0, places, -1).amax(dim=-1)
    passed = torch.cumsum(probabilities, dim=-1) <= u.unsqueeze(-1)
    return torch.minimum(passed.sum(dim=-1), last)


@draw.accepted
def walking_along(probabilities, u):
    tokens = []
    for row, number in zip(probabilities.tolist(), u.tolist(), strict=True):
        end, token = 0.0, None
        for i, p in enumerate(row):
            end += p
            if p > 0:
                token = i
            if end > number:
                break
        tokens.append(token)
    return torch.tensor(tokens)
