"""Figures of the exam: two orders of a block, and how far a change travels."""

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, canvas


def two_blocks() -> None:
    """Draw the block of chapter 10 and the parallel one, from left to right."""
    figure, (above, below) = canvas(rows=2, width=8.0, height=3.6)
    _frame(above, "chapter 10: one after the other")
    _line(above, 0, 10)
    for start, name, color in ((0.8, "attention", COLORS["key"]), (5.2, "feed-forward", COLORS["value"])):
        _line(above, start, start, 0, 1)
        _line(above, start, start + 3.4, 1, 1)
        _line(above, start + 3.4, start + 3.4, 1, 0, arrow=True)
        _box(above, start + 0.95, 1, "norm", COLORS["quiet"])
        _box(above, start + 2.3, 1, name, color)
        _plus(above, start + 3.4)
    _frame(below, "the exam: side by side")
    _line(below, 0, 10)
    _line(below, 0.8, 0.8, 0, 1)
    _line(below, 0.8, 2.4, 1, 1)
    _box(below, 1.7, 1, "norm", COLORS["quiet"])
    for height, name, color in ((1.45, "attention", COLORS["key"]), (0.6, "feed-forward", COLORS["value"])):
        _line(below, 2.6, 2.6, 1, height)
        _line(below, 2.6, 6.0, height, height)
        _box(below, 4.2, height, name, color)
    _line(below, 6.0, 6.0, 1.45, 0, arrow=True)
    _line(below, 2.3, 2.6, 1, 1)
    _plus(below, 6.0)
    figure.suptitle("In the parallel block, attention and feed-forward read the same norm", fontsize=11)
    plt.show()


def _frame(axes: Axes, label: str) -> None:
    axes.set(xlim=(-0.9, 10.5), ylim=(-0.45, 2.0))
    axes.axis("off")
    axes.text(-0.1, 0, "x", ha="right", va="center", fontsize=11, color=INK)
    axes.text(10.1, 0, "y", ha="left", va="center", fontsize=11, color=INK)
    axes.text(10, 1.75, label, ha="right", va="center", fontsize=10, color=INK)


def _line(axes: Axes, x: float, to_x: float, y: float = 0, to_y: float = 0, arrow: bool = False) -> None:
    style = "-|>" if arrow or (y == to_y == 0) else "-"
    axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": style, "color": INK, "shrinkA": 0, "shrinkB": 0})


def _box(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": color, "linewidth": 2}
    axes.text(x, y, text, ha="center", va="center", fontsize=9, color=INK, bbox=box)


def _plus(axes: Axes, x: float) -> None:
    circle = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": INK}
    axes.text(x, 0, "+", ha="center", va="center", fontsize=9, color=INK, bbox=circle)


def reach_map(changes: Float[Tensor, "depths seq"], changed: int, window: int) -> None:
    """Draw how much each position of the stream changes when one token does, before the first block and after each;
    white is not at all."""
    figure, axes = canvas(width=8.0, height=0.5 * len(changes) + 1.5)
    values = changes.where(changes > 1e-5, float("nan"))
    image = axes.imshow(values, aspect="auto", norm=LogNorm(1e-4, 10))
    depth = len(changes) - 1
    axes.plot([changed + (window - 1) * i for i in range(depth + 1)], range(depth + 1), "o", color=COLORS["yours"])
    axes.set_yticks(range(depth + 1), ["before", *(f"after block {i}" for i in range(depth))])
    axes.set(
        xlabel=f"position; the token at {changed} was changed",
        ylabel="stream",
        title=f"A window of {window}: each block carries a change {window - 1} positions further (dots)",
    )
    figure.colorbar(image, ax=axes, label="length of the change", fraction=0.05, format="%g")
    plt.show()
