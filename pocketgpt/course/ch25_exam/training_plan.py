"""Exercise `training_plan`: the texts that a GPU holds in training, and the hours of the whole run."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.course.ch10_the_gpt.shared import drawn_rope, flops_per_token
from pocketgpt.course.ch25_exam.shared import block, block_shapes, drawn, drawn_budget_config
from pocketgpt.course.checking.exercise import exercise


def counted(config: Any, seq: int) -> int:
    """FLOPs of a training step for each token: PyTorch's count of a block and of the head, as shapes without
    numbers."""
    with torch.device("meta"):
        weights = {name: torch.empty(shape, requires_grad=True) for name, shape in block_shapes(config).items()}
        head = torch.empty(config.vocab_size, config.d_model, requires_grad=True)
        x = torch.empty(1, seq, config.d_model, requires_grad=True)
        with FlopCounterMode(display=False) as of_block:
            block(x, weights, drawn_rope(config, seq), config).sum().backward()
        with FlopCounterMode(display=False) as of_head:
            (x @ head.T).sum().backward()
    return (config.n_layers * of_block.get_total_flops() + of_head.get_total_flops()) // seq


@exercise(points=3, hints=(), returns=("texts", "hours"))
def training_plan(n_params: int, config: Any, gpu: dict, run: dict) -> tuple[int, float]:
    """Memory is counted by PyTorch on tensors that have a shape and no memory, FLOPs by its FlopCounterMode."""
    held = -(-n_params // run["gpus"]) if run["sharded"] else n_params

    def nbytes(*shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device="meta").nbytes

    narrow = torch.bfloat16 if run["bf16"] else torch.float32
    fixed = 2 * nbytes(held, dtype=narrow) + nbytes(2, held) + (nbytes(held) if run["bf16"] else 0)
    text = nbytes(config.n_layers, run["seq"], config.d_model, dtype=torch.bfloat16)
    text += nbytes(run["seq"], config.vocab_size)
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 1024**3
    texts = max((usable - fixed) // text, 0)
    if not texts:
        return 0, math.inf
    tokens = run["text_gb"] * 10**9 / run["bytes_per_token"]
    seconds = tokens * counted(config, run["seq"]) / (run["gpus"] * gpu["tflops"] * 10**12 * run["mfu"])
    return texts, seconds / 3600


@training_plan.inputs
def _(rng):
    for bf16, sharded, gpus, low, high in [
        (False, False, 4, 30, 60),
        (True, False, 3, 30, 60),
        (True, True, 7, 200, 400),
        (False, True, 5, 150, 300),
        (True, False, 2, 40, 70),
        (False, True, 3, 100, 180),
        (True, False, 6, 130, 300),  # it does not fit
    ]:
        gpu = {"gib": drawn(rng, 24, 80, 8), "reserved_gib": drawn(rng, 1, 4), "tflops": drawn(rng, 90, 990)}
        usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
        config = drawn_budget_config(rng, tied=gpus % 2 == 1)
        seq = config.mixer.window + drawn(rng, -60, 60) if gpus == 7 else config.mixer.window + drawn(rng, 100, 900)
        run = {
            "text_gb": drawn(rng, 5, 60),
            "bytes_per_token": drawn(rng, 30, 50) / 10,
            "seq": seq,
            "gpus": gpus,
            "mfu": drawn(rng, 25, 45) / 100,
            "bf16": bf16,
            "sharded": sharded,
        }
        n_params = usable * drawn(rng, 10 * low, 10 * high) // 1000 // 16
        n_params += 1 - n_params % gpus  # no multiple of the number of GPUs
        yield n_params, config, gpu, run
    # The memory is filled to the last byte, by one text and by more.
    gpu = {"gib": 40, "reserved_gib": 2, "tflops": drawn(rng, 90, 990)}
    usable, config, run = 38 * 2**30, drawn_budget_config(rng), run | {"gpus": 7, "seq": drawn(rng, 32, 96, 16)}
    for texts, sharded in ((1, False), (20, True)):
        held = (usable - texts * _text(config, run)) // 16  # without a remainder: seq is a multiple of 16
        yield 7 * held - 2 if sharded else held, config, gpu, run | {"sharded": sharded}
    # And here a text less fits because the share of a GPU is rounded up: it lacks 8 bytes.
    config, run = replace(config, vocab_size=config.vocab_size | 1), run | {"sharded": True, "seq": run["seq"] + 1}
    for texts in (2, 22):
        held = (usable - texts * _text(config, run)) // 16
        yield 7 * held + 1, config, gpu, run


def _plan(
    n_params,
    config,
    gpu,
    run,
    *,
    unit=2**30,
    reserved=1,
    held=None,
    per_parameter=16,
    text=None,
    texts=None,
    tokens=None,
    flops=None,
    peak=10**12,
    gpus=None,
    mfu=None,
    seconds=3600,
    never=math.inf,
):
    """Right, unless something is changed."""
    if held is None:
        held = -(-n_params // run["gpus"]) if run["sharded"] else n_params
    usable = gpu["gib"] * unit - reserved * gpu["reserved_gib"] * unit
    text = _text(config, run) if text is None else text
    left = usable - held * per_parameter
    texts = texts(left, text) if texts else max(int(left // text), 0)
    if not texts:
        return 0, never
    if tokens is None:
        tokens = run["text_gb"] * 10**9 / run["bytes_per_token"]
    flops = flops_per_token(config, run["seq"], passes=3) if flops is None else flops
    gpus, mfu = run["gpus"] if gpus is None else gpus, run["mfu"] if mfu is None else mfu
    return texts, tokens * flops / (gpus * gpu["tflops"] * peak * mfu) / seconds


def _text(config, run, layers=None, width=2, logits=4, seq=None):
    numbers = width * (config.n_layers if layers is None else layers) * config.d_model + logits * config.vocab_size
    return (run["seq"] if seq is None else seq) * numbers


@training_plan.mistake
def memory_in_gigabytes(n_params, config, gpu, run):
    """The memory is taken in GB, 10⁹ bytes: it is given in GiB, 2³⁰ bytes."""
    return _plan(n_params, config, gpu, run, unit=10**9)


@training_plan.mistake
def text_in_gibibytes(n_params, config, gpu, run):
    """The text is taken in GiB, 2³⁰ bytes: it is given in GB, 10⁹ bytes."""
    return _plan(n_params, config, gpu, run, tokens=run["text_gb"] * 2**30 / run["bytes_per_token"])


@training_plan.mistake
def reserve_forgotten(n_params, config, gpu, run):
    """The reserved memory is used, too: take `reserved_gib` off."""
    return _plan(n_params, config, gpu, run, reserved=0)


@training_plan.mistake
def sharding_ignored(n_params, config, gpu, run):
    """Every GPU holds all parameters: where `run["sharded"]` is True, each holds the share of one of `gpus`."""
    return _plan(n_params, config, gpu, run, held=n_params)


@training_plan.mistake
def always_sharded(n_params, config, gpu, run):
    """Each GPU holds a share of the parameters, whatever `run["sharded"]` says: without it, each holds all."""
    return _plan(n_params, config, gpu, run, held=-(-n_params // run["gpus"]))


@training_plan.mistake
def share_not_rounded_up(n_params, config, gpu, run):
    """The share of a GPU is not rounded up: with n_params / gpus a part of a parameter is left out, and a text too
    many seems to fit."""
    return _plan(n_params, config, gpu, run, held=n_params // run["gpus"] if run["sharded"] else n_params)


@training_plan.mistake
def a_byte_must_be_left(n_params, config, gpu, run):
    """A text is left out where it fills the memory to the last byte: that fits."""
    return _plan(n_params, config, gpu, run, texts=lambda left, text: max((left - 1) // text, 0))


@training_plan.mistake
def two_texts_needed(n_params, config, gpu, run):
    """Where exactly one text fits, this says that nothing fits: one is enough."""
    texts, hours = _plan(n_params, config, gpu, run)
    return (texts, hours) if texts > 1 else (0, math.inf)


@training_plan.mistake
def weights_alone(n_params, config, gpu, run):
    """Only the weights are in memory here: gradients, two buffers of AdamW and the master copy are, too."""
    return _plan(n_params, config, gpu, run, per_parameter=2 if run["bf16"] else 4)


@training_plan.mistake
def gradients_forgotten(n_params, config, gpu, run):
    """The gradients are missing: each is as wide as its weight."""
    return _plan(n_params, config, gpu, run, per_parameter=14 if run["bf16"] else 12)


@training_plan.mistake
def twelve_bytes_with_bf16(n_params, config, gpu, run):
    """With bf16 you count 12 bytes for each parameter: either the master copy is missing, 4 bytes, or the two buffers
    of AdamW are as wide as the weights. They are as wide as what it updates, the master copy."""
    return _plan(n_params, config, gpu, run, per_parameter=12 if run["bf16"] else 16)


@training_plan.mistake
def all_in_16_bits(n_params, config, gpu, run):
    """With bf16 everything is counted with 2 bytes, without a master copy: it and the buffers of AdamW take 4 bytes a
    number."""
    return _plan(n_params, config, gpu, run, per_parameter=8 if run["bf16"] else 16)


@training_plan.mistake
def one_buffer(n_params, config, gpu, run):
    """AdamW is counted with one buffer: it has two, in float32."""
    return _plan(n_params, config, gpu, run, per_parameter=12)


@training_plan.mistake
def gradients_in_float32(n_params, config, gpu, run):
    """With bf16 the gradients are counted with 4 bytes: a gradient is as wide as its weight."""
    return _plan(n_params, config, gpu, run, per_parameter=18 if run["bf16"] else 16)


@training_plan.mistake
def always_a_master_copy(n_params, config, gpu, run):
    """A master copy is counted in float32, too: there the weights themselves are updated."""
    return _plan(n_params, config, gpu, run, per_parameter=16 if run["bf16"] else 20)


@training_plan.mistake
def one_layer(n_params, config, gpu, run):
    """The input of one block is counted: each block keeps its own."""
    return _plan(n_params, config, gpu, run, text=_text(config, run, layers=1))


@training_plan.mistake
def inputs_in_float32(n_params, config, gpu, run):
    """The inputs of the blocks are counted with 4 bytes a number: they take 2."""
    return _plan(n_params, config, gpu, run, text=_text(config, run, width=4))


@training_plan.mistake
def logits_in_16_bits(n_params, config, gpu, run):
    """The logits are counted with 2 bytes a number: they take 4."""
    return _plan(n_params, config, gpu, run, text=_text(config, run, logits=2))


@training_plan.mistake
def logits_forgotten(n_params, config, gpu, run):
    """The logits are missing: vocab_size numbers for each token."""
    return _plan(n_params, config, gpu, run, text=_text(config, run, logits=0))


@training_plan.mistake
def inputs_forgotten(n_params, config, gpu, run):
    """The inputs of the blocks are missing: n_layers · d_model numbers for each token."""
    return _plan(n_params, config, gpu, run, text=_text(config, run, layers=0))


@training_plan.mistake
def numbers_not_bytes(n_params, config, gpu, run):
    """What a text keeps is counted in numbers: inputs take 2 bytes each, logits 4."""
    return _plan(n_params, config, gpu, run, text=_text(config, run, width=1, logits=1))


@training_plan.mistake
def one_token(n_params, config, gpu, run):
    """What one token keeps is counted: a text has `seq` of them."""
    return _plan(n_params, config, gpu, run, text=_text(config, run, seq=1))


@training_plan.mistake
def window_kept(n_params, config, gpu, run):
    """A text is counted with `window` tokens: in training, everything of all `seq` tokens is kept."""
    return _plan(n_params, config, gpu, run, text=_text(config, run, seq=min(run["seq"], config.mixer.window)))


@training_plan.mistake
def texts_of_all_gpus(n_params, config, gpu, run):
    """The texts of all GPUs are counted: return those of one."""
    texts, hours = _plan(n_params, config, gpu, run)
    return texts * run["gpus"], hours


@training_plan.mistake
def one_text_too_many(n_params, config, gpu, run):
    """The number of texts is rounded up: the last one does not fit."""
    return _plan(n_params, config, gpu, run, texts=lambda left, text: max(-(-left // text), 0))


@training_plan.mistake
def texts_as_a_float(n_params, config, gpu, run):
    """The number of texts is a float: count whole ones, with `//`."""
    texts, hours = _plan(n_params, config, gpu, run)
    return float(texts), hours


@training_plan.mistake
def negative_texts(n_params, config, gpu, run):
    """Where not one text fits, return (0, inf): a negative number of texts is none."""
    return _plan(n_params, config, gpu, run, texts=lambda left, text: left // text)


@training_plan.mistake
def hours_where_nothing_fits(n_params, config, gpu, run):
    """Where not one text fits there are no hours: return (0, inf)."""
    texts, _ = _plan(n_params, config, gpu, run)
    return texts, _plan(n_params, config, gpu, run, texts=lambda left, text: 1)[1]


@training_plan.mistake
def zero_hours_where_nothing_fits(n_params, config, gpu, run):
    """Where not one text fits, the run never ends: return (0, inf), not 0 hours."""
    return _plan(n_params, config, gpu, run, never=0.0)


@training_plan.mistake
def bytes_as_tokens(n_params, config, gpu, run):
    """Each byte is counted as a token: divide the bytes by `bytes_per_token`."""
    return _plan(n_params, config, gpu, run, tokens=run["text_gb"] * 10**9)


@training_plan.mistake
def multiplied_by_bytes_per_token(n_params, config, gpu, run):
    """The bytes are multiplied by `bytes_per_token`: a token takes several bytes, so divide."""
    return _plan(n_params, config, gpu, run, tokens=run["text_gb"] * 10**9 * run["bytes_per_token"])


@training_plan.mistake
def bits_as_bytes(n_params, config, gpu, run):
    """The text is eight times as long here: `text_gb` and `bytes_per_token` are both in bytes."""
    return _plan(n_params, config, gpu, run, tokens=8 * run["text_gb"] * 10**9 / run["bytes_per_token"])


@training_plan.mistake
def six_per_parameter(n_params, config, gpu, run):
    """The hours follow the rule of 6 FLOPs for each of n_params: count the products of this config, with attention's
    own."""
    return _plan(n_params, config, gpu, run, flops=6 * n_params)


@training_plan.mistake
def attention_left_out(n_params, config, gpu, run):
    """Attention's own two products are missing in the FLOPs, over the whole square."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, products=0))


