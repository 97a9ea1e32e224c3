"""Exercise `gradient_norms`: the size of the gradient in each block."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pocketgpt.course.ch05_norm_and_residual.shared import drawn_seed
from pocketgpt.course.checking.exercise import exercise
from pocketgpt.course.checking.recipes import Others, Recipe
from pocketgpt.course.checking.run import blame, run


@exercise(points=1, returns=("norms",))
def gradient_norms(loss: Tensor, blocks: nn.ModuleList) -> Float[Tensor, " n_blocks"]:
    """The norm of the loss's gradient by all parameters of each block."""
    norms = []
    for block in blocks:
        gradients = torch.autograd.grad(loss, list(block.parameters()), retain_graph=True, allow_unused=True)
        norms.append(get_total_norm([gradient for gradient in gradients if gradient is not None]))
    return torch.stack(norms)


class _Block(nn.Module):
    def __init__(self, width: int, unused: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layer = nn.Linear(width, width)
        if unused:
            self.unused = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(self.norm(x)))


@dataclass(frozen=True)
class Blocks(Recipe):
    """Blocks with weights that the seed decides. In the first of them one parameter may be unused, and a loss may leave
    out a whole one."""

    seed: int
    n_blocks: int
    width: int
    unused: bool = False
    left_out: int | None = None

    def build(self, others: Others) -> nn.ModuleList:
        rng = torch.Generator().manual_seed(self.seed)
        blocks = nn.ModuleList(_Block(self.width, self.unused and i == 0) for i in range(self.n_blocks))
        for parameter in blocks.parameters():
            parameter.data = torch.randn(parameter.shape, generator=rng)
        return blocks

    def __repr__(self) -> str:
        unused = ", the first with a parameter that the loss does not use" if self.unused else ""
        left_out = "" if self.left_out is None else f"; the loss does not use the one with index {self.left_out}"
        return f"{self.n_blocks} blocks{unused}{left_out}"


