"""Exercise `tiled_attention`: causal attention, one tile at a time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.course.ch13_flash_attention.shared import (
    WHOLE_ATTENTION,
    LargestTensor,
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
    yield *drawn(24, 3), 5, 4


@tiled_attention.demand
def no_square(call, inputs):
    """No tensor has an entry for each pair of tokens."""
    return whole_square(call, inputs[0].shape[-2]) if inputs[0].shape[-2] > 20 else None


@tiled_attention.demand
def tiles_of_the_size(call, inputs):
    """Scores are made for tiles of `rows` queries and `columns` keys."""
    q, _, _, rows, columns = inputs
    if q.ndim > 2 or q.shape[-2] <= 20:
        return None
    with LargestTensor() as seen:
        call()
    if (rows, columns) in seen.floats:
        return None
    said = f"The values are right, but with `rows` = {rows} and `columns` = {columns} "
    if (columns, rows) in seen.floats:
        return said + f"a tile has {columns} queries and {rows} keys: rows and columns are exchanged."
    if any(high == rows and wide > columns for high, wide in seen.floats):
        return said + f"more than {columns} keys are taken at once: go through the keys in steps of `columns`, too."
    if any(high > rows and wide == columns for high, wide in seen.floats):
        return said + f"more than {rows} queries are taken at once: go through the queries in steps of `rows`, too."
    return said + f"no tile has scores of shape ({rows}, {columns}): take so many queries and keys at a time."


@tiled_attention.demand
def hidden_tiles_skipped(call, inputs):
    """Values that no query of a row of tiles may see are not read for it: NaN among them changes nothing."""
    q, k, v, rows, columns = inputs
    if q.ndim > 2 or q.shape[-2] <= 20:
        return None
    right = call().value[0]
    for key in range(columns, q.shape[-2], columns):
        spoiled = torch.cat((v[:key], torch.full_like(v[key:], math.nan)))
        changed = call(inputs=(q, k, spoiled, rows, columns))
        before = key // rows * rows  # their rows of tiles end before the key
        if not changed.error and not torch.allclose(changed.value[0][:before], right[:before]):
            return (
                f"The values are right, but tiles are computed that are hidden as a whole: with `rows` = {rows} and "
                f"`columns` = {columns}, the tiles of queries 0 … {before - 1} need no key from {key} on, and theirs "
                "are read. End the inner loop earlier, or skip these tiles."
            )
    return None


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
    carried=None,
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
        state = carried(state, empty) if carried and state else empty
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
    return _tiles(q, k, v, rows, columns, keys=q.shape[-2] // columns * columns)


@tiled_attention.mistake(hint=1)
def maximum_carried(q, k, v, rows, columns):
    """The maximum of one row of tiles is carried into the next: other queries have other scores, so every row of tiles
    begins with a new state."""
    return _tiles(q, k, v, rows, columns, carried=lambda old, new: (old[0][..., : new[0].shape[-1]], *new[1:]))


@tiled_attention.mistake(hint=1)
def state_carried(q, k, v, rows, columns):
    """The state is made once, before both loops, so a row of tiles goes on with the sums of the one before: make it
    between the two `for` lines."""
    return _tiles(q, k, v, rows, columns, carried=lambda old, new: old if old[0].shape == new[0].shape else new)


@tiled_attention.mistake(hint=1)
def state_carried_and_cut(q, k, v, rows, columns):
    """The state is made once, before both loops, and cut for the last row of tiles, so each row goes on with the sums
    of the one before: make it between the two `for` lines."""
    return _tiles(q, k, v, rows, columns, carried=lambda old, new: _first_rows(old, new[0].shape[-1]))


def _first_rows(state, rows):
    return state[0][..., :rows], state[1][..., :rows], state[2][..., :rows, :]


@tiled_attention.mistake(hint=1)
def state_of_whole_tiles(q, k, v, rows, columns):
    """The state has `rows` rows even where a tile has fewer: make it between the two `for` lines, in the shape of this
    row of tiles' queries."""
    start = nothing_seen((*q.shape[:-2], rows), q.shape[-1])
    return _tiles(q, k, v, rows, columns, merge=lambda state, s, values: right_merge(_padded(state, start), s, values))


