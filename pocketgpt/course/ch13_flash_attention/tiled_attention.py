"""Exercise `tiled_attention`: causal attention, one tile at a time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.course.ch13_flash_attention.shared import (
    WHOLE_ATTENTION,
    nothing_seen,
    right_merge,
    whole_square,
)
from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=3,
    returns=("output", "log_sum_exp"),
    forbidden=WHOLE_ATTENTION,
    replaces="tiled_attention",
    gradients=("q", "k", "v"),
)
def tiled_attention(
    q: Float[Tensor, "*batch seq d"],
    k: Float[Tensor, "*batch seq d"],
    v: Float[Tensor, "*batch seq d"],
    rows: int,
    columns: int,
) -> tuple[Float[Tensor, "*batch seq d"], Float[Tensor, "*batch seq"]]:
    """PyTorch's fused operator, and its logsumexp of all scores."""
    hidden = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).triu(1)
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(hidden, -math.inf)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True), scores.logsumexp(-1)


@tiled_attention.values
def rows(rng):
    return 2 + int(torch.randint(3, (), generator=rng))


@tiled_attention.values
def columns(rng, rows):
    other = 2 + int(torch.randint(2, (), generator=rng))
    return other + (other >= rows)


@tiled_attention.inputs
def _(rng):
    def drawn(*shape):
        return torch.randn(3, *shape, generator=rng).unbind()

    yield *drawn(13, 5), 4, 3  # no multiples
    yield *drawn(13, 5), 3, 4
    yield *drawn(2, 3, 12, 4), 4, 2  # multiples
    yield *drawn(2, 12, 4), 2, 6
    yield *drawn(11, 4), 5, 5
    yield *drawn(7, 4), 9, 2  # tiles larger than the text
    yield *drawn(7, 4), 2, 9
    yield *drawn(9, 3), 1, 1
    for sign in (
        1,
        -1,
    ):  # scores of 64 and −64, which fall and rise from tile to tile, and from one row of tiles to the next
        q, k, v = drawn(12, 4)
        q[:, 0], k[:, 0] = sign * 8.0, 16.0
        q[3:6, 0], k[4:8, 0] = -sign * 8.0, -16.0
        yield q, k, v, 3, 4
    q, k, v = drawn(9, 4)
    q, k = (4 * q).round() / 4, (4 * k).round() / 4  # so that scores are exact
    q[:, 0], k[:, 0] = 16.0, -16.0  # all of them near −128
    yield q, k, v, 2, 3
    yield *drawn(2, 24, 3), 5, 4


@tiled_attention.demand
def no_square(call, inputs):
    """No tensor has an entry for each pair of tokens."""
    return whole_square(call, inputs[0].shape[-2]) if inputs[0].shape[-2] > 20 else None


def _tiles(
    q,
    k,
    v,
    rows,
    columns,
    *,
    scale=None,
    allowed=lambda query, key, i, j: key <= query,
    visited=lambda i, j, rows, columns: j <= i + rows - 1,
    merge=right_merge,
    end=lambda largest, total, weighted: (weighted / total[..., None], largest + total.log()),
    carried=False,
    seq=None,
    keys=None,
):
    """Tiles in order, in replaceable steps: i and j are the first query and the first key of a tile."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    length = q.shape[-2]
    output, log_sum_exp = torch.zeros_like(q), torch.zeros(q.shape[:-1])
    state = None
    for i in range(0, length if seq is None else seq, rows):
        tile = q[..., i : i + rows, :]
        empty = nothing_seen(tile.shape[:-1], q.shape[-1])
        state = (state[0][..., : tile.shape[-2]], *empty[1:]) if carried and state else empty
        for j in range(0, length if keys is None else keys, columns):
            if not visited(i, j, rows, columns):
                continue
            key_tile = k[..., j : j + columns, :]
            query, key = torch.arange(tile.shape[-2])[:, None], torch.arange(key_tile.shape[-2])[None, :]
            mask = allowed(query + i, key + j, i, j)
            scores = (tile @ key_tile.mT * scale).masked_fill(~mask, -math.inf)
            state = merge(state, scores, v[..., j : j + columns, :])
        output[..., i : i + rows, :], log_sum_exp[..., i : i + rows] = end(*state)
    return output, log_sum_exp


@tiled_attention.mistake(hint=2)
def mask_inside_the_tile(q, k, v, rows, columns):
    """The mask compares places inside the tile: compare positions in the text, i + row and j + column."""
    return _tiles(q, k, v, rows, columns, allowed=lambda query, key, i, j: key - j <= query - i)


@tiled_attention.mistake(hint=2)
def key_positions_inside_the_tile(q, k, v, rows, columns):
    """The keys' positions are counted from the beginning of the tile: the tile begins at j, so add it."""
    return _tiles(q, k, v, rows, columns, allowed=lambda query, key, i, j: key - j <= query)


