"""Exercise `score_variance`: variance of the dot products."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("variance",))
def score_variance(q: Float[Tensor, "queries d"], k: Float[Tensor, "keys d"]) -> Float[Tensor, ""]:
    """The variance of the dot products of every query with every key, not scaled by anything."""
    return torch.einsum("td,sd->ts", q, k).var(correction=0)


@score_variance.inputs
def _(rng):
    for queries, keys, d in [(3, 3, 2), (4, 3, 5), (2, 6, 9)]:
        # Away from zero, so that the mean square of the scores is not their variance.
        yield torch.randn(queries, d, generator=rng) + 0.5, torch.randn(keys, d, generator=rng) + 0.5


@score_variance.mistake(hint=3)
def divided_by_one_less(q, k):
    """This divides by n − 1, as `var` does unless you ask otherwise. Here the mean square is meant: divide by n."""
    return (q @ k.mT).var()


@score_variance.mistake(hint=3)
def standard_deviation(q, k):
    """This is the standard deviation: return its square, the variance."""
    return (q @ k.mT).std(correction=0)


@score_variance.mistake(hint=3)
def mean_not_subtracted(q, k):
    """This is the mean square of the scores: subtract their mean before you square."""
    return (q @ k.mT).square().mean()


@score_variance.mistake(hint=3)
def mean_deviation(q, k):
    """This is the mean distance from the mean: square the distances before you take their mean."""
    scores = q @ k.mT
    return (scores - scores.mean()).abs().mean()


@score_variance.mistake
def variance_of_scaled_scores(q, k):
    """This is the variance of the scores over √d_head, or the variance over d_head, which is the same: measure the bare
    dot products."""
    return (q @ k.mT / q.shape[-1] ** 0.5).var(correction=0)


@score_variance.mistake
def scaled_by_d(q, k):
    """These scores are divided by d_head already: measure the bare dot products."""
    return (q @ k.mT / q.shape[-1]).var(correction=0)


@score_variance.mistake(hint=1)
def query_by_query(q, k):
    """This is the variance of each query's scores, averaged. Take all scores together, around one common mean."""
    return (q @ k.mT).var(dim=-1, correction=0).mean()


@score_variance.mistake(hint=1)
def pairs_only(q, k):
    """Each query meets only the key of its own row: take every query with every key."""
    return (q * k).sum(-1).var(correction=0)


@score_variance.mistake(hint=2)
def products_not_summed(q, k):
    """The products are not summed over d_head: a score is one number for a query and a key."""
    return (q[:, None, :] * k[None, :, :]).var(correction=0)


@score_variance.mistake(hint=2)
def coordinates_by_coordinates(q, k):
    """This is qᵀk, whose sums run over the vectors: the dot products, q kᵀ, sum over d_head."""
    return (q.mT @ k).var(correction=0)


@score_variance.mistake(hint=3)
def standard_deviation_by_one_less(q, k):
    """This is the standard deviation, and divided by n − 1: return the variance, divided by n."""
    return (q @ k.mT).std()


@score_variance.mistake(hint=3)
def sum_of_squares(q, k):
    """The squared distances are added up: take their mean."""
    scores = q @ k.mT
    return (scores - scores.mean()).square().sum()


@score_variance.mistake(hint=2)
def reshaped(q, k):
    """With reshape or view the numbers of `k` land in the wrong places: transpose it, k.T."""
    return (q @ k.reshape(k.shape[1], k.shape[0])).var(correction=0)


@score_variance.mistake(hint=2)
def not_turned(q, k):
    """The keys are rows here, and a matrix product needs them as columns: q @ k.T."""
    return (q @ k).var(correction=0)


@score_variance.mistake(hint=3)
def mean_of_the_scores(q, k):
    """This is the mean of the scores: the variance is the mean of their squared distances from it."""
    return (q @ k.mT).mean()


@score_variance.mistake(hint=1)
def key_by_key(q, k):
    """This is the variance of each key's scores, averaged. Take all scores together, around one common mean."""
    return (q @ k.mT).var(dim=0, correction=0).mean()


@score_variance.mistake(hint=1)
def one_for_each_query(q, k):
    """This is a variance for each query: take all scores together, without `dim`."""
    return (q @ k.mT).var(dim=-1, correction=0)


@score_variance.mistake(hint=1)
def one_for_each_key(q, k):
    """This is a variance for each key: take all scores together, without `dim`."""
    return (q @ k.mT).var(dim=0, correction=0)


@score_variance.mistake
def by_the_theory(q, k):
    """This is what the theory expects, d_head times the variance of q times that of k: measure it, on the scores."""
    return q.shape[-1] * q.var(correction=0) * k.var(correction=0)


@score_variance.mistake
def the_width(q, k):
    """This is d_head, which the theory expects of numbers with variance 1: measure it, on the scores."""
    return torch.tensor(float(q.shape[-1]))


@score_variance.mistake
def of_the_weights(q, k):
    """This is the variance of the weights after a softmax: measure the bare dot products."""
    return (q @ k.mT).softmax(-1).var(correction=0)


@score_variance.mistake(hint=3)
def squares_of_the_means(q, k):
    """The two terms are exchanged: the variance is the mean of the squares minus the square of the mean."""
    scores = q @ k.mT
    return scores.mean().square() - scores.square().mean()


@score_variance.mistake(hint=1)
def one_query_at_a_time_summed(q, k):
    """The variances of the queries' scores are added up: take all scores together, around one common mean."""
    return (q @ k.mT).var(dim=-1, correction=0).sum()


