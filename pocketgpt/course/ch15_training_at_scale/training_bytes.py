"""Exercise `training_bytes`: memory of a training run that does not depend on the batch."""

import torch
from torch import nn

from pocketgpt.course.checking.exercise import exercise

DTYPES = {2: torch.bfloat16, 4: torch.float32, 8: torch.float64}


@exercise(
    points=1,
    hints=("a nudge", "the numbers", "pseudocode"),
    returns=("weights", "gradients", "optimizer", "master"),
)
def training_bytes(n_params: int, recipe: dict) -> tuple[int, int, int, int]:
    """The bytes of real tensors, and of the state of PyTorch's own AdamW or SGD after a step, without its count of
    steps."""
    weight = nn.Parameter(torch.zeros(n_params, dtype=DTYPES[recipe["weight_bytes"]]))
    weight.grad = torch.ones_like(weight)
    updated, master = weight, 0
    if recipe["master_copy"]:
        updated = nn.Parameter(weight.detach().float())
        updated.grad = weight.grad.float()  # for the update alone: freed after it
        master = updated.nbytes
    if recipe["buffers"] == 2:
        optimizer = torch.optim.AdamW([updated])
    else:
        optimizer = torch.optim.SGD([updated], lr=0.1, momentum=0.9 * recipe["buffers"])
    optimizer.step()
    state = sum(each.nbytes for each in optimizer.state[updated].values() if each is not None and each.ndim)
    return weight.nbytes, weight.grad.nbytes, state, master


@training_bytes.inputs
def _(rng):
    def recipe(weight_bytes, buffers, master_copy):
        return {"weight_bytes": weight_bytes, "buffers": buffers, "master_copy": master_copy}

    def n_params():
        return 1000 + int(torch.randint(9000, (), generator=rng))

    yield n_params(), recipe(4, 2, False)
    yield n_params(), recipe(2, 2, True)
    yield n_params(), recipe(2, 2, False)
    yield n_params(), recipe(4, 1, False)
    yield n_params(), recipe(2, 1, True)
    yield n_params(), recipe(2, 0, True)
    yield n_params(), recipe(4, 0, False)
    yield n_params(), recipe(8, 2, False)


def _parts(n_params, recipe, buffers=None, buffer_bytes=None, gradient_bytes=None, master=None):
    """Right, unless something is changed; each in bytes for a parameter."""
    width = recipe["weight_bytes"]
    copied = 4 * recipe["master_copy"]
    buffers = recipe["buffers"] if buffers is None else buffers
    buffer_bytes = buffer_bytes or (4 if recipe["master_copy"] else width)
    each = (
        width,
        width if gradient_bytes is None else gradient_bytes,
        buffers * buffer_bytes,
        copied if master is None else master,
    )
    return tuple(n_params * number for number in each)


@training_bytes.mistake(hint=1)
def master_copy_forgotten(n_params, recipe):
    """The master copy is missing: where there is one, it is a float32 number for each parameter."""
    return _parts(n_params, recipe, master=0)


@training_bytes.mistake(hint=1)
def always_a_master_copy(n_params, recipe):
    """A master copy is counted in every recipe: only where `recipe["master_copy"]` is True."""
    return _parts(n_params, recipe, master=4)


@training_bytes.mistake(hint=2)
def master_copy_as_wide_as_the_weights(n_params, recipe):
    """The master copy is as wide as the weights here: it is float32, which is its purpose."""
    return _parts(n_params, recipe, master=recipe["weight_bytes"] * recipe["master_copy"])


@training_bytes.mistake(hint=2)
def one_buffer(n_params, recipe):
    """The optimizer is counted with one buffer, whatever `recipe["buffers"]` says: AdamW has two, the mean and the mean
    square of the gradient."""
    return _parts(n_params, recipe, buffers=1)


@training_bytes.mistake(hint=2)
def always_two_buffers(n_params, recipe):
    """The optimizer is always counted with two buffers: SGD with momentum has one, and plain SGD none."""
    return _parts(n_params, recipe, buffers=2)


@training_bytes.mistake(hint=2)
def one_buffer_too_many(n_params, recipe):
    """The optimizer is counted with one buffer too many: the gradient has its own place in the result."""
    return _parts(n_params, recipe, buffers=recipe["buffers"] + 1)


@training_bytes.mistake(hint=2)
def no_optimizer(n_params, recipe):
    """The optimizer is missing: it keeps `recipe["buffers"]` numbers for each parameter."""
    return _parts(n_params, recipe, buffers=0)