@tiled_attention.mistake(hint=1)
def no_mask_in_the_tile(q, k, v, rows, columns):
    """Tiles are skipped, and inside a visited tile nothing is hidden: those on the diagonal contain later keys."""
    return _tiles(q, k, v, rows, columns, allowed=lambda query, key, i, j: key >= 0)


@tiled_attention.mistake(hint=1)
def everything_seen(q, k, v, rows, columns):
    """Nothing is hidden: every query sees all keys, the later ones, too."""
    return _tiles(
        q, k, v, rows, columns, allowed=lambda query, key, i, j: key >= 0, visited=lambda i, j, rows, columns: True
    )


@tiled_attention.mistake(hint=2)
def not_itself(q, k, v, rows, columns):
    """A query does not see its own position: allowed is key ≤ query, and not <. The first query then sees nothing."""
    return _tiles(q, k, v, rows, columns, allowed=lambda query, key, i, j: key < query)


@tiled_attention.mistake(hint=2)
def later_keys(q, k, v, rows, columns):
    """The mask is upside down: it hides the earlier keys and shows the later ones."""
    return _tiles(
        q, k, v, rows, columns, allowed=lambda query, key, i, j: key >= query, visited=lambda i, j, rows, columns: True
    )


@tiled_attention.mistake(hint=3)
def never_scaled(q, k, v, rows, columns):
    """The scores are not divided by √d_head."""
    return _tiles(q, k, v, rows, columns, scale=1.0)


@tiled_attention.mistake(hint=3)
def scaled_twice(q, k, v, rows, columns):
    """The scores are divided by d_head: by its square root, once."""
    return _tiles(q, k, v, rows, columns, scale=1 / q.shape[-1])


@tiled_attention.mistake(hint=3)
def scale_of_the_pocket_model(q, k, v, rows, columns):
    """The scale is 1/√32, that of the pocket model: read the width from the last axis of q."""
    return _tiles(q, k, v, rows, columns, scale=32**-0.5)


@tiled_attention.mistake(hint=3)
def scale_from_the_length(q, k, v, rows, columns):
    """The scale is 1/√T, from the number of tokens: take the last axis of q, d_head."""
    return _tiles(q, k, v, rows, columns, scale=q.shape[-2] ** -0.5)


