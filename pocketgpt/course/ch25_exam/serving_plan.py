"""Exercise `serving_plan`: the widest weights that fit, and how many texts beside them."""

from typing import Any

import torch

from pocketgpt.course.ch25_exam.shared import drawn, drawn_budget_config
from pocketgpt.course.checking.exercise import exercise

DTYPES = {4: torch.float32, 2: torch.bfloat16, 1: torch.int8}


@exercise(points=3, hints=(), returns=("width", "texts"))
def serving_plan(n_params: int, config: Any, gpu: dict, context: int) -> tuple[int, int]:
    """Counted by PyTorch, on tensors that have a shape and no memory; the most texts are found by search."""
    mixer = config.mixer
    kept = min(context, mixer.window)
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 1024**3
    shape = (config.n_layers, 2, mixer.n_kv_heads, kept, mixer.d_head)
    cache = torch.empty(shape, dtype=torch.bfloat16, device="meta").nbytes
    for width, dtype in DTYPES.items():
        weights = torch.empty(n_params, dtype=dtype, device="meta").nbytes
        if weights + cache <= usable:
            low, high = 1, usable // cache + 2  # it fits with low texts, and not with high
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if weights + middle * cache <= usable else (low, middle)
            return width, low
    return 0, 0


def _cache(config, context):
    mixer = config.mixer
    return 2 * 2 * config.n_layers * mixer.n_kv_heads * mixer.d_head * min(context, mixer.window)