@training_plan.mistake
def half_of_attention(n_params, config, gpu, run):
    """Half of attention's own FLOPs is counted: there are two products, and each is counted over the whole square, the
    hidden half included."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, products=1))


@training_plan.mistake
def attention_as_wide_as_the_model(n_params, config, gpu, run):
    """Attention's own products are counted with d_model: all heads together are n_heads · d_head wide."""
    seq, d, mixer = run["seq"], config.d_model, config.mixer
    flops = flops_per_token(config, seq, passes=3)
    flops += 12 * config.n_layers * seq * (d - mixer.n_heads * mixer.d_head)
    return _plan(n_params, config, gpu, run, flops=flops)


@training_plan.mistake
def attention_of_the_key_heads(n_params, config, gpu, run):
    """Attention's own products are counted with n_kv_heads: each of the n_heads query heads has its own square."""
    share = config.mixer.n_kv_heads / config.mixer.n_heads
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, seen=share))


@training_plan.mistake
def square_for_each_token(n_params, config, gpu, run):
    """Attention's own products are those of a whole text, seq · seq: a token is multiplied with seq keys."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, seen=run["seq"]))


@training_plan.mistake
def flops_of_one_layer(n_params, config, gpu, run):
    """The FLOPs are those of one block and the head: there are n_layers blocks."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, layers=1))