@tiled_attention.mistake(hint=2)
def last_queries_dropped(q, k, v, rows, columns):
    """The queries of the last, partial tile get no output: go to T in steps of `rows`, slices end by themselves."""
    return _tiles(q, k, v, rows, columns, seq=q.shape[-2] // rows * rows)


@tiled_attention.mistake(hint=2)
def last_keys_dropped(q, k, v, rows, columns):
    """The keys of the last, partial tile are never seen: go on to the last query of the row of tiles."""
    return _tiles(q, k, v, rows, columns, keys=q.shape[-2] // columns * columns, end=lambda m, t, w: _guarded(m, t, w))


def _guarded(largest, total, weighted):
    safe = torch.where(total == 0, 1.0, total)
    return weighted / safe[..., None], torch.where(total == 0, 0.0, largest + safe.log())


@tiled_attention.mistake(hint=1)
def maximum_carried(q, k, v, rows, columns):
    """The maximum of one row of tiles is carried into the next: other queries have other scores, so every row of tiles
    begins with a new state."""
    return _tiles(q, k, v, rows, columns, carried=True)


@tiled_attention.mistake(hint=1)
def only_the_last_tile(q, k, v, rows, columns):
    """Only the last tile of each row is in the result: make the state before the inner loop, not inside it."""
    return _tiles(
        q,
        k,
        v,
        rows,
        columns,
        merge=lambda state, scores, values: right_merge(nothing_seen(scores.shape[:-1], q.shape[-1]), scores, values),
        end=_guarded,
    )


@tiled_attention.mistake(hint=1)
def tile_numbers_compared(q, k, v, rows, columns):
    """Tiles are skipped by their numbers, which fits square tiles only: compare positions, j ≤ i + rows − 1."""
    return _tiles(
        q,
        k,
        v,
        rows,
        columns,
        visited=lambda i, j, rows, columns: j // columns <= i // rows,
        end=_guarded,
    )


@tiled_attention.mistake(hint=1)
def diagonal_skipped(q, k, v, rows, columns):
    """Tiles on the diagonal are skipped: a tile is needed as soon as its last query sees its first key."""
    return _tiles(q, k, v, rows, columns, visited=lambda i, j, rows, columns: j <= i, end=_guarded)


@tiled_attention.mistake(hint=1)
def first_tiles_only(q, k, v, rows, columns):
    """The inner loop ends at query i, the first of the row of tiles: it must reach the last, i + rows − 1."""
    return _tiles(q, k, v, rows, columns, visited=lambda i, j, rows, columns: j < i, end=_guarded)


@tiled_attention.mistake(hint=3)
def not_divided(q, k, v, rows, columns):
    """The output is not divided by the total: weighted / total, after the last tile of the row."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w, m + t.log()))


@tiled_attention.mistake(hint=3)
def log_without_the_maximum(q, k, v, rows, columns):
    """The log-sum-exp lacks the maximum: the exps in the total are relative to it, so add it to log(total)."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], t.log()))


@tiled_attention.mistake(hint=3)
def total_without_log(q, k, v, rows, columns):
    """The sum largest + total is returned: the log-sum-exp is largest + log(total)."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], m + t))


@tiled_attention.mistake(hint=3)
def total_for_log_sum_exp(q, k, v, rows, columns):
    """The second value is the total: return largest + log(total)."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], t))


@tiled_attention.mistake(hint=3)
def maximum_for_log_sum_exp(q, k, v, rows, columns):
    """The second value is the maximum: return largest + log(total)."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], m))


@tiled_attention.mistake(hint=3)
def in_base_two(q, k, v, rows, columns):
    """The logarithm has the base 2: take the natural one."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], m + t.log2()))


@tiled_attention.mistake(hint=3)
def exchanged(q, k, v, rows, columns):
    """Output and log-sum-exp are exchanged: the output comes first."""
    return _tiles(q, k, v, rows, columns)[::-1]


@tiled_attention.mistake(hint=2)
def hidden_as_zero(q, k, v, rows, columns):
    """Hidden scores are set to 0: exp(0) is 1, so hidden keys count. Set them to −∞."""

    def merge(state, scores, values):
        return right_merge(state, scores.masked_fill(scores == -math.inf, 0.0), values)

    return _tiles(q, k, v, rows, columns, merge=merge)


@tiled_attention.mistake(hint=1)
def tiles_added(q, k, v, rows, columns):
    """Each tile has a softmax of its own, and the results are added: merge the tiles of a row with `merge_piece`."""

    def merge(state, scores, values):
        largest, total, _ = right_merge(state, scores, values)
        return largest, total, state[2] + scores.softmax(-1).nan_to_num() @ values

    return _tiles(q, k, v, rows, columns, merge=merge, end=lambda m, t, w: (w, m + t.log()))


@tiled_attention.finished
def row_by_row_of_tiles(q, k, v, rows, columns):
    seq, d_head = q.shape[-2:]
    output, log_sum_exp = torch.zeros_like(q), q.new_zeros(q.shape[:-1])
    for i in range(0, seq, rows):
        queries = q[..., i : i + rows, :] / math.sqrt(d_head)
        query_positions = torch.arange(i, i + queries.shape[-2], device=q.device)
        largest = queries.new_full(queries.shape[:-1], -math.inf)
        total, weighted = torch.zeros_like(largest), torch.zeros_like(queries)
        for j in range(0, min(i + rows, seq), columns):
            keys, values = k[..., j : j + columns, :], v[..., j : j + columns, :]
            key_positions = torch.arange(j, j + keys.shape[-2], device=q.device)
            hidden = key_positions[None, :] > query_positions[:, None]
            scores = (queries @ keys.mT).masked_fill(hidden, -math.inf)
            new = torch.maximum(largest, scores.amax(dim=-1))
            factor, exps = torch.exp(largest - new), torch.exp(scores - new[..., None])
            weighted = factor[..., None] * weighted + exps @ values
            largest, total = new, factor * total + exps.sum(dim=-1)
        output[..., i : i + rows, :] = weighted / total[..., None]
        log_sum_exp[..., i : i + rows] = largest + total.log()
    return output, log_sum_exp


@tiled_attention.accepted
def with_logsumexp_and_lists(q, k, v, rows, columns):
    outputs, sums = [], []
    for i, queries in enumerate(q.split(rows, dim=-2)):
        seen, mean = None, None
        last = i * rows + queries.shape[-2] - 1
        for j, (keys, values) in enumerate(zip(k.split(columns, dim=-2), v.split(columns, dim=-2), strict=True)):
            if j * columns > last:
                break
            scores = torch.einsum("...rd,...cd->...rc", queries, keys) * q.shape[-1] ** -0.5
            ahead = torch.arange(scores.shape[-1]) + j * columns - torch.arange(scores.shape[-2])[:, None] - i * rows
            scores = torch.where(ahead > 0, -math.inf, scores)
            new = scores.logsumexp(-1)
            part = torch.where(new[..., None] > -math.inf, scores - new[..., None], -math.inf).exp() @ values
            if seen is None:
                seen, mean = new, part
            else:
                both = torch.logaddexp(seen, new)
                mean = (seen - both).exp()[..., None] * mean + (new - both).exp()[..., None] * part
                seen = both
        outputs.append(mean)
        sums.append(seen)
    return torch.cat(outputs, dim=-2), torch.cat(sums, dim=-1)


@tiled_attention.accepted
def every_tile_from_the_right(q, k, v, rows, columns):
    """No tile is skipped, and the keys are read from the last to the first: begins with what is hidden."""
    seq = q.shape[-2]
    outputs, sums = [], []
    for i in range(0, seq, rows):
        tile = q[..., i : i + rows, :]
        state = tuple(x.to(q.dtype) for x in nothing_seen(tile.shape[:-1], q.shape[-1]))
        for j in reversed(range(0, seq, columns)):
            scores = tile @ k[..., j : j + columns, :].mT / q.shape[-1] ** 0.5
            mask = torch.ones_like(scores, dtype=torch.bool).tril(i - j)
            state = right_merge(state, torch.where(mask, scores, -math.inf), v[..., j : j + columns, :])
        outputs.append(state[2] / state[1][..., None])
        sums.append(state[0] + state[1].log())
    return torch.cat(outputs, -2), torch.cat(sums, -1)
