"""Exercise `keep_top_p`: the nucleus, the fewest tokens that together have probability p."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise

LN_2 = torch.tensor(2.0).log()


@exercise(
    points=2,
    returns=("filtered",),
    sizes={"vocab": (7, 8, 9, 10), "batch": (2, 3, 4, 5)},
)
def keep_top_p(logits: Float[Tensor, "batch vocab"], p: float) -> Float[Tensor, "batch vocab"]:
    """The fewest most likely tokens that together have at least probability p unchanged, −∞ at all others.

    Source: Holtzman et al. 2019 (arXiv 1904.09751).
    """
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    sums = probabilities.cumsum(dim=-1)
    enough_before = torch.nn.functional.pad(sums, (1, -1)) >= p
    return logits.masked_fill(torch.zeros_like(enough_before).scatter(-1, order, enough_before), -math.inf)


def _far_from_a_border(logits, rng, low=0.2, high=0.95):
    """A p that no sum of a row comes near, so that no rounding decides."""
    sums = logits.softmax(dim=-1).sort(dim=-1, descending=True).values.cumsum(dim=-1)
    tries = [low + (high - low) * torch.rand((), generator=rng).item() for _ in range(20)]
    return max(tries[:3] + tries[3:], key=lambda p: min(0.003, (sums - p).abs().min().item()))


@keep_top_p.values
def p(rng, logits):
    return _far_from_a_border(logits, rng)


@keep_top_p.inputs
def _(rng):
    small = 2 * torch.randn(2, 4, generator=rng)
    yield small, _far_from_a_border(small, rng, 0.5, 0.9)
    halves = torch.tensor([0.0, 1, 2, 2])  # probabilities of exactly 1/2, 1/4, 1/8, 1/8, in some order
    rows = torch.stack([-LN_2 * halves[torch.randperm(4, generator=rng)] for _ in range(3)])
    yield rows, 0.5
    yield rows + 1, 0.75  # shifted by a whole number, so that the ratios stay exact
    sure = torch.randn(3, 6, generator=rng)
    sure[torch.arange(3), torch.randint(6, (3,), generator=rng)] = 9.0  # one token has p alone
    yield sure, 0.9
    filtered_before = torch.randn(3, 8, generator=rng)
    filtered_before[:, ::2] = -math.inf
    yield filtered_before, _far_from_a_border(filtered_before, rng, 0.5, 0.9)
    flat = torch.randn(3, 9, generator=rng) / 4
    yield flat, _far_from_a_border(flat, rng, 0.4, 0.5)
    yield flat - 20, _far_from_a_border(flat, rng, 0.6, 0.8)  # logits are not to be summed


def _sorted(logits, dim=-1):
    probabilities, order = logits.softmax(dim=dim).sort(dim=dim, descending=True)
    return probabilities, order, probabilities.cumsum(dim=dim)


def _put_back(logits, order, keep):
    """−∞ where `keep`, in sorted order, is False."""
    return logits.masked_fill(~torch.zeros_like(keep).scatter(-1, order, keep), -math.inf)


def _mask(logits, p):
    """Right, for the mistakes that go wrong elsewhere: True where a token stays."""
    probabilities, order, sums = _sorted(logits)
    keep = sums - probabilities < p
    return torch.zeros_like(keep).scatter(-1, order, keep)


@keep_top_p.mistake(hint=1)
def crossing_token_dropped(logits, p):
    """The token that crosses p is dropped, so the rest has less than p, and nothing stays where one token alone has
    more: the token that crosses stays."""
    _, order, sums = _sorted(logits)
    return _put_back(logits, order, sums <= p)


@keep_top_p.mistake(hint=1)
def dropped_from_p_on(logits, p):
    """A token is ruled out if the sum up to it reaches p, so the token that reaches p goes: it stays, as the sum
    before it is what counts."""
    _, order, sums = _sorted(logits)
    return _put_back(logits, order, sums < p)


@keep_top_p.mistake(hint=1)
def first_saved_crossing_dropped(logits, p):
    """The token that crosses p is dropped unless it is the first: it always stays."""
    _, order, sums = _sorted(logits)
    keep = sums <= p
    keep[:, 0] = True
    return _put_back(logits, order, keep)


@keep_top_p.mistake(hint=1)
def extra_token_at_exactly_p(logits, p):
    """Where the sum is exactly p, one more token stays: p is reached, so compare with <, not with <=."""
    probabilities, order, sums = _sorted(logits)
    return _put_back(logits, order, sums - probabilities <= p)


@keep_top_p.mistake(hint=3)
def one_too_many(logits, p):
    """One token too many stays: the token that crosses p is the last one."""
    probabilities, order, sums = _sorted(logits)
    keep = sums - probabilities < p
    keep = torch.cat((keep[:, :1], keep[:, :-1]), dim=-1)
    return _put_back(logits, order, keep)


@keep_top_p.mistake(hint=1)
def one_minus_p(logits, p):
    """Tokens stay until they have 1 − p: they are to have p."""
    return logits.masked_fill(~_mask(logits, 1 - p), -math.inf)


@keep_top_p.mistake(hint=3)
def not_put_back(logits, p):
    """The mask is in sorted order and the logits are in the order of the vocabulary: put it back with `scatter`."""
    probabilities, _, sums = _sorted(logits)
    return logits.masked_fill(sums - probabilities >= p, -math.inf)


@keep_top_p.mistake(hint=3)
def gathered_instead_of_scattered(logits, p):
    """The mask is put back with `gather`, which sorts a second time: token order[i] gets entry i, and that is
    `scatter`."""
    probabilities, order, sums = _sorted(logits)
    return logits.masked_fill((sums - probabilities >= p).gather(-1, order), -math.inf)


@keep_top_p.mistake(hint=3)
def sorted_row(logits, p):
    """The row comes back sorted: each logit keeps its place, which is the id of its token."""
    probabilities, order, sums = _sorted(logits)
    return logits.gather(-1, order).masked_fill(sums - probabilities >= p, -math.inf)


@keep_top_p.mistake(hint=2)
def ascending(logits, p):
    """The sums begin with the least likely token, so the unlikely ones stay: sort with `descending=True`."""
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1)
    return _put_back(logits, order, probabilities.cumsum(dim=-1) - probabilities < p)


@keep_top_p.mistake(hint=2)
def unsorted(logits, p):
    """The sums run in the order of the vocabulary: sort first, the most likely token in front."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities.cumsum(dim=-1) - probabilities >= p, -math.inf)