@tiled_attention.mistake(hint=1)
def state_of_whole_tiles_carried(q, k, v, rows, columns):
    """The state is made once, before both loops, with `rows` rows: each row of tiles needs a new one, in the shape of
    its queries."""
    start = nothing_seen((*q.shape[:-2], rows), q.shape[-1])
    return _tiles(
        q,
        k,
        v,
        rows,
        columns,
        merge=lambda state, s, values: right_merge(_padded(state, start), s, values),
        carried=lambda old, new: old,
    )


def _padded(state, start):
    return start if state[0].shape[-1] < start[0].shape[-1] else state


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
    )


@tiled_attention.mistake(hint=1)
def diagonal_skipped(q, k, v, rows, columns):
    """Tiles on the diagonal are skipped: a tile is needed as soon as its last query sees its first key."""
    return _tiles(q, k, v, rows, columns, visited=lambda i, j, rows, columns: j <= i)


@tiled_attention.mistake(hint=1)
def first_tiles_only(q, k, v, rows, columns):
    """The inner loop ends at query i, the first of the row of tiles: it must reach the last, i + rows − 1."""
    return _tiles(q, k, v, rows, columns, visited=lambda i, j, rows, columns: j < i)


@tiled_attention.mistake(hint=1)
def earlier_tiles_and_the_first(q, k, v, rows, columns):
    """The inner loop ends before query i, the first of the row of tiles, except in the first row: it must reach the
    last, i + rows − 1."""
    return _tiles(q, k, v, rows, columns, visited=lambda i, j, rows, columns: j < max(i, 1))


@tiled_attention.mistake(hint=1)
def diagonal_only(q, k, v, rows, columns):
    """The inner loop begins at the tile of query i: the earlier keys are visible, too, so begin at 0."""
    return _tiles(
        q, k, v, rows, columns, visited=lambda i, j, rows, columns: i // columns * columns <= j <= i + rows - 1
    )


@tiled_attention.mistake(hint=2)
def tile_begins_for_its_keys(q, k, v, rows, columns):
    """All keys of a tile are compared by the position of its first: each has its own, j + column."""
    return _tiles(q, k, v, rows, columns, allowed=lambda query, key, i, j: (j <= query) & (key >= 0))


@tiled_attention.mistake(hint=2)
def tile_begins_for_its_queries(q, k, v, rows, columns):
    """All queries of a tile are compared by the position of its first: each has its own, i + row."""
    return _tiles(q, k, v, rows, columns, allowed=lambda query, key, i, j: (key <= i) & (query >= 0))


@tiled_attention.mistake(hint=2)
def next_key_seen(q, k, v, rows, columns):
    """A query sees the key after it, where that is in its tiles: allowed is key ≤ query."""
    return _tiles(q, k, v, rows, columns, allowed=lambda query, key, i, j: key <= query + 1)


@tiled_attention.mistake(hint=2)
def later_keys_of_visited_tiles(q, k, v, rows, columns):
    """The mask is upside down in the visited tiles: hide where key > query, and not where it is less."""
    return _tiles(q, k, v, rows, columns, allowed=lambda query, key, i, j: key >= query)


@tiled_attention.mistake(hint=3)
def multiplied_by_the_root(q, k, v, rows, columns):
    """The scores are multiplied by √d_head: divide by it."""
    return _tiles(q, k, v, rows, columns, scale=q.shape[-1] ** 0.5)


@tiled_attention.mistake(hint=3)
def scale_from_the_rows(q, k, v, rows, columns):
    """The scale is 1/√rows, from the height of a tile: take the last axis of q, d_head."""
    return _tiles(q, k, v, rows, columns, scale=rows**-0.5)


@tiled_attention.mistake(hint=3)
def scale_from_the_columns(q, k, v, rows, columns):
    """The scale is 1/√columns, from the width of a tile: take the last axis of q, d_head."""
    return _tiles(q, k, v, rows, columns, scale=columns**-0.5)


