"""Exercise `swiglu`: the gated feed-forward layer."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("y",), replaces="swiglu", gradients=("x", "gate", "up", "down"))
def swiglu(
    x: Float[Tensor, "*batch d_model"],
    gate: Float[Tensor, "d_ff d_model"],
    up: Float[Tensor, "d_ff d_model"],
    down: Float[Tensor, "d_model d_ff"],
) -> Float[Tensor, "*batch d_model"]:
    """down(silu(gate(x)) · up(x)), for every token alone."""
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


@swiglu.inputs
def _(rng):
    yield tuple(torch.randn(shape, generator=rng) for shape in ((6, 4), (9, 4), (9, 4), (4, 9)))
    # Large products with `gate`, and a single unit, so that nothing cancels.
    x = torch.stack([torch.tensor([-24.0, -16.0, 12.0, 20.0]), 1 + torch.rand(4, generator=rng)], dim=-1)
    yield x, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0], [-2.0]])


def _gated(x, gate, up, down, activation):
    """Right with SiLU, for the mistakes that take something else."""
    return F.linear(activation(F.linear(x, gate)) * F.linear(x, up), down)


@swiglu.mistake(hint=1)
def exchanged(x, gate, up, down):
    """Gate and up are exchanged: SiLU goes around the product with `gate`, and the one with `up` stays as it is."""
    return _gated(x, up, gate, down, F.silu)


@swiglu.mistake(hint=1)
def silu_around_the_product(x, gate, up, down):
    """SiLU is applied to the product of the two: apply it to the gate alone, before they meet."""
    return F.linear(F.silu(F.linear(x, gate) * F.linear(x, up)), down)


@swiglu.mistake(hint=1)
def silu_on_both(x, gate, up, down):
    """SiLU is applied to both: the product with `up` stays as it is."""
    return F.linear(F.silu(F.linear(x, gate)) * F.silu(F.linear(x, up)), down)


@swiglu.mistake(hint=1)
def silu_after_down(x, gate, up, down):
    """SiLU comes after `down`: it belongs to the gate, before it multiplies."""
    return F.silu(F.linear(F.linear(x, gate) * F.linear(x, up), down))


@swiglu.mistake(hint=1)
def silu_twice(x, gate, up, down):
    """The gate goes through SiLU and then through a sigmoid or SiLU once more: once is enough."""
    return _gated(x, gate, up, down, lambda gates: F.silu(F.silu(gates)))


@swiglu.mistake(hint=3)
def sigmoid_gate(x, gate, up, down):
    """The gate goes through a sigmoid, which is GLU: SiLU is x · sigmoid(x)."""
    return _gated(x, gate, up, down, torch.sigmoid)


@swiglu.mistake(hint=3)
def no_activation(x, gate, up, down):
    """The gate has no activation: it goes through SiLU before it multiplies."""
    return _gated(x, gate, up, down, lambda gates: gates)


@swiglu.mistake(hint=3)
def relu_gate(x, gate, up, down):
    """The gate goes through ReLU, which is ReGLU: use SiLU."""
    return _gated(x, gate, up, down, F.relu)


@swiglu.mistake(hint=3)
def gelu_gate(x, gate, up, down):
    """The gate goes through GELU, which is GEGLU: use SiLU."""
    return _gated(x, gate, up, down, F.gelu)


@swiglu.mistake(hint=3)
def tanh_gate(x, gate, up, down):
    """The gate goes through tanh: use SiLU, x · sigmoid(x)."""
    return _gated(x, gate, up, down, torch.tanh)


@swiglu.mistake(hint=3)
def softmax_gate(x, gate, up, down):
    """A softmax makes the gates of a token share 1 among themselves: here each gate decides alone, with SiLU."""
    return _gated(x, gate, up, down, lambda gates: gates.softmax(-1))


@swiglu.mistake(hint=1)
def summed(x, gate, up, down):
    """The two are added: a gate multiplies."""
    return F.linear(F.silu(F.linear(x, gate)) + F.linear(x, up), down)


@swiglu.mistake(hint=2)
def gate_alone(x, gate, up, down):
    """The matrix `up` is not used: the activated gate multiplies the product with `up`, number by number."""
    return F.linear(F.silu(F.linear(x, gate)), down)


@swiglu.mistake(hint=2)
def gate_for_both(x, gate, up, down):
    """The matrix `gate` makes both factors: the second one comes from `up`."""
    return _gated(x, gate, gate, down, F.silu)


@swiglu.mistake(hint=2)
def up_for_both(x, gate, up, down):
    """The matrix `up` makes both factors: the one with SiLU comes from `gate`."""
    return _gated(x, up, up, down, F.silu)


@swiglu.mistake(hint=1)
def input_added(x, gate, up, down):
    """The input is added to the result: that is the work of the block around the layer (chapter 5)."""
    return x + _gated(x, gate, up, down, F.silu)


@swiglu.mistake(hint=2)
def down_forgotten(x, gate, up, down):
    """These are the hidden numbers: multiply them by `down`, so that d_model numbers come out."""
    return F.silu(F.linear(x, gate)) * F.linear(x, up)


@swiglu.mistake(hint=2)
def not_transposed(x, gate, up, down):
    """The weights have the shape (out, in), as in `nn.Linear`: multiply by their transpose, `x @ gate.T`."""
    return (F.silu(x @ gate) * (x @ up)) @ down


@swiglu.mistake(hint=2)
def down_not_transposed(x, gate, up, down):
    """The last matrix does not fit: `down` has the shape (d_model, d_ff), so multiply by its transpose, `@ down.T`."""
    return (F.silu(x @ gate.T) * (x @ up.T)) @ down


@swiglu.mistake(hint=2)
def gate_unused(x, gate, up, down):
    """The matrix `gate` is not used: SiLU of the product with it multiplies the product with `up`."""
    return F.linear(F.linear(x, up), down)


@swiglu.mistake(hint=2)
def up_with_silu_alone(x, gate, up, down):
    """The matrix `gate` is not used, and SiLU is on the product with `up`: it belongs to the one with `gate`."""
    return F.linear(F.silu(F.linear(x, up)), down)


@swiglu.mistake(hint=3)
def sigmoid_of_the_input(x, gate, up, down):
    """The sigmoid gets the input x, which has d_model numbers: it gets the product with `gate`."""
    return (x @ gate.T * torch.sigmoid(x) * (x @ up.T)) @ down.T


@swiglu.mistake(hint=3)
def sigmoid_of_up(x, gate, up, down):
    """The sigmoid gets the product with `up`, and that product is missing: it is g · sigmoid(g) · u."""
    return F.linear(F.linear(x, gate) * torch.sigmoid(F.linear(x, up)), down)


@swiglu.mistake(hint=3)
def sign_of_the_sigmoid(x, gate, up, down):
    """The sigmoid has the wrong sign: it is 1 / (1 + exp(−g)), with a minus."""
    return _gated(x, gate, up, down, lambda gates: gates * torch.sigmoid(-gates))


@swiglu.mistake(hint=3)
def multiplied_by_the_denominator(x, gate, up, down):
    """The gate is multiplied by 1 + exp(−g): divide by it."""
    return _gated(x, gate, up, down, lambda gates: gates * (1 + torch.exp(-gates)))


@swiglu.mistake(hint=1)
def silu_before_gate(x, gate, up, down):
    """SiLU is applied to the input: multiply by `gate` first."""
    return F.linear(F.linear(F.silu(x), gate) * F.linear(x, up), down)


@swiglu.mistake(hint=1)
def silu_of_the_matrix(x, gate, up, down):
    """SiLU is applied to the matrix `gate`: it is applied to the product with it."""
    return F.linear(F.linear(x, F.silu(gate)) * F.linear(x, up), down)


@swiglu.mistake(hint=3)
def relu_squared_gate(x, gate, up, down):
    """The gate goes through ReLU²: use SiLU."""
    return _gated(x, gate, up, down, lambda gates: F.relu(gates).square())


@swiglu.mistake(hint=3)
def sigmoid_gelu_gate(x, gate, up, down):
    """The gate goes through x · sigmoid(1.702 x), an approximation of GELU: SiLU is x · sigmoid(x)."""
    return _gated(x, gate, up, down, lambda gates: gates * torch.sigmoid(1.702 * gates))


@swiglu.mistake(hint=3)
def capped(x, gate, up, down):
    """The products with `gate` are cut off at ±10: SiLU takes any number, and so does its sigmoid."""
    return _gated(x, gate, up, down, lambda gates: F.silu(gates.clamp(-10, 10)))


@swiglu.mistake(hint=1)
def relu_on_up(x, gate, up, down):
    """The product with `up` goes through ReLU: it stays as it is."""
    return F.linear(F.silu(F.linear(x, gate)) * F.relu(F.linear(x, up)), down)


@swiglu.finished
def swiglu_with_matmul(x, gate, up, down):
    gates = x @ gate.T
    return (gates * torch.sigmoid(gates) * (x @ up.T)) @ down.T


@swiglu.accepted
def swiglu_with_one_product(x, gate, up, down):
    gates, values = F.linear(x, torch.cat((gate, up))).chunk(2, dim=-1)
    return F.linear(values * F.silu(gates), down)


@swiglu.accepted
def swiglu_with_einsum(x, gate, up, down):
    gates, values = (torch.einsum("...m,fm->...f", x.double(), weight.double()) for weight in (gate, up))
    hidden = gates / (1 + torch.exp(-gates)) * values
    return torch.einsum("...f,mf->...m", hidden, down.double()).to(x.dtype)


@swiglu.accepted
def swiglu_unit_by_unit(x, gate, up, down):
    y = torch.zeros(x.shape)
    for i in range(len(up)):
        unit = F.silu((x * gate[i]).sum(-1)) * (x * up[i]).sum(-1)
        y = y + unit[..., None] * down[:, i]
    return y
