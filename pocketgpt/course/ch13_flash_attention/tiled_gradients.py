"""Exercise `tiled_gradients`: the backward pass, which computes the weights of a tile again."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch13_flash_attention.shared import WHOLE_ATTENTION, whole_square
from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("dq", "dk", "dv"), forbidden=(*WHOLE_ATTENTION, "grad", "backward", "requires_grad_"))
def tiled_gradients(
    q: Float[Tensor, "*batch seq d"],
    k: Float[Tensor, "*batch seq d"],
    v: Float[Tensor, "*batch seq d"],
    output: Float[Tensor, "*batch seq d"],
    log_sum_exp: Float[Tensor, "*batch seq"],
    grad: Float[Tensor, "*batch seq d"],
    rows: int,
    columns: int,
) -> tuple[Float[Tensor, "*batch seq d"], Float[Tensor, "*batch seq d"], Float[Tensor, "*batch seq d"]]:
    """PyTorch's own backward pass of FlashAttention, which autograd calls; it takes the same output and log-sum-exp."""
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    shape, (seq, d) = q.shape, q.shape[-2:]
    grad, q, k, v, output = (x.reshape(1, -1, seq, d).contiguous() for x in (grad, q, k, v, output))
    found = backward(grad, q, k, v, output, log_sum_exp.reshape(1, -1, seq), 0.0, True)
    return tuple(each.reshape(shape) for each in found)


def _scores(q, k):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -math.inf)


@tiled_gradients.values
def rows(rng):
    return 2 + int(torch.randint(3, (), generator=rng))


@tiled_gradients.values
def columns(rng, rows):
    other = 2 + int(torch.randint(2, (), generator=rng))
    return other + (other >= rows)


@tiled_gradients.values
def output(q, k, v):
    return _scores(q, k).softmax(-1) @ v


@tiled_gradients.values
def log_sum_exp(q, k):
    return _scores(q, k).logsumexp(-1)


@tiled_gradients.inputs
def _(rng):
    for shape, rows, columns in [((13, 5), 4, 3), ((2, 12, 4), 3, 4), ((2, 3, 12, 3), 2, 4), ((24, 3), 5, 4)]:
        q, k, v, grad = torch.randn(4, *shape, generator=rng)
        scores = _scores(q, k)
        yield q, k, v, scores.softmax(-1) @ v, scores.logsumexp(-1), grad, rows, columns


@tiled_gradients.demand
def no_square(call, inputs):
    """No tensor has an entry for each pair of tokens."""
    return whole_square(call, inputs[0].shape[-2]) if inputs[0].shape[-2] > 20 else None


def _right(q, k, v, output, log_sum_exp, grad, scale=None, weights=None, delta=None):
    """On whole matrices, in replaceable steps: dq, dk, dv, and dS for the mistakes that go wrong elsewhere."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    p = (_scores(q, k) - log_sum_exp[..., None]).exp() if weights is None else weights
    d = (grad * output).sum(-1, keepdim=True) if delta is None else delta
    ds = p * (grad @ v.mT - d)
    return ds @ k * scale, ds.mT @ q * scale, p.mT @ grad, ds, p


@tiled_gradients.mistake(hint=2)
def delta_forgotten(q, k, v, output, log_sum_exp, grad, rows, columns):
    """D is not subtracted: dS = P ∘ (dP − D), as raising one weight lowers the others."""
    return _right(q, k, v, output, log_sum_exp, grad, delta=0.0)[:3]


@tiled_gradients.mistake(hint=2)
def delta_of_the_output_alone(q, k, v, output, log_sum_exp, grad, rows, columns):
    """D is the sum of the outputs: multiply them by their gradient first, D = Σ grad · output."""
    return _right(q, k, v, output, log_sum_exp, grad, delta=output.sum(-1, keepdim=True))[:3]


@tiled_gradients.mistake(hint=2)
def delta_is_a_mean(q, k, v, output, log_sum_exp, grad, rows, columns):
    """D is a mean over the width: it is the sum of grad · output over the last axis."""
    return _right(q, k, v, output, log_sum_exp, grad, delta=(grad * output).mean(-1, keepdim=True))[:3]


@tiled_gradients.mistake(hint=3)
def unscaled(q, k, v, output, log_sum_exp, grad, rows, columns):
    """Gradients dq and dk lack the factor 1/√d_head: the scores were divided by √d_head, so their gradients pass
    through it."""
    return _right(q, k, v, output, log_sum_exp, grad, scale=1.0)[:3]


@tiled_gradients.mistake(hint=3)
def scaled_twice(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The factor 1/√d_head is in dq and dk twice."""
    return _right(q, k, v, output, log_sum_exp, grad, scale=1 / q.shape[-1])[:3]


