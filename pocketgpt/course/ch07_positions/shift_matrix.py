"""Exercise `shift_matrix`: the rotation that moves sinusoids by a number of steps."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("matrix",), choices={"d_model": (4, 8, 2, 10, 6)}, dtype=torch.float32)
def shift_matrix(steps: int, d_model: int) -> Float[Tensor, "d_model d_model"]:
    """The matrix M with sinusoids(p + steps) = M · sinusoids(p) for every position p.

    Nothing is known here of its form: it is fitted to many positions with `torch.linalg.lstsq`, in float64.
    """
    positions = torch.arange(0, 60_000, 37)
    before, after = _table(positions, d_model), _table(positions + steps, d_model)
    return torch.linalg.lstsq(before, after).solution.T.float()


def _table(positions, d_model):
    frequencies = 10_000 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angles = positions[:, None].double() * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


@shift_matrix.values
def steps(rng):
    return int(torch.randint(2, 12, (), generator=rng))


@shift_matrix.inputs
def _(rng):
    yield 1, 4
    yield 0, 6
    yield -int(torch.randint(1, 9, (), generator=rng)), 8
    yield int(torch.randint(30, 60, (), generator=rng)), 12


def _frequencies(d_model):
    """Right, for the mistakes that go wrong elsewhere."""
    return 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)


def _blocks(angles, form):
    """A matrix with the block form(cos, sin) for each angle on its diagonal."""
    blocks = [torch.tensor(form(math.cos(angle), math.sin(angle))) for angle in angles.tolist()]
    return torch.block_diag(*blocks)


def _turn(cos, sin):
    return [[cos, sin], [-sin, cos]]


@shift_matrix.mistake(hint=2)
def moves_back(steps, d_model):
    """This moves back by the steps: the sign of the sines is turned. The pair is (sin, cos), not (cos, sin), so the
    minus is in the second row."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[cos, -sin], [sin, cos]])


