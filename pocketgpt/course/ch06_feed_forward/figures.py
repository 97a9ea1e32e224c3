"""Figures of the feed-forward layer: activations, hidden numbers, how few are needed, what single ones fire on."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, canvas, readable

ZERO, OTHER = COLORS["yours"], COLORS["reference"]
CURVES = (COLORS["quiet"], COLORS["query"], COLORS["value"], COLORS["yours"])


def activation_curves(activations: Mapping[str, Callable[[Tensor], Tensor]], marked: float | None = None) -> None:
    """Plot activation functions and, beside them, their derivatives; `marked` is an input to mark on each curve."""
    _, (left, right) = canvas(2, width=8.6, height=3.3)
    x = torch.linspace(-4, 3, 281)
    for (name, function), color in zip(activations.items(), CURVES, strict=False):
        y, slope = _with_slope(function, x)
        left.plot(x, y, color=color, label=name)
        right.plot(x, slope, color=color, label=name)
        if marked is not None:
            y, slope = _with_slope(function, torch.tensor([marked]))
            left.plot(marked, y.item(), "o", color=color)
            right.plot(marked, slope.item(), "o", color=color, label=None)
    for axes, label in ((left, "f(x)"), (right, "slope f′(x)")):
        axes.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
        axes.axvline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
        axes.set(xlabel="x", ylabel=label, xlim=(-4, 3))
    left.set(ylim=(-0.6, 4), title="Negative inputs nearly vanish")
    right.set(ylim=(-0.4, 4), title="The slope of ReLU² grows, the others' stays near 1")
    left.legend(fontsize=8, loc="upper left")
    plt.show()


def _with_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope


def hidden_histograms(hidden: Mapping[str, Float[Tensor, "layers *tokens d_ff"]], title: str) -> None:
    """Plot how large the hidden numbers of each layer are, a row for each model; exact zeros are a bar of their own.

    The bars are on a logarithmic axis of sizes; the zeros, which have no place on it, stand to the left.
    """
    layers = max(len(each) for each in hidden.values())
    figure, grid = canvas(layers, len(hidden), width=2.3 * layers + 0.9, height=1.9 * len(hidden) + 0.5, squeeze=False)
    powers = torch.linspace(-6, 2, 33)
    for row, (name, model) in zip(grid, hidden.items(), strict=True):
        for i, axes in enumerate(row):
            if i >= len(model):
                axes.axis("off")
                continue
            sizes = model[i].flatten().abs()
            zeros = (sizes == 0).float().mean().item()
            exponents = sizes[sizes > 0].log10().clamp(-6, 2)
            shares = torch.histogram(exponents, powers).hist / sizes.numel()
            axes.bar(powers[:-1], 100 * shares, width=0.25, align="edge", color=OTHER)
            axes.bar(-7.6, 100 * zeros, width=0.9, align="edge", color=ZERO)
            axes.text(-7.2, 100 * zeros + 2, f"{zeros:.0%}", ha="center", fontsize=8, color=ZERO)
            axes.set_xticks([-7.15, -4, -2, 0, 2], ["0", "10⁻⁴", "0.01", "1", "100"], fontsize=7.5)
            axes.set(ylim=(0, 105), title=f"{name}, layer {i}")
            axes.title.set_fontsize(9)
        row[0].set_ylabel("% of them")
    for axes in grid[-1]:
        axes.set_xlabel("size of a hidden number", fontsize=8.5)
    _title(figure, title)
    plt.show()


def loss_against_share(
    shares: Sequence[float], losses: Mapping[str, Sequence[float]], title: str, marked: float | None = None
) -> None:
    """Plot the loss against the share of hidden numbers kept, a curve for each way to choose them."""
    _, axes = canvas(width=6.6, height=3.3)
    for (name, values), color in zip(losses.items(), (COLORS["query"], COLORS["yours"]), strict=False):
        axes.plot(shares, values, "o-", color=color, label=name)
    if marked is not None:
        axes.axvline(marked, color=COLORS["quiet"], linestyle=":", linewidth=1.2)
    ticks = [share for i, share in enumerate(shares) if i % 2 == 0]
    axes.set(xscale="log", xlabel="share of hidden numbers kept in every layer", ylabel="loss (nats per token)")
    axes.set_xticks(ticks, [f"{share:.3g}" for share in ticks])
    axes.minorticks_off()
    axes.set_title(title)
    axes.legend(fontsize=8)
    plt.show()


def strongest(values: Float[Tensor, " tokens"], words: Sequence[str], title: str, count: int = 10) -> None:
    """Plot the tokens with a unit's largest hidden numbers, in size, as bars beside the text around each."""
    height = 0.25 * count + 1.0
    figure, (text, bars) = canvas(2, width=7.6, height=height, sharey=True, gridspec_kw={"width_ratios": [1.3, 1]})
    places = values.abs().topk(count).indices.tolist()
    for y, place in enumerate(places):
        before = readable("".join(words[max(0, place - 6) : place]))[-18:].rjust(18)
        token, after = readable(words[place]), readable("".join(words[place + 1 : place + 6]))[:12]
        look = {"family": "monospace", "fontsize": 9, "va": "center_baseline"}
        text.text(0, y, before, color="#666666", **look)
        text.text(0, y, " " * 18 + token, color=COLORS["yours"], weight="bold", **look)
        text.text(0, y, " " * (18 + len(token)) + after, color="#666666", **look)
    text.axis("off")
    largest = values[places].tolist()
    bars.barh(range(count), largest, color=[COLORS["query"] if value > 0 else COLORS["key"] for value in largest])
    bars.axvline(0, color="#888888", linewidth=0.8)
    bars.spines["left"].set_visible(False)
    bars.set(ylim=(count - 0.4, -0.6), xlabel="hidden number")
    bars.tick_params(left=False)
    _title(figure, title)
    plt.show()


def seeds_by_model(losses: Mapping[str, Sequence[float]], title: str) -> None:
    """Plot the held-out loss of every seed of several models."""
    _, axes = canvas(width=6.0, height=2.4)
    for i, seeds in enumerate(losses.values()):
        axes.plot(seeds, [i] * len(seeds), "o", color=COLORS["query"], alpha=0.8, markersize=8)
        axes.plot([min(seeds), max(seeds)], [i, i], color=COLORS["query"], linewidth=1)
    axes.set_yticks(range(len(losses)), list(losses))
    axes.set(ylim=(len(losses) - 0.5, -0.5), xlabel="held-out loss (nats per character), a dot for each seed")
    axes.set_ylabel("model")
    axes.set_title(title)
    plt.show()


def _title(figure: plt.Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
