"""Figures of positions: the table of sinusoids, its similarities and rotations, and the siblings with and without."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, SIGNED, canvas

STARTS = (COLORS["query"], COLORS["key"], COLORS["value"], COLORS["output"])
KINDS = {
    "no_positions": ("no positions", COLORS["quiet"]),
    "learned": ("learned", COLORS["key"]),
    "sinusoidal": ("sinusoids", COLORS["query"]),
    "base": ("RoPE", COLORS["value"]),
}
"""Label and color of the four position siblings."""


def table_image(table: Float[Tensor, "positions d_model"]) -> None:
    """Plot a table of positions as an image: a row for each position, a column for each coordinate."""
    figure, axes = canvas(width=7.0, height=4.2)
    image = axes.imshow(table.numpy(), cmap=SIGNED, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set(xlabel="column (even: sine, odd: cosine)", ylabel="position (tokens)")
    axes.set_title("Every row is different: the columns on the left wave fast, those on the right slowly")
    figure.colorbar(image, ax=axes, label="value")
    plt.show()


def similarities(panels: Mapping[str, Float[Tensor, "positions d_model"]], starts: Sequence[int], title: str) -> None:
    """Plot the dot product of some rows of a table with the rows after them, against the distance; a panel a table.

    The first starts have the wider lines, so that curves that lie on each other are all seen.
    """
    figure, row = canvas(len(panels), width=4.4 * len(panels) + 0.2, height=3.1, squeeze=False)
    for axes, (name, table) in zip(row[0], panels.items(), strict=True):
        reach = len(table) - max(starts)
        for i, (start, color) in enumerate(zip(starts, STARTS, strict=False)):
            products = table[start : start + reach] @ table[start]
            axes.plot(products, color=color, linewidth=8 - 2.2 * i, label=f"from position {start}")
        axes.set(xlabel="distance (tokens)", title=name, ylim=(None, axes.get_ylim()[1] * 1.05))
        axes.title.set_fontsize(9)
    row[0, 0].set_ylabel("dot product of two rows")
    row[0, -1].legend(fontsize=8)
    _title(figure, title)
    plt.show()


def hands(table: Float[Tensor, "positions d_model"], moved: Float[Tensor, "positions d_model"], steps: int) -> None:
    """Plot each pair of columns as the hand of a clock, at a few positions, with an arc to where a shift moves it."""
    pairs = table.shape[1] // 2
    figure, row = canvas(pairs, width=2.2 * pairs, height=2.7, squeeze=False)
    turns = [steps * 10_000 ** (-2 * i / table.shape[1]) for i in range(pairs)]
    for i, axes in enumerate(row[0]):
        axes.add_patch(plt.Circle((0, 0), 1, fill=False, color=COLORS["quiet"], linewidth=0.8))
        for position, (before, after) in enumerate(zip(table, moved, strict=True)):
            (sin, cos), (sin_after, cos_after) = before[2 * i : 2 * i + 2].tolist(), after[2 * i : 2 * i + 2].tolist()
            radius = 1 - 0.16 * position
            start = math.atan2(sin, cos)
            arc = torch.linspace(start, start + turns[i], 60)
            axes.plot(radius * arc.sin(), radius * arc.cos(), color=STARTS[position % 4], linewidth=1.2)
            axes.plot(radius * sin, radius * cos, "o", color=STARTS[position % 4], markersize=5)
            axes.plot(radius * sin_after, radius * cos_after, ">", color=STARTS[position % 4], markersize=6)
        axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=[], yticks=[], xlabel="sine")
        axes.set_title(f"pair {i}: {turns[i]:.3g} rad", fontsize=9)
        for side in axes.spines.values():
            side.set_visible(False)
    row[0, 0].set_ylabel("cosine")
    names = [plt.Line2D([], [], color=color, marker="o", linestyle="") for color in STARTS[: len(table)]]
    row[0, -1].legend(
        names,
        [str(p) for p in range(len(table))],
        title="from",
        fontsize=7,
        title_fontsize=7,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    _title(figure, f"{steps} steps turn every pair by its own angle, wherever they begin (● before, ▶ after)")
    plt.show()


def losses_by_length(losses: Mapping[str, Mapping[int, Sequence[float]]]) -> None:
    """Plot the held-out loss of the four position siblings at each context length, a dot for each seed."""
    _, axes = canvas(width=7.0, height=3.3)
    lengths = sorted({length for each in losses.values() for length in each})
    for i, (name, (label, color)) in enumerate(KINDS.items()):
        for j, length in enumerate(lengths):
            seeds = losses[name].get(length, ())
            axes.plot(
                [j + 0.18 * (i - 1.5)] * len(seeds),
                seeds,
                "o",
                color=color,
                markersize=6,
                alpha=0.8,
                label=label if j == 0 else None,
            )
    missing = 1 + 0.18 * (list(KINDS).index("learned") - 1.5)
    for j in range(len(lengths) - 1):
        axes.text(
            missing + j,
            axes.get_ylim()[0],
            "error",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=8,
            color=COLORS["key"],
        )
    axes.set_xticks(range(len(lengths)), [f"{n} (trained)" if j == 0 else str(n) for j, n in enumerate(lengths)])
    axes.set(xlabel="characters in the context", ylabel="held-out loss (nats per character)")
    axes.set_title("Positions help up to the trained length; past it, the model without them is best")
    axes.legend(fontsize=8, loc="upper left")
    plt.show()


def size_curves(curves: Mapping[str, Float[Tensor, "seeds points"]], step: int, title: str) -> None:
    """Plot the training loss of each variant and seed; a point is a mean over `step` steps."""
    _, axes = canvas(width=7.4, height=3.4)
    colors = (COLORS[name] for name in ("quiet", "yours", "reference", "query", "value"))
    for (name, seeds), color in zip(curves.items(), colors, strict=False):
        for i, curve in enumerate(seeds):
            steps = step * torch.arange(1, len(curve) + 1)
            axes.plot(steps, curve, color=color, linewidth=1.3, label=name if i == 0 else None)
    axes.set(xlabel="training step", ylabel="loss (nats per character)", title=title)
    axes.legend(fontsize=8)
    plt.show()


def repeated(weights: Mapping[str, Float[Tensor, " keys"]], words: Sequence[str], copies: int, title: str) -> None:
    """Plot the attention of one query over a sentence that is repeated, a panel for each model."""
    figure, column = canvas(1, len(weights), width=8.6, height=1.7 * len(weights) + 0.8, sharex=True, squeeze=False)
    period = len(words) // copies
    for axes, (name, row) in zip(column[:, 0], weights.items(), strict=True):
        for copy, color in zip(range(copies), cycle((COLORS["reference"], COLORS["query"])), strict=False):
            keys = range(copy * period, (copy + 1) * period)
            share = row[keys.start : keys.stop].sum().item()
            axes.bar(keys, row[keys.start : keys.stop].tolist(), color=color)
            axes.text(
                keys.start,
                0.99,
                f" copy {copy + 1}: {share:.0%}",
                va="top",
                fontsize=8,
                transform=axes.get_xaxis_transform(),
            )
        axes.set(ylabel="weight", title=KINDS[name][0] if name in KINDS else name)
        axes.title.set_fontsize(9)
        axes.margins(x=0.01, y=0.3)
    column[-1, 0].set_xticks(range(len(words)), words, fontsize=8)
    column[-1, 0].set_xlabel("key: the character looked at")
    _title(figure, title)
    plt.show()


def _title(figure: plt.Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