@shift_matrix.mistake(hint=1)
def one_angle_for_all(steps, d_model):
    """Every pair turns by the same angle: pair i turns by steps times its own frequency."""
    return _blocks(steps * torch.ones(d_model // 2), _turn)


@shift_matrix.mistake(hint=2)
def blocks_in_halves(steps, d_model):
    """The sines and cosines of the matrix are half a row apart: in the table the two of a pair are neighbors, in
    columns 2i and 2i + 1."""
    angles = steps * 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    cos, sin = torch.diag(angles.cos()), torch.diag(angles.sin())
    return torch.cat((torch.cat((cos, sin), 1), torch.cat((-sin, cos), 1)))


@shift_matrix.mistake(hint=3)
def a_mirror(steps, d_model):
    """Each block is a mirror and not a rotation: the second row is (−sin, cos)."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[cos, sin], [sin, -cos]])


@shift_matrix.mistake(hint=3)
def no_minus(steps, d_model):
    """Both sines are positive: expand cos(a + b), which has a minus."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[cos, sin], [sin, cos]])


@shift_matrix.mistake(hint=3)
def sines_first(steps, d_model):
    """Sines and cosines are exchanged: for 0 steps the matrix should be the identity."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[sin, cos], [cos, -sin]])


@shift_matrix.mistake(hint=1)
def cosines_only(steps, d_model):
    """The matrix is diagonal, so no column reaches another: the new sine takes from the old sine and the old cosine."""
    return torch.diag((steps * _frequencies(d_model)).cos().repeat_interleave(2))


@shift_matrix.mistake(hint=1)
def one_step_only(steps, d_model):
    """This moves by one step, whatever `steps` is: the angle is steps times the frequency."""
    return _blocks(_frequencies(d_model), _turn)


@shift_matrix.mistake(hint=2)
def exponent_counted_twice(steps, d_model):
    """The exponent is twice too large: an index that counts 0, 2, 4, … is 2i already."""
    return _blocks(steps * 10_000.0 ** (-2 * torch.arange(0, d_model, 2) / d_model), _turn)


@shift_matrix.mistake(hint=2)
def exponent_of_i(steps, d_model):
    """The exponent is half as large as it should be: pair i has 2i/d_model, not i/d_model."""
    return _blocks(steps * 10_000.0 ** (-torch.arange(d_model // 2) / d_model), _turn)


@shift_matrix.mistake(hint=2)
def faster_and_faster(steps, d_model):
    """The sign of the exponent is wrong: later pairs turn more slowly."""
    return _blocks(steps / _frequencies(d_model), _turn)


@shift_matrix.mistake(hint=2)
def slowest_first(steps, d_model):
    """The frequencies are in reverse order: pair 0 turns fastest."""
    return _blocks(steps * _frequencies(d_model).flip(0), _turn)


@shift_matrix.mistake
def direction_lost(steps, d_model):
    """Negative steps move forward here: they should move back."""
    return _blocks(abs(steps) * _frequencies(d_model), _turn)


@shift_matrix.mistake(hint=1)
def rows_moved(steps, d_model):
    """This moves the columns of the table by some places: each pair of coordinates should turn by an angle."""
    return torch.eye(d_model).roll(steps, dims=0)


def _with(exponents, steps, scale=1.0, base=10_000.0):
    return _blocks(steps * scale * base**-exponents, _turn)


@shift_matrix.mistake(hint=3)
def rows_exchanged(steps, d_model):
    """The two rows of each block are exchanged: the first row makes the new sine, (cos, sin)."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[-sin, cos], [cos, sin]])


@shift_matrix.mistake(hint=3)
def sine_for_cosine(steps, d_model):
    """Sine and cosine have changed places in a rotation: for 0 steps the matrix should be the identity."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[sin, cos], [-cos, sin]])


@shift_matrix.mistake(hint=3)
def sine_for_cosine_backward(steps, d_model):
    """Sine and cosine have changed places, and so have the signs: for 0 steps the matrix should be the identity."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[sin, -cos], [cos, sin]])


@shift_matrix.mistake(hint=3)
def a_column_of_each(steps, d_model):
    """The rows are (cos, cos) and (−sin, sin): they are (cos, sin) and (−sin, cos)."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[cos, cos], [-sin, sin]])


@shift_matrix.mistake(hint=3)
def two_minuses(steps, d_model):
    """Both sines have a minus: sin(a + b) = cos b · sin a + sin b · cos a has none."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[cos, -sin], [-sin, cos]])


@shift_matrix.mistake(hint=3)
def not_joined(steps, d_model):
    """These are the blocks, one behind the other: `torch.block_diag(*blocks)` puts them on a diagonal."""
    angles = steps * _frequencies(d_model)
    return torch.stack((angles.cos(), angles.sin(), -angles.sin(), angles.cos()), dim=1).view(-1, 2, 2)


@shift_matrix.mistake(hint=2)
def sign_of_the_exponent(steps, d_model):
    """The minus of the exponent is missing, so later pairs turn faster: they turn more slowly."""
    return _with(-torch.arange(0, d_model, 2) / d_model, steps)


@shift_matrix.mistake(hint=2)
def divided_by_d_minus_2(steps, d_model):
    """The exponents are divided by d_model − 2: the equation divides 2i by d_model."""
    return _with(torch.arange(0, d_model, 2) / (d_model - 2), steps)


@shift_matrix.mistake(hint=2)
def base_of_1000(steps, d_model):
    """The base is 1000: it is 10000, as in the table."""
    return _with(torch.arange(0, d_model, 2) / d_model, steps, base=1000.0)


@shift_matrix.mistake(hint=1)
def steps_added(steps, d_model):
    """Steps and frequency are added: the angle is their product."""
    return _blocks(steps + _frequencies(d_model), _turn)


@shift_matrix.mistake(hint=1)
def one_step_times_steps(steps, d_model):
    """The matrix of one step is multiplied by `steps`, which makes the vectors longer: the angle is multiplied."""
    return steps * _blocks(_frequencies(d_model), _turn)


@shift_matrix.mistake
def in_degrees(steps, d_model):
    """The angles are taken for degrees: steps times frequency is in radians, as `cos` and `sin` expect."""
    return _with(torch.arange(0, d_model, 2) / d_model, steps, scale=math.pi / 180)


@shift_matrix.mistake
def full_turns(steps, d_model):
    """The angles have a factor 2π: a frequency of 1 means one radian per position, not one turn."""
    return _with(torch.arange(0, d_model, 2) / d_model, steps, scale=2 * math.pi)


@shift_matrix.mistake(hint=2)
def blocks_overlap(steps, d_model):
    """Block i is written at row and column i, over half of the one before: it fills rows and columns 2i and 2i + 1."""
    matrix = torch.zeros(d_model, d_model)
    for i, angle in enumerate((steps * _frequencies(d_model)).tolist()):
        matrix[i : i + 2, i : i + 2] = torch.tensor(_turn(math.cos(angle), math.sin(angle)))
    return matrix


@shift_matrix.mistake(hint=3)
def second_row_exchanged(steps, d_model):
    """The second row is (cos, −sin): it makes the new cosine, and is (−sin, cos)."""
    return _blocks(steps * _frequencies(d_model), lambda cos, sin: [[cos, sin], [cos, -sin]])


@shift_matrix.finished
def block_by_block(steps, d_model):
    blocks = []
    for pair in range(d_model // 2):
        turn = steps / 10_000 ** (2 * pair / d_model)
        blocks.append(torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]))
    return torch.block_diag(*blocks)


@shift_matrix.accepted
def four_diagonals(steps, d_model):
    angles = steps * 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    matrix = torch.zeros(d_model, d_model)
    even = torch.arange(0, d_model, 2)
    matrix[even, even] = matrix[even + 1, even + 1] = angles.cos()
    matrix[even, even + 1], matrix[even + 1, even] = angles.sin(), -angles.sin()
    return matrix


@shift_matrix.accepted
def by_the_matrix_exponential(steps, d_model):
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    rates = [10_000 ** (-column / d_model) * turn for column in range(0, d_model, 2)]
    return torch.linalg.matrix_exp(steps * torch.block_diag(*rates)).float()


@shift_matrix.accepted
def fitted_to_positions(steps, d_model):
    before, after = (_table(torch.arange(0, 40_000, 23) + k, d_model) for k in (0, steps))
    return (torch.linalg.pinv(before) @ after).T.float()
