"""Exercise `part_weights`: the share of each part in the mean loss of a batch."""

import torch

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=("a nudge", "the numbers", "pseudocode"), returns=("weights",))
def part_weights(counts: list[int]) -> list[float]:
    """The derivative of the mean over all targets with respect to the mean of each part, found by autograd."""
    means = torch.zeros(len(counts), dtype=torch.float64, requires_grad=True)
    losses = torch.cat([mean.expand(count) for mean, count in zip(means, counts, strict=True)])
    return torch.autograd.grad(losses.mean(), means)[0].tolist()


@part_weights.values
def counts(rng, length):
    drawn = [2 + int(torch.randint(29, (), generator=rng)) for _ in range(3 + length % 3)]
    return [*drawn, 1 + sum(drawn) % 7]


@part_weights.inputs
def _(rng):
    yield ([3, 1],)
    yield ([12, 244],)
    yield ([4, 0, 7, 2],)  # a part that is all padding
    yield ([8, 8, 8],)
    yield ([5],)


@part_weights.mistake(hint=1)
def not_divided(counts):
    """The parts are added up and not divided: with this, the loss of a step grows with the number of its parts."""
    return [1.0 for _ in counts]


@part_weights.mistake(hint=1)
def number_of_parts(counts):
    """The sum is divided by the number of parts, although the parts have different numbers of targets: a target in a
    small part then counts more than one in a large part."""
    return [1 / len(counts) for _ in counts]


@part_weights.mistake(hint=1)
def parts_with_targets(counts):
    """The sum is divided by the number of parts that have targets: each part should count by how many it has."""
    parts = sum(count > 0 for count in counts)
    return [(count > 0) / parts for count in counts]


@part_weights.mistake(hint=1)
def number_of_parts_so_far(counts):
    """Each part is divided by its own number, 1, 2, 3 and so on: the last part then counts least."""
    return [1 / (number + 1) for number in range(len(counts))]


@part_weights.mistake(hint=2)
def divided_twice(counts):
    """The shares are right, and then divided by the number of parts once more: they should sum to 1."""
    return [count / sum(counts) / len(counts) for count in counts]


@part_weights.mistake(hint=2)
def for_averaged_gradients(counts):
    """The weights sum to the number of parts: that would be right if gradients were averaged afterwards, as DDP does
    over its ranks. Here the parts are added up, so they sum to 1."""
    return [len(counts) * count / sum(counts) for count in counts]


@part_weights.mistake(hint=1)
def counts_themselves(counts):
    """These are the numbers of targets: divide them by the number of all targets."""
    return [float(count) for count in counts]


@part_weights.mistake(hint=2)
def weight_of_one_target(counts):
    """Each weight is one divided by the number of all targets: right for the sum of a part's losses, and here each part
    comes as its mean."""
    return [1 / sum(counts) for _ in counts]


@part_weights.mistake(hint=1)
def upside_down(counts):
    """The share is upside down: all targets divided by those of the part."""
    return [sum(counts) / count if count else 0.0 for count in counts]


@part_weights.mistake(hint=1)
def divided_by_own_count(counts):
    """Each part is divided by its own number of targets: its mean already is."""
    return [1 / count if count else 0.0 for count in counts]


@part_weights.mistake(hint=2)
def others_count(counts):
    """Each weight is the share of all the other parts: it should be the part's own."""
    return [1 - count / sum(counts) for count in counts]


@part_weights.mistake(hint=2)
def largest_is_one(counts):
    """The shares are those of the largest part: divide by the number of all targets, so that the weights sum to 1."""
    return [count / max(counts) for count in counts]


@part_weights.mistake(hint=2)
def targets_so_far(counts):
    """Each part is divided by the targets up to and including it: divide by the number of all targets, known before the
    first part."""
    seen, weights = 0, []
    for count in counts:
        seen += count
        weights.append(count / seen)
    return weights


@part_weights.mistake(hint=2)
def last_part_left_out(counts):
    """The last part gets no weight: it counts too, even if it is shorter than the others."""
    total = sum(counts[:-1]) or 1
    return [count / total for count in counts[:-1]] + [0.0]


@part_weights.mistake(hint=3)
def whole_numbers(counts):
    """The division is `//`, which drops what is below 1: use `/`."""
    return [float(count // sum(counts)) for count in counts]


@part_weights.mistake(hint=1)
def softmax_of_counts(counts):
    """This is a softmax of the counts: shares are plain fractions, without exp."""
    return torch.tensor(counts, dtype=torch.float64).softmax(0).tolist()


@part_weights.mistake(hint=3)
def returned_inside_the_loop(counts):
    """Is `return` inside the loop? Only the weight of the first part comes back."""
    return [counts[0] / sum(counts)]


@part_weights.mistake(hint=3)
def in_percent(counts):
    """The weights are in percent: they should sum to 1."""
    return [100 * count / sum(counts) for count in counts]


@part_weights.mistake(hint=2)
def empty_parts_dropped(counts):
    """A part without targets is left out of the list: it gets 0.0, so that the weights stay beside their parts."""
    return [count / sum(counts) for count in counts if count]


@part_weights.mistake(hint=2)
def empty_parts_count_one(counts):
    """A part without targets is counted as if it had one: it gets 0.0."""
    total = sum(max(count, 1) for count in counts)
    return [max(count, 1) / total for count in counts]


@part_weights.mistake(hint=1)
def targets_by_parts(counts):
    """Each count is divided by the number of parts: divide by the number of all targets, `sum(counts)`."""
    return [count / len(counts) for count in counts]


@part_weights.mistake(hint=2)
def divided_by_the_others(counts):
    """Each part is divided by the targets of the other parts: its own belong to all targets, too."""
    total = sum(counts)
    return [count / (total - count) if total > count else 1.0 for count in counts]


@part_weights.mistake(hint=2)
def for_two_ranks(counts):
    """The weights sum to 2: that would be right if two ranks averaged their gradients afterwards. Here the parts are
    added up, so they sum to 1."""
    return [2 * count / sum(counts) for count in counts]


@part_weights.mistake(hint=2)
def of_256_targets(counts):
    """Each part is divided by 256, whatever the counts are: divide by the number of all targets, `sum(counts)`."""
    return [count / 256 for count in counts]


@part_weights.mistake(hint=3)
def added_up(counts):
    """The shares are added up along the list: each part gets its own share alone."""
    return [sum(counts[: i + 1]) / sum(counts) for i in range(len(counts))]


@part_weights.mistake(hint=3)
def rounded(counts):
    """The weights are rounded to two decimals: return them as they are, or they do not sum to 1."""
    return [round(count / sum(counts), 2) for count in counts]


@part_weights.mistake(hint=2)
def divided_by_the_last(counts):
    """Each part is divided by the targets of the last one: divide by the number of all targets, `sum(counts)`."""
    return [count / counts[-1] for count in counts]


@part_weights.mistake(hint=2)
def squares(counts):
    """These are shares of the squared counts: a part counts once for each of its targets."""
    return [count * count / sum(each * each for each in counts) for count in counts]


@part_weights.finished
def own_share(counts: list[int]) -> list[float]:
    total = sum(counts)
    return [count / total for count in counts]


@part_weights.accepted
def with_tensors(counts):
    counted = torch.tensor(counts, dtype=torch.float64)
    return (counted / counted.sum()).tolist()


@part_weights.accepted
def part_after_part(counts):
    weights, total = [], 0
    for count in counts:
        total += count
    for i in range(len(counts)):
        weights.append(counts[i] * (1 / total))
    return weights
