"""Exercises of chapter 03: the variance of scores, the entropy of weights, the softmax's Jacobian, scaled attention."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pocketgpt.course.exercise import exercise

# 3.1 score_variance


@exercise("3.1", points=1, returns=("variance",))
def score_variance(q: Float[Tensor, "queries d"], k: Float[Tensor, "keys d"]) -> Float[Tensor, ""]:
    """The variance of the dot products of every query with every key, not scaled by anything."""
    return torch.einsum("td,sd->ts", q, k).var(correction=0)


@score_variance.inputs
def _(rng):
    for queries, keys, d in [(3, 3, 2), (4, 3, 5), (2, 6, 9)]:
        # Away from zero, so that the mean square of the scores is not their variance.
        yield torch.randn(queries, d, generator=rng) + 0.5, torch.randn(keys, d, generator=rng) + 0.5


@score_variance.mistake
def divided_by_one_less(q, k):
    """This divides by n − 1, as `var` does unless you ask otherwise. Here the mean square is meant: divide by n."""
    return (q @ k.mT).var()


@score_variance.mistake
def standard_deviation(q, k):
    """This is the standard deviation: return its square, the variance."""
    return (q @ k.mT).std(correction=0)


@score_variance.mistake
def mean_not_subtracted(q, k):
    """This is the mean square of the scores: subtract their mean before you square."""
    return (q @ k.mT).square().mean()


@score_variance.mistake
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


@score_variance.mistake
def query_by_query(q, k):
    """This is the variance of each query's scores, averaged. Take all scores together, around one common mean."""
    return (q @ k.mT).var(dim=-1, correction=0).mean()


@score_variance.mistake
def pairs_only(q, k):
    """Each query meets only the key of its own row: take every query with every key."""
    return (q * k).sum(-1).var(correction=0)


@score_variance.mistake
def products_not_summed(q, k):
    """The products are not summed over d_head: a score is one number for a query and a key."""
    return (q[:, None, :] * k[None, :, :]).var(correction=0)


@score_variance.mistake
def coordinates_by_coordinates(q, k):
    """This is qᵀk, whose sums run over the vectors: the dot products, q kᵀ, sum over d_head."""
    return (q.mT @ k).var(correction=0)


@score_variance.accepted
def variance_of_the_product(q, k):
    return (q @ k.mT).var(correction=0)


@score_variance.accepted
def variance_from_moments(q, k):
    scores = q.double() @ k.double().transpose(0, 1)
    return (scores**2).mean() - scores.mean() ** 2


@score_variance.accepted
def variance_in_loops(q, k):
    scores = [sum(a * b for a, b in zip(x, y, strict=True)) for x in q.tolist() for y in k.tolist()]
    mean = sum(scores) / len(scores)
    return torch.tensor(sum((score - mean) ** 2 for score in scores) / len(scores))


# 3.2 entropy


@exercise("3.2", points=2, returns=("entropy",), forbidden=("entropy",))
def entropy(weights: Float[Tensor, "*batch keys"]) -> Float[Tensor, "*batch"]:
    """−Σ p ln p over the keys, in nats; a weight of 0 adds nothing."""
    return torch.special.entr(weights).sum(-1)


@entropy.inputs
def _(rng):
    yield (torch.randn(2, 3, generator=rng).softmax(-1),)
    yield (torch.randn(3, 4, 6, generator=rng).softmax(-1),)
    hidden = torch.rand(4, 5, generator=rng) < 0.4
    hidden[:, 0], hidden[1, 1:] = False, True  # the second row is certain
    yield (torch.randn(4, 5, generator=rng).masked_fill(hidden, -torch.inf).softmax(-1),)


@entropy.mistake
def minus_missing(weights):
    """The minus is missing: logarithms of weights are negative, the entropy is not."""
    return -torch.special.entr(weights).sum(-1)


