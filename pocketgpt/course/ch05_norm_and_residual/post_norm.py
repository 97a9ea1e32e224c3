"""Exercise `post_norm`: the layer reads the stream as it is, and the sum is normalized."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch05_norm_and_residual.shared import FixedLayer, FixedNorm, drawn_seed, pytorch_block
from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("stream",), sizes={"d_model": (3, 4, 5, 6)}, gradients=("x",))
def post_norm(x: Float[Tensor, "*batch seq d_model"], norm: Callable, layer: Callable) -> Tensor:
    """norm(x + layer(x)), computed by PyTorch's TransformerEncoderLayer with norm_first=False."""
    return pytorch_block(x, norm, layer, norm_first=False)


@post_norm.values
def norm(rng):
    return FixedNorm(drawn_seed(rng))


@post_norm.values
def layer(rng):
    return FixedLayer(drawn_seed(rng))


@post_norm.mistake(hint=1)
def pre_norm_instead(x, norm, layer):
    """This is pre-norm: the norm acts before the layer. In post-norm it acts on the sum, last."""
    return x + layer(norm(x))


@post_norm.mistake(hint=1)
def norm_of_the_output(x, norm, layer):
    """Only the layer's output is normalized, x + norm(layer(x)): a third order, which Swin v2 and OLMo 2 use. In
    post-norm the norm acts on the sum."""
    return x + norm(layer(x))


@post_norm.mistake(hint=1)
def addition_forgotten(x, norm, layer):
    """The addition is missing, or adds the layer's output to itself: the x that came in is added to it before the norm
    acts."""
    return norm(layer(x))


@post_norm.mistake(hint=2)
def norm_forgotten(x, norm, layer):
    """The norm is missing: it acts on the sum."""
    return x + layer(x)


@post_norm.mistake(hint=2)
def norm_of_each(x, norm, layer):
    """Stream and addition are normalized each on its own: add them first, then normalize the sum once."""
    return norm(x) + norm(layer(x))


@post_norm.mistake(hint=2)
def norm_on_both_sides(x, norm, layer):
    """The layer reads a normalized stream, too: in post-norm it reads x as it is, which an earlier norm made."""
    return norm(x + layer(norm(x)))


@post_norm.mistake
def norm_on_the_stream(x, norm, layer):
    """The stream is normalized first, and the sum is not: add first, and normalize the sum."""
    return norm(x) + layer(norm(x))


@post_norm.mistake(hint=3)
def norm_on_the_stream_only(x, norm, layer):
    """The norm closes too early, around x alone: it goes around the whole sum."""
    return norm(x) + layer(x)


@post_norm.mistake(hint=1)
def pre_norm_without_addition(x, norm, layer):
    """The addition is missing, and the norm comes first: it is the norm of x plus the layer of x."""
    return layer(norm(x))


@post_norm.mistake
def normalized_twice(x, norm, layer):
    """The norm acts twice on the sum: once is enough, and with a learned scale the second changes it."""
    return norm(norm(x + layer(x)))


@post_norm.mistake
def added_after_the_norm(x, norm, layer):
    """The stream is added once more after the norm: in post-norm the norm is last, and nothing goes around it."""
    return x + norm(x + layer(x))


@post_norm.mistake
def multiplied(x, norm, layer):
    """The stream is multiplied by the layer's output, as a gate would do: add it."""
    return norm(x * layer(x))


@post_norm.mistake
def subtracted(x, norm, layer):
    """The layer's output is subtracted: add it."""
    return norm(x - layer(x))


@post_norm.mistake(hint=2)
def normalized_before_and_after(x, norm, layer):
    """The stream is normalized before the layer reads it, and again at the end: there is one norm, around the sum."""
    x = norm(x)
    return norm(x + layer(x))


@post_norm.mistake(hint=2)
def stream_overwritten(x, norm, layer):
    """The layer's output has taken the place of x before the sum: add it to the x that came in."""
    x = layer(x)
    return norm(x + layer(x))


@post_norm.mistake(hint=1)
def layer_of_the_sum(x, norm, layer):
    """The layer gets x + norm(x): it reads x alone, and the norm takes the sum of x and the layer's output."""
    return layer(x + norm(x))


@post_norm.mistake
def normalized_stream_in_the_sum(x, norm, layer):
    """The sum has norm(x) in it: add x as it came in, and normalize once, at the end."""
    return norm(norm(x) + layer(x))


@post_norm.mistake(hint=3)
def layer_not_called(x, norm, layer):
    """This is norm(x) alone: call the layer, add what it returns to x, and normalize the sum."""
    return norm(x)


@post_norm.mistake
def addition_doubled(x, norm, layer):
    """What the layer returns is doubled: add it as it is."""
    return norm(x + 2 * layer(x))


@post_norm.mistake
def turned_round(x, norm, layer):
    """The stream is subtracted from the layer's output: add them."""
    return norm(layer(x) - x)


@post_norm.mistake(hint=1)
def addition_forgotten_two_norms(x, norm, layer):
    """The addition is missing, and there are two norms: it is the norm of x plus the layer of x."""
    return norm(layer(norm(x)))


@post_norm.mistake(hint=2)
def stream_counted_twice(x, norm, layer):
    """The stream is added twice: once."""
    return norm(x + x + layer(x))


@post_norm.mistake
def added_again(x, norm, layer):
    """What the layer returns is added once more after the norm: the norm is last."""
    added = layer(x)
    return norm(x + added) + added


@post_norm.mistake
def layer_after_the_norm(x, norm, layer):
    """The layer acts again after the norm: the norm is last."""
    return layer(norm(x + layer(x)))


@post_norm.finished
def normalize_the_sum(x, norm, layer):
    return norm(x + layer(x))


@post_norm.accepted
def with_names(x, norm, layer):
    summed = layer(x) + x
    return norm(summed)


@post_norm.accepted
def sum_of_a_stack(x, norm, layer):
    return norm(torch.stack([x, layer(x)]).sum(0))
