"""Exercise `init_std`: the size of the random numbers that a new model starts from."""

import math
import re

import torch

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=("a nudge", "the numbers", "pseudocode"), returns=("std",))
def init_std(name: str, n_layers: int) -> float:
    """GPT-2's start; tests hold it equal to the spread of the weights of transformers' GPT-2."""
    if not re.search(r"(embedding|head|_proj)\.weight$", name):
        return 0.0
    return 0.02 / math.sqrt(2 * n_layers) if re.search(r"(o|down)_proj\.weight$", name) else 0.02


NAMES = (
    "embedding.weight",
    "positions.embedding.weight",
    "embedding_norm.weight",
    "embedding_norm.bias",
    "blocks.{}.mixer_norm.weight",
    "blocks.{}.mixer_norm.bias",
    "blocks.{}.mixer.q_proj.weight",
    "blocks.{}.mixer.k_proj.weight",
    "blocks.{}.mixer.v_proj.weight",
    "blocks.{}.mixer.o_proj.weight",
    "blocks.{}.mixer.q_proj.bias",
    "blocks.{}.mixer.o_proj.bias",
    "blocks.{}.feedforward_norm.weight",
    "blocks.{}.feedforward.gate_proj.weight",
    "blocks.{}.feedforward.up_proj.weight",
    "blocks.{}.feedforward.down_proj.weight",
    "blocks.{}.feedforward.up_proj.bias",
    "blocks.{}.feedforward.down_proj.bias",
    "final_norm.weight",
    "final_norm.bias",
    "head.weight",
)


@init_std.values
def n_layers(rng):
    return 2 + int(torch.randint(30, (), generator=rng))


@init_std.values
def name(rng, n_layers):
    name = NAMES[int(torch.randint(len(NAMES), (), generator=rng))]
    return name.format(int(torch.randint(n_layers, (), generator=rng)))


@init_std.inputs
def _(rng):
    for name in NAMES:
        n_layers = 2 + int(torch.randint(30, (), generator=rng))
        yield name.format(int(torch.randint(n_layers, (), generator=rng))), n_layers
    yield "blocks.0.mixer.o_proj.weight", 2
    yield "blocks.3.mixer.o_proj.weight", 8
    yield "blocks.0.feedforward.down_proj.weight", 12


def _is_matrix(name):
    return name.endswith("weight") and "norm" not in name


def _writes(name):
    return name.endswith(("o_proj.weight", "down_proj.weight"))


def _std(name, n_layers, writes=_writes, factor=lambda n: 1 / math.sqrt(2 * n), drawn=_is_matrix):
    """Right, unless something is changed."""
    if not drawn(name):
        return 0.0
    return 0.02 * factor(n_layers) if writes(name) else 0.02


@init_std.mistake(hint=1)
def the_same_everywhere(name, n_layers):
    """Every matrix has 0.02: those that write into the stream, o_proj and down_proj, are divided by √(2 · n_layers)."""
    return _std(name, n_layers, writes=lambda name: False)


@init_std.mistake(hint=1)
def all_projections_small(name, n_layers):
    """All projections are divided by √(2 · n_layers): only o_proj and down_proj write into the stream."""
    return _std(name, n_layers, writes=lambda name: "proj" in name)


@init_std.mistake(hint=1)
def everything_small(name, n_layers):
    """Every matrix is divided by √(2 · n_layers), embedding and head included: only o_proj and down_proj write into
    the stream."""
    return _std(name, n_layers, writes=lambda name: True)


@init_std.mistake(hint=1)
def queries_in_place_of_outputs(name, n_layers):
    """The matrix q_proj is divided in place of o_proj: the one that writes into the stream comes last in its layer."""
    return _std(name, n_layers, writes=lambda name: name.endswith(("q_proj.weight", "down_proj.weight")))


@init_std.mistake(hint=1)
def up_in_place_of_down(name, n_layers):
    """The matrix up_proj is divided in place of down_proj: the one that writes into the stream is last in its layer."""
    return _std(name, n_layers, writes=lambda name: name.endswith(("o_proj.weight", "up_proj.weight")))


@init_std.mistake(hint=1)
def attention_only(name, n_layers):
    """The matrix down_proj has 0.02: it writes into the stream as well as o_proj."""
    return _std(name, n_layers, writes=lambda name: name.endswith("o_proj.weight"))


@init_std.mistake(hint=1)
def feed_forward_only(name, n_layers):
    """The matrix o_proj has 0.02: it writes into the stream as well as down_proj."""
    return _std(name, n_layers, writes=lambda name: name.endswith("down_proj.weight"))


@init_std.mistake(hint=2)
def divided_by_the_layers(name, n_layers):
    """The matrices o_proj and down_proj are divided by n_layers: sizes of independent numbers add up as squares, so
    it is √(2 · n_layers)."""
    return _std(name, n_layers, factor=lambda n: 1 / n)


@init_std.mistake(hint=2)
def divided_by_twice_the_layers(name, n_layers):
    """The root is missing: o_proj and down_proj are divided by √(2 · n_layers)."""
    return _std(name, n_layers, factor=lambda n: 1 / (2 * n))


@init_std.mistake(hint=2)
def one_addition_a_block(name, n_layers):
    """The matrices o_proj and down_proj are divided by √n_layers: each block adds twice, so it is √(2 · n_layers)."""
    return _std(name, n_layers, factor=lambda n: 1 / math.sqrt(n))


@init_std.mistake(hint=2)
def root_of_two_times_the_layers(name, n_layers):
    """The root ends too early: √2 · n_layers in place of √(2 · n_layers)."""
    return _std(name, n_layers, factor=lambda n: 1 / (math.sqrt(2) * n))