@entropy.mistake
def nan_for_zeros(weights):
    """A weight of 0 makes NaN here: ln 0 is −∞, and 0 · (−∞) is NaN. Such a weight adds nothing to the entropy."""
    return -(weights * weights.log()).sum(-1)


@entropy.mistake
def in_bits(weights):
    """This is in bits: use the natural logarithm, for nats."""
    return torch.special.entr(weights).sum(-1) / math.log(2)


@entropy.mistake
def in_decimal_digits(weights):
    """This is with the logarithm to the base 10: use the natural one, for nats."""
    return torch.special.entr(weights).sum(-1) / math.log(10)


@entropy.mistake
def mean_over_the_keys(weights):
    """The terms are averaged over the keys: add them up. The weights make it a mean already."""
    return torch.special.entr(weights).mean(-1)


@entropy.mistake
def over_the_rows(weights):
    """The sum runs over the rows: each row of weights has an entropy of its own, the sum over the last axis."""
    return torch.special.entr(weights).sum(-2)


@entropy.mistake
def all_in_one(weights):
    """This adds up everything to one number: each row of weights has an entropy of its own."""
    return torch.special.entr(weights).sum()


@entropy.mistake
def terms_not_summed(weights):
    """These are the terms −p ln p: add them up over the keys."""
    return torch.special.entr(weights)


@entropy.mistake
def not_weighted(weights):
    """Each logarithm counts the same here: multiply it by its weight."""
    return -weights.log().sum(-1)


@entropy.mistake
def shifted_logarithm(weights):
    """This takes ln(1 + p) for ln p. To keep zeros harmless, change the zeros alone."""
    return -(weights * weights.log1p()).sum(-1)


@entropy.mistake
def as_a_share(weights):
    """This is divided by ln S, the largest entropy of S keys: return the entropy itself, in nats."""
    return torch.special.entr(weights).sum(-1) / math.log(weights.shape[-1])


@entropy.mistake
def softmax_again(weights):
    """There is a second softmax here: the input holds weights already."""
    return torch.special.entr(weights.softmax(-1)).sum(-1)


@entropy.mistake
def effective_number(weights):
    """This is exp of the entropy, the number of keys that it amounts to: return the entropy."""
    return torch.special.entr(weights).sum(-1).exp()


@entropy.accepted
def entropy_with_where(weights):
    logarithms = torch.where(weights > 0, weights, 1.0).log()
    return -(weights * logarithms).sum(dim=-1)


@entropy.accepted
def entropy_with_clamp(weights):
    return -(weights * weights.clamp_min(1e-30).log()).sum(-1)


@entropy.accepted
def entropy_with_xlogy(weights):
    return -torch.xlogy(weights, weights).sum(-1)


@entropy.accepted
def entropy_with_nansum(weights):
    return -(weights.double() * weights.double().log2()).nansum(-1) * math.log(2)


@entropy.accepted
def entropy_with_a_small_shift(weights):
    return -(weights * (weights + 1e-9).log()).sum(-1)


@entropy.accepted
def entropy_in_loops(weights):
    rows = weights.reshape(-1, weights.shape[-1]).tolist()
    return torch.tensor([-sum(p * math.log(p) for p in row if p > 0) for row in rows]).view(weights.shape[:-1])


# 3.3 softmax_jacobian


@exercise(
    "3.3", points=2, returns=("Jacobian",), forbidden=("jacobian", "jacrev", "jacfwd", "vjp", "jvp", "grad", "backward")
)
def softmax_jacobian(weights: Float[Tensor, "*batch keys"]) -> Float[Tensor, "*batch keys keys"]:
    """∂pᵢ/∂sⱼ for weights p = softmax(s)."""
    rows = weights.log().flatten(0, -2) if weights.ndim > 1 else weights.log()[None]
    jacobians = [torch.autograd.functional.jacobian(lambda s: s.softmax(-1), row) for row in rows]
    return torch.stack(jacobians).view(*weights.shape, -1)