@dataclass(frozen=True)
class Loss(Recipe):
    """A loss of the blocks; `earlier` leaves the gradient of another loss in them, as a step of training does."""

    blocks: Blocks
    earlier: bool = False

    def build(self, others: Others) -> Tensor:
        blocks, rng = others(self.blocks), torch.Generator().manual_seed(self.blocks.seed + 1)
        x, other = torch.randn(2, 6, self.blocks.width, generator=rng)
        if self.earlier:
            self.of(blocks, other).backward()
        return self.of(blocks, x)

    def of(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        for i, block in enumerate(blocks):
            x = x if i == self.blocks.left_out else block(x)
        return x.square().mean()

    def __repr__(self) -> str:
        return "a loss, after an earlier backward pass" if self.earlier else "a loss"


@gradient_norms.inputs
def _(rng):
    for n_blocks, width, earlier, unused in [
        (2, 3, False, False),
        (3, 5, False, False),
        (1, 4, False, False),
        (3, 4, True, False),
        (2, 4, False, True),
        (4, 3, True, True),
    ]:
        blocks = Blocks(drawn_seed(rng), n_blocks, width, unused)
        yield Loss(blocks, earlier), blocks


@gradient_norms.demand
def an_unused_block(call, inputs):
    """The number of a block that the loss does not use is 0. It is tried last: most slips join the gradients of a block
    in a way that stops here, too."""
    loss, blocks = inputs
    if blocks.n_blocks < 3 or blocks.unused:
        return None
    blocks = replace(blocks, left_out=1)
    answer = call.args[0]
    mine = run(answer, (Loss(blocks, loss.earlier), blocks), seconds=call.keywords["seconds"])
    said = "Right, except for a block that the loss does not use at all: its number is 0."
    if mine.error:
        return f"{said} Begin its sum with 0. Here your function raised {blame(mine.error)}"
    shape = tuple(getattr(mine.value, "shape", ()))
    if shape != (blocks.n_blocks,):
        return f"{said} Yours has the shape {shape} where it should have ({blocks.n_blocks},)."
    return None if mine.value[1] == 0 else f"{said} Yours is {float(mine.value[1]):.3g}."


def _gradients(loss, blocks):
    """Right, for the mistakes that go wrong elsewhere: the gradients of each block."""
    for block in blocks:
        gradients = torch.autograd.grad(loss, list(block.parameters()), retain_graph=True, allow_unused=True)
        yield [gradient for gradient in gradients if gradient is not None]


@gradient_norms.mistake(hint=2)
def norms_added_up(loss, blocks):
    """The norms of the parameters are added up: add their squares, and take the root of the sum."""
    return torch.stack([torch.stack([g.norm() for g in each]).sum() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=2)
def norms_averaged(loss, blocks):
    """The norms of the parameters are averaged: add their squares, and take the root of the sum."""
    return torch.stack([torch.stack([g.norm() for g in each]).mean() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=2)
def root_forgotten(loss, blocks):
    """This is the sum of squares: take its root."""
    return torch.stack([torch.stack([g.square().sum() for g in each]).sum() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=2)
def root_mean_square(loss, blocks):
    """This is the root of the mean square: a norm is the root of the sum, however many numbers there are."""
    return torch.stack(
        [torch.cat([g.flatten() for g in each]).square().mean().sqrt() for each in _gradients(loss, blocks)]
    )


@gradient_norms.mistake(hint=2)
def largest_entry(loss, blocks):
    """This is the largest number of the gradient: take the root of the sum of all squares."""
    return torch.stack([torch.cat([g.flatten() for g in each]).abs().max() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=2)
def sizes_added_up(loss, blocks):
    """This adds up sizes |g|: take the root of the sum of squares."""
    return torch.stack([torch.cat([g.flatten() for g in each]).abs().sum() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=1)
def earlier_gradient_kept(loss, blocks):
    """The call of `backward` adds to what an earlier one left in .grad: clear it first, with `blocks.zero_grad()`."""
    loss.backward()
    return _norms_of_grad(blocks)


@gradient_norms.mistake(hint=3)
def nothing_unused(loss, blocks):
    """A parameter that the loss does not use has no gradient, and its .grad is None: leave it out."""
    blocks.zero_grad()
    loss.backward()
    return torch.stack([torch.stack([p.grad.norm() for p in block.parameters()]).norm() for block in blocks])


def _of_each(loss, blocks, size):
    """The norm of size(p.grad) over each block, for answers that stop where .grad is None."""
    blocks.zero_grad()
    loss.backward()
    return torch.stack([torch.stack([size(p.grad) for p in block.parameters()]).sum().sqrt() for block in blocks])


@gradient_norms.mistake(hint=3)
def nothing_unused_squares(loss, blocks):
    """A parameter that the loss does not use has no gradient to square, its .grad is None: leave it out."""
    return _of_each(loss, blocks, lambda g: g.square().sum())


@gradient_norms.mistake(hint=3)
def nothing_unused_powers(loss, blocks):
    """A parameter that the loss does not use has None for its .grad, which has no powers: leave it out."""
    return _of_each(loss, blocks, lambda g: g.pow(2).sum())


@gradient_norms.mistake(hint=3)
def nothing_unused_flattened(loss, blocks):
    """A parameter that the loss does not use has None for its .grad, and nothing to flatten: leave it out."""
    return _of_each(loss, blocks, lambda g: g.flatten().square().sum())


@gradient_norms.mistake(hint=3)
def nothing_unused_squared(loss, blocks):
    """A parameter that the loss does not use has None for its .grad, and None has no square: leave it out."""
    return _of_each(loss, blocks, lambda g: (g**2).sum())


@gradient_norms.mistake(hint=3)
def backward_never_called(loss, blocks):
    """Nothing computes the gradients here: call `blocks.zero_grad()`, then `loss.backward()`, and read .grad."""
    return torch.stack([torch.stack([p.grad.norm() for p in block.parameters()]).norm() for block in blocks])


@gradient_norms.mistake(hint=3)
def backward_forgotten(loss, blocks):
    """Every .grad is None: `loss.backward()` computes the gradients, after `blocks.zero_grad()`."""
    blocks.zero_grad()
    return torch.stack([torch.stack([p.grad.norm() for p in block.parameters()]).norm() for block in blocks])


@gradient_norms.mistake(hint=3)
def cleared_after_backward(loss, blocks):
    """The gradients are cleared after `backward`: clear them before, and read them afterward."""
    loss.backward()
    blocks.zero_grad()
    return torch.zeros(len(blocks))


@gradient_norms.mistake(hint=3)
def broken_off(loss, blocks):
    """The loop ends at the first parameter without a gradient: go on with the next one (`continue`, not `break`)."""
    norms = []
    for block in blocks:
        squares = [torch.zeros(())]
        for p in block.parameters():
            gradient = torch.autograd.grad(loss, p, retain_graph=True, allow_unused=True)[0]
            if gradient is None:
                break
            squares.append(gradient.square().sum())
        norms.append(torch.stack(squares).sum().sqrt())
    return torch.stack(norms)


@gradient_norms.mistake(hint=2)
def one_for_each_parameter(loss, blocks):
    """There is a number for every parameter: put those of a block together, one number for each block."""
    return torch.stack([gradient.norm() for each in _gradients(loss, blocks) for gradient in each])


@gradient_norms.mistake
def first_block_alone(loss, blocks):
    """Only the first block is there: `return` stands inside the loop."""
    return gradient_norms.reference(loss, blocks)[:1]


@gradient_norms.mistake
def first_parameter_only(loss, blocks):
    """Only the first parameter of each block counts here: take all of them."""
    return torch.stack([each[0].norm() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=1)
def backward_again(loss, blocks):
    """Every block calls `backward`, which adds to .grad each time: call it once, before the loop."""
    return gradient_norms.reference(loss, blocks) * torch.arange(1, len(blocks) + 1)


@gradient_norms.mistake(hint=3)
def graph_gone(loss, blocks):
    """The first block's call has used up the graph: call `backward` once, before the loop, or keep the graph with
    `retain_graph=True`."""
    norms = []
    for _ in blocks:
        blocks.zero_grad()
        loss.backward()
        norms.append(_norms_of_grad(blocks)[len(norms)])
    return torch.stack(norms)


@gradient_norms.mistake(hint=2)
def signed_sums(loss, blocks):
    """The gradients are added up with their signs, and cancel: add up their squares, and take the root."""
    return torch.stack([torch.cat([g.flatten() for g in each]).sum() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=2)
def signed_sums_squared(loss, blocks):
    """Each parameter's gradient is added up before it is squared, and cancels: square every number first."""
    return torch.stack([torch.stack([g.sum() for g in each]).norm() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=2)
def mean_squares(loss, blocks):
    """The squares are averaged within each parameter: a norm is the root of their sum."""
    return torch.stack(
        [torch.stack([g.square().mean() for g in each]).sum().sqrt() for each in _gradients(loss, blocks)]
    )


@gradient_norms.mistake(hint=2)
def mean_sizes(loss, blocks):
    """This is the mean size |g|: take the root of the sum of squares."""
    return torch.stack([torch.cat([g.flatten() for g in each]).abs().mean() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=2)
def root_of_norms(loss, blocks):
    """The norms are added up, and then comes a root: square the norms before you add them."""
    return torch.stack([torch.stack([g.norm() for g in each]).sum().sqrt() for each in _gradients(loss, blocks)])


@gradient_norms.mistake(hint=3)
def nothing_unused_in_autograd(loss, blocks):
    """A parameter that the loss does not use makes `torch.autograd.grad` stop: with `allow_unused=True` it gives None
    there, which you leave out."""
    norms = []
    for block in blocks:
        gradients = torch.autograd.grad(loss, list(block.parameters()), retain_graph=True)
        norms.append(torch.stack([g.norm() for g in gradients]).norm())
    return torch.stack(norms)


@gradient_norms.mistake(hint=1)
def norm_of_the_weights(loss, blocks):
    """These are the norms of the weights: take those of their gradients, .grad."""
    return torch.stack([get_total_norm([p.detach() for p in block.parameters()]) for block in blocks])


@gradient_norms.mistake
def one_for_all(loss, blocks):
    """Every block gets the norm over all blocks: take the parameters of one block at a time."""
    total = get_total_norm([g for each in _gradients(loss, blocks) for g in each])
    return total.repeat(len(blocks))


@gradient_norms.mistake
def matrices_only(loss, blocks):
    """Only matrices count here: the biases and the norm's weights are parameters, too."""
    return torch.stack([get_total_norm([g for g in each if g.ndim > 1]) for each in _gradients(loss, blocks)])


@gradient_norms.mistake
def last_parameter_only(loss, blocks):
    """Only the last parameter of each block is left: collect the squares of all of them."""
    return torch.stack([each[-1].norm() for each in _gradients(loss, blocks)])


@gradient_norms.mistake
def from_the_last(loss, blocks):
    """The order is turned around: the first number belongs to the first block."""
    return gradient_norms.reference(loss, blocks).flip(0)


@gradient_norms.mistake(hint=3)
def sum_never_reset(loss, blocks):
    """The sum of squares goes on from block to block: start it anew in each."""
    return gradient_norms.reference(loss, blocks).square().cumsum(0).sqrt()


@gradient_norms.mistake(hint=2)
def largest_norm(loss, blocks):
    """This is the largest of the parameters' norms: add up their squares, and take the root."""
    return torch.stack([torch.stack([g.norm() for g in each]).max() for each in _gradients(loss, blocks)])


def _norms_of_grad(blocks):
    return torch.stack([get_total_norm([p.grad for p in b.parameters() if p.grad is not None]) for b in blocks])


@gradient_norms.mistake(hint=2)
def norms_added_up_of_all(loss, blocks):
    """The norms of the parameters are added up, and one may have None for its .grad: add the squares of those that
    have a gradient, and take the root."""
    blocks.zero_grad()
    loss.backward()
    return torch.stack([torch.stack([p.grad.norm() for p in block.parameters()]).sum() for block in blocks])


@gradient_norms.mistake(hint=1)
def norm_of_the_used_weights(loss, blocks):
    """These are the norms of those weights that have a gradient: take the norm of the gradients, .grad."""
    blocks.zero_grad()
    loss.backward()
    return torch.stack([get_total_norm([p.detach() for p in b.parameters() if p.grad is not None]) for b in blocks])


@gradient_norms.mistake(hint=1)
def neither_cleared_nor_left_out(loss, blocks):
    """An earlier gradient is still in .grad, so clear it first, with `blocks.zero_grad()`. And .grad may be None: leave
    such parameters out."""
    loss.backward()
    return torch.stack(
        [torch.stack([p.grad.square().sum() for p in block.parameters()]).sum().sqrt() for block in blocks]
    )


@gradient_norms.finished
def norms_after_backward(loss, blocks):
    blocks.zero_grad()
    loss.backward()
    norms = []
    for block in blocks:
        total = torch.zeros(())
        for parameter in block.parameters():
            if parameter.grad is not None:
                total += parameter.grad.square().sum()
        norms.append(total.sqrt())
    return torch.stack(norms)


@gradient_norms.accepted
def norms_by_hand(loss, blocks):
    for parameter in blocks.parameters():
        parameter.grad = None
    loss.backward()
    return _norms_of_grad(blocks)


@gradient_norms.accepted
def norms_by_autograd(loss, blocks):
    norms = []
    for block in blocks:
        gradients = torch.autograd.grad(loss, list(block.parameters()), allow_unused=True, retain_graph=True)
        norms.append(sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5)
    return torch.tensor(norms)


@gradient_norms.accepted
def norms_by_pytorch(loss, blocks):
    blocks.zero_grad()
    loss.backward()
    return torch.stack(
        [nn.utils.get_total_norm([p.grad for p in b.parameters() if p.grad is not None]) for b in blocks]
    )
