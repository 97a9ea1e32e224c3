"""Figures of the 1/√d_head scale: its effect on scores, weights, gradients, and the training of a small model."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, SIGNED, canvas

SCALED, UNSCALED = COLORS["reference"], COLORS["yours"]
THEORY = {"color": COLORS["theory"], "linestyle": (0, (4, 2)), "linewidth": 1.2}


def weights_by_width(pattern: Float[Tensor, " keys"], widths: Sequence[int]) -> None:
    """Plot the softmax of √d · pattern, the bare scores at d_head = d, for each width d; below it, of scaled scores."""
    figure, grid = canvas(len(widths), 2, width=1.9 * len(widths) + 0.8, height=3.6, sharey=True, squeeze=False)
    keys = range(len(pattern))
    for column, d in enumerate(widths):
        scores = math.sqrt(d) * pattern
        above, below = grid[:, column]
        above.bar(keys, scores.softmax(0).tolist(), color=UNSCALED)
        below.bar(keys, (scores / math.sqrt(d)).softmax(0).tolist(), color=SCALED)
        above.set_title(f"d_head = {d}, scores ± {math.sqrt(d):.0f}", fontsize=9)
        below.set(xlabel="key", xticks=keys)
        above.set(ylim=(0, 1.05), xticks=keys)
    grid[0, 0].set_ylabel("weight, unscaled")
    grid[1, 0].set_ylabel("weight, scaled")
    _title(figure, "The same pattern of scores: without the scale, width alone turns a mean into a choice")
    plt.show()


def jacobians(matrices: Float[Tensor, "matrices keys keys"], titles: Sequence[str]) -> None:
    """Plot Jacobians of the softmax side by side, on one color scale."""
    figure, row = canvas(len(matrices), width=2.2 * len(matrices) + 1.0, height=2.7, squeeze=False)
    for axes, matrix, title in zip(row[0], matrices, titles, strict=True):
        image = axes.imshow(matrix.numpy(), cmap=SIGNED, vmin=-0.25, vmax=0.25)
        axes.set(xlabel="score of key j", xticks=range(len(matrix)), yticks=range(len(matrix)))
        axes.set_title(title, fontsize=9)
    row[0, 0].set_ylabel("weight of key i")
    figure.colorbar(image, ax=row[0].tolist(), label="∂pᵢ/∂sⱼ", shrink=0.8)
    _title(figure, "As scores grow, the Jacobian fades: scores hardly move the weights any more")
    plt.show()


def against_width(
    widths: Sequence[int],
    variance: Float[Tensor, "2 widths"],
    entropy: Float[Tensor, "2 widths queries"],
    gradient: Float[Tensor, "2 widths queries"],
    n_keys: int,
) -> None:
    """Plot three measurements, each [without the scale, with it], as dots, and the theory as dashed curves.

    Theory for S = n_keys normal scores with standard deviation σ, which is √d or, with the scale, 1. Small σ: entropy
    ln S − σ²/2, and Σ p(1 − p) on average 1 − exp(σ²)/S (Derrida 1981, the random energy model before it freezes).
    Large σ: only near-ties for the first place count, and the two are (π²/6) c/σ and c/σ (see `tie_density`).
    Each curve is drawn where it is close to the measurement.
    """
    figure, (left, middle, right) = canvas(3, width=9.6, height=3.3)
    d = torch.tensor(widths, dtype=torch.float64)
    fine = torch.logspace(math.log10(d.min()), math.log10(d.max()), 200, dtype=torch.float64)
    c = tie_density(n_keys)
    _dots(left, widths, variance)
    left.plot(fine, fine, **THEORY, label="theory: d, and 1")
    left.plot(fine, torch.ones_like(fine), **THEORY)
    left.set(yscale="log", ylabel="variance of the scores", title="The variance grows like d, or stays 1")

    _dots(middle, widths, entropy.mean(-1))
    small, large = fine[fine <= 2], fine[fine >= 64]
    middle.plot(small, math.log(n_keys) - small / 2, **THEORY, label="theory: ln S − d/2,\n1.6 c/√d, and ln S − ½")
    middle.plot(large, math.pi**2 / 6 * c / large.sqrt(), **THEORY)
    middle.plot(fine, torch.full_like(fine, math.log(n_keys) - 0.5), **THEORY)
    middle.set(ylabel="mean entropy (nats)", title="The entropy falls toward 0, or stays", ylim=(-0.1, None))

    _dots(right, widths, gradient.mean(-1))
    right.plot(widths, gradient[0].median(-1).values, ":", color=UNSCALED, label="without: the median query")
    large = fine[fine >= 16]
    right.plot(large, c / large.sqrt(), **THEORY, label="theory: c/√d, and 1 − e/S")
    right.plot(fine, torch.full_like(fine, 1 - math.e / n_keys), **THEORY)
    right.set(yscale="log", ylabel="mean of Σ p(1 − p)", title="The gradient falls, or stays", ylim=(2e-4, 3))
    left.yaxis.set_major_formatter("{x:,g}")
    right.yaxis.set_major_formatter("{x:g}")
    for axes, place in ((left, (0.0, 1.0)), (middle, (0.42, 0.92)), (right, (0.0, 0.42))):
        axes.set(xscale="log", xlabel="d_head")
        axes.set_xticks(widths[::2], [str(d) for d in widths[::2]])
        axes.minorticks_off()
        axes.legend(loc="upper left", bbox_to_anchor=place, fontsize=7)
    _title(figure, "Without the scale, wider heads mean larger scores, surer weights and smaller gradients")
    plt.show()


def tie_density(n_keys: int) -> float:
    """Probability density, at 0, of the gap between the largest and the second largest of n standard normal numbers.

    n (n − 1) ∫ φ(x)² Φ(x)ⁿ⁻² dx.
    """
    x = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(x)
    return n_keys * (n_keys - 1) * torch.trapezoid(density**2 * below ** (n_keys - 2), x).item()


def learning_curves(
    losses: Float[Tensor, "settings 2 seeds steps"], titles: Sequence[str], chance: float, window: int = 10
) -> None:
    """Plot the loss of every seed, without the scale and with it, one panel per setting; means over `window` steps."""
    figure, row = canvas(len(losses), width=4.2 * len(losses), height=3.0, sharey=True, squeeze=False)
    smooth = losses.unfold(-1, window, 1).mean(-1)
    steps = range(window, losses.shape[-1] + 1)
    for axes, curves, title in zip(row[0], smooth, titles, strict=True):
        axes.axhline(chance, color=COLORS["quiet"], linewidth=1, linestyle=":")
        for seeds, color, label in zip(curves, (UNSCALED, SCALED), ("without", "with the scale"), strict=True):
            for i, curve in enumerate(seeds):
                axes.plot(steps, curve, color=color, linewidth=1.5, label=label if i == 0 else None)
        axes.set(xlabel="step", title=title)
        axes.legend(fontsize=8)
    row[0, 0].set(ylabel="loss (nats per token)", ylim=(-0.1, chance + 0.4))
    _title(
        figure,
        "The scale speeds up learning from a large start, not from a small one (dotted: guessing)",
    )
    plt.show()


def entropy_by_layer(entropies: Float[Tensor, "2 layers"], largest: float) -> None:
    """Plot the mean entropy of the weights in each layer, [without the scale, with it], and the largest possible."""
    _, axes = canvas(width=6.0, height=2.8)
    layers = np.arange(entropies.shape[1])
    axes.bar(layers - 0.2, entropies[0].tolist(), width=0.38, color=UNSCALED, label="without the scale")
    axes.bar(layers + 0.2, entropies[1].tolist(), width=0.38, color=SCALED, label="with the scale")
    axes.axhline(largest, color=COLORS["quiet"], linestyle=":", linewidth=1, label="equal weights")
    axes.set(xticks=layers, xlabel="layer", ylabel="mean entropy (nats)")
    axes.set_title("Without the scale, every layer looks at fewer tokens")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    plt.show()


def _dots(axes: Axes, widths: Sequence[int], measured: Float[Tensor, "2 widths"]) -> None:
    for values, color, label in zip(measured, (UNSCALED, SCALED), ("without the scale", "with it"), strict=True):
        axes.plot(widths, values, "o", color=color, markersize=5, label=label)


def _title(figure: plt.Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