@serving_plan.inputs
def _(rng):
    def gpu(gib, reserved):
        return {"gib": gib, "reserved_gib": reserved}

    def share(gib, reserved, low, high):
        """A number of parameters that are, in float32, between low and high percent of the usable memory."""
        return (gib - reserved) * 2**30 * drawn(rng, 10 * low, 10 * high) // 1000 // 4 + drawn(rng, 1, 999)

    for gib, reserved, low, high, short in [
        (16, 1, 40, 80, False),  # float32 fits
        (24, 2, 110, 190, False),  # bf16
        (40, 3, 210, 390, False),  # int8
        (24, 1, 30, 60, True),
        (12, 2, 120, 180, True),
        (16, 2, 220, 380, True),
        (8, 1, 410, 600, False),  # nothing fits
    ]:
        config = drawn_budget_config(rng)
        window = config.mixer.window
        context = drawn(rng, 40, window - 20) if short else window + drawn(rng, 100, 4000)
        yield share(gib, reserved, low, high), config, gpu(gib, reserved), context
    # The weights alone fit, and not a single text beside them: the next width has to do.
    config = drawn_budget_config(rng)
    context = config.mixer.window + 500
    usable = 6 * 2**30
    n_params = (usable - _cache(config, context) // 2) // 4
    yield n_params, config, gpu(7, 1), context
    # A text more would need one byte more than there is; and here it has exactly what it needs.
    for missing, beyond in ((1, 9), (0, -7)):
        config = drawn_budget_config(rng)
        context = config.mixer.window + beyond
        n_params = (usable - 30 * _cache(config, context)) // 4
        yield n_params + missing, config, gpu(7, 1), context
    # A single text is enough: of the widths 4 and 1 with no byte left, of the width 2 with some.
    for width, left in ((4, 0), (1, 0), (2, 2)):
        config = drawn_budget_config(rng)
        context = config.mixer.window + drawn(rng, -20, 20)
        text = _cache(config, context)
        yield (usable - text - (text // left if left else 0)) // width, config, gpu(7, 1), context


def _plan(n_params, config, gpu, context, *, unit=2**30, reserved=1, cache=None, times=1, widths=(4, 2, 1)):
    """Right, unless something is changed.

    unit: bytes of a GiB. reserved: how often the reserved memory is taken off. cache: bytes of a text, from the width.
    times: bytes of weights for each number and byte of width.
    """
    usable = gpu["gib"] * unit - reserved * gpu["reserved_gib"] * unit
    for width in widths:
        each = cache(width) if cache else _cache(config, context)
        left = usable - int(times * n_params * width)
        if left >= each:
            return width, left // each
    return 0, 0


def _cached(config, tokens, heads=None, layers=None, d_head=None, both=2, width=2):
    mixer = config.mixer
    numbers = both * (layers or config.n_layers) * (heads or mixer.n_kv_heads) * (d_head or mixer.d_head)
    return numbers * tokens * width


def _kept(config, context):
    return min(context, config.mixer.window)


@serving_plan.mistake
def in_gigabytes(n_params, config, gpu, context):
    """The memory is taken in GB, 10⁹ bytes: it is given in GiB, 2³⁰ bytes."""
    return _plan(n_params, config, gpu, context, unit=10**9)


@serving_plan.mistake
def reserve_forgotten(n_params, config, gpu, context):
    """The reserved memory is used, too: take `reserved_gib` off."""
    return _plan(n_params, config, gpu, context, reserved=0)


@serving_plan.mistake
def reserve_added(n_params, config, gpu, context):
    """The reserved memory is added: take it off."""
    return _plan(n_params, config, gpu, context, reserved=-1)


@serving_plan.mistake
def keys_alone(n_params, config, gpu, context):
    """A text takes twice as much: keys **and** values are stored, and each number takes 2 bytes."""
    return _plan(n_params, config, gpu, context, cache=lambda _: _cached(config, _kept(config, context), both=1))


@serving_plan.mistake
def query_heads(n_params, config, gpu, context):
    """The cache is counted with n_heads: only n_kv_heads keys and values are stored."""
    heads = config.mixer.n_heads
    return _plan(n_params, config, gpu, context, cache=lambda _: _cached(config, _kept(config, context), heads))


@serving_plan.mistake
def as_wide_as_the_model(n_params, config, gpu, context):
    """The cache is counted as d_model wide: a token stores n_kv_heads · d_head numbers for its keys."""
    return _plan(
        n_params,
        config,
        gpu,
        context,
        cache=lambda _: _cached(config, _kept(config, context), heads=1, d_head=config.d_model),
    )


@serving_plan.mistake
def one_layer(n_params, config, gpu, context):
    """The cache is counted for one layer: each has its own."""
    return _plan(n_params, config, gpu, context, cache=lambda _: _cached(config, _kept(config, context), layers=1))


@serving_plan.mistake
def whole_context(n_params, config, gpu, context):
    """The cache is counted for all `context` tokens: with a window, a layer keeps at most `window` of them."""
    return _plan(n_params, config, gpu, context, cache=lambda _: _cached(config, context))


@serving_plan.mistake
def always_the_window(n_params, config, gpu, context):
    """The cache is counted for `window` tokens in every text: a text that is shorter keeps `context` tokens."""
    return _plan(n_params, config, gpu, context, cache=lambda _: _cached(config, config.mixer.window))


@serving_plan.mistake
def the_longer_one(n_params, config, gpu, context):
    """The cache is counted for the larger of `context` and `window`: the smaller one counts."""
    return _plan(n_params, config, gpu, context, cache=lambda _: _cached(config, max(context, config.mixer.window)))


@serving_plan.mistake
def cache_as_wide_as_the_weights(n_params, config, gpu, context):
    """The numbers of the cache are as wide as the weights here: they take 2 bytes, whatever the weights are."""
    return _plan(
        n_params, config, gpu, context, cache=lambda width: _cached(config, _kept(config, context), width=width)
    )


@serving_plan.mistake
def keys_alone_in_numbers(n_params, config, gpu, context):
    """A text takes four times as much: keys **and** values are stored, and each of their numbers takes 2 bytes."""
    return _plan(
        n_params, config, gpu, context, cache=lambda _: _cached(config, _kept(config, context), both=1, width=1)
    )


@serving_plan.mistake
def twice_too_much(n_params, config, gpu, context):
    """A text takes half as much: one factor 2 is for keys and values, and one for the 2 bytes of a number."""
    return _plan(n_params, config, gpu, context, cache=lambda _: _cached(config, _kept(config, context), width=4))


@serving_plan.mistake
def in_bits(n_params, config, gpu, context):
    """The weights are counted in bits: a byte has 8, and float32 has 4 bytes."""
    return _plan(n_params, config, gpu, context, times=8)


@serving_plan.mistake
def weights_alone(n_params, config, gpu, context):
    """The width is chosen as if no text had to fit: at least one must, beside the weights."""
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    for width in (4, 2, 1):
        if n_params * width <= usable:
            return width, (usable - n_params * width) // _cache(config, context)
    return 0, 0


@serving_plan.mistake
def two_texts_needed(n_params, config, gpu, context):
    """A width that leaves room for exactly one text is passed over: one text is enough."""
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    for width in (4, 2, 1):
        if (texts := (usable - n_params * width) // _cache(config, context)) > 1:
            return width, texts
    return 0, 0


@serving_plan.mistake
def a_byte_must_be_left(n_params, config, gpu, context):
    """A width is passed over where one text fills the memory to the last byte: that fits."""
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    for width in (4, 2, 1):
        if usable - n_params * width > _cache(config, context):
            return width, (usable - n_params * width) // _cache(config, context)
    return 0, 0


@serving_plan.mistake
def weights_for_each_text(n_params, config, gpu, context):
    """The weights are counted once more for each text: all texts share them."""
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    for width in (4, 2, 1):
        if texts := usable // (n_params * width + _cache(config, context)):
            return width, texts
    return 0, 0


@serving_plan.mistake
def one_less_than_the_window(n_params, config, gpu, context):
    """A layer keeps window − 1 tokens here: the ring has `window` places."""
    tokens = min(context, config.mixer.window - 1)
    return _plan(n_params, config, gpu, context, cache=lambda _: _cached(config, tokens))


@serving_plan.mistake
def weights_forgotten(n_params, config, gpu, context):
    """The weights take no memory here: the texts get what the weights leave."""
    width, _ = _plan(n_params, config, gpu, context)
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    return width, usable // _cache(config, context) if width else 0


@serving_plan.mistake
def narrowest(n_params, config, gpu, context):
    """This is the narrowest width that fits: the widest is asked for, 4 before 2 before 1."""
    return _plan(n_params, config, gpu, context, widths=(1, 2, 4))


@serving_plan.mistake
def no_bytes(n_params, config, gpu, context):
    """Weights of one byte are not tried: the widths are 4, 2 and 1."""
    return _plan(n_params, config, gpu, context, widths=(4, 2))


@serving_plan.mistake
def never_float32(n_params, config, gpu, context):
    """Weights of four bytes are not tried: the widths are 4, 2 and 1."""
    return _plan(n_params, config, gpu, context, widths=(2, 1))


@serving_plan.mistake
def one_text_too_many(n_params, config, gpu, context):
    """The number of texts is rounded up: the last one does not fit."""
    width, _ = _plan(n_params, config, gpu, context)
    left = (gpu["gib"] - gpu["reserved_gib"]) * 2**30 - width * n_params
    return width, -(-left // _cache(config, context)) if width else 0


@serving_plan.mistake
def one_text_too_few(n_params, config, gpu, context):
    """That is one text too few: the memory may be filled to the last byte."""
    width, texts = _plan(n_params, config, gpu, context)
    return width, max(texts - 1, 0)


@serving_plan.mistake
def texts_as_a_float(n_params, config, gpu, context):
    """The number of texts is a float: count whole ones, with `//`."""
    width, texts = _plan(n_params, config, gpu, context)
    return width, float(texts)


@serving_plan.mistake
def order_exchanged(n_params, config, gpu, context):
    """The two numbers are exchanged: first the width, then the texts."""
    return _plan(n_params, config, gpu, context)[::-1]


@serving_plan.mistake
def minus_where_nothing_fits(n_params, config, gpu, context):
    """Where nothing fits, return (0, 0)."""
    width, texts = _plan(n_params, config, gpu, context)
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    return (width, texts) if width else (1, (usable - n_params) // _cache(config, context))


@serving_plan.mistake
def one_byte_where_nothing_fits(n_params, config, gpu, context):
    """Where nothing fits, the width is 0, too."""
    width, texts = _plan(n_params, config, gpu, context)
    return width or 1, texts


@serving_plan.finished
def width_after_width(n_params: int, config: Any, gpu: dict, context: int) -> tuple[int, int]:
    mixer = config.mixer
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    text = 4 * config.n_layers * mixer.n_kv_heads * mixer.d_head * min(context, mixer.window)
    for width in (4, 2, 1):
        texts = (usable - width * n_params) // text
        if texts >= 1:
            return width, texts
    return 0, 0


@serving_plan.accepted
def tried_one_by_one(n_params, config, gpu, context):
    mixer = config.mixer
    tokens = context if context < mixer.window else mixer.window
    one = 0
    for _ in range(config.n_layers):
        one += 2 * mixer.n_kv_heads * mixer.d_head * tokens * 2
    free = gpu["gib"] * 1024**3 - gpu["reserved_gib"] * 1024**3
    fitting = [(width, (free - n_params * width) // one) for width in (4, 2, 1) if n_params * width + one <= free]
    return fitting[0] if fitting else (0, 0)


@serving_plan.accepted
def divided_with_remainder(n_params, config, gpu, context):
    mixer = config.mixer
    numbers = config.n_layers * mixer.n_kv_heads * mixer.d_head * min([context, mixer.window])
    best = (0, 0)
    for width in (1, 2, 4):
        left = (gpu["gib"] - gpu["reserved_gib"] << 30) - n_params * width
        if left > 0 and (texts := divmod(left, numbers * 2 * 2)[0]):
            best = (width, texts)
    return best