@training_plan.mistake
def days(n_params, config, gpu, run):
    """These are days: return hours, of 3,600 seconds."""
    return _plan(n_params, config, gpu, run, seconds=24 * 3600)


@training_plan.mistake
def sharded_the_other_way_round(n_params, config, gpu, run):
    """The condition is the wrong way round: with `run["sharded"]` a GPU holds a share, without it all parameters."""
    return _plan(n_params, config, gpu, run, held=n_params if run["sharded"] else -(-n_params // run["gpus"]))


@training_plan.mistake
def window_in_the_flops(n_params, config, gpu, run):
    """Attention's products are counted over the window: count the whole square of seq · seq."""
    share = min(config.mixer.window, run["seq"]) / run["seq"]
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, seen=share))


@training_plan.mistake
def forward_alone(n_params, config, gpu, run):
    """The hours are those of forward passes alone: with the backward pass it is three times as much."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"]))


@training_plan.mistake
def recomputed(n_params, config, gpu, run):
    """What is computed a second time is counted: MFU counts what the model needs, three times the forward pass."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=4))


@training_plan.mistake
def flops_of_a_text(n_params, config, gpu, run):
    """The FLOPs are those of a text: for each token, divide by seq."""
    return _plan(n_params, config, gpu, run, flops=run["seq"] * flops_per_token(config, run["seq"], passes=3))


