"""Figures of the GPT: parameters by part, a table of models, and the logit lens."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, canvas
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig

PARTS = {
    "embedding": COLORS["query"],
    "head": COLORS["reference"],
    "positions": COLORS["output"],
    "attention": COLORS["key"],
    "feed-forward": COLORS["value"],
    "norms": COLORS["quiet"],
}
"""Color of each part of a model."""


def parameters_by_part(counts: Mapping[str, Mapping[str, int]], title: str) -> None:
    """Plot the share of each part in all parameters, one bar a model; `counts` by model and part."""
    _, axes = canvas(width=8.0, height=0.5 * len(counts) + 1.5)
    for row, (_, parts) in enumerate(counts.items()):
        left, total = 0.0, sum(parts.values())
        for part, color in PARTS.items():
            share = 100 * parts.get(part, 0) / total
            axes.barh(row, share, left=left, color=color, edgecolor="white", linewidth=0.6)
            if share > 5:
                text = INK if part in ("head", "attention") else "white"
                axes.text(left + share / 2, row, f"{share:.0f} %", ha="center", va="center", fontsize=8, color=text)
            left += share
        axes.text(101, row, f"{total / 1e6:.1f} M", va="center", fontsize=8.5)
    axes.set_yticks(range(len(counts)), counts)
    axes.invert_yaxis()
    axes.set(xlim=(0, 110), xlabel="share of all parameters, %", ylabel="model", title=title)
    axes.set_xticks(range(0, 101, 20))
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in PARTS.values()]
    largest = {part: max(100 * parts.get(part, 0) / sum(parts.values()) for parts in counts.values()) for part in PARTS}
    labels = [f"{part}, below 0.1 %" if 0 < largest[part] < 0.1 else part for part in PARTS]  # too thin to be seen
    axes.legend(handles, labels, ncols=len(PARTS), loc="upper left", bbox_to_anchor=(-0.02, -0.2), fontsize=8)
    plt.show()


def lens_map(
    tops: Sequence[Sequence[str]], probabilities: Float[Tensor, "layers seq"], words: Sequence[str], title: str
) -> None:
    """Draw the most probable next token after each layer and at each position, bright where the model is sure.

    `tops` and `probabilities` begin with what is read before the first block.
    """
    layers, seq = probabilities.shape
    figure, axes = canvas(width=max(5.0, 0.68 * seq + 1.6), height=0.42 * layers + 1.7)
    image = axes.imshow(probabilities, aspect="auto", vmin=0, vmax=1)
    for layer in range(layers):
        for position in range(seq):
            color = INK if probabilities[layer, position] > 0.6 else "white"
            label = tops[layer][position]
            size = 8 if len(label) < 7 else 6.5
            axes.text(position, layer, label, ha="center", va="center", fontsize=size, color=color)
    axes.set_xticks(range(seq), words, rotation=90, fontsize=8)
    axes.set_yticks(range(layers), ["embedding", *(f"block {i}" for i in range(layers - 1))])
    axes.set(xlabel="the token that is read", ylabel="stream after", title=title)
    figure.colorbar(image, ax=axes, label="probability", fraction=0.05)
    plt.show()


def loss_by_depth(losses: Float[Tensor, "depths"], copies: Float[Tensor, "depths"], nothing: float, title: str) -> None:
    """Plot the loss of the stream after each block, and how often its most probable token is the one just read.

    nothing: loss of a model that knows nothing.
    """
    figure, (left, right) = canvas(2, width=8.0, height=3.1)
    names = ["embedding", *(f"block {i}" for i in range(len(losses) - 1))]
    for axes, values, label in ((left, losses, "loss, nats"), (right, 100 * copies, "predicts the same token, %")):
        bars = axes.bar(range(len(values)), values.tolist(), color=COLORS["yours"])
        background = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.bar_label(bars, fmt="%.1f" if axes is left else "%.0f", fontsize=8, padding=2, bbox=background)
        axes.set_xticks(range(len(values)), names, fontsize=8)
        axes.set(xlabel="stream after", ylabel=label)
    left.axhline(nothing, color=COLORS["theory"], linestyle="--", linewidth=1, zorder=0)
    left.text(len(losses) - 0.6, nothing + 1.3, f"knows nothing: {nothing:.2f}", ha="right", fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


ACTIVATIONS = {"swiglu": "SwiGLU", "geglu": "GEGLU", "gelu": "GELU", "gelu_tanh": "GELU, tanh"}
ACTIVATIONS |= {"relu": "ReLU", "relu2": "ReLU²"}


def _norms(config: ModelConfig) -> str:
    kind = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}[config.norm]
    return kind if config.norm_weight else f"{kind}, no weight"


def _feed_forward(config: ModelConfig) -> str:
    layer = config.feedforward
    assert isinstance(layer, FeedForwardConfig)
    return f"{ACTIVATIONS[layer.activation]}, {layer.d_ff}"


def _biases(config: ModelConfig) -> str:
    with_bias = {"attention": config.mixer.bias, "feed-forward": config.feedforward.bias}
    named = [name for name, has in with_bias.items() if has]
    return "all projections" if len(named) == 2 else "".join(named) or "none"


ROWS: dict[str, Callable[[ModelConfig], object]] = {
    "positions": lambda config: config.positions,
    "longer texts": lambda config: {"none": "no"}.get(config.rope.scaling, f"RoPE, {config.rope.scaling}"),
    "norm": _norms,
    "norm of embedding": lambda config: "yes" if config.embedding_norm else "no",
    "feed-forward": _feed_forward,
    "heads, kv heads": lambda config: f"{config.mixer.n_heads}, {config.mixer.n_kv_heads}",
    "biases": _biases,
    "head": lambda config: "tied" if config.tie_embeddings else "its own",
    "layers, d_model": lambda config: f"{config.n_layers}, {config.d_model}",
    "context, vocabulary": lambda config: f"{config.max_seq_len}, {config.vocab_size}",
    "cache, numbers a token": lambda config: 2 * config.n_layers * config.mixer.n_kv_heads * config.mixer.d_head,
}
"""Rows of the table, each computed from a config."""


def comparison(configs: Mapping[str, ModelConfig], **counts: Callable[[ModelConfig], int]) -> None:
    """Print models side by side, from their configs alone; `counts` adds a row for each function of a config."""
    counted = {
        name.replace("_", " "): lambda config, count=count: f"{count(config):,}" for name, count in counts.items()
    }
    rows = ROWS | counted
    print(f"{'':24}" + "".join(f"{name:22}" for name in configs).rstrip())
    for name, value in rows.items():
        print(f"{name:24}" + "".join(f"{value(config)!s:22}" for config in configs.values()).rstrip())
