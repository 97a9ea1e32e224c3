"""Exercise `attention_numbers`: numbers that one head holds at once, step by step and in tiles."""

import torch

from pocketgpt.course.checking.exercise import exercise


def _held(*shapes: tuple[int, ...]) -> int:
    return sum(torch.empty(shape, device="meta").numel() for shape in shapes)


@exercise(points=1, returns=("naive", "tiled"))
def attention_numbers(seq: int, d_head: int, rows: int, columns: int) -> tuple[int, int]:
    """Counted from the tensors themselves, made without memory."""
    naive = _held((seq, seq), (seq, seq), (seq, d_head))
    tile, state = [(rows, columns)] * 2, [(rows,), (rows,), (rows, d_head)]
    return naive, _held((seq, d_head), (seq,), *state, *tile)


@attention_numbers.values
def seq(rng):
    return 50 + int(torch.randint(50, (), generator=rng))


@attention_numbers.values
def d_head(rng):
    return 9 + int(torch.randint(8, (), generator=rng))


@attention_numbers.values
def rows(rng):
    return 2 + int(torch.randint(3, (), generator=rng))


@attention_numbers.values
def columns(rng):
    return 5 + int(torch.randint(4, (), generator=rng))


@attention_numbers.inputs
def _(rng):
    yield 256, 32, 64, 32
    yield 1000, 64, 128, 96
    yield 30, 4, 6, 5


def _tiled(seq, d_head, rows, columns):
    return seq * d_head + seq + rows * (d_head + 2) + 2 * rows * columns


def _naive(seq, d_head):
    return 2 * seq**2 + seq * d_head


@attention_numbers.mistake(hint=1)
def scores_once(seq, d_head, rows, columns):
    """Step by step, one square of seq · seq is counted: while the softmax makes the weights, the scores are still
    there."""
    return seq**2 + seq * d_head, _tiled(seq, d_head, rows, columns)


@attention_numbers.mistake(hint=3)
def bytes_for_numbers(seq, d_head, rows, columns):
    """These are bytes in float32: count numbers."""
    return 4 * _naive(seq, d_head), 4 * _tiled(seq, d_head, rows, columns)


@attention_numbers.mistake(hint=1)
def squares_in_tiles(seq, d_head, rows, columns):
    """The tiled form is counted with squares of seq · seq: only one tile of scores and one of weights exist at a
    time."""
    return _naive(seq, d_head), 2 * seq**2 + seq * d_head + seq + rows * (d_head + 2)


@attention_numbers.mistake(hint=2)
def state_without_maximum_and_total(seq, d_head, rows, columns):
    """The state is counted without largest and total: they are one number each for every row of the tile."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - 2 * rows


@attention_numbers.mistake(hint=2)
def state_forgotten(seq, d_head, rows, columns):
    """The state is forgotten: a row of tiles has largest, total and the weighted sums, rows · (d_head + 2) numbers."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - rows * (d_head + 2)


@attention_numbers.mistake(hint=2)
def log_sum_exp_forgotten(seq, d_head, rows, columns):
    """The log-sum-exps are forgotten: the tiled form returns one for each query."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - seq


@attention_numbers.mistake(hint=2)
def log_sum_exp_in_both(seq, d_head, rows, columns):
    """The log-sum-exps are counted step by step, too: only the tiled form returns them."""
    return _naive(seq, d_head) + seq, _tiled(seq, d_head, rows, columns)


@attention_numbers.mistake(hint=2)
def outputs_forgotten(seq, d_head, rows, columns):
    """The outputs are forgotten, seq · d_head numbers in both forms."""
    return 2 * seq**2, _tiled(seq, d_head, rows, columns) - seq * d_head


@attention_numbers.mistake(hint=2)
def output_forgotten_step_by_step(seq, d_head, rows, columns):
    """The output is missing in the first number: step by step makes one, too, seq · d_head numbers."""
    return 2 * seq**2, _tiled(seq, d_head, rows, columns)


@attention_numbers.mistake(hint=2)
def output_forgotten_in_tiles(seq, d_head, rows, columns):
    """The output is missing in the second number: it is written tile by tile, and all of it is held, seq · d_head
    numbers."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - seq * d_head


@attention_numbers.mistake(hint=2)
def one_number_of_the_state_missing(seq, d_head, rows, columns):
    """The state is counted with d_head + 1 numbers a row: there are two beside the weighted sum, largest and total."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - rows


@attention_numbers.mistake(hint=2)
def whole_state_as_wide_as_the_values(seq, d_head, rows, columns):
    """Each part of the state is counted with d_head numbers a row: largest and total are one number a row."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) + 2 * rows * (d_head - 1)


@attention_numbers.mistake(hint=2)
def largest_and_total_once(seq, d_head, rows, columns):
    """The state is counted with one largest and one total: each of its `rows` has its own."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - 2 * rows + 2


@attention_numbers.mistake(hint=2)
def tile_as_wide_as_a_head(seq, d_head, rows, columns):
    """A tile is counted as rows · d_head: its scores have a number for each query and key, rows · columns."""
    return _naive(seq, d_head), seq * d_head + seq + rows * (d_head + 2) + 2 * rows * d_head


@attention_numbers.mistake(hint=2)
def tile_of_rows_squared(seq, d_head, rows, columns):
    """A tile is counted as rows · rows: it is `rows` queries high and `columns` keys wide."""
    return _naive(seq, d_head), seq * d_head + seq + rows * (d_head + 2) + 2 * rows**2


@attention_numbers.mistake(hint=2)
def tile_of_columns_squared(seq, d_head, rows, columns):
    """A tile is counted as columns · columns: it is `rows` queries high and `columns` keys wide."""
    return _naive(seq, d_head), seq * d_head + seq + rows * (d_head + 2) + 2 * columns**2


@attention_numbers.mistake(hint=2)
def slices_counted(seq, d_head, rows, columns):
    """The slices of k and v that a tile reads are counted: they are parts of k and v, which are there already."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) + 2 * columns * d_head