@training_plan.mistake
def head_forgotten(n_params, config, gpu, run):
    """The head is missing in the FLOPs: vocab_size · d_model, tied or not."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, head=0))


@training_plan.mistake
def lookup_counted(n_params, config, gpu, run):
    """The embedding is counted in the FLOPs: it is a lookup."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, head=2))


@training_plan.mistake
def projections_of_all_heads(n_params, config, gpu, run):
    """The FLOPs of k_proj and v_proj are counted with n_heads: they have n_kv_heads · d_head rows."""
    flops = flops_per_token(config, run["seq"], passes=3, kv_heads=config.mixer.n_heads)
    return _plan(n_params, config, gpu, run, flops=flops)


@training_plan.mistake
def two_matrices(n_params, config, gpu, run):
    """The FLOPs of the feed-forward are those of two matrices: SwiGLU has three."""
    return _plan(n_params, config, gpu, run, flops=flops_per_token(config, run["seq"], passes=3, matrices=2))


@training_plan.mistake
def mfu_forgotten(n_params, config, gpu, run):
    """The GPU is at its peak all the time here: only the share `mfu` of it is reached."""
    return _plan(n_params, config, gpu, run, mfu=1)


@training_plan.mistake
def mfu_multiplied(n_params, config, gpu, run):
    """The time is multiplied by `mfu`: a lower one takes longer, so divide."""
    return _plan(n_params, config, gpu, run, mfu=1 / run["mfu"])


