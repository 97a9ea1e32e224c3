"""Exercise `entropy`: entropy of attention weights."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("entropy",))
def entropy(weights: Float[Tensor, "*batch keys"]) -> Float[Tensor, "*batch"]:
    """−Σ p ln p over the keys, in nats; a weight of 0 adds nothing."""
    return torch.special.entr(weights).sum(-1)


@entropy.values
def weights(rng, shape):
    return torch.randn(shape, generator=rng).softmax(-1)


@entropy.inputs
def _(rng):
    hidden = torch.rand(4, 5, generator=rng) < 0.4
    hidden[:, 0], hidden[1, 1:], hidden[2, 1] = False, True, True  # the second row is certain, the third is not
    hidden[2, 2] = False
    yield (torch.randn(4, 5, generator=rng).masked_fill(hidden, -torch.inf).softmax(-1),)
    nearly_certain = torch.tensor([0.0, -14.0, -15.0, -16.0])  # weights between 10⁻⁶ and 10⁻⁷
    yield (nearly_certain[torch.randperm(4, generator=rng)].repeat(2, 1).softmax(-1),)


@entropy.mistake(hint=3)
def minus_missing(weights):
    """The minus is missing: logarithms of weights are negative, the entropy is not."""
    return -torch.special.entr(weights).sum(-1)


@entropy.mistake(hint=2)
def nan_for_zeros(weights):
    """A weight of 0 makes NaN here: ln 0 is −∞, and 0 · (−∞) is NaN. Such a weight adds nothing to the entropy."""
    return -(weights * weights.log()).sum(-1)


@entropy.mistake(hint=3)
def in_bits(weights):
    """This is in bits: use the natural logarithm, for nats."""
    return torch.special.entr(weights).sum(-1) / math.log(2)


@entropy.mistake(hint=3)
def in_decimal_digits(weights):
    """This is with the logarithm to the base 10: use the natural one, for nats."""
    return torch.special.entr(weights).sum(-1) / math.log(10)


@entropy.mistake(hint=2)
def mean_over_the_keys(weights):
    """The terms are averaged over the keys: add them up. The weights make it a mean already."""
    return torch.special.entr(weights).mean(-1)


@entropy.mistake(hint=2)
def over_the_rows(weights):
    """The sum runs over the rows: each row of weights has an entropy of its own, the sum over the last axis."""
    return torch.special.entr(weights).sum(-2)


@entropy.mistake(hint=2)
def all_in_one(weights):
    """This adds up everything to one number: each row of weights has an entropy of its own."""
    return torch.special.entr(weights).sum()


@entropy.mistake(hint=2)
def terms_not_summed(weights):
    """These are the terms −p ln p: add them up over the keys."""
    return torch.special.entr(weights)


@entropy.mistake(hint=3)
def not_weighted(weights):
    """Each logarithm counts the same here: multiply it by its weight."""
    return -weights.log().sum(-1)


@entropy.mistake(hint=2)
def shifted_logarithm(weights):
    """This takes ln(1 + p) for ln p. To keep zeros harmless, change the zeros alone."""
    return -(weights * weights.log1p()).sum(-1)


@entropy.mistake(hint=2)
def nan_made_zero(weights):
    """The NaN is replaced after the sum, so every row with a weight of 0 has the entropy 0: replace it before the sum,
    term by term."""
    return -(weights * weights.log()).sum(-1).nan_to_num()


@entropy.mistake
def as_a_share(weights):
    """This is divided by ln S, the largest entropy of S keys: return the entropy itself, in nats."""
    return torch.special.entr(weights).sum(-1) / math.log(weights.shape[-1])


@entropy.mistake
def softmax_again(weights):
    """There is a second softmax here: the input is weights already."""
    return torch.special.entr(weights.softmax(-1)).sum(-1)


@entropy.mistake
def effective_number(weights):
    """This is exp of the entropy, the number of keys that it amounts to: return the entropy."""
    return torch.special.entr(weights).sum(-1).exp()


@entropy.mistake(hint=2)
def axis_kept(weights):
    """The axis of the keys is still there, with size 1: sum without keepdim."""
    return torch.special.entr(weights).sum(-1, keepdim=True)


@entropy.mistake(hint=1)
def impurity(weights):
    """This is 1 − Σp², another measure of the same: the entropy is −Σ p ln p."""
    return 1 - weights.square().sum(-1)


@entropy.mistake(hint=2)
def along_the_first_axis(weights):
    """The sum runs over the first axis: the keys are the last, sum(-1)."""
    return torch.special.entr(weights).sum(0)


@entropy.mistake(hint=2)
def along_the_second_axis(weights):
    """The sum runs over axis 1, which is that of the keys only with one axis in front: sum(-1)."""
    return torch.special.entr(weights).sum(1)


@entropy.mistake(hint=2)
def mean_over_everything(weights):
    """This is one number, the mean over the rows: each row of weights has an entropy of its own."""
    return torch.special.entr(weights).sum(-1).mean()


@entropy.mistake(hint=2)
def not_weighted_without_zeros(weights):
    """The logarithms are added up without their weights, and those of 0 are left out: the term is weight times
    logarithm."""
    return -torch.where(weights > 0, weights, 1.0).log().sum(-1)


@entropy.mistake
def of_the_second_order(weights):
    """This is −ln Σp², the entropy of order 2: the logarithm of each weight comes before the sum."""
    return -weights.square().sum(-1).log()


@entropy.mistake(hint=2)
def one_for_each_zero(weights):
    """Each weight of 0 adds −1, because the 1 stands for the whole term: it is the logarithm's argument that becomes 1,
    and the term 0."""
    return -torch.where(weights > 0, weights * weights.log(), 1.0).sum(-1)


@entropy.mistake(hint=3)
def logarithms_averaged(weights):
    """This is the mean of the logarithms, each of which counts the same: multiply each by its weight, and add up."""
    return -torch.where(weights > 0, weights, 1.0).log().mean(-1)


@entropy.mistake(hint=2)
def mean_of_all_terms(weights):
    """This is one number, the mean of all terms: each row has an entropy of its own, the sum of its terms."""
    return torch.special.entr(weights).mean()


@entropy.mistake(hint=3)
def exponential_for_logarithm(weights):
    """This takes exp of the weights for their logarithm: the term is −p ln p."""
    return -(weights * weights.exp()).sum(-1)


@entropy.mistake(hint=3)
def logarithm_of_the_sum(weights):
    """Every entropy is 0, because the logarithm is that of 1: of the sum, or of a `where` with its condition turned
    around. Take it of each weight that is not 0."""
    return -weights.sum(-1).log()


@entropy.mistake(hint=3)
def of_each_weight_alone(weights):
    """The terms of 1 − p are added, as for a coin: here the weights of a row share one sum, −Σ p ln p."""
    return (torch.special.entr(weights) + torch.special.entr(1 - weights)).sum(-1)


@entropy.mistake(hint=3)
def against_the_largest(weights):
    """This is −ln of the largest weight alone: the entropy adds up all terms −p ln p."""
    return -weights.amax(-1).log()


@entropy.mistake(hint=2)
def mean_of_the_terms_that_are_not_nan(weights):
    """The terms are averaged, and those that are NaN left out: add them up, with nansum."""
    return -(weights * weights.log()).nanmean(-1)


@entropy.mistake
def cross_entropy_with_a_softmax(weights):
    """The loss F.cross_entropy takes scores and has a softmax in it: write −Σ p ln p with the weights as they are."""
    return -(weights * weights.log_softmax(-1)).sum(-1)


@entropy.mistake(hint=2)
def all_in_one_with_nan(weights):
    """This adds up everything to one number, and a weight of 0 makes NaN: each row of weights has an entropy of its
    own, in which such a weight adds nothing."""
    return -(weights * weights.log()).sum()


@entropy.finished
def entropy_with_where(weights):
    logarithms = torch.where(weights > 0, weights, 1.0).log()
    return -(weights * logarithms).sum(dim=-1)


@entropy.accepted
def entropy_with_clamp(weights):
    return -(weights * weights.clamp_min(1e-30).log()).sum(-1)


@entropy.accepted
def entropy_of_a_distribution(weights):
    return torch.distributions.Categorical(probs=weights).entropy()


@entropy.accepted
def entropy_with_xlogy(weights):
    return -torch.xlogy(weights, weights).sum(-1)


@entropy.accepted
def entropy_with_nansum(weights):
    return (-(weights.double() * weights.double().log2()).nansum(-1) * math.log(2)).to(weights.dtype)


@entropy.accepted
def entropy_with_a_small_shift(weights):
    return -(weights * (weights + 1e-9).log()).sum(-1)


@entropy.accepted
def entropy_in_loops(weights):
    rows = weights.reshape(-1, weights.shape[-1]).tolist()
    return torch.tensor([-sum(p * math.log(p) for p in row if p > 0) for row in rows]).view(weights.shape[:-1])
