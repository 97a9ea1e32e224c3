"""Exercise `softmax_jacobian`: Jacobian of the softmax."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("Jacobian",), forbidden=("jacobian", "jacrev", "jacfwd", "vjp", "jvp", "grad", "backward"))
def softmax_jacobian(weights: Float[Tensor, "*batch keys"]) -> Float[Tensor, "*batch keys keys"]:
    """∂pᵢ/∂sⱼ for weights p = softmax(s)."""
    rows = weights.log().flatten(0, -2) if weights.ndim > 1 else weights.log()[None]
    jacobians = [torch.autograd.functional.jacobian(lambda s: s.softmax(-1), row) for row in rows]
    return torch.stack(jacobians).view(*weights.shape, -1)


@softmax_jacobian.values
def weights(rng, shape):
    return torch.randn(shape, generator=rng).softmax(-1)


@softmax_jacobian.inputs
def _(rng):
    certain = torch.randn(2, 3, 5, generator=rng).softmax(-1)
    certain[0, 1] = torch.eye(5)[2]
    yield (certain,)


def _outer(p):
    return p[..., :, None] * p[..., None, :]


@softmax_jacobian.mistake(hint=3)
def plus_off_the_diagonal(weights):
    """The sign off the diagonal is wrong. The weights share a sum of 1: when one score rises, the other weights
    fall."""
    return torch.diag_embed(weights) + _outer(weights)


@softmax_jacobian.mistake(hint=1)
def diagonal_only(weights):
    """Only the diagonal is there. Raising one score takes weight from all others, too: −pᵢpⱼ off the diagonal."""
    return torch.diag_embed(weights * (1 - weights))


@softmax_jacobian.mistake(hint=1)
def diagonal_as_a_vector(weights):
    """This is the diagonal p(1 − p), as a vector. A Jacobian is a matrix: a row for each weight, a column for each
    score."""
    return weights * (1 - weights)


@softmax_jacobian.mistake(hint=1)
def diagonal_missing(weights):
    """This is −p pᵀ alone: diag(p) is missing."""
    return -_outer(weights)


@softmax_jacobian.mistake(hint=1)
def outer_missing(weights):
    """This is diag(p) alone: −p pᵀ is missing."""
    return torch.diag_embed(weights)


@softmax_jacobian.mistake(hint=3)
def all_signs_turned(weights):
    """Every sign is turned: it is diag(p) − p pᵀ."""
    return _outer(weights) - torch.diag_embed(weights)


@softmax_jacobian.mistake(hint=1)
def ones_on_the_diagonal(weights):
    """The matrix that p pᵀ is taken from is the identity here: it has p on its diagonal, not 1."""
    return torch.eye(weights.shape[-1]) - _outer(weights)


@softmax_jacobian.mistake
def sigmoid_everywhere(weights):
    """This has pᵢ(1 − pⱼ) everywhere. That is right on the diagonal only; elsewhere it is −pᵢpⱼ."""
    return weights[..., :, None] * (1 - weights[..., None, :])


@softmax_jacobian.mistake(hint=2)
def square_of_the_row(weights):
    """Off the diagonal this has −pᵢ²: it is −pᵢpⱼ, the weight of the row times the weight of the column."""
    return weights[..., :, None] * (torch.eye(weights.shape[-1]) - weights[..., :, None])


@softmax_jacobian.mistake
def of_the_logarithm(weights):
    """This is the Jacobian of ln p: multiply each row by its pᵢ."""
    return torch.eye(weights.shape[-1]) - weights[..., None, :]


@softmax_jacobian.mistake(hint=2)
def one_row_only(weights):
    """This works for a single row: `torch.diag` and `torch.outer` take no batches. `torch.diag_embed` and broadcasting
    with [..., :, None] do."""
    return torch.diag(weights) - torch.outer(weights, weights)


@softmax_jacobian.mistake
def of_a_second_softmax(weights):
    """There is a softmax in here: the input is weights already."""
    return softmax_jacobian.finished_answer(weights.softmax(-1))


@softmax_jacobian.mistake(hint=2)
def as_printed(weights):
    """The formula diag(p) − p pᵀ is typed as printed: with axes in front, `torch.diag` takes a diagonal out instead of
    making one, and p @ pᵀ is no outer product. Use `torch.diag_embed` and broadcasting with [..., :, None]."""
    return torch.diag(weights) - weights @ weights.T


@softmax_jacobian.mistake(hint=2)
def summed_over_the_rows(weights):
    """Here p pᵀ adds up over the rows, and a row has a Jacobian of its own: weights[..., :, None] *
    weights[..., None, :]."""
    return (
        torch.diag_embed(weights) - weights.mT @ weights if weights.ndim > 1 else torch.diag(weights) - _outer(weights)
    )


@softmax_jacobian.mistake(hint=1)
def outer_alone(weights):
    """This is p pᵀ alone: the Jacobian is diag(p) minus it."""
    return _outer(weights)


@softmax_jacobian.mistake(hint=3)
def subtracted_twice_on_the_diagonal(weights):
    """On the diagonal pᵢ² is subtracted twice: diag(p) − p pᵀ is p(1 − p) there already."""
    return torch.diag_embed(weights * (1 - weights)) - _outer(weights)


@softmax_jacobian.mistake(hint=3)
def zero_on_the_diagonal(weights):
    """The diagonal is 0: it is pᵢ(1 − pᵢ)."""
    return torch.diag_embed(weights.square()) - _outer(weights)


@softmax_jacobian.mistake(hint=2)
def square_of_the_column(weights):
    """Off the diagonal this has −pⱼ²: it is −pᵢpⱼ, the weight of the row times the weight of the column."""
    return weights[..., None, :] * (torch.eye(weights.shape[-1]) - weights[..., None, :])


@softmax_jacobian.mistake(hint=2)
def column_alone(weights):
    """Off the diagonal this has −pⱼ, and on it pᵢ − pᵢ: it is −pᵢpⱼ, so multiply by the weight of the row, too."""
    return torch.diag_embed(weights) - weights[..., None, :]


@softmax_jacobian.mistake(hint=2)
def row_alone(weights):
    """Off the diagonal this has −pᵢ, and on it pᵢ − pᵢ: it is −pᵢpⱼ, so multiply by the weight of the column, too."""
    return torch.diag_embed(weights) - weights[..., :, None]


@softmax_jacobian.mistake(hint=2)
def complement_on_the_diagonal(weights):
    """The diagonal matrix has 1 − p here: it has p, and the 1 − p comes from subtracting p pᵀ."""
    return torch.diag_embed(1 - weights) - _outer(weights)


@softmax_jacobian.mistake(hint=1)
def summed_over_the_columns(weights):
    """The Jacobian is summed to a vector: return the matrix, a row for each weight and a column for each score."""
    return (torch.diag_embed(weights) - _outer(weights)).sum(-1)


@softmax_jacobian.mistake(hint=2)
def row_taken_from_the_diagonal(weights):
    """The weights themselves are subtracted, not their products: it is diag(p) − p pᵀ, a column times a row."""
    return torch.diag_embed(weights) - weights


@softmax_jacobian.mistake(hint=3)
def diagonal_times_outer(weights):
    """The matrices diag(p) and p pᵀ are multiplied: subtract the second from the first."""
    return torch.diag_embed(weights) * _outer(weights)


@softmax_jacobian.mistake(hint=3)
def outer_twice(weights):
    """Twice p pᵀ is subtracted: subtract it once."""
    return torch.diag_embed(weights) - 2 * _outer(weights)


@softmax_jacobian.mistake(hint=3)
def positive_off_the_diagonal(weights):
    """The sign off the diagonal is wrong: it is −pᵢpⱼ there, because the other weights fall when one score rises."""
    return (torch.diag_embed(weights) - _outer(weights)).abs()


@softmax_jacobian.mistake(hint=2)
def column_minus_outer(weights):
    """Each row has pⱼ − pᵢpⱼ: the p stands on the diagonal alone, torch.diag_embed(weights)."""
    return weights[..., None, :] - _outer(weights)


@softmax_jacobian.mistake(hint=3)
def root_of_the_products(weights):
    """Off the diagonal this has −√(pᵢpⱼ): it is the product itself, −pᵢpⱼ."""
    return torch.diag_embed(weights) - _outer(weights).sqrt()


@softmax_jacobian.mistake(hint=2)
def mt_of_a_vector(weights):
    """One row is a vector, which has no rows and columns to transpose, so .mT raises RuntimeError: multiply
    weights[..., :, None] * weights[..., None, :]."""
    return torch.diag_embed(weights) - weights.mT @ weights


@softmax_jacobian.mistake(hint=2)
def outer_of_one_row(weights):
    """The product torch.outer takes single rows alone: weights[..., :, None] * weights[..., None, :] takes any axes in
    front."""
    return torch.diag_embed(weights) - torch.outer(weights, weights)


@softmax_jacobian.mistake(hint=2)
def an_axis_in_front(weights):
    """There is an axis too many in front: (…, S) → (…, S, S)."""
    return (torch.diag_embed(weights) - _outer(weights))[None]


@softmax_jacobian.finished
def diagonal_minus_outer(weights):
    return torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]


@softmax_jacobian.accepted
def row_by_identity_minus_column(weights):
    identity = torch.eye(weights.shape[-1]).to(weights)
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