@score_variance.mistake(hint=1)
def of_the_queries_alone(q, k):
    """The queries meet themselves: the scores are those of every query with every key."""
    return (q @ q.mT).var(correction=0)


@score_variance.mistake(hint=1)
def of_the_keys_alone(q, k):
    """The keys meet themselves: the scores are those of every query with every key."""
    return (k @ k.mT).var(correction=0)


@score_variance.mistake(hint=1)
def of_the_means(q, k):
    """This is the variance of the queries' mean scores: take all scores, each for itself."""
    return (q @ k.mT).mean(-1).var(correction=0)


@score_variance.mistake(hint=3)
def without_a_square(q, k):
    """The mean is subtracted as it is: subtract its square from the mean of the squares."""
    scores = q @ k.mT
    return scores.square().mean() - scores.mean()


@score_variance.mistake(hint=3)
def distances_not_squared(q, k):
    """The distances from the mean are not squared, and they add up to 0: square them before you take their mean."""
    scores = q @ k.mT
    return (scores - scores.mean()).mean()


@score_variance.mistake(hint=3)
def divided_by_the_queries(q, k):
    """The squared distances are divided by the number of queries, as len(scores) gives it: there are T · S scores."""
    scores = q @ k.mT
    return (scores - scores.mean()).square().sum() / len(scores)


@score_variance.mistake(hint=3)
def divided_by_the_keys(q, k):
    """The squared distances are divided by the number of keys: there are T · S scores."""
    scores = q @ k.mT
    return (scores - scores.mean()).square().sum() / len(k)


@score_variance.mistake(hint=3)
def divided_by_the_width(q, k):
    """The squared distances are divided by d_head: there are T · S scores."""
    scores = q @ k.mT
    return (scores - scores.mean()).square().sum() / q.shape[-1]


@score_variance.mistake(hint=3)
def divided_by_queries_and_keys(q, k):
    """The squared distances are divided by T + S: there are T · S scores."""
    scores = q @ k.mT
    return (scores - scores.mean()).square().sum() / (len(q) + len(k))


@score_variance.mistake
def scaled_and_divided_by_one_less(q, k):
    """The scores are scaled by 1/√d_head, and the variance is divided by n − 1: measure the bare dot products, and
    divide by n."""
    return (q @ k.mT / q.shape[-1] ** 0.5).var()


@score_variance.mistake
def product_of_the_variances(q, k):
    """This is the variance of q times that of k, for one product in the theory: measure it, on the scores."""
    return q.var(correction=0) * k.var(correction=0)


@score_variance.mistake(hint=1)
def row_by_row(q, k):
    """A query meets the key of its own row alone, with zip: take every query with every key."""
    return torch.stack([query @ key for query, key in zip(q, k, strict=False)]).var(correction=0)


@score_variance.mistake
def of_the_cosines(q, k):
    """This is the variance of the cosines: the lengths of the vectors count, so take the dot products as they are."""
    return (q / q.norm(dim=-1, keepdim=True) @ (k / k.norm(dim=-1, keepdim=True)).mT).var(correction=0)


@score_variance.mistake(hint=3)
def squares_added(q, k):
    """The square of the mean is added: subtract it from the mean of the squares."""
    scores = q @ k.mT
    return scores.square().mean() + scores.mean().square()


@score_variance.mistake(hint=3)
def from_the_median(q, k):
    """The distances are those from the median: take them from the mean."""
    scores = q @ k.mT
    return (scores - scores.median()).square().mean()


@score_variance.mistake(hint=3)
def the_range(q, k):
    """This is the largest score minus the smallest: the variance is the mean of the squared distances from the mean."""
    scores = q @ k.mT
    return scores.max() - scores.min()


@score_variance.mistake(hint=1)
def each_side_around_its_mean(q, k):
    """The means of q and of k are subtracted before the product: subtract the mean of the scores, after it."""
    return ((q - q.mean(0)) @ (k - k.mean(0)).mT).var(correction=0)


@score_variance.mistake(hint=3)
def with_the_mean(q, k):
    """The call var_mean gives two tensors, variance and mean: return the first."""
    return torch.var_mean(q @ k.mT, correction=0)


@score_variance.mistake(hint=3)
def covariances(q, k):
    """This is a matrix of covariances: return one number, the variance of all scores."""
    return torch.cov(q @ k.mT)


@score_variance.mistake(hint=2)
def as_a_float(q, k):
    """This is a Python number: return the tensor without axes, without .item() or float()."""
    return float((q @ k.mT).var(correction=0))


@score_variance.mistake(hint=2)
def axes_kept(q, k):
    """The axes are still there, with size 1: return a tensor without axes."""
    return (q @ k.mT).var(correction=0)[None, None]


@score_variance.finished
def variance_of_the_product(q, k):
    return (q @ k.mT).var(correction=0)


@score_variance.accepted
def variance_from_moments(q, k):
    scores = q.double() @ k.double().transpose(0, 1)
    return ((scores**2).mean() - scores.mean() ** 2).to(q.dtype)


@score_variance.accepted
def variance_in_loops(q, k):
    scores = [sum(a * b for a, b in zip(x, y, strict=True)) for x in q.tolist() for y in k.tolist()]
    mean = sum(scores) / len(scores)
    return torch.tensor(sum((score - mean) ** 2 for score in scores) / len(scores))
