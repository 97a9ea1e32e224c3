"""Exercise `hidden_size`: the width of a feed-forward layer."""

import math

import torch

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=("a nudge", "the numbers", "pseudocode"), returns=("d_ff",))
def hidden_size(d_model: int, gated: bool, multiple: int) -> int:
    """4 · d_model, or 8/3 · d_model with a gate, rounded up to a multiple."""
    thirds = 8 * d_model if gated else 12 * d_model  # in whole numbers nothing is rounded by accident
    return -(-thirds // (3 * multiple)) * multiple


@hidden_size.inputs
def _(rng):
    yield 4096, True, 256  # Llama 2 7B: 11,008
    yield 5120, True, 256  # Llama 2 13B: 13,824
    yield 2048, True, 256  # TinyLlama: 5,632
    yield 768, False, 64  # GPT-2: 3,072
    yield 576, True, 64  # SmolLM2 135M: 1,536
    yield 192, True, 64  # the pocket model: 512, with nothing to round
    yield 4096, True, 8  # 10,922.7, so 10,928: 8/3 must not be rounded to 2.67 or 2.66
    yield 193, True, 512  # 514.7, so 1,024: barely above a multiple, and still the next one
    yield 100, True, 64  # 266.7, so 320: the nearest multiple is 256
    yield 100, False, 64
    yield 25, True, 64  # 66.7, so 128: 8 · (25 // 3) would be 64
    for multiple in (16, 64, 128):
        for gated in (True, False):
            yield 1 + int(torch.randint(900, (), generator=rng)), gated, multiple


def _up(width, multiple):
    """Right, for the mistakes that go wrong elsewhere."""
    return math.ceil(width / multiple) * multiple


def _width(d_model, gated):
    return d_model * 8 / 3 if gated else 4 * d_model


@hidden_size.mistake(hint=3)
def rounded_down(d_model, gated, multiple):
    """The width is rounded down to a multiple: round up, so that nothing is lost."""
    return int(_width(d_model, gated)) // multiple * multiple


@hidden_size.mistake(hint=3)
def nearest_multiple(d_model, gated, multiple):
    """The width is rounded to the nearest multiple: round up, always."""
    return round(_width(d_model, gated) / multiple) * multiple


@hidden_size.mistake(hint=3)
def one_multiple_more(d_model, gated, multiple):
    """A width that is a multiple already gets one more: 512 stays 512."""
    return (_width(d_model, gated) // multiple + 1) * multiple  # `//` of a float is a float; the int is named as well


@hidden_size.mistake(hint=3)
def not_rounded(d_model, gated, multiple):
    """The width is not rounded to a multiple of `multiple`."""
    return math.ceil(_width(d_model, gated))


@hidden_size.mistake(hint=1)
def always_four(d_model, gated, multiple):
    """With a gate this is still 4 · d_model: three matrices of that width are half again as many parameters as two. It
    is 8/3."""
    return _up(4 * d_model, multiple)


@hidden_size.mistake(hint=1)
def always_eight_thirds(d_model, gated, multiple):
    """Without a gate this is 8/3 · d_model: it is 4 there."""
    return _up(d_model * 8 / 3, multiple)


@hidden_size.mistake(hint=1)
def the_other_way_round(d_model, gated, multiple):
    """The two cases are exchanged: the layer with a gate has the smaller width, 8/3 · d_model."""
    return _up(_width(d_model, not gated), multiple)


@hidden_size.mistake(hint=2)
def two_thirds_of_d_model(d_model, gated, multiple):
    """With a gate this is 2/3 · d_model: it is 2/3 of the 4 · d_model that a layer without a gate has."""
    return _up(d_model * 2 / 3 if gated else 4 * d_model, multiple)


@hidden_size.mistake(hint=2)
def eight_thirds_of_four(d_model, gated, multiple):
    """With a gate this is 8/3 of 4 · d_model: the 4 is in the 8/3 already."""
    return _up(d_model * 32 / 3 if gated else 4 * d_model, multiple)


@hidden_size.mistake(hint=2)
def whole_number_division(d_model, gated, multiple):
    """The division 8 // 3 gives 2: multiply by 8 first, then divide by 3."""
    return _up(8 // 3 * d_model if gated else 4 * d_model, multiple)


@hidden_size.mistake(hint=2)
def divided_first(d_model, gated, multiple):
    """The division d_model // 3 drops a remainder before anything is multiplied: 8 times that much is missing."""
    return _up(d_model // 3 * 8 if gated else 4 * d_model, multiple)


@hidden_size.mistake(hint=3)
def rounded_before_the_factor(d_model, gated, multiple):
    """The input d_model is rounded up, and the factor comes after: the result need not be a multiple. Factor first."""
    return int(_width(_up(d_model, multiple), gated))


@hidden_size.mistake(hint=3)
def multiples_of_d_model(d_model, gated, multiple):
    """The width is rounded up to a multiple of d_model, which makes 3 of every 8/3: round to multiples of
    `multiple`."""
    return (3 if gated else 4) * d_model


@hidden_size.mistake(hint=3)
def power_of_two(d_model, gated, multiple):
    """The width is rounded up to a power of two: the next multiple of `multiple` is enough."""
    return 2 ** math.ceil(math.log2(_width(d_model, gated)))


@hidden_size.mistake(hint=3)
def a_float(d_model, gated, multiple):
    """The number is right, and it is a float: a width is an int."""
    return float(_up(_width(d_model, gated), multiple))


@hidden_size.mistake(hint=3)
def how_many_multiples(d_model, gated, multiple):
    """This is how many multiples there are: multiply by `multiple` again."""
    return math.ceil(_width(d_model, gated) / multiple)


@hidden_size.mistake(hint=3)
def always_64(d_model, gated, multiple):
    """The width is rounded up to a multiple of 64, whatever `multiple` is."""
    return _up(_width(d_model, gated), 64)


@hidden_size.mistake(hint=3)
def rounded_with_a_gate_only(d_model, gated, multiple):
    """Without a gate the width is not rounded up to a multiple: it is rounded in both cases."""
    return _up(_width(d_model, gated), multiple) if gated else 4 * d_model


@hidden_size.mistake(hint=3)
def rounded_without_a_gate_only(d_model, gated, multiple):
    """With a gate the width is not rounded up to a multiple: it is rounded in both cases."""
    return math.ceil(_width(d_model, gated)) if gated else _up(4 * d_model, multiple)


@hidden_size.mistake(hint=3)
def the_width_itself(d_model, gated, multiple):
    """The width is returned as it is, with a gate as a float: round it up to a multiple, which is an int."""
    return _width(d_model, gated)


@hidden_size.mistake(hint=3)
def remainder_added(d_model, gated, multiple):
    """The remainder is added to the width: what is missing to the next multiple is `multiple` less the remainder."""
    width = _width(d_model, gated)
    return width + width % multiple


@hidden_size.mistake(hint=2)
def factor_of_two_digits(d_model, gated, multiple):
    """The factor is rounded to 2.67, which makes some widths one multiple too large: it is 8/3."""
    return _up(2.67 * d_model if gated else 4 * d_model, multiple)


@hidden_size.mistake(hint=2)
def factor_of_three_digits(d_model, gated, multiple):
    """The factor is rounded to 2.667, which makes some widths one multiple too large: it is 8/3."""
    return _up(2.667 * d_model if gated else 4 * d_model, multiple)


@hidden_size.mistake(hint=2)
def factor_cut_off(d_model, gated, multiple):
    """The factor is cut off at 2.66, which makes some widths too small: it is 8/3."""
    return _up(2.66 * d_model if gated else 4 * d_model, multiple)


@hidden_size.mistake(hint=2)
def factor_three(d_model, gated, multiple):
    """With a gate this is 3 · d_model: for the same number of parameters it is 8/3."""
    return _up((3 if gated else 4) * d_model, multiple)


@hidden_size.mistake(hint=2)
def factor_upside_down(d_model, gated, multiple):
    """With a gate this is 3/8 · d_model: the factor is 8/3."""
    return _up(3 / 8 * d_model if gated else 4 * d_model, multiple)


@hidden_size.mistake(hint=1)
def parameters_counted(d_model, gated, multiple):
    """This is the number of parameters, or a third of it: the width is 4 · d_model, or 8/3 · d_model."""
    return _up(d_model**2 * 8 / 3 if gated else 8 * d_model**2, multiple)


@hidden_size.mistake(hint=3)
def nearly_rounded_up(d_model, gated, multiple):
    """Adding 0.99 before rounding down forgets widths that are barely above a multiple: use math.ceil."""
    return multiple * int(_width(d_model, gated) / multiple + 0.99)


@hidden_size.finished
def hidden_size_with_ceil(d_model, gated, multiple):
    width = 8 * d_model / 3 if gated else 4 * d_model
    return math.ceil(width / multiple) * multiple


@hidden_size.accepted
def hidden_size_as_llama(d_model, gated, multiple):
    width = 4 * d_model
    if gated:
        width = int(2 * width / 3)
    return multiple * ((width + multiple - 1) // multiple)


@hidden_size.accepted
def hidden_size_in_a_loop(d_model, gated, multiple):
    width = multiple
    while width * 3 < d_model * (8 if gated else 12):
        width += multiple
    return width
