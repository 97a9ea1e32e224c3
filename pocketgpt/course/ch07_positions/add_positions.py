"""Exercise `add_positions`: the vectors of positions, added to those of tokens."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("sum",),
    replaces="add_positions",
    sizes={"rows": (11, 12, 13)},
    gradients=("x", "table"),
    raises=(IndexError, ValueError),
)
def add_positions(
    x: Float[Tensor, "batch seq d_model"], table: Float[Tensor, "rows d_model"], start: int
) -> Float[Tensor, "batch seq d_model"]:
    """x plus the rows start, start + 1, … of the table. IndexError where the table has too few rows.

    PyTorch's lookup, as in GPT-2's `wpe`, on the positions written out.
    """
    positions = torch.arange(start, start + x.shape[1]).expand(x.shape[:2])
    return x + F.embedding(positions, table)


@add_positions.values
def start(rng, seq):
    return int(torch.randint(1, 11 - seq, (), generator=rng))


@add_positions.inputs
def _(rng):
    def case(batch, seq, rows, start):
        return torch.randn(batch, seq, 6, generator=rng), torch.randn(rows, 6, generator=rng), start

    yield case(2, 4, 9, 0)
    yield case(3, 3, 8, 2)  # as many texts as tokens
    yield case(2, 4, 9, 5)  # up to the last row
    yield case(2, 1, 9, 8)  # the last row alone: a step with a cache
    yield case(2, 5, 12, 8)  # one row too few, and large, so that an ordinary case is shown first
    yield case(2, 5, 12, 11)  # one row left, which broadcasts
    yield case(1, 2, 5, 9)  # far past the end


def _rows(x, table, positions):
    """Right for positions that the table has, for the mistakes that go wrong elsewhere."""
    return x + table[positions]


def _positions(x, start):
    return start + torch.arange(x.shape[1])


def _require(x, table, start):
    if start + x.shape[1] > len(table):
        raise IndexError


@add_positions.mistake(hint=2)
def start_ignored(x, table, start):
    """The positions begin at 0 again: the first token of x is at position `start`."""
    if start + x.shape[1] > len(table):
        raise IndexError
    return x + table[: x.shape[1]]


@add_positions.mistake(hint=2)
def ends_at_the_length(x, table, start):
    """The slice ends at T, and it should end at start + T: with start > 0 it has too few rows, or none."""
    _require(x, table, start)
    return x + table[start : x.shape[1]]


@add_positions.mistake(hint=1)
def too_few_rows_broadcast(x, table, start):
    """Past the end of the table a slice has too few rows, and if one is left, it is added to every token, silently:
    raise IndexError."""
    return x + table[start : start + x.shape[1]]


@add_positions.mistake(hint=1)
def wraps_around(x, table, start):
    """Past the end of the table the positions begin at 0 again, silently: raise IndexError."""
    return x + table[(start + torch.arange(x.shape[1])) % len(table)]


@add_positions.mistake(hint=1)
def last_row_again(x, table, start):
    """Past the end of the table every token gets the last row, silently: raise IndexError."""
    return x + table[(start + torch.arange(x.shape[1])).clamp(max=len(table) - 1)]


@add_positions.mistake(hint=1)
def nothing_past_the_end(x, table, start):
    """Past the end of the table nothing is added, silently: raise IndexError."""
    rows = table[start : start + x.shape[1]]
    return x + F.pad(rows, (0, 0, 0, x.shape[1] - len(rows)))


@add_positions.mistake(hint=1)
def end_refused(x, table, start):
    """The last row is refused: start + T may be as large as the number of rows."""
    if start + x.shape[1] >= len(table):
        raise IndexError
    return x + table[start : start + x.shape[1]]


@add_positions.mistake(hint=2)
def texts_counted(x, table, start):
    """The texts of the batch are counted, len(x): count the tokens of each, x.shape[1]."""
    if start + len(x) > len(table):
        raise IndexError
    return x + table[start : start + len(x)]


@add_positions.mistake(hint=2)
def along_the_batch(x, table, start):
    """The rows run along the batch, so that all tokens of a text get the same: they run along the second axis, and
    [None] in front of them is for the batch."""
    _require(x, table, start)
    return x + table[_positions(x, start)][:, None]


@add_positions.mistake(hint=3)
def one_row_for_all(x, table, start):
    """Every token gets row `start`: token t gets row start + t."""
    _require(x, table, start)
    return x + table[start]


@add_positions.mistake(hint=3)
def one_too_far(x, table, start):
    """Each row is the one after: the first token gets row `start`."""
    if start + 1 + x.shape[1] > len(table):
        raise IndexError
    return x + table[start + 1 : start + 1 + x.shape[1]]


@add_positions.mistake(hint=3)
def rows_alone(x, table, start):
    """These are the positions alone: add them to x."""
    _require(x, table, start)
    return table[_positions(x, start)].expand_as(x).clone()


@add_positions.mistake(hint=3)
def product(x, table, start):
    """The vectors are multiplied: add them."""
    _require(x, table, start)
    return x * table[_positions(x, start)]


@add_positions.mistake
def counted_through_the_batch(x, table, start):
    """The positions count on from text to text: each text of the batch begins at `start`."""
    positions = start + torch.arange(x.shape[0] * x.shape[1]).view(x.shape[:2])
    return x + table[positions]


@add_positions.mistake
def scaled_as_well(x, table, start):
    """The embedding is multiplied by √d_model: whoever calls this function has done that already. Add the rows."""
    _require(x, table, start)
    return _rows(x * x.shape[-1] ** 0.5, table, _positions(x, start))


@add_positions.mistake(hint=3)
def side_by_side(x, table, start):
    """The vectors are concatenated, which makes them twice as wide: add them."""
    _require(x, table, start)
    rows = table[_positions(x, start)].expand_as(x)
    return torch.cat((x, rows), dim=-1)


@add_positions.mistake(hint=2)
def sliced_from_the_front(x, table, start):
    """The slice begins at row 0 again, whatever `start` is, and nothing refuses a position past the end: take rows
    start … start + T − 1, and raise IndexError if there are too few."""
    return x + table[: x.shape[1]]


@add_positions.mistake(hint=2)
def sliced_to_the_length(x, table, start):
    """The slice ends at T, and it should end at start + T. And refuse what is past the end of the table."""
    return x + table[start : x.shape[1]]


@add_positions.mistake(hint=2)
def sliced_to_the_end(x, table, start):
    """All rows from `start` on are added, and there are more of them than tokens: end the slice at start + T."""
    return x + table[start:]


@add_positions.mistake(hint=2)
def sliced_by_texts(x, table, start):
    """The texts of the batch are counted, len(x): count the tokens of each, x.shape[1]. And refuse what is past the
    end."""
    return x + table[start : start + len(x)]


@add_positions.mistake(hint=3)
def row_of_the_start(x, table, start):
    """Every token gets row `start`: token t gets row start + t, and without that row there is an IndexError."""
    return x + table[start]


@add_positions.mistake(hint=1)
def only_the_first_refused(x, table, start):
    """Only the first position is compared with the table: the last one, start + T − 1, may be past its end."""
    if start >= len(table):
        raise IndexError
    return x + table[start : start + x.shape[1]]


@add_positions.mistake(hint=1)
def refused_one_late(x, table, start):
    """With one row too few nothing is refused: there must be start + T rows, and start + T − 1 of them are not
    enough."""
    if start + x.shape[1] - 1 > len(table):
        raise IndexError
    return x + table[start : start + x.shape[1]]


@add_positions.mistake(hint=1)
def unchanged_past_the_end(x, table, start):
    """Where the table has too few rows, x is returned as it was, silently: raise IndexError."""
    return x.clone() if start + x.shape[1] > len(table) else x + table[start : start + x.shape[1]]


@add_positions.mistake(hint=1)
def error_returned(x, table, start):
    """The error is returned: write `raise IndexError(…)`."""
    return IndexError if start + x.shape[1] > len(table) else x + table[start : start + x.shape[1]]


@add_positions.mistake(hint=1)
def assertion(x, table, start):
    """This is an AssertionError, and Python leaves out `assert` where it is told to optimize: raise IndexError."""
    assert start + x.shape[1] <= len(table)
    return x + table[start : start + x.shape[1]]


@add_positions.mistake(hint=2)
def columns_for_rows(x, table, start):
    """The end is compared with table.shape[1], which is d_model: the number of rows is len(table)."""
    if start + x.shape[1] > table.shape[1]:
        raise IndexError
    return x + table[start : start + x.shape[1]]


@add_positions.mistake(hint=3)
def rows_after(x, table, start):
    """Each row is one too far on: the first token gets row `start`."""
    _require(x, table, start)
    return x + table[start + 1 : start + x.shape[1] + 1]


@add_positions.mistake(hint=3)
def rows_before(x, table, start):
    """Each row is the one before: the first token gets row `start`."""
    _require(x, table, start)
    return x + table[start - 1 : start + x.shape[1] - 1]


@add_positions.mistake(hint=3)
def one_row_short(x, table, start):
    """The slice has T − 1 rows: a slice does not include its end, so it ends at start + T."""
    _require(x, table, start)
    return x + table[start : start + x.shape[1] - 1]


@add_positions.mistake(hint=3)
def rows_without_the_batch(x, table, start):
    """These are the rows alone, without x: add them to x."""
    _require(x, table, start)
    return table[start : start + x.shape[1]].clone()


@add_positions.mistake
def halved(x, table, start):
    """This is the mean of the two: add them."""
    _require(x, table, start)
    return (x + table[_positions(x, start)]) / 2


@add_positions.mistake
def rows_in_reverse(x, table, start):
    """The rows are in reverse order: the first token gets row `start`."""
    _require(x, table, start)
    return x + table[_positions(x, start).flip(0)]


@add_positions.mistake
def mean_row(x, table, start):
    """Every token gets the mean of the rows: token t gets row start + t."""
    _require(x, table, start)
    return x + table[_positions(x, start)].mean(0)


@add_positions.mistake(hint=1)
def refused_if_it_fails(x, table, start):
    """Nothing fails where one row is left, because it broadcasts: compare start + T with the number of rows."""
    try:
        return x + table[start : start + x.shape[1]]
    except RuntimeError:
        raise IndexError from None


@add_positions.finished
def sliced_if_there(x, table, start):
    if start + x.shape[1] > len(table):
        raise IndexError(f"{start + x.shape[1]} positions are more than the {len(table)} rows of the table")
    return x + table[start : start + x.shape[1]]


@add_positions.accepted
def indexed(x, table, start):
    return x + table[torch.arange(start, start + x.shape[1])]


@add_positions.accepted
def as_an_embedding(x, table, start):
    seq = x.shape[1]
    if start + seq > table.shape[0]:
        raise ValueError("too few rows")
    return torch.stack([text + table.narrow(0, start, seq) for text in x])


@add_positions.accepted
def by_one_hot(x, table, start):
    if start + x.shape[1] > len(table):
        raise IndexError(start)
    places = F.one_hot(start + torch.arange(x.shape[1]), num_classes=len(table)).to(table.dtype)
    return x + torch.einsum("ts,sd->td", places, table)