@tiled_gradients.mistake(hint=3)
def values_scaled(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The gradient dv is multiplied by 1/√d_head: only q and k pass through the scale."""
    dq, dk, dv, *_ = _right(q, k, v, output, log_sum_exp, grad)
    return dq, dk, dv / q.shape[-1] ** 0.5


@tiled_gradients.mistake(hint=2)
def sign_of_ds(q, k, v, output, log_sum_exp, grad, rows, columns):
    """Gradients dq and dk have the wrong sign: dS = P ∘ (dP − D), and not D − dP."""
    dq, dk, dv, *_ = _right(q, k, v, output, log_sum_exp, grad)
    return -dq, -dk, dv


@tiled_gradients.mistake(hint=2)
def weights_missing_in_ds(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The factor P is missing in dS, so hidden keys get a gradient, too: dS = P ∘ (dP − D)."""
    ds = grad @ v.mT - (grad * output).sum(-1, keepdim=True)
    dv = _right(q, k, v, output, log_sum_exp, grad)[2]
    return ds @ k / q.shape[-1] ** 0.5, ds.mT @ q / q.shape[-1] ** 0.5, dv


@tiled_gradients.mistake(hint=1)
def mask_forgotten(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The mask is forgotten when the weights are computed again: later keys have weight 0."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5 - log_sum_exp[..., None]).exp()
    return _right(q, k, v, output, log_sum_exp, grad, weights=weights)[:3]


@tiled_gradients.mistake(hint=1)
def softmax_of_the_tile(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The weights are the softmax of each tile alone: P = exp(scores − log_sum_exp), with the log-sum-exp of the whole
    row."""
    parts = [part.softmax(-1).nan_to_num() for part in _scores(q, k).split(columns, dim=-1)]
    return _right(q, k, v, output, log_sum_exp, grad, weights=torch.cat(parts, dim=-1))[:3]


@tiled_gradients.mistake(hint=1)
def log_sum_exp_not_used(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The weights are exp(scores): subtract the log-sum-exp first, so that each row sums to 1."""
    return _right(q, k, v, output, log_sum_exp, grad, weights=_scores(q, k).exp())[:3]


def _visited(q, rows, columns, needed=lambda i, j, rows: j <= i + rows - 1):
    """True for the pairs that are in a visited tile."""
    first = torch.arange(q.shape[-2])
    return needed((first // rows * rows)[:, None], (first // columns * columns)[None, :], rows)


@tiled_gradients.mistake(hint=1)
def mask_forgotten_in_visited_tiles(q, k, v, output, log_sum_exp, grad, rows, columns):
    """Tiles are skipped, and inside a visited tile nothing is hidden: in those on the diagonal, later keys have weight
    0."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5 - log_sum_exp[..., None]).exp() * _visited(q, rows, columns)
    return _right(q, k, v, output, log_sum_exp, grad, weights=weights)[:3]


@tiled_gradients.mistake(hint=2)
def weights_missing_in_ds_of_visited_tiles(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The factor P is missing in dS = P ∘ (dP − D): without it, hidden keys of a visited tile get a gradient, and
    visible ones all count alike."""
    ds = (grad @ v.mT - (grad * output).sum(-1, keepdim=True)) * _visited(q, rows, columns)
    dv = _right(q, k, v, output, log_sum_exp, grad)[2]
    return ds @ k / q.shape[-1] ** 0.5, ds.mT @ q / q.shape[-1] ** 0.5, dv


@tiled_gradients.mistake(hint=1)
def weights_of_unscaled_scores(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The weights are made of scores that are not divided by √d_head, while the log-sum-exp is that of scaled ones."""
    weights = (_scores(q, k) * q.shape[-1] ** 0.5 - log_sum_exp[..., None]).exp()
    return _right(q, k, v, output, log_sum_exp, grad, weights=weights)[:3]


@tiled_gradients.mistake(hint=1)
def not_itself(q, k, v, output, log_sum_exp, grad, rows, columns):
    """A query's own key is hidden, too: hidden is key > query, and not ≥."""
    weights = (_scores(q, k) - log_sum_exp[..., None]).exp().tril(-1)
    return _right(q, k, v, output, log_sum_exp, grad, weights=weights)[:3]


@tiled_gradients.mistake(hint=3)
def diagonal_skipped(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The loop over the keys ends at query i, the first of the row of tiles: the last one, i + rows − 1, sees more."""
    weights = (_scores(q, k) - log_sum_exp[..., None]).exp()
    weights = weights * _visited(q, rows, columns, lambda i, j, rows: j <= i)
    return _right(q, k, v, output, log_sum_exp, grad, weights=weights)[:3]


@tiled_gradients.mistake(hint=3)
def earlier_tiles_only(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The loop over the keys ends before query i, so the tiles on the diagonal are left out: it has to reach the row's
    last query, i + rows − 1."""
    weights = (_scores(q, k) - log_sum_exp[..., None]).exp()
    weights = weights * _visited(q, rows, columns, lambda i, j, rows: j < i)
    return _right(q, k, v, output, log_sum_exp, grad, weights=weights)[:3]


@tiled_gradients.mistake(hint=1)
def softmax_of_the_unmasked_tile(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The weights are the softmax of each tile, hidden keys included, and then masked: P = exp(scores − log_sum_exp),
    with the log-sum-exp of the whole row."""
    parts = [part.softmax(-1) for part in (q @ k.mT / q.shape[-1] ** 0.5).split(columns, dim=-1)]
    return _right(q, k, v, output, log_sum_exp, grad, weights=torch.cat(parts, dim=-1).tril())[:3]


@tiled_gradients.mistake(hint=1)
def divided_by_the_log_sum_exp(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The exps are divided by the log-sum-exp: it is a logarithm, so subtract it before exp."""
    weights = _scores(q, k).exp() / log_sum_exp[..., None]
    return _right(q, k, v, output, log_sum_exp, grad, weights=weights)[:3]


@tiled_gradients.mistake(hint=2)
def delta_of_the_gradient_alone(q, k, v, output, log_sum_exp, grad, rows, columns):
    """D is the sum of the gradients alone: multiply them by the output first, D = Σ grad · output."""
    return _right(q, k, v, output, log_sum_exp, grad, delta=grad.sum(-1, keepdim=True))[:3]


@tiled_gradients.mistake(hint=2)
def delta_of_the_squared_output(q, k, v, output, log_sum_exp, grad, rows, columns):
    """D is made of the output twice: it is the sum of grad · output."""
    return _right(q, k, v, output, log_sum_exp, grad, delta=output.square().sum(-1, keepdim=True))[:3]


@tiled_gradients.mistake(hint=3)
def delta_scaled(q, k, v, output, log_sum_exp, grad, rows, columns):
    """D is divided by √d_head: the scale belongs to dq and dk, at the end."""
    delta = (grad * output).sum(-1, keepdim=True) / q.shape[-1] ** 0.5
    return _right(q, k, v, output, log_sum_exp, grad, delta=delta)[:3]


@tiled_gradients.mistake(hint=3)
def dv_first(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The three gradients are right, in another order: return (dq, dk, dv)."""
    dq, dk, dv, *_ = _right(q, k, v, output, log_sum_exp, grad)
    return dv, dk, dq


@tiled_gradients.mistake(hint=3)
def dq_overwritten(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The gradient dq contains the last tile of each row only: add every tile's part, `+=`."""
    _, dk, dv, ds, _ = _right(q, k, v, output, log_sum_exp, grad)
    dq = torch.zeros_like(q)
    for i in range(0, q.shape[-2], rows):
        for j in range(0, min(i + rows, q.shape[-2]), columns):
            dq[..., i : i + rows, :] = ds[..., i : i + rows, j : j + columns] @ k[..., j : j + columns, :]
    return dq / q.shape[-1] ** 0.5, dk, dv


@tiled_gradients.mistake(hint=3)
def dk_and_dv_overwritten(q, k, v, output, log_sum_exp, grad, rows, columns):
    """Gradients dk and dv contain the last row of tiles only: many queries look at a key, so add every tile's part,
    `+=`."""
    dq, _, _, ds, p = _right(q, k, v, output, log_sum_exp, grad)
    start = (q.shape[-2] - 1) // rows * rows
    dk = ds[..., start:, :].mT @ q[..., start:, :] / q.shape[-1] ** 0.5
    return dq, dk, p[..., start:, :].mT @ grad[..., start:, :]


@tiled_gradients.mistake(hint=3)
def keys_and_queries_exchanged(q, k, v, output, log_sum_exp, grad, rows, columns):
    """Gradients dq and dk are exchanged: dq comes from the keys, dS @ k, and dk from the queries, dSᵀ @ q."""
    dq, dk, dv, *_ = _right(q, k, v, output, log_sum_exp, grad)
    return dk, dq, dv


@tiled_gradients.mistake(hint=2)
def dk_from_the_keys(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The gradient dk is made of the keys: a score is q · k, so the gradient of k contains q, dSᵀ @ q."""
    dq, _, dv, ds, _ = _right(q, k, v, output, log_sum_exp, grad)
    return dq, ds.mT @ k / q.shape[-1] ** 0.5, dv


@tiled_gradients.mistake(hint=2)
def ds_not_transposed(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The gradient dk is made with dS instead of its transpose: column s of dS belongs to key s."""
    dq, _, dv, ds, _ = _right(q, k, v, output, log_sum_exp, grad)
    return dq, ds @ q / q.shape[-1] ** 0.5, dv


@tiled_gradients.mistake(hint=2)
def weights_not_transposed(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The gradient dv is made with P instead of its transpose: column s of P says who looked at value s."""
    dq, dk, _, _, p = _right(q, k, v, output, log_sum_exp, grad)
    return dq, dk, p @ grad


@tiled_gradients.mistake(hint=2)
def dv_from_the_output(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The gradient dv is made of the output: it is Pᵀ times the gradient of the output, `grad`."""
    dq, dk, _, _, p = _right(q, k, v, output, log_sum_exp, grad)
    return dq, dk, p.mT @ output


@tiled_gradients.finished
def tile_by_tile(q, k, v, output, log_sum_exp, grad, rows, columns):
    seq, scale = q.shape[-2], q.shape[-1] ** -0.5
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    delta = (grad * output).sum(dim=-1, keepdim=True)
    for i in range(0, seq, rows):
        row = slice(i, min(i + rows, seq))
        queries, above = q[..., row, :], grad[..., row, :]
        for j in range(0, row.stop, columns):
            column = slice(j, min(j + columns, seq))
            scores = queries @ k[..., column, :].mT * scale
            positions = torch.arange(i, row.stop)[:, None]
            hidden = torch.arange(j, column.stop)[None, :] > positions
            p = torch.exp(scores - log_sum_exp[..., row, None]).masked_fill(hidden, 0.0)
            ds = p * (above @ v[..., column, :].mT - delta[..., row, :])
            dq[..., row, :] += ds @ k[..., column, :] * scale
            dk[..., column, :] += ds.mT @ queries * scale
            dv[..., column, :] += p.mT @ above
    return dq, dk, dv


@tiled_gradients.accepted
def keys_outside(q, k, v, output, log_sum_exp, grad, rows, columns):
    """The keys' loop is the outer one, so dk and dv are finished tile by tile."""
    seq, root = q.shape[-2], math.sqrt(q.shape[-1])
    dq, dks, dvs = torch.zeros_like(q), [], []
    for j in range(0, seq, columns):
        keys, values = k[..., j : j + columns, :], v[..., j : j + columns, :]
        dk, dv = torch.zeros_like(keys), torch.zeros_like(values)
        for i in range(j // rows * rows, seq, rows):
            queries, above, out = (x[..., i : i + rows, :] for x in (q, grad, output))
            scores = queries @ keys.transpose(-2, -1) / root
            visible = torch.ones_like(scores, dtype=torch.bool).tril(i - j)
            p = torch.where(visible, (scores - log_sum_exp[..., i : i + rows].unsqueeze(-1)).exp(), 0.0)
            dp = torch.einsum("...rd,...cd->...rc", above, values)
            ds = p * (dp - torch.einsum("...rd,...rd->...r", above, out)[..., None]) / root
            dq[..., i : i + rows, :] += ds @ keys
            dk = dk + ds.transpose(-2, -1) @ queries
            dv = dv + p.transpose(-2, -1) @ above
        dks.append(dk)
        dvs.append(dv)
    return dq, torch.cat(dks, dim=-2), torch.cat(dvs, dim=-2)


@tiled_gradients.accepted
def row_by_row(q, k, v, output, log_sum_exp, grad, rows, columns):
    """One query at a time, with all keys that it sees: the weights of one row exist at a time."""
    dq, dk, dv = (torch.zeros_like(x) for x in (q, k, v))
    for t in range(q.shape[-2]):
        keys, values, above = k[..., : t + 1, :], v[..., : t + 1, :], grad[..., t, None, :]
        scores = (keys * q[..., t, None, :]).sum(-1) / q.shape[-1] ** 0.5
        p = (scores - log_sum_exp[..., t, None]).exp()[..., None]
        dp = (values * above).sum(-1, keepdim=True)
        ds = p * (dp - (above * output[..., t, None, :]).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
        dq[..., t, :] = (ds * keys).sum(-2)
        dk[..., : t + 1, :] += ds * q[..., t, None, :]
        dv[..., : t + 1, :] += p * above
    return dq, dk, dv