@tiled_attention.mistake(hint=1)
def total_not_rescaled(q, k, v, rows, columns):
    """The old total is not rescaled when the maximum rises: multiply it by exp(old − new), as `merge_piece` does."""

    def merge(state, scores, values):
        largest, _, weighted = right_merge(state, scores, values)
        return largest, state[1] + (scores - largest[..., None]).exp().sum(-1), weighted

    return _tiles(q, k, v, rows, columns, merge=merge)


@tiled_attention.mistake(hint=1)
def weighted_not_rescaled(q, k, v, rows, columns):
    """The old weighted sum is not rescaled when the maximum rises: multiply it by exp(old − new), as `merge_piece`
    does."""

    def merge(state, scores, values):
        largest, total, _ = right_merge(state, scores, values)
        return largest, total, state[2] + (scores - largest[..., None]).exp() @ values

    return _tiles(q, k, v, rows, columns, merge=merge)


@tiled_attention.mistake(hint=1)
def maximum_of_the_tile(q, k, v, rows, columns):
    """The maximum is that of the present tile alone, which may fall to −∞: take the larger of it and the old one."""

    def merge(state, scores, values):
        new = scores.amax(-1)
        safe = torch.where(new == -math.inf, 0.0, new)
        factor, exps = (state[0] - safe).exp(), (scores - safe[..., None]).exp()
        return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values

    return _tiles(q, k, v, rows, columns, merge=merge)


@tiled_attention.mistake(hint=1)
def maximum_not_below_zero(q, k, v, rows, columns):
    """The maximum never falls below 0: with scores far below, all exps are 0, and 0/0 is NaN. Begin at −∞, and take
    the largest score whatever its sign."""

    def merge(state, scores, values):
        new = torch.maximum(state[0], scores.amax(-1)).clamp(min=0)
        factor, exps = (state[0] - new).exp(), (scores - new[..., None]).exp()
        return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values

    return _tiles(q, k, v, rows, columns, merge=merge)


@tiled_attention.mistake(hint=3)
def divided_at_every_tile(q, k, v, rows, columns):
    """The weighted sum is divided by the total at every tile: divide once, after the last tile of the row."""

    def merge(state, scores, values):
        largest, total, weighted = right_merge(state, scores, values)
        return largest, total, weighted / total[..., None]

    return _tiles(q, k, v, rows, columns, merge=merge, end=lambda m, t, w: (w, m + t.log()))


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
def in_base_ten(q, k, v, rows, columns):
    """The logarithm has the base 10: take the natural one."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], m + t.log10()))


@tiled_attention.mistake(hint=3)
def log_of_one_more(q, k, v, rows, columns):
    """The logarithm is that of 1 + total: the total is a sum of exps, and never 0 here, so take log(total)."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], m + t.log1p()))


@tiled_attention.mistake(hint=3)
def maximum_times_log(q, k, v, rows, columns):
    """The maximum is multiplied by log(total): exps were divided by exp(largest), so in logarithms add it."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], m * t.log()))


@tiled_attention.mistake(hint=3)
def log_of_the_sum_of_both(q, k, v, rows, columns):
    """The logarithm of largest + total is returned: the log-sum-exp is largest + log(total)."""
    return _tiles(q, k, v, rows, columns, end=lambda m, t, w: (w / t[..., None], (m + t).log()))


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
    """The keys are read from the last to the first, so the first tile of a row begins with what is hidden."""
    seq = q.shape[-2]
    outputs, sums = [], []
    for i in range(0, seq, rows):
        tile = q[..., i : i + rows, :]
        state = tuple(x.to(q.dtype) for x in nothing_seen(tile.shape[:-1], q.shape[-1]))
        for j in reversed(range(0, min(i + rows, seq), columns)):
            scores = tile @ k[..., j : j + columns, :].mT / q.shape[-1] ** 0.5
            mask = torch.ones_like(scores, dtype=torch.bool).tril(i - j)
            state = right_merge(state, torch.where(mask, scores, -math.inf), v[..., j : j + columns, :])
        outputs.append(state[2] / state[1][..., None])
        sums.append(state[0] + state[1].log())
    return torch.cat(outputs, -2), torch.cat(sums, -1)
