"""Exercise `temper`: probabilities of the next token at a temperature."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("probabilities",),
    sizes={"vocab": (6, 7, 8, 9)},
    choices={"temperature": (0.5, 2.0, 0.0, 1.0, 0.25, 1.7)},
)
def temper(logits: Float[Tensor, "batch vocab"], temperature: float) -> Float[Tensor, "batch vocab"]:
    """softmax(logits / temperature); at temperature 0 the largest logit has probability 1."""
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    return (logits / temperature).softmax(dim=-1)


@temper.inputs
def _(rng):
    for temperature in (0.0, 0.6):
        yield 2 * torch.randn(3, 5, generator=rng), temperature
    yield 300 + 100 * torch.randn(2, 6, generator=rng), 0.1  # exp overflows without the maximum
    distinct = torch.rand(3, 6, generator=rng).argsort(dim=-1)
    yield (3 + distinct / 4).half(), 0.0  # float16 ends at 65,504
    yield (20 + distinct / 4).half(), 0.0  # as large as a trained model's: 0.0004 in place of 0 overflows, too
    neighbors = torch.randn(3, 6, generator=rng)
    neighbors[:, 4] = neighbors.amax(dim=-1) + 1
    neighbors[:, 1] = torch.nextafter(neighbors[:, 4], torch.tensor(math.inf))
    yield neighbors, 0.0  # no small number tells them apart in float32
    yield torch.randn(3, 4, generator=rng) / 8, 0.15  # low, and not 0


def _right(logits, temperature):
    """Right, for the mistakes that go wrong elsewhere."""
    if temperature == 0:
        return (logits == logits.amax(dim=-1, keepdim=True)).to(logits.dtype)
    return (logits / temperature).softmax(dim=-1)


@temper.mistake(hint=1)
def divided_by_zero(logits, temperature):
    """At temperature 0 this divides by 0, and infinities become NaN: 0 needs a line of its own."""
    return (logits / temperature).softmax(dim=-1)


@temper.mistake(hint=1)
def tiny_instead_of_zero(logits, temperature):
    """A tiny number in place of temperature 0 overflows in float16, where logits / 1e-8 is infinite: give 0 a line of
    its own."""
    return (logits / max(temperature, 1e-8)).softmax(dim=-1)


@temper.mistake(hint=1)
def small_instead_of_zero(logits, temperature):
    """A small number in place of temperature 0 overflows in float16, and two logits that are close share the
    probability: give 0 a line of its own."""
    return (logits / max(temperature, 1e-4)).softmax(dim=-1)


@temper.mistake(hint=1)
def low_taken_for_zero(logits, temperature):
    """A low temperature is treated as 0: only 0 itself puts everything on the largest."""
    return _right(logits, 0 if temperature < 0.2 else temperature)


@temper.mistake(hint=1)
def multiplied(logits, temperature):
    """The logits are multiplied by the temperature, so a high one makes the likely tokens likelier: divide."""
    return _right(logits, temperature) if temperature == 0 else (logits * temperature).softmax(dim=-1)


@temper.mistake(hint=2)
def root_of_the_temperature(logits, temperature):
    """The logits are divided by the root of the temperature: divide by the temperature itself."""
    return _right(logits, temperature**0.5)


@temper.mistake(hint=2)
def probabilities_divided(logits, temperature):
    """The probabilities are divided by the temperature, so they no longer sum to 1: divide the logits, before the
    softmax."""
    return _right(logits, temperature) if temperature == 0 else logits.softmax(dim=-1) / temperature


@temper.mistake(hint=2)
def softmax_twice(logits, temperature):
    """The softmax is taken twice, the second time of probabilities, which are all alike to it: divide the logits."""
    if temperature == 0:
        return _right(logits, temperature)
    return (logits.softmax(dim=-1) / temperature).softmax(dim=-1)


@temper.mistake(hint=2)
def power_without_a_new_sum(logits, temperature):
    """These are the probabilities to the power 1/T, which is right up to a factor: divide each row by its sum."""
    return _right(logits, temperature) if temperature == 0 else logits.softmax(dim=-1) ** (1 / temperature)


@temper.mistake(hint=2)
def over_the_batch(logits, temperature):
    """The softmax runs over the texts of the batch: each row is a distribution over the vocabulary, the last axis."""
    return _right(logits, temperature) if temperature == 0 else (logits / temperature).softmax(dim=0)


@temper.mistake(hint=3)
def logits_returned(logits, temperature):
    """These are scaled logits: their softmax is missing."""
    return _right(logits, temperature) if temperature == 0 else logits / temperature


@temper.mistake(hint=3)
def logarithms_returned(logits, temperature):
    """These are logarithms of the probabilities: use softmax, not log_softmax."""
    return _right(logits, temperature) if temperature == 0 else (logits / temperature).log_softmax(dim=-1)


@temper.mistake(hint=1)
def zero_ignored(logits, temperature):
    """At temperature 0 this is the model's own distribution, as at 1: 0 puts everything on the largest logit."""
    return _right(logits, temperature or 1.0)