@softmax_jacobian.inputs
def _(rng):
    yield (torch.randn(3, generator=rng).softmax(-1),)
    yield (torch.randn(4, 6, generator=rng).softmax(-1),)
    certain = torch.randn(2, 3, 5, generator=rng).softmax(-1)
    certain[0, 1] = torch.eye(5)[2]
    yield (certain,)


def _outer(p):
    return p[..., :, None] * p[..., None, :]


@softmax_jacobian.mistake
def plus_off_the_diagonal(weights):
    """The sign off the diagonal is wrong. The weights share a sum of 1: when one score rises, the other weights
    fall."""
    return torch.diag_embed(weights) + _outer(weights)


@softmax_jacobian.mistake
def diagonal_only(weights):
    """Only the diagonal is there. Raising one score takes weight from all others, too: −pᵢpⱼ off the diagonal."""
    return torch.diag_embed(weights * (1 - weights))


@softmax_jacobian.mistake
def diagonal_as_a_vector(weights):
    """This is the diagonal p(1 − p), as a vector. A Jacobian is a matrix: a row for each weight, a column for each
    score."""
    return weights * (1 - weights)


@softmax_jacobian.mistake
def diagonal_missing(weights):
    """This is −p pᵀ alone: diag(p) is missing."""
    return -_outer(weights)


@softmax_jacobian.mistake
def outer_missing(weights):
    """This is diag(p) alone: −p pᵀ is missing."""
    return torch.diag_embed(weights)


@softmax_jacobian.mistake
def all_signs_turned(weights):
    """Every sign is turned: it is diag(p) − p pᵀ."""
    return _outer(weights) - torch.diag_embed(weights)


@softmax_jacobian.mistake
def ones_on_the_diagonal(weights):
    """The matrix that p pᵀ is taken from is the identity here: it has p on its diagonal, not 1."""
    return torch.eye(weights.shape[-1]) - _outer(weights)


@softmax_jacobian.mistake
def sigmoid_everywhere(weights):
    """This has pᵢ(1 − pⱼ) everywhere. That is right on the diagonal only; elsewhere it is −pᵢpⱼ."""
    return weights[..., :, None] * (1 - weights[..., None, :])


@softmax_jacobian.mistake
def square_of_the_row(weights):
    """Off the diagonal this has −pᵢ²: it is −pᵢpⱼ, the weight of the row times the weight of the column."""
    return weights[..., :, None] * (torch.eye(weights.shape[-1]) - weights[..., :, None])


@softmax_jacobian.mistake
def of_the_logarithm(weights):
    """This is the Jacobian of ln p: multiply each row by its pᵢ."""
    return torch.eye(weights.shape[-1]) - weights[..., None, :]


@softmax_jacobian.mistake
def one_row_only(weights):
    """This works for a single row: `torch.diag` and `torch.outer` take no batches. `torch.diag_embed` and broadcasting
    with [..., :, None] do."""
    return torch.diag(weights) - torch.outer(weights, weights)


@softmax_jacobian.mistake
def of_a_second_softmax(weights):
    """There is a softmax in here: the input holds weights already."""
    return softmax_jacobian.variants[0](weights.softmax(-1))


@softmax_jacobian.accepted
def diagonal_minus_outer(weights):
    return torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]


@softmax_jacobian.accepted
def row_by_identity_minus_column(weights):
    identity = torch.eye(weights.shape[-1], dtype=torch.float64)
    return weights.unsqueeze(-1) * (identity - weights.unsqueeze(-2))


@softmax_jacobian.accepted
def jacobian_with_einsum(weights):
    identity = torch.eye(weights.shape[-1])
    return torch.einsum("...i,ij->...ij", weights, identity) - torch.einsum("...i,...j->...ij", weights, weights)


@softmax_jacobian.accepted
def jacobian_in_loops(weights):
    keys = weights.shape[-1]
    jacobian = torch.zeros(*weights.shape, keys)
    for i in range(keys):
        for j in range(keys):
            jacobian[..., i, j] = weights[..., i] * (int(i == j) - weights[..., j])
    return jacobian