@training_bytes.mistake(hint=1)
def gradients_forgotten(n_params, recipe):
    """The gradients are missing: each parameter has one, as wide as the weight."""
    return _parts(n_params, recipe, gradient_bytes=0)


@training_bytes.mistake(hint=2)
def gradients_in_float32(n_params, recipe):
    """The gradients are counted with 4 bytes in every recipe: a gradient is as wide as its weight."""
    return _parts(n_params, recipe, gradient_bytes=4)


@training_bytes.mistake(hint=2)
def gradients_of_the_master_copy(n_params, recipe):
    """The gradients are as wide as the master copy here: a gradient is as wide as the weight that it was computed
    for."""
    return _parts(n_params, recipe, gradient_bytes=4 if recipe["master_copy"] else recipe["weight_bytes"])


@training_bytes.mistake(hint=2)
def buffers_as_wide_as_the_weights(n_params, recipe):
    """The buffers of the optimizer are as wide as the weights here: they are as wide as what it updates, and that is
    the master copy, where there is one."""
    return _parts(n_params, recipe, buffer_bytes=recipe["weight_bytes"])


@training_bytes.mistake(hint=2)
def buffers_in_float32(n_params, recipe):
    """The buffers are counted with 4 bytes in every recipe: without a master copy they are as wide as the weights."""
    return _parts(n_params, recipe, buffer_bytes=4)


@training_bytes.mistake(hint=1)
def in_bits(n_params, recipe):
    """These are bits: a byte has 8 of them, and float32 has 4 bytes."""
    return tuple(8 * part for part in _parts(n_params, recipe))


@training_bytes.mistake(hint=3)
def for_one_parameter(n_params, recipe):
    """This is for one parameter: there are n_params."""
    return _parts(1, recipe)


@training_bytes.mistake(hint=3)
def weights_replaced_by_the_copy(n_params, recipe):
    """The master copy is counted in place of the weights: both are in memory, the narrow ones for the products and the
    copy for the update."""
    weights, gradients, optimizer, master = _parts(n_params, recipe)
    return 0 if master else weights, gradients, optimizer, master


@training_bytes.mistake(hint=3)
def copy_counted_as_optimizer(n_params, recipe):
    """The master copy is counted with the optimizer: it has its own place, the last."""
    weights, gradients, optimizer, master = _parts(n_params, recipe)
    return weights, gradients, optimizer + master, 0


@training_bytes.mistake(hint=3)
def optimizer_last(n_params, recipe):
    """The last two numbers are exchanged: the order is weights, gradients, optimizer, master."""
    weights, gradients, optimizer, master = _parts(n_params, recipe)
    return weights, gradients, master, optimizer


@training_bytes.mistake(hint=3)
def as_floats(n_params, recipe):
    """The numbers are right, and floats: bytes are whole numbers."""
    return tuple(float(part) for part in _parts(n_params, recipe))


@training_bytes.mistake(hint=3)
def summed_up(n_params, recipe):
    """This is the sum: return the four numbers, weights, gradients, optimizer, master."""
    return sum(_parts(n_params, recipe))


@training_bytes.mistake(hint=3)
def in_kilobytes(n_params, recipe):
    """These are kilobytes: return bytes."""
    return tuple(part // 1024 for part in _parts(n_params, recipe))


@training_bytes.finished
def width_by_width(n_params: int, recipe: dict) -> tuple[int, int, int, int]:
    narrow = recipe["weight_bytes"]
    updated = 4 if recipe["master_copy"] else narrow
    master = n_params * 4 if recipe["master_copy"] else 0
    return n_params * narrow, n_params * narrow, n_params * recipe["buffers"] * updated, master


@training_bytes.accepted
def case_by_case(n_params, recipe):
    weights = gradients = n_params * recipe["weight_bytes"]
    if recipe["master_copy"]:
        copy = 4 * n_params
        return weights, gradients, recipe["buffers"] * copy, copy
    return weights, gradients, recipe["buffers"] * weights, 0


@training_bytes.accepted
def of_tensors(n_params, recipe):
    weight = torch.empty(n_params, dtype=DTYPES[recipe["weight_bytes"]], device="meta")
    copies = [torch.empty(n_params, device="meta")] * recipe["master_copy"]
    updated = copies[0] if copies else weight
    buffers = [torch.empty_like(updated) for _ in range(recipe["buffers"])]
    return weight.nbytes, weight.nbytes, sum(each.nbytes for each in buffers), sum(each.nbytes for each in copies)
