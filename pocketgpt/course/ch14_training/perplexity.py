"""Exercise `perplexity`: one number for a whole text, from the losses of its batches."""

import math

import numpy as np
import torch

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=("a nudge", "the numbers", "pseudocode"), returns=("perplexity",))
def perplexity(losses: list[float], counts: list[int]) -> float:
    """NumPy's weighted average, and exp."""
    return float(np.exp(np.average(np.array(losses), weights=np.array(counts))))


def _drawn(rng, n):
    losses = (0.5 + 3 * torch.rand(n, generator=rng)).tolist()
    return losses, (3 + torch.randperm(60, generator=rng)[:n]).tolist()


@perplexity.inputs
def _(rng):
    for n in (2, 3, 4, 6, 5, 3):
        losses, counts = _drawn(rng, n)
        order = sorted(range(n), key=lambda i: losses[i])
        counts = [c for _, c in sorted(zip(order, sorted(counts), strict=True))]  # large batches have large losses
        if n % 2:
            counts = counts[::-1]
        yield losses, counts
    yield [2.0, 4.0], [10, 10]
    yield [2.0, 4.0], [30, 10]
    yield [1.5], [7]


def _mean(losses, counts):
    return sum(loss * n for loss, n in zip(losses, counts, strict=True)) / sum(counts)


@perplexity.mistake(hint=1)
def mean_of_perplexities(losses, counts):
    """The perplexities of the batches are averaged: take the mean of the losses first, and exp of that."""
    return _mean([math.exp(loss) for loss in losses], counts)


@perplexity.mistake(hint=1)
def plain_mean_of_perplexities(losses, counts):
    """The perplexities of the batches are averaged, and every batch counts alike: take the mean over tokens of the
    losses first, and exp of that."""
    return sum(math.exp(loss) for loss in losses) / len(losses)


@perplexity.mistake(hint=1)
def batches_weighted_equally(losses, counts):
    """Every batch counts alike: a batch counts as often as it has tokens."""
    return math.exp(sum(losses) / len(losses))


@perplexity.mistake(hint=1)
def losses_taken_for_sums(losses, counts):
    """The losses are added up and divided by the number of tokens: each is a mean already, so multiply it by its number
    of tokens first."""
    return math.exp(sum(losses) / sum(counts))


@perplexity.mistake(hint=2)
def divided_by_the_batches(losses, counts):
    """The sum over tokens is divided by the number of batches: divide by the number of tokens."""
    return math.exp(min(700.0, sum(loss * n for loss, n in zip(losses, counts, strict=True)) / len(losses)))


@perplexity.mistake(hint=2)
def power_of_two(losses, counts):
    """This is 2 to the loss: the losses are in nats, so it is e to the loss."""
    return 2 ** _mean(losses, counts)


@perplexity.mistake(hint=2)
def exp_of_the_sum(losses, counts):
    """This is e to the sum of the losses: take their mean over all tokens."""
    return math.exp(sum(losses))


@perplexity.mistake(hint=2)
def exp_of_bits(losses, counts):
    """The loss is converted to bits, and then raised as a power of e: nats go with e, bits with 2."""
    return math.exp(_mean(losses, counts) / math.log(2))


@perplexity.mistake(hint=2)
def loss_returned(losses, counts):
    """This is the mean loss: return e to the power of it."""
    return _mean(losses, counts)


@perplexity.mistake(hint=2)
def sign_turned(losses, counts):
    """This is e to minus the loss, the geometric mean of the probabilities: perplexity is its inverse."""
    return math.exp(-_mean(losses, counts))


@perplexity.mistake(hint=2)
def mean_of_probabilities(losses, counts):
    """This is the inverse of the mean probability: average the losses, that is the logarithms."""
    return 1 / _mean([math.exp(-loss) for loss in losses], counts)


@perplexity.mistake(hint=3)
def last_batch_only(losses, counts):
    """Only the last batch counts: look at where the sum starts, before the loop or inside it."""
    return math.exp(losses[-1])


@perplexity.mistake(hint=3)
def first_batch_only(losses, counts):
    """Only the first batch counts: the return line is inside the loop."""
    return math.exp(losses[0])


@perplexity.mistake(hint=3)
def last_batch_left_out(losses, counts):
    """The last batch, which is often shorter, is left out: it counts with its own number of tokens."""
    losses, counts = (losses[:-1] or [0.0]), (counts[:-1] or [1])
    return math.exp(_mean(losses, counts))


@perplexity.mistake(hint=2)
def counts_exchanged(losses, counts):
    """The losses are divided by their numbers of tokens: multiply them, and divide the sum by all tokens."""
    return math.exp(sum(loss / n for loss, n in zip(losses, counts, strict=True)))


@perplexity.finished
def exp_of_the_token_mean(losses, counts):
    total = sum(loss * n for loss, n in zip(losses, counts, strict=True))
    return math.exp(total / sum(counts))


@perplexity.accepted
def by_pytorch(losses, counts):
    losses, counts = torch.tensor(losses, dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)
    return ((losses * counts).sum() / counts.sum()).exp().item()


@perplexity.accepted
def as_a_product(losses, counts):
    product = 1.0
    for loss, n in zip(losses, counts, strict=True):
        product *= math.exp(loss) ** (n / sum(counts))
    return product