@temper.mistake(hint=3)
def ids_at_zero(logits, temperature):
    """At temperature 0 this returns ids of tokens: return probabilities, a 1 at that id and zeros."""
    return logits.argmax(dim=-1) if temperature == 0 else _right(logits, temperature)


@temper.mistake(hint=3)
def integers_at_zero(logits, temperature):
    """At temperature 0 the ones and zeros are integers, as `F.one_hot` makes them: convert to the logits' dtype."""
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.shape[-1])
    return _right(logits, temperature)


@temper.mistake(hint=3)
def largest_of_the_batch_at_zero(logits, temperature):
    """At temperature 0 only the largest logit of the whole batch has probability 1: every row has its own largest."""
    if temperature == 0:
        return (logits == logits.max()).to(logits.dtype)
    return _right(logits, temperature)


@temper.mistake(hint=1)
def uniform_at_zero(logits, temperature):
    """At temperature 0 all tokens are equally likely here, which is the limit of a very high one: 0 puts everything on
    the largest."""
    if temperature == 0:
        return torch.full_like(logits, 1 / logits.shape[-1])
    return _right(logits, temperature)


@temper.mistake(hint=1)
def millionth_instead_of_zero(logits, temperature):
    """One millionth in place of temperature 0, or added to it, overflows in float16, and two logits that are very close
    share the probability: give 0 a line of its own."""
    return (logits / max(temperature, 1e-6)).softmax(dim=-1)


@temper.mistake(hint=1)
def millionth_in_float32(logits, temperature):
    """One millionth in place of temperature 0 does not overflow in float32, but two logits that are very close share
    the probability: give 0 a line of its own."""
    return (logits.float() / max(temperature, 1e-6)).softmax(dim=-1).to(logits.dtype)


@temper.mistake(hint=1)
def thousandth_instead_of_zero(logits, temperature):
    """One thousandth in place of temperature 0 leaves something to logits that are close to the largest: give 0 a line
    of its own."""
    return (logits / max(temperature, 1e-3)).softmax(dim=-1)


@temper.mistake(hint=1)
def eps_instead_of_zero(logits, temperature):
    """The eps of the dtype in place of temperature 0 is not small enough: logits that are close to the largest get
    something, too. Give 0 a line of its own."""
    return (logits / max(temperature, torch.finfo(logits.dtype).eps)).softmax(dim=-1)


@temper.mistake(hint=2)
def exp_overflows(logits, temperature):
    """The exp of a large logit is infinite, and infinity divided by infinity is NaN: `softmax` subtracts the largest
    first."""
    if temperature == 0:
        return _right(logits, temperature)
    weights = (logits / temperature).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


@temper.mistake(hint=1)
def nothing_at_zero(logits, temperature):
    """At temperature 0 everything is 0, as if the NaN were replaced: the largest logit has probability 1."""
    return _right(logits, temperature) if temperature else torch.zeros_like(logits)


@temper.mistake(hint=2)
def smallest_at_zero(logits, temperature):
    """At temperature 0 the smallest logit has probability 1: it is the largest."""
    return _right(logits, temperature) if temperature else _right(-logits, 0)


@temper.mistake(hint=2)
def largest_of_all_rows_at_zero(logits, temperature):
    """At temperature 0 a row has a 1 at the largest of each row of the batch, as `zeros[:, largest] = 1` writes them:
    it has one 1, at its own largest."""
    if temperature:
        return _right(logits, temperature)
    zeros = torch.zeros_like(logits)
    zeros[:, logits.argmax(dim=-1)] = 1
    return zeros


@temper.mistake(hint=2)
def first_largest_of_the_batch_at_zero(logits, temperature):
    """At temperature 0 the place of the largest is looked for in the whole batch, so there is a single 1: every row has
    one. `argmax` needs `dim=-1`."""
    if temperature:
        return _right(logits, temperature)
    zeros = torch.zeros(logits.numel(), dtype=logits.dtype)
    zeros[logits.argmax()] = 1
    return zeros.view(logits.shape)


@temper.finished
def a_one_or_a_softmax(logits, temperature):
    if temperature == 0:
        largest = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, largest, 1.0)
    return torch.softmax(logits / temperature, dim=-1)


@temper.accepted
def where_the_maximum_is(logits, temperature):
    largest = logits.amax(dim=-1, keepdim=True)
    if temperature == 0:
        return torch.where(logits == largest, 1.0, 0.0).to(logits.dtype)
    weights = torch.exp((logits - largest) / temperature)
    return weights / weights.sum(dim=-1, keepdim=True)


@temper.accepted
def row_by_row(logits, temperature):
    rows = torch.zeros_like(logits)
    for row, its in zip(rows, logits, strict=True):
        if temperature == 0:
            row[its.argmax()] = 1
        else:
            row += (its / temperature).softmax(0)
    return rows
