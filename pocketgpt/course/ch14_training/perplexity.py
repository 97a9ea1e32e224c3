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
    yield [4.0, 5.0, 6.0], [1024, 1024, 300]  # e to the sum over all tokens is too large for a float


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
    return math.exp(sum(loss * n for loss, n in zip(losses, counts, strict=True)) / len(losses))


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


@perplexity.mistake(hint=1)
def exp_before_the_root(losses, counts):
    """The exponential of the sum over all tokens overflows: divide by the number of tokens first, and take e to the
    power of that."""
    total = sum(loss * n for loss, n in zip(losses, counts, strict=True))
    return math.exp(total) ** (1 / sum(counts))


@perplexity.mistake(hint=1)
def product_before_the_root(losses, counts):
    """The product over all tokens overflows: take the mean of the losses first, and e to the power of that."""
    return math.prod(math.exp(loss) ** n for loss, n in zip(losses, counts, strict=True)) ** (1 / sum(counts))


@perplexity.mistake(hint=2)
def exp_of_the_sum_over_tokens(losses, counts):
    """This is e to the sum over all tokens: divide the sum by their number first."""
    return math.exp(sum(loss * n for loss, n in zip(losses, counts, strict=True)))


@perplexity.mistake(hint=2)
def exp_divided(losses, counts):
    """The division comes after e to the power: divide the sum by the number of tokens first."""
    return math.exp(sum(loss * n for loss, n in zip(losses, counts, strict=True))) / sum(counts)


@perplexity.mistake(hint=2)
def perplexities_over_batches(losses, counts):
    """The perplexities are multiplied by their numbers of tokens, added up and divided by the number of batches: take
    the mean of the losses over tokens, and e to the power of that."""
    return sum(math.exp(loss) * n for loss, n in zip(losses, counts, strict=True)) / len(losses)


@perplexity.mistake(hint=3)
def first_count_for_all(losses, counts):
    """Every loss is multiplied by the first count: each batch has its own."""
    return math.exp(sum(losses) * counts[0] / sum(counts))


@perplexity.mistake(hint=3)
def all_batches_full(losses, counts):
    """The sum is divided as if all batches were as large as the largest: divide by the sum of the counts."""
    return math.exp(sum(loss * n for loss, n in zip(losses, counts, strict=True)) / (max(counts) * len(counts)))


@perplexity.mistake(hint=3)
def weighted_upside_down(losses, counts):
    """A batch weighs less the more tokens it has: multiply each loss by its count."""
    return math.exp(_mean(losses, [1 / n for n in counts]))


@perplexity.mistake(hint=3)
def counts_in_reverse(losses, counts):
    """The counts go with the losses in reverse order: the first count belongs to the first loss."""
    return math.exp(_mean(losses, counts[::-1]))


@perplexity.mistake(hint=2)
def power_of_ten(losses, counts):
    """This is 10 to the loss: the losses are in nats, so it is e to the loss."""
    return 10 ** _mean(losses, counts)


@perplexity.mistake(hint=2)
def logarithm(losses, counts):
    """This is the logarithm of the mean loss: it is e to the loss, `math.exp`."""
    return math.log(_mean(losses, counts))


@perplexity.mistake
def rounded(losses, counts):
    """The result is rounded: return all of its digits."""
    return round(math.exp(_mean(losses, counts)), 2)


@perplexity.mistake
def whole_number(losses, counts):
    """The result is cut to a whole number: return a float, with what comes after the point."""
    return int(math.exp(_mean(losses, counts)))


@perplexity.mistake(hint=3)
def middle_batch(losses, counts):
    """This is the perplexity of the middle batch: take the mean over the tokens of all."""
    return math.exp(sorted(losses)[len(losses) // 2])


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
