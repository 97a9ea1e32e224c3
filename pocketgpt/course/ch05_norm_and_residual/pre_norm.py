"""Exercise `pre_norm`: the layer reads the normalized stream and adds to the stream itself."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.ch05_norm_and_residual.shared import FixedLayer, FixedNorm, drawn_seed, pytorch_block
from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("stream",), replaces="block_order", sizes={"d_model": (3, 4, 5, 6)}, gradients=("x",))
def pre_norm(x: Float[Tensor, "*batch seq d_model"], norm: Callable, layer: Callable) -> Tensor:
    """x + layer(norm(x)), computed by PyTorch's TransformerEncoderLayer with norm_first=True."""
    return pytorch_block(x, norm, layer, norm_first=True)


@pre_norm.values
def norm(rng):
    return FixedNorm(drawn_seed(rng))


@pre_norm.values
def layer(rng):
    return FixedLayer(drawn_seed(rng))


@pre_norm.mistake(hint=1)
def post_norm_instead(x, norm, layer):
    """This is post-norm: the norm acts on the sum. In pre-norm it acts on what the layer reads, before the layer."""
    return norm(x + layer(x))


@pre_norm.mistake(hint=2)
def norm_on_the_stream(x, norm, layer):
    """The stream itself is normalized here, `x = norm(x)`, and the layer adds to that. Only the layer reads the norm;
    the sum goes on from the x that came in."""
    return norm(x) + layer(norm(x))


@pre_norm.mistake(hint=1)
def addition_forgotten(x, norm, layer):
    """The addition is missing: this is what the layer adds, without the stream it is added to."""
    return layer(norm(x))


@pre_norm.mistake
def norm_of_the_output(x, norm, layer):
    """This is x + norm(layer(x)): a third order, which Swin v2 and OLMo 2 use. In pre-norm the norm stands before the
    layer."""
    return x + norm(layer(x))


@pre_norm.mistake(hint=2)
def norm_forgotten(x, norm, layer):
    """The layer reads the stream as it is: give it norm(x)."""
    return x + layer(x)


@pre_norm.mistake
def norm_on_both_sides(x, norm, layer):
    """The layer's output is normalized, too, as Gemma 2 does with a norm of its own: in pre-norm it is added as it
    is."""
    return x + norm(layer(norm(x)))


@pre_norm.mistake(hint=1)
def sum_normalized_again(x, norm, layer):
    """The sum is normalized once more: in pre-norm nothing acts on the sum."""
    return norm(x + layer(norm(x)))


@pre_norm.mistake(hint=3)
def normalized_stream_with_raw_layer(x, norm, layer):
    """The norm stands on the wrong term: the layer reads norm(x), and x is added as it is."""
    return norm(x) + layer(x)


@pre_norm.mistake(hint=1)
def addition_forgotten_norm_last(x, norm, layer):
    """The addition is missing, and the norm comes after the layer: it is x plus the layer of norm(x)."""
    return norm(layer(x))


@pre_norm.mistake
def layer_of_the_sum(x, norm, layer):
    """The layer gets x + norm(x): it reads norm(x) alone, and x is added to what comes out."""
    return layer(x + norm(x))


@pre_norm.mistake
def subtracted(x, norm, layer):
    """The layer's output is subtracted: add it."""
    return x - layer(norm(x))


@pre_norm.mistake
def multiplied(x, norm, layer):
    """The stream is multiplied by the layer's output, as a gate would do: add it."""
    return x * layer(norm(x))


@pre_norm.mistake
def halved(x, norm, layer):
    """This is the mean of stream and addition: add them, without a factor."""
    return (x + layer(norm(x))) / 2


@pre_norm.mistake
def twice(x, norm, layer):
    """The layer acts twice: one step is one addition."""
    x = x + layer(norm(x))
    return x + layer(norm(x))


@pre_norm.mistake(hint=2)
def normalized_stream_too(x, norm, layer):
    """Three terms are added: norm(x) is what the layer reads, and no term of the sum."""
    return x + norm(x) + layer(norm(x))


@pre_norm.mistake(hint=3)
def layer_not_called(x, norm, layer):
    """The layer is not called: it reads norm(x), and x plus its output is the result."""
    return x + norm(x)


@pre_norm.mistake(hint=3)
def norm_alone(x, norm, layer):
    """This is norm(x) alone: give it to the layer, and add what the layer returns to x."""
    return norm(x)


@pre_norm.mistake(hint=2)
def stream_overwritten(x, norm, layer):
    """The layer's output has taken the place of x before the sum: keep the x that came in, and add to that."""
    x = layer(norm(x))
    return x + x


@pre_norm.mistake(hint=2)
def stream_counted_twice(x, norm, layer):
    """The stream is added twice: once."""
    return x + x + layer(norm(x))


@pre_norm.mistake
def addition_halved(x, norm, layer):
    """What the layer returns is halved: add it as it is."""
    return x + layer(norm(x)) / 2


@pre_norm.mistake
def normalized_twice(x, norm, layer):
    """The norm acts twice on what the layer reads: once is enough, and with a learned scale the second changes it."""
    return x + layer(norm(norm(x)))


@pre_norm.mistake(hint=1)
def post_norm_with_addition(x, norm, layer):
    """This is x plus a whole post-norm step: the norm stands before the layer, and x is added once."""
    return x + norm(x + layer(x))


@pre_norm.mistake(hint=2)
def layer_called_twice(x, norm, layer):
    """The layer is called on x and on norm(x): call it once, on norm(x), and add x."""
    return layer(norm(x)) + layer(x)


@pre_norm.mistake
def turned_round(x, norm, layer):
    """The stream is subtracted from the layer's output: add them."""
    return layer(norm(x)) - x


@pre_norm.mistake
def side_by_side(x, norm, layer):
    """The two are concatenated: add them, number by number."""
    return torch.cat((x, layer(norm(x))), dim=-1)


@pre_norm.finished
def add_to_the_stream(x, norm, layer):
    return x + layer(norm(x))


@pre_norm.accepted
def with_names(x, norm, layer):
    normalized = norm(x)
    added = layer(normalized)
    return added.add(x)


@pre_norm.accepted
def on_a_copy(x, norm, layer):
    stream = x.clone()
    stream += layer(norm(x))
    return stream