@training_plan.mistake
def one_gpu(n_params, config, gpu, run):
    """The hours are those of one GPU: `gpus` of them share the tokens."""
    return _plan(n_params, config, gpu, run, gpus=1)


@training_plan.mistake
def gpus_multiplied(n_params, config, gpu, run):
    """More GPUs take longer here: divide by `gpus`."""
    return _plan(n_params, config, gpu, run, gpus=1 / run["gpus"])


@training_plan.mistake
def gigaflops(n_params, config, gpu, run):
    """The peak is a thousand times too low: 1 TFLOP is 10¹² FLOPs."""
    return _plan(n_params, config, gpu, run, peak=10**9)


@training_plan.mistake
def binary_teraflops(n_params, config, gpu, run):
    """A TFLOP is counted as 2⁴⁰ FLOPs: it is 10¹²."""
    return _plan(n_params, config, gpu, run, peak=2**40)


@training_plan.mistake
def seconds(n_params, config, gpu, run):
    """These are seconds: an hour has 3,600."""
    return _plan(n_params, config, gpu, run, seconds=1)


@training_plan.mistake
def minutes(n_params, config, gpu, run):
    """These are minutes: an hour has 3,600 seconds."""
    return _plan(n_params, config, gpu, run, seconds=60)


@training_plan.mistake
def order_exchanged(n_params, config, gpu, run):
    """The two numbers are exchanged: first the texts, then the hours."""
    return _plan(n_params, config, gpu, run)[::-1]


