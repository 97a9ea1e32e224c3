"""Figures of attention weights: of one query, of one head, of every head of a model."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, WEIGHTS, canvas


def soft_lookup(
    scores: Float[Tensor, " keys"], weights: Float[Tensor, " keys"], values: Float[Tensor, " keys"]
) -> None:
    """Plot one soft lookup: the query's score for every key, its weights, and the weighted values."""
    _, (left, middle, right) = canvas(3, width=7.5, height=2.4)
    names = [f"key {i}" for i in range(len(scores))]
    for axes, heights, color, label, title in (
        (left, scores, COLORS["key"], "score", f"key {scores.argmax()} fits best"),
        (middle, weights, COLORS["query"], "weight", "the weights sum to 1"),
        (right, weights * values, COLORS["value"], "weight · value", f"the answer is the sum, {weights @ values:.2f}"),
    ):
        bars = axes.bar(names, heights.tolist(), color=color)
        axes.bar_label(bars, fmt="%.2f", padding=2)
        axes.set_title(title, fontsize=9)
        axes.set_ylabel(label)
        axes.margins(y=0.2)
    plt.show()


def attention_map(weights: Float[Tensor, "seq keys"], words: Sequence[str], title: str = "") -> None:
    """Plot the weights of one head: a row for each query, a column for each key, bright where the query looks."""
    size = min(0.30 * len(words) + 1.6, 7.0)
    figure, axes = canvas(width=size + 0.9, height=size)
    image = _map(axes, weights)
    axes.set_xticks(range(weights.shape[1]), words[: weights.shape[1]], rotation=90, fontsize=8)
    axes.set_yticks(range(weights.shape[0]), words[-weights.shape[0] :], fontsize=8)
    axes.set(xlabel="key: the token looked at", ylabel="query: the token that looks", title=title)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.7)
    plt.show()


def attention_grid(
    weights: Float[Tensor, "layers heads seq keys"], title: str, names: dict[tuple[int, int], str] | None = None
) -> None:
    """Plot every head of every layer as a small map; `names` labels some by (layer, head)."""
    layers, heads = weights.shape[:2]
    figure, grid = canvas(heads, layers, width=1.25 * heads, height=1.42 * layers, squeeze=False)
    for layer in range(layers):
        for head in range(heads):
            axes = grid[layer, head]
            _map(axes, weights[layer, head])
            axes.set(xticks=[], yticks=[])
            name = (names or {}).get((layer, head))
            label = f"{layer}.{head} {name}" if name else f"{layer}.{head}"
            axes.set_title(label, fontsize=7.5, color=COLORS["yours"] if name else INK)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


def looks_at(weights: Float[Tensor, " keys"], words: Sequence[str], title: str) -> None:
    """Plot the weights of one query as bars, one for each token."""
    _, axes = canvas(width=max(0.32 * len(words) + 1.2, 4.0), height=2.2)
    axes.bar(range(len(words)), weights.tolist(), color=COLORS["query"])
    axes.set_xticks(range(len(words)), words, rotation=90, fontsize=8)
    axes.set(ylabel="weight", ylim=(0, 1), title=title)
    plt.show()


def _map(axes: Axes, weights: Float[Tensor, "seq keys"]):
    for side in axes.spines.values():
        side.set_visible(False)
    return axes.imshow(weights.detach().cpu().numpy(), cmap=WEIGHTS, vmin=0, vmax=1, interpolation="nearest")
