"""Exercise `relu_squared`: the feed-forward layer of Primer."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("y",), replaces="feed_forward", gradients=("x", "up", "down"))
def relu_squared(
    x: Float[Tensor, "*batch d_model"], up: Float[Tensor, "d_ff d_model"], down: Float[Tensor, "d_model d_ff"]
) -> Float[Tensor, "*batch d_model"]:
    """down(relu(up(x))²), for every token alone."""
    return F.linear(F.relu(F.linear(x, up)).square(), down)


@relu_squared.inputs
def _(rng):
    # Numbers enough that each hidden one and each output has both signs somewhere.
    yield tuple(torch.randn(shape, generator=rng) for shape in ((6, 4), (9, 4), (4, 9)))
    yield tuple(torch.randn(shape, generator=rng) for shape in ((2, 5, 3), (7, 3), (3, 7)))
    # Hidden numbers above 6, and whole, so that large sums are exact in any order.
    yield tuple(torch.randint(-3, 4, shape, generator=rng).float() for shape in ((6, 4), (9, 4), (4, 9)))


def _hidden(x, up):
    """Right, for the mistakes that go wrong elsewhere."""
    return F.relu(F.linear(x, up)).square()


@relu_squared.mistake(hint=1)
def square_before_relu(x, up, down):
    """The square comes before the ReLU, which then has nothing to cut off: squares are never negative. First ReLU, then
    square."""
    return F.linear(F.relu(F.linear(x, up).square()), down)


@relu_squared.mistake(hint=1)
def square_after_down(x, up, down):
    """The square comes after `down`: it belongs to the hidden numbers."""
    return F.linear(F.relu(F.linear(x, up)), down).square()


@relu_squared.mistake(hint=1)
def relu_after_down(x, up, down):
    """The ReLU and the square come after `down`: they belong between the two matrices, to the hidden numbers."""
    return F.relu(F.linear(F.linear(x, up), down)).square()


@relu_squared.mistake(hint=1)
def activated_twice(x, up, down):
    """There is a second ReLU after `down`: the result may be negative."""
    return F.relu(F.linear(_hidden(x, up), down))


@relu_squared.mistake(hint=1)
def no_square(x, up, down):
    """The square is missing: this is a layer with a plain ReLU."""
    return F.linear(F.relu(F.linear(x, up)), down)


@relu_squared.mistake(hint=1)
def no_activation(x, up, down):
    """There is no activation, so the two matrices are one: relu, then square, goes between them."""
    return F.linear(F.linear(x, up), down)


@relu_squared.mistake(hint=1)
def relu_before_up(x, up, down):
    """The activation is applied to the input: multiply by `up` first, then relu and square."""
    return F.linear(F.linear(F.relu(x).square(), up), down)


@relu_squared.mistake(hint=1)
def sign_kept(x, up, down):
    """Negative hidden numbers stay as −h²: ReLU makes them 0."""
    hidden = F.linear(x, up)
    return F.linear(hidden * hidden.abs(), down)


@relu_squared.mistake(hint=1)
def negative_half(x, up, down):
    """The negative hidden numbers are squared and the positive ones are 0: it is the other way round."""
    return F.linear(F.relu(-F.linear(x, up)).square(), down)


@relu_squared.mistake(hint=1)
def cubed(x, up, down):
    """This is the third power: relu(h) is squared once."""
    return F.linear(F.relu(F.linear(x, up)) ** 3, down)


@relu_squared.mistake(hint=1)
def doubled(x, up, down):
    """This is 2 · relu(h): the square multiplies the number by itself."""
    return F.linear(2 * F.relu(F.linear(x, up)), down)


@relu_squared.mistake(hint=1)
def gelu_squared(x, up, down):
    """This is the square of GELU, which has no exact zeros: use ReLU."""
    return F.linear(F.gelu(F.linear(x, up)).square(), down)


@relu_squared.mistake(hint=1)
def input_added(x, up, down):
    """The input is added to the result: that is the work of the block around the layer (chapter 5)."""
    return x + F.linear(_hidden(x, up), down)


@relu_squared.mistake(hint=2)
def down_forgotten(x, up, down):
    """These are the hidden numbers: multiply them by `down`, so that d_model numbers come out."""
    return _hidden(x, up)


@relu_squared.mistake(hint=2)
def not_transposed(x, up, down):
    """The first matrix does not fit: weights have the shape (out, in), as in `nn.Linear`, so multiply by the transpose,
    `x @ up.T`, and take `up` first, then `down`."""
    return F.relu(x @ up).square() @ down


@relu_squared.mistake(hint=2)
def exchanged_and_not_transposed(x, up, down):
    """The shapes fit, and the matrices are the wrong ones: `x @ down` uses `down` in place of `up`. The weights have
    the shape (out, in), so it is `x @ up.T`."""
    return F.relu(x @ down).square() @ up


@relu_squared.mistake(hint=2)
def down_not_transposed(x, up, down):
    """The second matrix does not fit: `down` has the shape (d_model, d_ff), so multiply by its transpose,
    `@ down.T`."""
    return F.relu(x @ up.T).square() @ down


@relu_squared.mistake(hint=2)
def matrices_from_the_left(x, up, down):
    """Right for a token and for rows of tokens, and not with more axes, because `.T` does not only exchange the last
    two. Multiply from the right, `x @ up.T`, which works with any."""
    return (down @ F.relu(up @ x.T).square()).T


@relu_squared.mistake(hint=2)
def matrices_from_the_left_once(x, up, down):
    """The matrices are on the left, as for one token: tokens are rows, so multiply from the right, `x @ up.T`."""
    return down @ F.relu(up @ x.T).square()


@relu_squared.mistake(hint=2)
def reshaped(x, up, down):
    """The matrices are reshaped, which keeps the order of the numbers and mixes rows: transpose them, `up.T`."""
    return F.relu(x @ up.reshape(up.shape[::-1])).square() @ down.reshape(down.shape[::-1])


@relu_squared.mistake(hint=1)
def silu_squared(x, up, down):
    """This is the square of SiLU: use ReLU."""
    return F.linear(F.silu(F.linear(x, up)).square(), down)


@relu_squared.mistake(hint=1)
def silu(x, up, down):
    """The activation is SiLU: relu, then square."""
    return F.linear(F.silu(F.linear(x, up)), down)


@relu_squared.mistake(hint=1)
def gelu(x, up, down):
    """The activation is GELU: relu, then square."""
    return F.linear(F.gelu(F.linear(x, up)), down)


@relu_squared.mistake(hint=1)
def leaky(x, up, down):
    """This is the square of a leaky ReLU, which keeps a hundredth of the negative numbers: ReLU makes them 0."""
    return F.linear(F.leaky_relu(F.linear(x, up)).square(), down)


@relu_squared.mistake(hint=1)
def negatives_pass(x, up, down):
    """Positive hidden numbers are squared, and negative ones stay as they are: they become 0."""
    hidden = F.linear(x, up)
    return F.linear(torch.where(hidden > 0, hidden**2, hidden), down)


@relu_squared.mistake(hint=1)
def capped(x, up, down):
    """Hidden numbers are cut off at 6, which is ReLU6: ReLU has no upper bound."""
    return F.linear(F.relu6(F.linear(x, up)).square(), down)


@relu_squared.mistake(hint=1)
def capped_at_one(x, up, down):
    """Hidden numbers are cut off at 1: ReLU has no upper bound."""
    return F.linear(F.linear(x, up).clamp(0, 1).square(), down)


@relu_squared.mistake(hint=1)
def root_for_square(x, up, down):
    """This takes the square root: it is the square."""
    return F.linear(F.relu(F.linear(x, up)).sqrt(), down)


@relu_squared.mistake(hint=1)
def shares(x, up, down):
    """The hidden numbers are divided by their sum, as if they were weights: they stay as they are."""
    hidden = _hidden(x, up)
    return F.linear(hidden / hidden.sum(dim=-1, keepdim=True), down)


@relu_squared.finished
def relu_squared_with_matmul(x, up, down):
    hidden = (x @ up.T).relu()
    return (hidden * hidden) @ down.T


@relu_squared.accepted
def relu_squared_with_einsum(x, up, down):
    hidden = torch.einsum("...m,fm->...f", x, up).clamp_min(0) ** 2
    return torch.einsum("...f,mf->...m", hidden, down)


@relu_squared.accepted
def relu_squared_with_where(x, up, down):
    hidden = torch.matmul(x, up.mT)
    return F.linear(torch.where(hidden > 0, hidden**2, 0.0), down)


@relu_squared.accepted
def relu_squared_unit_by_unit(x, up, down):
    y = torch.zeros(x.shape)
    for i in range(up.shape[0]):
        unit = F.relu((x * up[i]).sum(-1)) ** 2
        y = y + unit[..., None] * down[:, i]
    return y