# 3.4 scaled_attention


@exercise(
    "3.4",
    points=3,
    returns=("output", "weights"),
    picture="weights",
    forbidden=("scaled_dot_product_attention", "multi_head_attention_forward"),
)
def scaled_attention(
    q: Float[Tensor, "batch heads seq d_head"],
    k: Float[Tensor, "batch heads keys d_head"],
    v: Float[Tensor, "batch heads keys d_head"],
    mask: Bool[Tensor, "seq keys"],
    scale: float | None = None,
) -> tuple[Float[Tensor, "batch heads seq d_head"], Float[Tensor, "batch heads seq keys"]]:
    """Attention whose scores are multiplied by `scale`, 1/√d_head unless given; returns the output and the weights."""
    q, k, v = q.float(), k.float(), v.float()
    identity = torch.eye(k.shape[-2]).expand(*k.shape[:-2], -1, -1)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return output, F.scaled_dot_product_attention(q, k, identity, attn_mask=mask, scale=scale)


@scaled_attention.inputs
def _(rng):
    for (batch, heads, queries, keys, d), scale in [
        ((1, 2, 3, 4, 5), None),
        ((2, 3, 4, 5, 6), 0.7),
        ((1, 3, 2, 6, 4), 0.0),
    ]:
        q, k, v = (torch.randn(batch, heads, length, d, generator=rng) for length in (queries, keys, keys))
        mask = torch.rand(queries, keys, generator=rng) < 0.6
        mask[:, 0], mask[:, -1] = True, False
        mask[:, 1] |= mask.sum(-1) < 2  # a single key would have weight 1 with every scale
        yield q, k, v, mask, scale
    # The products are ±100,000, more than float16 holds (65,504); scaled, they are ±12,500.
    direction = (100_000 / 64) ** 0.5 * torch.randn(64, generator=rng).sign()
    signs = 2.0 * torch.randint(2, (1, 3, 4, 1), generator=rng) - 1
    fits = torch.tensor([0.5, 1.0, -0.5, 0.0, -1.0])[torch.randperm(5, generator=rng)]
    v = torch.randn(1, 3, 5, 64, generator=rng)
    keys = (fits[:, None] * direction).expand(1, 3, -1, -1)
    yield (signs * direction).half(), keys.half(), v.half(), torch.ones(4, 5, dtype=torch.bool), None


def _attend(q, k, v, mask, scale):
    """Right, for the mistakes that go wrong elsewhere."""
    weights = torch.softmax(((q * scale) @ k.mT).masked_fill(~mask, -torch.inf), dim=-1)
    return weights @ v, weights


@scaled_attention.mistake
def no_scale_unless_given(q, k, v, mask, scale=None):
    """Without a given scale yours uses none: None stands for 1/√d_head."""
    return _attend(q, k, v, mask, 1.0 if scale is None else scale)


@scaled_attention.mistake
def scale_of_one_over_d(q, k, v, mask, scale=None):
    """The scale is 1/d_head: it is the square root, 1/√d_head."""
    return _attend(q, k, v, mask, 1 / q.shape[-1] if scale is None else scale)


@scaled_attention.mistake
def root_not_inverted(q, k, v, mask, scale=None):
    """The scores are multiplied by √d_head, which makes them larger still: the scale is 1/√d_head."""
    return _attend(q, k, v, mask, q.shape[-1] ** 0.5 if scale is None else scale)


@scaled_attention.mistake
def scale_from_d_model(q, k, v, mask, scale=None):
    """The scale is made from d_model = heads · d_head: a score sums over one head, so it is 1/√d_head."""
    return _attend(q, k, v, mask, (q.shape[1] * q.shape[-1]) ** -0.5 if scale is None else scale)


@scaled_attention.mistake
def scale_from_the_length(q, k, v, mask, scale=None):
    """The scale is made from the number of queries: d_head is the last axis of q."""
    return _attend(q, k, v, mask, q.shape[-2] ** -0.5 if scale is None else scale)