@training_plan.finished
def term_by_term(n_params: int, config: Any, gpu: dict, run: dict) -> tuple[int, float]:
    mixer, d, seq, gpus = config.mixer, config.d_model, run["seq"], run["gpus"]
    held = (n_params + gpus - 1) // gpus if run["sharded"] else n_params
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    text = seq * (2 * config.n_layers * d + 4 * config.vocab_size)
    texts = (usable - 16 * held) // text  # 2 + 2 + 8 + 4 bytes with bf16, and 4 + 4 + 8 without
    if texts < 1:
        return 0, float("inf")
    wide, narrow = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    weights = 2 * d * (wide + narrow) + 3 * d * config.feedforward.d_ff
    flops = 6 * (config.n_layers * (weights + 2 * wide * seq) + config.vocab_size * d)
    tokens = run["text_gb"] * 1e9 / run["bytes_per_token"]
    per_second = gpus * run["mfu"] * gpu["tflops"] * 1e12
    return texts, tokens * flops / per_second / 3600


@training_plan.accepted
def from_tokens_per_second(n_params, config, gpu, run):
    def recipe_bytes(n):
        if run["bf16"]:
            return n * 2 + n * 2 + n * 2 * 4 + n * 4
        return n * 4 + n * 4 + n * 2 * 4

    fixed = recipe_bytes(math.ceil(n_params / (run["gpus"] if run["sharded"] else 1)))
    text = run["seq"] * (config.n_layers * config.d_model * 2 + config.vocab_size * 4)
    left = (gpu["gib"] - gpu["reserved_gib"]) * 1024**3 - fixed
    if left < text:
        return 0, math.inf
    mixer, d = config.mixer, config.d_model
    multiplied = d * (2 * mixer.n_heads + 2 * mixer.n_kv_heads) * mixer.d_head + 3 * d * config.feedforward.d_ff
    attention = 12 * config.n_layers * mixer.n_heads * mixer.d_head * run["seq"]
    needed = 6 * (config.n_layers * multiplied + d * config.vocab_size) + attention
    tokens = run["text_gb"] * 10**9 / run["bytes_per_token"]
    speed = gpu["tflops"] * 10**12 * run["mfu"] / needed  # tokens per second
    return left // text, tokens / speed / run["gpus"] / 3600


@training_plan.accepted
def found_by_adding_texts(n_params, config, gpu, run):
    mixer = config.mixer
    shares = run["gpus"] if run["sharded"] else 1
    held = n_params // shares + (n_params % shares > 0)
    used = held * (4 + 4 + 4 + 4)
    text = 0
    for _ in range(config.n_layers):
        text += 2 * config.d_model
    text = (text + 4 * config.vocab_size) * run["seq"]
    free = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    texts = 0
    while used + text <= free:
        used += text
        texts += 1
    if texts == 0:
        return texts, math.inf
    forward = 2 * config.d_model * config.vocab_size
    for rows in (mixer.n_heads, mixer.n_kv_heads, mixer.n_kv_heads, mixer.n_heads):
        forward += 2 * config.n_layers * config.d_model * rows * mixer.d_head
    forward += 6 * config.n_layers * config.d_model * config.feedforward.d_ff
    forward += 4 * config.n_layers * mixer.n_heads * mixer.d_head * run["seq"]
    hours = 3 * forward * run["text_gb"] / run["bytes_per_token"] / (gpu["tflops"] * 1000 * run["mfu"] * 3600)
    return texts, hours / run["gpus"]