@attention_numbers.mistake(hint=2)
def slices_of_all_three_counted(seq, d_head, rows, columns):
    """The slices of q, k and v that a tile reads are counted: they are parts of what is there already."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) + (2 * columns + rows) * d_head


@attention_numbers.mistake(hint=2)
def log_sum_exp_as_wide_as_a_head(seq, d_head, rows, columns):
    """The log-sum-exp is counted with d_head numbers a query: it is one."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) + seq * (d_head - 1)


@attention_numbers.mistake(hint=2)
def log_sum_exp_of_the_tile(seq, d_head, rows, columns):
    """The log-sum-exps are counted for `rows` queries: the result has one for each of the seq queries."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - seq + rows


@attention_numbers.mistake(hint=2)
def output_of_the_tile(seq, d_head, rows, columns):
    """The output is counted for `rows` queries: the result has all seq of them, and the state comes on top."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - seq * d_head + rows * d_head


@attention_numbers.mistake(hint=1)
def every_tile_counted(seq, d_head, rows, columns):
    """All tiles are counted, as if they were kept: there is one at a time."""
    tiles = -(-seq // rows) * -(-seq // columns)
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) + 2 * (tiles - 1) * rows * columns


@attention_numbers.mistake(hint=3)
def mask_counted(seq, d_head, rows, columns):
    """A third square and a third tile are counted, such as the mask's: count the numbers that the text lists, scores
    and weights."""
    return _naive(seq, d_head) + seq**2, _tiled(seq, d_head, rows, columns) + rows * columns


@attention_numbers.mistake(hint=3)
def three_squares(seq, d_head, rows, columns):
    """Three squares are counted step by step: there are two, scores and weights."""
    return _naive(seq, d_head) + seq**2, _tiled(seq, d_head, rows, columns)


@attention_numbers.mistake(hint=3)
def squares_as_wide_as_a_head(seq, d_head, rows, columns):
    """The squares are counted as seq · d_head: scores have a number for each pair, seq · seq."""
    return 3 * seq * d_head, _tiled(seq, d_head, rows, columns)


@attention_numbers.mistake(hint=1)
def tile_once(seq, d_head, rows, columns):
    """One tile is counted once: its scores and its weights are there at the same time."""
    return _naive(seq, d_head), _tiled(seq, d_head, rows, columns) - rows * columns


@attention_numbers.mistake(hint=1)
def hidden_half_left_out(seq, d_head, rows, columns):
    """The hidden half of the square is left out: step by step, it is computed and stored as well."""
    return seq * (seq + 1) + seq * d_head, _tiled(seq, d_head, rows, columns)


@attention_numbers.mistake(hint=1)
def a_row_of_tiles(seq, d_head, rows, columns):
    """A whole row of tiles is counted, rows · seq: each tile is forgotten once it is merged."""
    return _naive(seq, d_head), seq * d_head + seq + rows * (d_head + 2) + 2 * rows * seq


@attention_numbers.mistake(hint=2)
def state_of_every_query(seq, d_head, rows, columns):
    """The state is counted for all seq queries: only one row of tiles is being worked on, so it has `rows` of them."""
    return _naive(seq, d_head), seq * d_head + seq + seq * (d_head + 2) + 2 * rows * columns


@attention_numbers.mistake(hint=2)
def state_of_the_keys(seq, d_head, rows, columns):
    """The state is counted for `columns` keys: it belongs to the queries of the tile, its rows."""
    return _naive(seq, d_head), seq * d_head + seq + columns * (d_head + 2) + 2 * rows * columns


@attention_numbers.mistake(hint=1)
def inputs_counted(seq, d_head, rows, columns):
    """The inputs q, k and v are counted: both forms are given them, count what comes on top."""
    inputs = 3 * seq * d_head
    return _naive(seq, d_head) + inputs, _tiled(seq, d_head, rows, columns) + inputs


@attention_numbers.mistake(hint=3)
def tiled_first(seq, d_head, rows, columns):
    """The two numbers are exchanged: step by step comes first."""
    return _tiled(seq, d_head, rows, columns), _naive(seq, d_head)


@attention_numbers.mistake(hint=3)
def caret_for_power(seq, d_head, rows, columns):
    """In Python `^` compares bits: a power is `**`."""
    return 2 * seq ^ 2 + seq * d_head, _tiled(seq, d_head, rows, columns)


@attention_numbers.mistake(hint=3)
def twice_squared(seq, d_head, rows, columns):
    """The 2 is squared, too: two squares are `2 * seq**2`."""
    return (2 * seq) ** 2 + seq * d_head, _tiled(seq, d_head, rows, columns)


@attention_numbers.finished
def closed_form(seq, d_head, rows, columns):
    naive = 2 * seq**2 + seq * d_head
    tiled = seq * d_head + seq + rows * (d_head + 2) + 2 * rows * columns
    return naive, tiled


@attention_numbers.accepted
def from_tensors(seq, d_head, rows, columns):
    scores, output, tile = torch.zeros(seq, seq), torch.zeros(seq, d_head), torch.zeros(rows, columns)
    state = [torch.zeros(rows), torch.zeros(rows), torch.zeros(rows, d_head)]
    tiled = [output, torch.zeros(seq), *state, tile, tile]
    return 2 * scores.numel() + output.numel(), sum(each.numel() for each in tiled)


@attention_numbers.accepted
def factored(seq, d_head, rows, columns):
    return seq * (2 * seq + d_head), seq * (d_head + 1) + rows * (d_head + 2 + 2 * columns)