@init_std.mistake(hint=2)
def multiplied(name, n_layers):
    """The matrices o_proj and down_proj are multiplied by √(2 · n_layers): divide."""
    return _std(name, n_layers, factor=lambda n: math.sqrt(2 * n))


@init_std.mistake(hint=2)
def without_the_0_02(name, n_layers):
    """The matrices o_proj and down_proj have 1/√(2 · n_layers): that is what their 0.02 is multiplied by."""
    return _std(name, n_layers, factor=lambda n: 50 / math.sqrt(2 * n))


@init_std.mistake(hint=1)
def embedding_of_size_one(name, n_layers):
    """The embedding has a standard deviation of 1, as `nn.Embedding` has by itself: here it is also the head, and the
    first loss would be far above ln V. It is 0.02."""
    return 1.0 if name == "embedding.weight" else _std(name, n_layers)


@init_std.mistake(hint=3)
def biases_drawn(name, n_layers):
    """Biases are drawn: they start at 0, so their std is 0.0."""
    return _std(name, n_layers, drawn=lambda name: "norm" not in name)


@init_std.mistake(hint=3)
def norms_drawn(name, n_layers):
    """The weights of norms are drawn: they all start at 1, so their std is 0.0."""
    return _std(name, n_layers, drawn=lambda name: name.endswith("weight"))


@init_std.mistake(hint=3)
def norms_and_biases_drawn(name, n_layers):
    """Norms and biases are drawn: they start at 1 and at 0, all of them, so their std is 0.0."""
    return _std(name, n_layers, drawn=lambda name: True)


@init_std.mistake(hint=3)
def biases_drawn_like_their_weights(name, n_layers):
    """Biases are drawn, with the size of their matrix: they start at 0, so their std is 0.0."""
    return _std(
        name,
        n_layers,
        drawn=lambda name: "norm" not in name,
        writes=lambda name: "o_proj" in name or "down_proj" in name,
    )


@init_std.mistake(hint=3)
def norms_of_size_one(name, n_layers):
    """Norm weights start at 1 and none is drawn: their std is 0.0, and 1 is their value."""
    return 1.0 if "norm" in name and name.endswith("weight") else _std(name, n_layers)


@init_std.mistake(hint=1)
def positions_not_drawn(name, n_layers):
    """The table of positions is left at 0: it is drawn with 0.02, as the embedding is."""
    return 0.0 if name.startswith("positions") else _std(name, n_layers)


@init_std.mistake(hint=1)
def head_not_drawn(name, n_layers):
    """The head is left at 0: it is drawn with 0.02."""
    return 0.0 if name == "head.weight" else _std(name, n_layers)


@init_std.mistake(hint=1)
def variances(name, n_layers):
    """This is the variance, the square: return the standard deviation."""
    return _std(name, n_layers) ** 2


@init_std.mistake(hint=3)
def biases_of_outputs_drawn(name, n_layers):
    """The bias of o_proj or of down_proj is drawn: look at the end of the name before you look for "o_proj" in it."""
    return _std(
        name,
        n_layers,
        drawn=lambda name: _is_matrix(name) or name.endswith(("o_proj.bias", "down_proj.bias")),
        writes=lambda name: "o_proj" in name or "down_proj" in name,
    )


@init_std.mistake(hint=3)
def norm_of_the_embedding_drawn(name, n_layers):
    """The norm after the embedding is drawn: "embedding_norm" begins like the embedding, and is a norm."""
    return 0.02 if name.startswith("embedding") else _std(name, n_layers)


@init_std.mistake(hint=3)
def norms_and_their_biases_of_size_one(name, n_layers):
    """This returns 1.0 for norms or biases, the value that weights of norms start at: their std is 0.0, as none is
    drawn."""
    return _std(name, n_layers) if _is_matrix(name) else 1.0


@init_std.mistake(hint=2)
def four_layers_written_down(name, n_layers):
    """It is always √8 here, as for the four blocks of the pocket model: it is √(2 · n_layers)."""
    return _std(name, n_layers, factor=lambda n: 1 / math.sqrt(8))


@init_std.mistake(hint=2)
def root_rounded_down(name, n_layers):
    """The root is rounded to a whole number: √(2 · n_layers) is a float."""
    return _std(name, n_layers, factor=lambda n: 1 / int(math.sqrt(2 * n)))


@init_std.mistake(hint=2)
def brackets_forgotten(name, n_layers):
    """Brackets are missing: `0.02 / 2 * n_layers ** 0.5` divides by 2 and multiplies by the root. Put brackets around
    2 · n_layers, and the root around both."""
    return _std(name, n_layers, factor=lambda n: math.sqrt(n) / 2)


@init_std.mistake(hint=3)
def some_norms_drawn(name, n_layers):
    """Some norms are drawn: there are embedding_norm, mixer_norm, feedforward_norm and final_norm, so look for "norm"
    anywhere in the name."""
    return _std(name, n_layers, drawn=lambda name: not name.endswith(("mixer_norm.weight", ".bias")))


@init_std.finished
def by_the_end_of_the_name(name, n_layers):
    if "norm" in name or name.endswith(".bias"):
        return 0.0
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        return 0.02 / math.sqrt(2 * n_layers)
    return 0.02


@init_std.accepted
def by_the_parts_of_the_name(name, n_layers):
    *_, layer, kind = name.split(".")
    if kind == "bias" or layer.endswith("norm"):
        return 0.0
    return 0.02 * (2 * n_layers) ** -0.5 if layer in ("o_proj", "down_proj") else 0.02


@init_std.accepted
def as_a_product(name, n_layers):
    drawn = name.endswith("weight") and "norm" not in name
    return drawn * 0.02 / (math.sqrt(2 * n_layers) if "o_proj" in name or "down_proj" in name else 1)
