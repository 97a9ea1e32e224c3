"""Figures of the feed-forward layer: activations, hidden numbers, how few are needed, what single ones fire on."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, canvas, readable

ZERO, OTHER = COLORS["yours"], COLORS["reference"]
CURVES = (COLORS["quiet"], COLORS["reference"], COLORS["yours"], COLORS["theory"])


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
    right.set(ylim=(-0.4, 4), title="The slope of ReLU² grows, the others' goes to 1")
    left.legend(fontsize=8, loc="upper left")
    plt.show()


def _with_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope


def hidden_histograms(hidden: Mapping[str, Float[Tensor, "layers *tokens d_ff"]], title: str) -> None:
    """Plot how large the hidden numbers of each layer are, a row for each model; exact zeros are a bar of their own.

    Sizes are on a logarithmic axis, where 0 has no place: its bar is at the left. The first other bar holds all up to
    10⁻⁶.
    """
    layers = max(len(each) for each in hidden.values())
    width, height = 2.3 * layers + 0.9, 1.7 * len(hidden) + 0.7
    figure, grid = canvas(layers, len(hidden), width=width, height=height, squeeze=False, sharey="row")
    powers = torch.linspace(-6.25, 2, 34)
    for row, (name, model) in zip(grid, hidden.items(), strict=True):
        for i, (axes, numbers) in enumerate(zip(row, model, strict=True)):
            sizes = numbers.flatten().abs()
            zeros = 100 * (sizes == 0).float().mean().item()
            exponents = sizes[sizes > 0].log10().clamp(-6.1, 2)
            percent = 100 * torch.histogram(exponents, powers).hist / sizes.numel()
            axes.bar(powers[:-1].tolist(), percent.tolist(), width=0.25, align="edge", color=OTHER)
            axes.bar(-8, zeros, width=0.9, color=ZERO)
            axes.annotate(
                f"{zeros:.0f} %", (-8, zeros), (0, 3), textcoords="offset points", ha="center", fontsize=8, color=ZERO
            )
            axes.set_xticks([-8, -6, -4, -2, 0, 2], ["0", "≤10⁻⁶", "10⁻⁴", "0.01", "1", "100"], fontsize=7.5)
            axes.margins(y=0.2)
            axes.set_title(f"{name}, layer {i}", fontsize=9)
        row[0].set_ylabel("% of the numbers")
    for axes in grid[-1]:
        axes.set_xlabel("size of a hidden number", fontsize=8.5)
    _title(figure, title)
    plt.show()


def loss_against_share(
    shares: Sequence[float], losses: Mapping[str, Sequence[float]], title: str, marked: float | None = None
) -> None:
    """Plot the loss against the share of hidden numbers kept, a curve for each way to choose them."""
    _, axes = canvas(width=6.6, height=3.3)
    for (name, values), color in zip(losses.items(), (OTHER, COLORS["yours"]), strict=False):
        axes.plot(shares, values, "o-", color=color, label=name)
    if marked is not None:
        axes.axvline(marked, color=COLORS["quiet"], linestyle=":", linewidth=1.2)
    axes.set(
        xscale="log", xlabel="share of hidden numbers kept, for each token and layer", ylabel="loss (nats per token)"
    )
    axes.set_xticks(shares, [f"{100 * share:.3g} %" if share < 1 else "all" for share in shares])
    axes.minorticks_off()
    axes.set_title(title)
    axes.legend(fontsize=8)
    plt.show()


UNUSED = 0.001
"""A unit whose hidden numbers never reach this size is called unused."""


def strongest(values: Float[Tensor, " tokens"], words: Sequence[str], title: str, count: int = 10) -> None:
    """Plot the tokens with a unit's largest hidden numbers, in size, as bars beside the text around each.

    The bars of an unused unit stay short, and say so.
    """
    height = 0.25 * count + 1.0
    figure, (text, bars) = canvas(2, width=7.2, height=height, sharey=True, gridspec_kw={"width_ratios": [1, 1.2]})
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
    bars.barh(range(count), largest, color=OTHER)
    bars.axvline(0, color="#888888", linewidth=0.8)
    if max(map(abs, largest)) < UNUSED:
        bars.set(xlim=(-1, 1), xticks=[-1, 0, 1])
        note = f"unused: no number reaches {UNUSED}"
        bars.text(0.5, 0.5, note, transform=bars.transAxes, ha="center", va="center", backgroundcolor="white")
    bars.spines["left"].set_visible(False)
    bars.set(ylim=(count - 0.4, -0.6), xlabel="hidden number")
    bars.tick_params(left=False)
    _title(figure, title)
    plt.show()


def seeds_by_model(losses: Mapping[str, Sequence[float]], title: str) -> None:
    """Plot the held-out loss of every seed of several models."""
    _, axes = canvas(width=6.0, height=2.4)
    for i, seeds in enumerate(losses.values()):
        axes.plot(seeds, [i] * len(seeds), "o", color=OTHER, alpha=0.8, markersize=8)
        axes.plot([min(seeds), max(seeds)], [i, i], color=OTHER, linewidth=1)
    axes.set_yticks(range(len(losses)), list(losses))
    axes.set(ylim=(len(losses) - 0.5, -0.5), xlabel="held-out loss (nats per character), a dot for each seed")
    axes.set_ylabel("model")
    axes.set_title(title)
    plt.show()


def _title(figure: plt.Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
