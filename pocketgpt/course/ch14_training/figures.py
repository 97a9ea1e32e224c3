"""Figures of training: schedules, curves of six learning rates, norms of the gradient, and a whole run."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, WEIGHTS, canvas


def schedule(rates: Mapping[str, Sequence[float]], title: str) -> None:
    """Plot learning rates by step, one line for each name."""
    _, axes = canvas(width=7.0, height=2.6)
    colors = (COLORS["yours"], COLORS["reference"], COLORS["quiet"])
    for (name, values), color in zip(rates.items(), colors, strict=False):
        axes.plot(range(len(values)), values, color=color, label=name)
    axes.set(xlabel="step", ylabel="learning rate", title=title, ylim=(0, None))
    if len(rates) > 1:
        axes.legend()
    plt.show()


def rate_curves(
    curves: Float[Tensor, "rates seeds points"],
    rates: Sequence[float],
    every: int,
    title: str,
    others: Float[Tensor, "rates seeds points"] | None = None,
    names: tuple[str, str] = ("these", "others"),
    chosen: float | None = None,
) -> None:
    """Plot training curves by learning rate, the mean of the seeds with the spread around it, and the final losses.

    others: the same rates under another condition, of which only the final losses are drawn. chosen: the rate whose
    curve is emphasized.
    """
    _, (left, right) = canvas(2, width=9.0, height=3.4, width_ratios=(1.35, 1))
    colors = plt.get_cmap(WEIGHTS)
    for i, rate in enumerate(rates):
        color = COLORS["yours"] if rate == chosen else colors(0.95 * i / (len(rates) - 1))
        steps = [every * n for n in range(curves.shape[-1])]
        strong = chosen is None or rate == chosen
        left.plot(steps, curves[i].mean(0), color=color, linewidth=2.2 if strong else 1, label=f"{rate:g}")
        left.fill_between(steps, curves[i].amin(0), curves[i].amax(0), color=color, alpha=0.25 if strong else 0.1)
    left.set(xlabel="step", ylabel="held-out loss, nats per character", ylim=(2.2, 4.5))
    left.legend(title="peak rate", fontsize=8, ncols=2, title_fontsize=8)
    shown = [(names[0], curves, COLORS["yours"], "o")]
    if others is not None:
        shown.append((names[1], others, COLORS["query"], "s"))
    for name, group, color, marker in shown:
        right.plot(rates, group[..., -1].mean(1), color=color, label=name)
        for i, rate in enumerate(rates):
            right.plot([rate] * group.shape[1], group[i, :, -1], marker, color=color, markersize=4, linestyle="none")
    right.set(xscale="log", xlabel="peak learning rate", ylabel=f"loss after {steps[-1]} steps, nats")
    right.set_xticks(list(rates), [f"{rate:g}" for rate in rates], fontsize=8)
    right.minorticks_off()
    right.legend(fontsize=8)
    left.figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


def gradient_norms(norms: Mapping[str, Sequence[float]], limit: float, title: str) -> None:
    """Plot the norm of the gradient before clipping, step by step, with the limit as a line."""
    _, axes = canvas(width=7.0, height=2.8)
    for (name, values), color in zip(norms.items(), (COLORS["reference"], COLORS["yours"]), strict=False):
        axes.plot(range(len(values)), values, color=color, linewidth=1.3, label=name)
    axes.axhline(limit, color=COLORS["theory"], linestyle="--", linewidth=1)
    axes.text(len(values) - 1, limit * 1.06, f"limit {limit:g}", ha="right", fontsize=8)
    axes.set(yscale="log", xlabel="step", ylabel="norm of the gradient", title=title)
    axes.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.minorticks_off()
    axes.legend(fontsize=8, ncols=2)
    plt.show()


def whole_run(training: Sequence[float], held_out: Mapping[int, float], nothing: float, title: str) -> None:
    """Plot the loss of every batch, the held-out loss by step, and the loss of a model that knows nothing."""
    _, axes = canvas(width=7.5, height=3.2)
    axes.plot(range(len(training)), training, color=COLORS["reference"], linewidth=0.7, label="each batch")
    axes.plot(list(held_out), list(held_out.values()), "o-", color=COLORS["yours"], label="held-out plays")
    axes.axhline(nothing, color=COLORS["theory"], linestyle="--", linewidth=1)
    axes.text(len(training), nothing - 0.05, f"knows nothing: {nothing:.2f}", ha="right", va="top", fontsize=8)
    axes.set(xlabel="step", ylabel="loss, nats per token", title=title)
    axes.legend()
    plt.show()