@scaled_attention.mistake
def scale_from_the_keys(q, k, v, mask, scale=None):
    """The scale is made from the number of keys: d_head is the last axis of k."""
    return _attend(q, k, v, mask, k.shape[-2] ** -0.5 if scale is None else scale)


@scaled_attention.mistake
def scale_after_softmax(q, k, v, mask, scale=None):
    """The scale comes after the softmax, so the weights no longer sum to 1 and are as sharp as ever: scale before."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = _attend(q, k, v, mask, 1.0)[1] * scale
    return weights @ v, weights


@scaled_attention.mistake
def output_scaled(q, k, v, mask, scale=None):
    """The output is scaled, and the weights are not: the scale belongs to the scores."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    output, weights = _attend(q, k, v, mask, 1.0)
    return output * scale, weights


@scaled_attention.mistake
def scaled_twice(q, k, v, mask, scale=None):
    """Queries and keys are both scaled, so the scores are scaled twice: scale one of them."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _attend(q * scale, k, v, mask, scale)


@scaled_attention.mistake
def given_scale_divides(q, k, v, mask, scale=None):
    """The scores are divided by a given scale: multiply them by it."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5) if scale is None else _attend(q / scale, k, v, mask, 1.0)


@scaled_attention.mistake
def given_scale_ignored(q, k, v, mask, scale=None):
    """A given scale is not used: 1/√d_head is for the case that `scale` is None."""
    return _attend(q, k, v, mask, q.shape[-1] ** -0.5)


@scaled_attention.mistake
def zero_taken_for_none(q, k, v, mask, scale=None):
    """A given scale of 0 is taken for none: ask `if scale is None`, because 0 counts as false, too."""
    return _attend(q, k, v, mask, scale or q.shape[-1] ** -0.5)


@scaled_attention.mistake
def products_overflow(q, k, v, mask, scale=None):
    """In float16 the products overflow before they are scaled, and ∞ − ∞ is NaN: scale the queries, then multiply."""
    scores = (q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
    return weights @ v, weights


@scaled_attention.mistake
def mask_before_the_scale(q, k, v, mask, scale=None):
    """The hidden scores, −∞, are scaled as well, and −∞ · 0 is NaN: scale first, then hide."""
    scores = (q @ k.mT).masked_fill(~mask, -torch.inf) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.softmax(scores, dim=-1)
    return weights @ v, weights


@scaled_attention.mistake
def scaled_without_the_mask(q, k, v, mask, scale=None):
    """The mask is not used: hidden keys get weight, too."""
    return _attend(q, k, v, torch.ones_like(mask), q.shape[-1] ** -0.5 if scale is None else scale)


@scaled_attention.accepted
def queries_scaled_first(q, k, v, mask, scale=None):
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    scores = (q * scale) @ k.transpose(-2, -1)
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1).nan_to_num()
    return weights @ v, weights


@scaled_attention.accepted
def keys_scaled_first(q, k, v, mask, scale=None):
    scores = q @ (k * (k.shape[-1] ** -0.5 if scale is None else scale)).mT
    weights = torch.softmax(torch.where(mask, scores, -torch.inf), dim=-1)
    return [weights @ v, weights]


@scaled_attention.accepted
def products_in_float32(q, k, v, mask, scale=None):
    scores = torch.einsum("bhtd,bhsd->bhts", q.float(), k.float())
    scores = scores / math.sqrt(q.shape[-1]) if scale is None else scores * scale
    weights = scores.masked_fill(mask.logical_not(), float("-inf")).softmax(-1)
    return weights @ v.float(), weights


@scaled_attention.accepted
def one_factor_for_each(q, k, v, mask, scale=None):
    if scale is None:
        q, k = q * q.shape[-1] ** -0.25, k * k.shape[-1] ** -0.25
        scale = 1.0
    return _attend(q, k, v, mask, scale)
