"""Figures of RoPE: angles as clock hands, scores against the distance, and losses past the trained length."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Wedge
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, canvas

HANDS = (COLORS["query"], COLORS["key"])
CURVES = (COLORS["query"], COLORS["key"], COLORS["value"], COLORS["output"], COLORS["theory"])
KINDS = {
    "plain": ("plain", COLORS["theory"]),
    "linear": ("linear", COLORS["yours"]),
    "ntk": ("NTK", COLORS["key"]),
    "dynamic": ("dynamic NTK", COLORS["output"]),
    "yarn": ("YaRN", COLORS["value"]),
    "window 256": ("plain, window of 256", COLORS["query"]),
}
"""Label and color of the ways to read on."""


def clocks(frequencies: Float[Tensor, " half"], rows: Sequence[Sequence[int]], title: str) -> None:
    """Plot every pair of a head as the hand of a clock: a row for each entry, a dial for each pair.

    An entry has one position, or a query's and a key's: then each dial has both hands and the angle between them. Hands
    begin at twelve and turn clockwise, by position times frequency.
    """
    pairs = len(frequencies)
    figure, grid = canvas(pairs, len(rows), width=9.6, height=0.68 * len(rows) + 0.8, squeeze=False)
    for axes_of_row, positions in zip(grid, rows, strict=True):
        for axes, frequency in zip(axes_of_row, frequencies.tolist(), strict=True):
            _dial(axes, [position * frequency for position in positions])
        label = " → ".join(f"{position:,}" for position in positions)
        axes_of_row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    for axes, frequency in zip(grid[0], frequencies.tolist(), strict=True):
        axes.set_title(f"{frequency:.2g}", fontsize=7.5, loc="center")
    figure.supxlabel("pairs, fastest first; above: radians per token", fontsize=9)
    figure.supylabel("query → key" if len(rows[0]) == 2 else "position", fontsize=9)
    _title(figure, title)
    plt.show()


def _dial(axes: Axes, angles: Sequence[float]) -> None:
    axes.add_patch(Circle((0, 0), 1, fill=False, color=COLORS["quiet"], linewidth=0.8))
    if len(angles) == 2:  # the angle from the query's hand to the key's, in degrees counterclockwise from three o'clock
        start, end = (90 - math.degrees(angle) for angle in angles)
        axes.add_patch(Wedge((0, 0), 0.62, *sorted((start, end)), color=COLORS["quiet"], alpha=0.45, linewidth=0))
    for angle, color in zip(angles, HANDS, strict=False):
        axes.plot([0, math.sin(angle)], [0, math.cos(angle)], color=color, linewidth=2, solid_capstyle="round")
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)


def angles_by_position(frequencies: Float[Tensor, " half"], trained: int, longest: int) -> None:
    """Plot the angle of every pair against the position: how far each has turned, and where its hand points."""
    figure, (left, right) = canvas(2, width=9.6, height=3.5)
    positions = torch.logspace(0, math.log10(longest), 200)
    for i, frequency in enumerate(frequencies.tolist()):
        color = plt.get_cmap("cividis")(i / len(frequencies))
        left.plot(positions, positions * frequency, color=color, linewidth=1.3)
        if i % 3 == 0:
            left.annotate(f"pair {i}", (longest, longest * frequency), fontsize=7, va="center", xytext=(3, 0),
                          textcoords="offset points")  # fmt: skip
    left.axhline(2 * math.pi, color=COLORS["yours"], linewidth=1, linestyle="--")
    left.text(1.1, 2 * math.pi * 1.25, "one full turn", color=COLORS["yours"], fontsize=8)
    left.axvline(trained, color=COLORS["theory"], linewidth=1, linestyle=":")
    left.text(trained * 0.93, 2e-4, "trained", fontsize=8, ha="right", rotation=90)
    left.set(xscale="log", yscale="log", xlabel="position, or distance (tokens)", ylabel="angle (radians)")
    left.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    left.set_yticks([0.001, 0.1, 10, 1000], ["0.001", "0.1", "10", "1,000"])
    left.minorticks_off()
    slow = int((frequencies * trained < 2 * math.pi).sum())
    left.set_title(f"{slow} of {len(frequencies)} pairs make no full turn in {trained} tokens", fontsize=9)

    turned = torch.arange(trained)[:, None] * frequencies
    image = right.imshow(
        (turned % (2 * math.pi)).T, cmap="twilight", aspect="auto", interpolation="nearest", vmin=0, vmax=2 * math.pi
    )
    right.set(xlabel="position (tokens)", ylabel="pair")
    right.set_title("One column is one position, and no two are alike", fontsize=9)
    bar = figure.colorbar(image, ax=right, label="angle (radians)", ticks=[0, math.pi, 2 * math.pi])
    bar.ax.set_yticklabels(["0", "π", "2π"])
    _title(figure, "Fast pairs tell neighbors apart, slow pairs tell regions apart")
    plt.show()


def scores_by_distance(
    scores: Mapping[int, Float[Tensor, " distances"]], samples: Float[Tensor, "samples distances"]
) -> None:
    """Plot the score of one query and key against their distance, from several positions of the query; and the scores
    of many pairs with equal query and key, with their mean."""
    figure, (left, right) = canvas(2, width=9.6, height=3.3)
    for i, (position, curve) in enumerate(scores.items()):
        left.plot(curve, color=CURVES[i], linewidth=11 - 2.4 * i, label=f"{position:,}")
    left.legend(title="query at", fontsize=7, title_fontsize=7, ncols=len(scores), loc="lower center",
                handlelength=0.9, handletextpad=1.1, columnspacing=0.9)  # fmt: skip
    left.set(xlabel="distance (tokens)", ylabel="score")
    low, high = left.get_ylim()
    left.set_ylim(low - 0.28 * (high - low), high)
    left.set_title("One pair from everywhere: one curve", fontsize=9)
    for i, sample in enumerate(samples[:12]):
        right.plot(sample, color=COLORS["quiet"], linewidth=0.6, label="_" * (i > 0) + "single ones")
    right.plot(samples.mean(0), color=COLORS["theory"], label=f"mean of {len(samples)}")
    right.axhline(0, color=COLORS["quiet"], linewidth=0.8, linestyle=":")
    right.set(xlabel="distance (tokens)", ylabel="score")
    right.set_title("Key = query: the mean falls at first, single ones swing", fontsize=9)
    right.legend(fontsize=8)
    _title(figure, "The score depends on the distance only, and not in a simple way")
    plt.show()


def errors_by_position(positions: Sequence[int], errors: Mapping[str, Float[Tensor, " positions"]]) -> None:
    """Plot how far the score of a fixed distance is off, against the position, by the precision of the angles."""
    _, axes = canvas(width=7.0, height=3.2)
    for (name, values), color in zip(errors.items(), (COLORS["reference"], COLORS["yours"]), strict=False):
        axes.plot(positions, values.clamp_min(1e-8), "o-", color=color, markersize=4, label=name)
    axes.set(xscale="log", yscale="log", xlabel="position of the query (tokens)", ylabel="largest error of a score")
    axes.set_xticks([10**i for i in range(1, 8)], [f"{10**i:,}" for i in range(1, 8)])
    axes.set_yticks([1e-6, 1e-4, 1e-2, 1, 100], ["10⁻⁶", "10⁻⁴", "0.01", "1", "100"])
    axes.minorticks_off()
    axes.set_title("Relative up to rounding: bfloat16 has lost the distance at position 1,000")
    axes.legend(fontsize=8)
    plt.show()


def loss_by_position(losses: Mapping[str, Sequence[float]], trained: int, size: int, title: str) -> None:
    """Plot the mean loss of every `size` tokens against their position, for each way to read on."""
    _, axes = canvas(width=8.2, height=3.8)
    for name, values in losses.items():
        label, color = KINDS[name if name in KINDS else name.split()[0]]
        middles = [size * (i + 0.5) for i in range(len(values))]
        axes.plot(middles, values, "o-", color=color, markersize=3, linewidth=1.5, label=label)
    axes.set(xlabel="position (tokens)", ylabel="loss (nats per token)", title=title)
    _trained_until(axes, trained)
    axes.set_xticks(range(0, size * len(values) + 1, trained))
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    plt.show()


def copies_by_distance(losses: Mapping[str, Mapping[int, float]], trained: int, no_copy: float, title: str) -> None:
    """Plot the loss on a repeated passage against the distance to its first occurrence, and the loss without one."""
    _, axes = canvas(width=8.2, height=3.4)
    for name, by_distance in losses.items():
        label, color = KINDS[name if name in KINDS else name.split()[0]]
        axes.plot(list(by_distance), list(by_distance.values()), "o-", color=color, markersize=3, linewidth=1.5,
                  label=label)  # fmt: skip
    axes.axhline(no_copy, color=COLORS["quiet"], linestyle="--", linewidth=1.2, label=f"no first copy: {no_copy}")
    axes.set(xlabel="distance to the first copy (tokens)", ylabel="loss on the copy (nats)", title=title)
    _trained_until(axes, trained)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    plt.show()


def layouts(d_head: int) -> None:
    """Plot which coordinates of a head form a pair, in both layouts; a color for each pair."""
    figure, (above, below) = canvas(1, 2, width=7.0, height=2.2)
    half = d_head // 2
    for axes, name, pair_of in (
        (above, "half-split", lambda c: c % half),
        (below, "interleaved", lambda c: c // 2),
    ):
        for c in range(d_head):
            axes.add_patch(plt.Rectangle((c, 0), 0.94, 1, color=CURVES[pair_of(c) % len(CURVES)], alpha=0.6))
            axes.text(c + 0.47, 0.5, f"pair {pair_of(c)}", ha="center", va="center", fontsize=8, color=INK)
        axes.set(xlim=(0, d_head), ylim=(0, 1), yticks=[])
        axes.set_xticks([c + 0.47 for c in range(d_head)], [str(c) for c in range(d_head)], fontsize=8)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        for side in axes.spines.values():
            side.set_visible(False)
    below.set_xlabel("coordinate of the head")
    _title(figure, "The same pairs at different places: a permutation apart")
    plt.show()


def _trained_until(axes: Axes, trained: int) -> None:
    axes.axvline(trained, color=COLORS["quiet"], linestyle=":", linewidth=1.2)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.08 * (high - low))  # room for the label
    place = axes.get_xaxis_transform()
    axes.text(trained, 0.99, f" {trained}: trained length", transform=place, va="top", fontsize=8)


def _title(figure: plt.Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
