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


def _replaced(n_params, recipe, **changes):
    """Right, but for the parts that are given, each in bytes for a parameter."""
    parts = dict(zip(("weights", "gradients", "optimizer", "master"), _parts(1, recipe), strict=True)) | changes
    return tuple(n_params * number for number in parts.values())


@training_bytes.mistake(hint=2)
def weights_as_wide_as_the_copy(n_params, recipe):
    """The weights are counted with 4 bytes where there is a master copy: they stay narrow, and the copy is counted by
    itself."""
    return _replaced(n_params, recipe, weights=4 if recipe["master_copy"] else recipe["weight_bytes"])


@training_bytes.mistake(hint=2)
def weights_always_in_float32(n_params, recipe):
    """The weights are counted with 4 bytes in every recipe: `recipe["weight_bytes"]` says how many."""
    return _replaced(n_params, recipe, weights=4)


@training_bytes.mistake(hint=2)
def weights_always_narrow(n_params, recipe):
    """The weights are counted with 2 bytes in every recipe: `recipe["weight_bytes"]` says how many."""
    return _replaced(n_params, recipe, weights=2)


@training_bytes.mistake(hint=2)
def everything_in_float32(n_params, recipe):
    """Everything is counted with 4 bytes: `recipe["weight_bytes"]` is not used."""
    return _parts(n_params, recipe | {"weight_bytes": 4})


@training_bytes.mistake(hint=2)
def everything_in_half_precision(n_params, recipe):
    """The weights and all that is as wide as they are counted with 2 bytes: `recipe["weight_bytes"]` is not used."""
    return _parts(n_params, recipe | {"weight_bytes": 2})


@training_bytes.mistake(hint=3)
def gradients_and_optimizer_exchanged(n_params, recipe):
    """Two numbers are exchanged: the order is weights, gradients, optimizer, master."""
    weights, gradients, optimizer, master = _parts(n_params, recipe)
    return weights, optimizer, gradients, master


@training_bytes.mistake(hint=2)
def buffers_without_a_width(n_params, recipe):
    """The buffers are counted with one byte for each number: multiply by the bytes of what the optimizer updates."""
    return _replaced(n_params, recipe, optimizer=recipe["buffers"])


@training_bytes.mistake(hint=2)
def width_without_buffers(n_params, recipe):
    """The number of buffers is added to the bytes: multiply, as each buffer has that many."""
    updated = 4 if recipe["master_copy"] else recipe["weight_bytes"]
    return _replaced(n_params, recipe, optimizer=recipe["buffers"] + updated)


@training_bytes.mistake(hint=2)
def always_eight(n_params, recipe):
    """The optimizer is counted with 8 bytes in every recipe: that is AdamW in float32. The number of buffers and their
    width are in the recipe."""
    return _replaced(n_params, recipe, optimizer=8)


@training_bytes.mistake(hint=2)
def eight_or_nothing(n_params, recipe):
    """The optimizer is counted with 8 bytes wherever there are buffers: that is AdamW in float32. SGD with momentum has
    one buffer, and without a master copy the buffers are as wide as the weights."""
    return _replaced(n_params, recipe, optimizer=8 if recipe["buffers"] else 0)


@training_bytes.mistake(hint=3)
def copy_counted_twice(n_params, recipe):
    """The master copy is counted twice, with the optimizer and in its own place: the optimizer has its buffers
    alone."""
    copied = 4 * recipe["master_copy"]
    return _replaced(n_params, recipe, optimizer=_parts(1, recipe)[2] + copied)


@training_bytes.mistake(hint=3)
def copy_of_one_parameter(n_params, recipe):
    """The master copy is that of one parameter: there are n_params."""
    *others, master = _parts(n_params, recipe)
    return *others, master // n_params


@training_bytes.mistake(hint=3)
def copy_the_other_way_round(n_params, recipe):
    """The condition is the wrong way round: there is a master copy, and buffers as wide as it, where
    `recipe["master_copy"]` is True."""
    width, copied = recipe["weight_bytes"], not recipe["master_copy"]
    return _replaced(n_params, recipe, optimizer=recipe["buffers"] * (4 if copied else width), master=4 * copied)


@training_bytes.mistake(hint=3)
def copy_where_there_is_none(n_params, recipe):
    """The master copy is counted where `recipe["master_copy"]` is False: the condition is the wrong way round."""
    return _replaced(n_params, recipe, master=0 if recipe["master_copy"] else 4)


@training_bytes.mistake(hint=3)
def true_as_one_byte(n_params, recipe):
    """The master copy is counted with one byte: True counts as 1 in a product. A float32 number has 4."""
    return _replaced(n_params, recipe, master=int(recipe["master_copy"]))


@training_bytes.mistake(hint=2)
def copy_in_float64(n_params, recipe):
    """The master copy is counted with 8 bytes a parameter: a float32 number has 4."""
    return _replaced(n_params, recipe, master=8 * recipe["master_copy"])


@training_bytes.mistake(hint=1)
def no_gradients_for_sgd(n_params, recipe):
    """Without buffers there are no gradients here: SGD needs them as any other, it only remembers none."""
    return _replaced(n_params, recipe, gradients=recipe["weight_bytes"] if recipe["buffers"] else 0)


@training_bytes.mistake(hint=2)
def optimizer_of_the_copy_alone(n_params, recipe):
    """Without a master copy the optimizer is counted with 0 bytes: then it updates the weights themselves, and its
    buffers are as wide as they."""
    return _replaced(n_params, recipe, optimizer=_parts(1, recipe)[2] if recipe["master_copy"] else 0)


@training_bytes.mistake(hint=2)
def gradients_twice_as_wide(n_params, recipe):
    """The gradients are counted twice: a parameter has one, as wide as its weight."""
    return _replaced(n_params, recipe, gradients=2 * recipe["weight_bytes"])


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
