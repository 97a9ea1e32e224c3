"""Exercise `visited_tiles`: the tiles that a causal pass needs."""

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("visited",), picture="visited")
def visited_tiles(seq: int, rows: int, columns: int) -> Bool[Tensor, "row_tiles column_tiles"]:
    """The largest value of the true mask in each tile, by PyTorch's max pooling."""
    mask = torch.ones(1, 1, seq, seq).tril()
    return F.max_pool2d(mask, (rows, columns), ceil_mode=True)[0, 0] > 0


@visited_tiles.values
def seq(rng):
    return 13 + int(torch.randint(10, (), generator=rng))


@visited_tiles.values
def rows(rng):
    return 2 + int(torch.randint(5, (), generator=rng))


@visited_tiles.values
def columns(rng, rows):
    other = 2 + int(torch.randint(4, (), generator=rng))
    return other + (other >= rows)


@visited_tiles.inputs
def _(rng):
    yield 12, 4, 2
    yield 12, 2, 4
    yield 10, 4, 3
    yield 12, 3, 3
    yield 7, 2, 5
    yield 5, 8, 2
    yield 9, 1, 4
    yield 9, 4, 1


def _firsts(seq, rows, columns):
    """The first query of each row of tiles, as a column, and the first key of each column."""
    return torch.arange(0, seq, rows)[:, None], torch.arange(0, seq, columns)[None, :]


@visited_tiles.mistake(hint=1)
def tile_numbers_compared(seq, rows, columns):
    """The numbers of the tiles are compared, which fits square tiles only: compare positions, the tile's last query
    with its first key."""
    return torch.arange(-(-seq // columns))[None, :] <= torch.arange(-(-seq // rows))[:, None]


@visited_tiles.mistake(hint=1)
def first_query_compared(seq, rows, columns):
    """A tile is visited only if its first query sees its first key: one query is enough, and the last one of the tile
    sees most."""
    query, key = _firsts(seq, rows, columns)
    return key <= query


@visited_tiles.mistake(hint=1)
def whole_tiles_only(seq, rows, columns):
    """A tile is visited only if all of it is allowed: those on the diagonal are allowed in part, and are needed."""
    query, key = _firsts(seq, rows, columns)
    return key + columns - 1 <= query


@visited_tiles.mistake(hint=1)
def last_key_compared(seq, rows, columns):
    """The tile's last key is compared: one allowed key is enough, and the first one of the tile is seen most."""
    query, key = _firsts(seq, rows, columns)
    return key + columns - 1 <= query + rows - 1


@visited_tiles.mistake(hint=2)
def diagonal_lost(seq, rows, columns):
    """A tile whose first key is at the position of its last query is skipped: a query sees itself, so compare with
    ≤."""
    query, key = _firsts(seq, rows, columns)
    return key < query + rows - 1


@visited_tiles.mistake(hint=2)
def one_too_many(seq, rows, columns):
    """A tile that begins right behind the last query is visited: the last query of a tile is first + rows − 1."""
    query, key = _firsts(seq, rows, columns)
    return key <= query + rows


@visited_tiles.mistake(hint=2)
def last_rows_forgotten(seq, rows, columns):
    """The last, partial row of tiles is missing: round up the number of tiles."""
    query, key = _firsts(seq, rows, columns)
    return (key <= query + rows - 1)[: seq // rows]


@visited_tiles.mistake(hint=2)
def last_columns_forgotten(seq, rows, columns):
    """The last, partial column of tiles is missing: round up the number of tiles."""
    query, key = _firsts(seq, rows, columns)
    return (key <= query + rows - 1)[:, : seq // columns]


@visited_tiles.mistake(hint=2)
def partial_tiles_forgotten(seq, rows, columns):
    """The partial tiles at both ends are missing: round up the numbers of tiles."""
    query, key = _firsts(seq, rows, columns)
    return (key <= query + rows - 1)[: seq // rows, : seq // columns]


@visited_tiles.mistake(hint=2)
def one_tile_more(seq, rows, columns):
    """There is a row and a column of tiles too many where seq is a multiple: ⌈seq / rows⌉ is not seq // rows + 1."""
    query = torch.arange(seq // rows + 1)[:, None] * rows
    key = torch.arange(seq // columns + 1)[None, :] * columns
    return key <= query + rows - 1


@visited_tiles.mistake(hint=1)
def wrong_triangle(seq, rows, columns):
    """This is the other triangle, tiles with keys that come later: a query sees itself and earlier keys."""
    query, key = _firsts(seq, rows, columns)
    return key + columns - 1 >= query


@visited_tiles.mistake(hint=1)
def skipped_tiles(seq, rows, columns):
    """This is True for the tiles to skip: True is for those to visit."""
    query, key = _firsts(seq, rows, columns)
    return key > query + rows - 1


@visited_tiles.mistake(hint=1)
def all_tiles(seq, rows, columns):
    """All tiles are visited: those in which every key comes after every query contribute nothing."""
    query, key = _firsts(seq, rows, columns)
    return (key >= 0) & (query >= 0)


@visited_tiles.mistake(hint=2)
def rows_and_columns_exchanged(seq, rows, columns):
    """Rows and columns are exchanged: `rows` queries and `columns` keys make a tile."""
    query, key = _firsts(seq, columns, rows)
    return key <= query + columns - 1


@visited_tiles.mistake(hint=2)
def height_of_columns(seq, rows, columns):
    """The last query of a tile is computed with `columns`: a tile is `rows` queries high, so it is first + rows − 1."""
    query, key = _firsts(seq, rows, columns)
    return key <= query + columns - 1


@visited_tiles.mistake(hint=2)
def transposed(seq, rows, columns):
    """This is transposed: a row of the result is a row of tiles, with the same queries."""
    query, key = _firsts(seq, rows, columns)
    return (key <= query + rows - 1).mT


@visited_tiles.mistake(hint=2)
def numbers_for_booleans(seq, rows, columns):
    """These are numbers: return a boolean tensor."""
    query, key = _firsts(seq, rows, columns)
    return (key <= query + rows - 1).long()


@visited_tiles.mistake(hint=2)
def fractions_for_booleans(seq, rows, columns):
    """These are floating-point numbers, 1.0 and 0.0: return a boolean tensor, as a comparison makes it."""
    query, key = _firsts(seq, rows, columns)
    return (key <= query + rows - 1).float()


@visited_tiles.finished
def by_positions(seq, rows, columns):
    last_query = torch.arange(0, seq, rows)[:, None] + rows - 1
    first_key = torch.arange(0, seq, columns)[None, :]
    return first_key <= last_query


@visited_tiles.accepted
def by_loops(seq, rows, columns):
    visited = torch.zeros((seq + rows - 1) // rows, (seq + columns - 1) // columns, dtype=torch.bool)
    for i in range(visited.shape[0]):
        for j in range(visited.shape[1]):
            visited[i, j] = j * columns <= min((i + 1) * rows, seq) - 1
    return visited


@visited_tiles.accepted
def by_the_true_mask(seq, rows, columns):
    mask = torch.ones(seq, seq, dtype=torch.bool).tril()
    return torch.stack([torch.stack([t.any() for t in r.split(columns, 1)]) for r in mask.split(rows, 0)])
