"""Figures of FlashAttention: tiles in the order of a visit, and time and memory against the length."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from jaxtyping import Bool
from matplotlib.patches import Rectangle
from torch import Tensor

from pocketgpt.course.ch13_flash_attention.experiments import Visit, exponent
from pocketgpt.course.figures.style import COLORS, INK, canvas

FORMS = (COLORS["key"], COLORS["yours"], COLORS["reference"])
SKIPPED, WAITING = "#DDDDDD", "#FFFFFF"


def tiles_in_order(
    visited: Bool[Tensor, "row_tiles column_tiles"],
    visits: Sequence[Visit],
    step: int,
    seq: int,
    rows: int,
    columns: int,
) -> None:
    """Plot the tiles, those merged up to `step` colored, the present one outlined; and largest and total of the last
    query of its row."""
    figure, (grid, top, bottom) = canvas(3, width=9.6, height=3.5, width_ratios=(1.15, 1, 1))
    done, now = visits[: step + 1], visits[step]
    for i in range(visited.shape[0]):
        for j in range(visited.shape[1]):
            size = min(columns, seq - j * columns), min(rows, seq - i * rows)
            color = WAITING if visited[i, j] else SKIPPED
            corner = j * columns, i * rows
            grid.add_patch(Rectangle(corner, *size, facecolor=color, edgecolor="#999999", linewidth=0.7))
    for number, each in enumerate(done, 1):
        corner = each.column * columns, each.row * rows
        size = min(columns, seq - corner[0]), min(rows, seq - corner[1])
        edge = {"edgecolor": INK, "linewidth": 2.2} if each is now else {"edgecolor": "#666666", "linewidth": 0.7}
        grid.add_patch(Rectangle(corner, *size, facecolor=COLORS["query"], alpha=1 if each is now else 0.45, **edge))
        if len(visits) <= 60:
            x, y = corner[0] + size[0] / 2, corner[1] + size[1] / 2
            grid.text(x, y, number, ha="center", va="center", fontsize=8, color="white" if each is now else INK)
    grid.set(xlim=(0, seq), ylim=(seq, 0), aspect="equal", xlabel="keys (position)", ylabel="queries (position)")
    skipped = int((~visited).sum())
    grid.set_title(f"tile {step + 1} of {len(visits)}; {skipped} gray ones are skipped", fontsize=9)
    same_row = [each for each in visits if each.row == now.row]
    query = min((now.row + 1) * rows, seq) - 1
    for axes, name, words in ((top, "largest", "largest score so far (m)"), (bottom, "total", "total so far (l)")):
        values = [getattr(each, name) for each in same_row]
        read = [each.keys_read for each in same_row]
        known = same_row.index(now) + 1
        axes.plot(read, values, "o--", color=COLORS["quiet"], linewidth=1, markersize=4, markerfacecolor="white")
        axes.plot(read[:known], values[:known], "o-", color=COLORS["query"], markersize=5)
        axes.set(xlim=(0, seq + 1), xlabel="keys read", ylabel=words)
        axes.margins(y=0.2)
    top.set_title(f"query {query}: m only grows", fontsize=9)
    bottom.set_title("l is rescaled where m rises", fontsize=9)
    figure.suptitle("One tile at a time: the square is never there as a whole", x=0.01, ha="left", fontsize=11)
    plt.show()


def time_and_memory(
    lengths: Sequence[int], times: Mapping[str, Sequence[float]], peaks: Mapping[str, Sequence[int]]
) -> None:
    """Plot milliseconds and peak megabytes against the length, with the exponent fitted to the last three lengths."""
    figure, panels = canvas(2, width=9.6, height=3.8)
    labels = "time of one call (ms)", "most memory held at once (MB)"
    for axes, label, curves, unit in zip(panels, labels, (times, peaks), (1e3, 1e-6), strict=True):
        lowest, highest = (unit * end(map(end, curves.values())) for end in (min, max))
        for color, (name, values) in zip(FORMS, curves.items(), strict=True):
            fitted = exponent(lengths[-3:], values[-3:])
            scaled, slope = [unit * value for value in values], f"{name}: N^{fitted:.1f}"
            axes.plot(lengths, scaled, "o-", color=color, markersize=4, label=slope)
        axes.set(xscale="log", yscale="log", xlabel="tokens N", ylabel=label)
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        powers = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
        axes.set_yticks([10.0**p for p in powers], [f"{10.0**p:,g}" for p in powers])
        axes.minorticks_off()
        axes.legend(fontsize=8, loc="upper left")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * 6)  # room for the legend
    slopes = sorted(exponent(lengths[-3:], values[-3:]) for values in times.values())
    panels[0].set_title(f"Time: exponents from {slopes[0]:.1f} to {slopes[-1]:.1f}; a square has 2.0", fontsize=9)
    panels[1].set_title("Memory: only step by step grows with the square", fontsize=9)
    figure.suptitle("Tiles take the square out of the memory, not out of the time", x=0.01, ha="left", fontsize=11)
    plt.show()