@keep_top_p.mistake(hint=2)
def sums_of_logits(logits, p):
    """The sums are of logits: p is a probability, so take the softmax first."""
    ordered, order = logits.sort(dim=-1, descending=True)
    keep = ordered.cumsum(dim=-1) - ordered < p
    return _put_back(logits, order, keep & ordered.isfinite())


@keep_top_p.mistake(hint=2)
def over_the_batch(logits, p):
    """The softmax runs over the texts of the batch: each row is a distribution of its own, over the last axis."""
    probabilities, order = logits.softmax(dim=0).nan_to_num().sort(dim=-1, descending=True)
    return _put_back(logits, order, probabilities.cumsum(dim=-1) - probabilities < p)


@keep_top_p.mistake(hint=2)
def order_of_the_first_row(logits, p):
    """Every row gets the mask of the first: each row has its own."""
    return logits.masked_fill(~_mask(logits, p)[:1], -math.inf)


@keep_top_p.mistake(hint=1)
def each_at_least_p(logits, p):
    """A token stays if it has p alone: it is the sum of those that stay that reaches p."""
    return logits.masked_fill(logits.softmax(dim=-1) < p, -math.inf)


@keep_top_p.mistake(hint=1)
def share_of_the_largest(logits, p):
    """A token stays if it has at least p times the largest probability, which is min-p: here the sum decides."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(dim=-1, keepdim=True), -math.inf)


@keep_top_p.mistake(hint=1)
def share_of_the_vocabulary(logits, p):
    """A share p of the vocabulary stays, however likely it is: the probabilities are to sum to p."""
    kth = logits.topk(math.ceil(p * logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < kth, -math.inf)


@keep_top_p.mistake(hint=3)
def zeros(logits, p):
    """The others have the logit 0, which may be a likely token: a token that is ruled out has −∞."""
    return logits.masked_fill(~_mask(logits, p), 0.0)


@keep_top_p.mistake(hint=3)
def probabilities_returned(logits, p):
    """These are probabilities: return logits, so that other filters can follow."""
    return logits.masked_fill(~_mask(logits, p), -math.inf).softmax(dim=-1)


@keep_top_p.mistake(hint=3)
def the_kept_ruled_out(logits, p):
    """The mask is upside down: the nucleus is ruled out, and the rest stays."""
    return logits.masked_fill(_mask(logits, p), -math.inf)


@keep_top_p.mistake(hint=1)
def one_more_from_below(logits, p):
    """From the least likely token up, a token is ruled out while the sum is below 1 − p, so that after a sum of exactly
    p one more stays: rule it out at exactly 1 − p, too."""
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1)
    return _put_back(logits, order, probabilities.cumsum(dim=-1) >= 1 - p)


@keep_top_p.mistake(hint=2)
def sums_over_the_batch(logits, p):
    """The sums run over the texts of the batch: add up along each row, `cumsum(dim=-1)`."""
    probabilities, order, _ = _sorted(logits)
    return _put_back(logits, order, probabilities.cumsum(dim=0) - probabilities < p)


@keep_top_p.mistake(hint=2)
def softmax_over_the_batch(logits, p):
    """The softmax runs over the texts of the batch, and is NaN where all of them are −∞: each row is a distribution of
    its own, over the last axis."""
    probabilities, order = logits.softmax(dim=0).sort(dim=-1, descending=True)
    return _put_back(logits, order, ~(probabilities.cumsum(dim=-1) - probabilities >= p))


@keep_top_p.mistake(hint=1)
def each_at_least_the_rest(logits, p):
    """A token stays if it has 1 − p alone: it is the sum of the likelier ones that decides."""
    return logits.masked_fill(logits.softmax(dim=-1) < 1 - p, -math.inf)


@keep_top_p.mistake(hint=3)
def ruled_out_in_all_rows(logits, p):
    """What is ruled out in one row is ruled out in all, as `logits[:, order[mask]]` does it: put the mask back with
    `scatter`, row by row."""
    return logits.masked_fill(~_mask(logits, p).all(dim=0), -math.inf)


@keep_top_p.mistake(hint=2)
def as_many_as_in_the_first_row(logits, p):
    """In every row as many tokens stay as in the first: each row has a nucleus of its own."""
    probabilities, order, sums = _sorted(logits)
    return _put_back(logits, order, (sums - probabilities < p)[:1].expand_as(sums))


@keep_top_p.mistake(hint=3)
def log_probabilities_returned(logits, p):
    """These are log-probabilities: return the logits that stay as they are."""
    return logits.log_softmax(dim=-1).masked_fill(~_mask(logits, p), -math.inf)


@keep_top_p.mistake(hint=3)
def rolled(logits, p):
    """The mask is moved by one place with `roll`, so that its last entry comes to the front and rules out the most
    likely token: the first always stays."""
    _, order, sums = _sorted(logits)
    return _put_back(logits, order, (sums < p).roll(1, dims=-1))


@keep_top_p.finished
def enough_before(logits, p):
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    ruled_out = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(ruled_out, -math.inf)


@keep_top_p.accepted
def back_through_the_ranks(logits, p):
    ordered, order = torch.sort(logits, dim=-1, descending=True)
    sums = torch.cumsum(torch.softmax(ordered, dim=-1), dim=-1)
    ruled_out = sums >= p
    ruled_out[:, 1:] = ruled_out[:, :-1].clone()
    ruled_out[:, 0] = False
    return torch.where(ruled_out.gather(-1, order.argsort(dim=-1)), -math.inf, logits)


@keep_top_p.accepted
def token_by_token(logits, p):
    filtered = torch.full_like(logits, -math.inf)
    for row, its, probabilities in zip(filtered, logits, logits.softmax(-1), strict=True):
        total = 0.0
        for token in probabilities.argsort(descending=True).tolist():
            row[token] = its[token]
            total += probabilities[token].item()
            if total >= p:
                break
    return filtered
