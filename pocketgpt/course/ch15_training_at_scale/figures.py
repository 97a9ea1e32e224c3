"""Figures of training at scale: a training step, gradients of unequal parts, float16's range, and memory."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, canvas

SMALLEST, SMALLEST_NORMAL, LARGEST = 2.0**-24, 2.0**-14, 65504.0
"""Of the positive numbers of float16: the smallest, the smallest with all its digits, and the largest."""

MEMORY = {
    "weights": COLORS["query"],
    "gradients": COLORS["key"],
    "optimizer": COLORS["value"],
    "master copy": COLORS["output"],
    "kept for the backward pass": COLORS["reference"],
}
"""Color of each kind of memory."""


def training_step_map() -> None:
    """Draw one step on two processes that read two parts each; orange numbers are those of the exercises."""
    _, axes = canvas(width=9.0, height=3.0)
    axes.set(xlim=(0, 90), ylim=(30, 0), title="One step on two processes: the parts add up to one gradient")
    axes.axis("off")

    def box(x: float, y: float, width: float, text: str, number: str = "") -> None:
        color = COLORS["yours"] if number else "#888888"
        style = {"boxstyle": "round,pad=0.3", "facecolor": "#F1F1EE", "edgecolor": color, "linewidth": 1.4}
        axes.add_patch(FancyBboxPatch((x, y), width, 4.4, **style))
        axes.text(x + width / 2, y + 2.2, text, ha="center", va="center", fontsize=8)
        if number:
            axes.text(x + width / 2, y - 1.4, number, ha="center", va="center", fontsize=8, color=color, weight="bold")

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color="#8A8A8A", linewidth=1))

    box(1, 13, 9, "shuffled\norder")
    for row, y in enumerate((4.5, 21.5)):
        box(15, y, 9, f"rank {row}\nreads", "15.2")
        arrow((10.6, 15.2), (14.4, y + 2.2))
        for part, x in enumerate((29, 42)):
            box(x, y, 9, f"part {2 * row + part}\nforward, back", "15.1")
        arrow((24.6, y + 2.2), (28.4, y + 2.2))
        arrow((38.6, y + 2.2), (41.4, y + 2.2))
        arrow((51.6, y + 2.2), (55.4, 15.2))
    box(56, 13, 9, "sum of the\ngradients")
    box(70, 13, 8, "unscale,\ncheck", "15.3")
    box(82, 13, 7, "clip,\nAdamW")
    arrow((65.6, 15.2), (69.4, 15.2))
    arrow((78.6, 15.2), (81.4, 15.2))
    axes.text(60.5, 22.5, "15.4: what it computes · 15.5: what it keeps", fontsize=8, color=COLORS["yours"])
    plt.show()


def agreement(small: Sequence[int], cosines: Sequence[float], lengths: Sequence[float], total: int) -> None:
    """Plot how far the mean of two parts' gradients is from the gradient of all targets.

    small: targets in the smaller part, of `total`. cosines: of the angle between the two gradients. lengths: of the
    wrong one, in lengths of the right one.
    """
    _, (left, right) = canvas(2, width=8.0, height=3.0)
    share = [100 * count / total for count in small]
    for axes, values, label in (
        (left, cosines, "cosine with the right gradient"),
        (right, lengths, "length (right gradient: 1)"),
    ):
        axes.plot(share, values, "o-", color=COLORS["yours"])
        axes.axhline(1, color=COLORS["theory"], linestyle="--", linewidth=1)
        axes.set(xlabel="targets in the smaller part, % of all", ylabel=label, ylim=(0, 1.15 * max(1, *values)))
    left.text(50, 1.03, "by number of targets", ha="right", fontsize=8)
    left.text(share[1] + 2, cosines[1] - 0.08, "each part the same", fontsize=8, color=COLORS["yours"])
    left.figure.suptitle(
        "Parts that count the same: the less equal they are, the more the gradient turns", x=0.01, ha="left"
    )
    plt.show()


def float16_range(gradients: Float[Tensor, "n"], scale: float) -> None:
    """Plot the sizes of gradients times `scale`, over the numbers that float16 has."""
    sizes = (gradients.double() * scale).abs()
    as_float16 = sizes.half()
    lost = (as_float16 == 0).double().mean().item()
    infinite = int(as_float16.isinf().sum())
    exponents = sizes.clamp(min=2.0**-60).log2()
    _, axes = canvas(width=8.0, height=3.0)
    edges = torch.arange(-50, 33, 1.0)
    counts = 100 * torch.histogram(exponents.float(), bins=edges).hist / len(sizes)
    axes.bar(edges[:-1] + 0.5, counts, width=0.9, color=COLORS["yours"])
    top = 1.25 * counts.max().item()
    zones = ((-50, -25, "become 0", "#E4E4E4"), (-25, -14, "lose digits", "#F3F3F0"), (16, 32, "infinite", "#E4E4E4"))
    for low, high, text, color in zones:
        axes.axvspan(low, high, color=color, zorder=0)
        axes.text((low + high) / 2, 0.97 * top, text, ha="center", va="top", fontsize=8.5)
    axes.text(1, 0.97 * top, "exact to 3 digits", ha="center", va="top", fontsize=8.5)
    ticks = range(-48, 33, 8)
    axes.set_xticks(list(ticks), [f"2^{tick}" for tick in ticks])
    power = round(torch.tensor(scale).log2().item())
    overflow = f", {infinite:,} overflow" if infinite else ", none overflow"
    title = f"Scale 2^{power}: float16 turns {100 * lost:.1f} % of the gradients into 0{overflow}"
    axes.set(xlim=(-50, 32), ylim=(0, top), xlabel="size of gradient · scale", ylabel="share, %", title=title)
    plt.show()


def memory_bars(bars: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Plot where the bytes of a training run are, in MiB, one bar a recipe; `bars` by recipe and kind of memory."""
    _, axes = canvas(width=8.0, height=0.5 * len(bars) + 1.5)
    largest = max(sum(parts.values()) for parts in bars.values())
    for row, parts in enumerate(bars.values()):
        left = 0.0
        for name, color in MEMORY.items():
            size = parts.get(name, 0.0)
            axes.barh(row, size, left=left, color=color, edgecolor="white", linewidth=0.6)
            if size > 0.06 * largest:
                text = "white" if name in ("weights", "optimizer") else INK
                axes.text(left + size / 2, row, f"{size:.0f}", ha="center", va="center", fontsize=8, color=text)
            left += size
        axes.text(left + 0.01 * largest, row, f"{left:.0f} MiB", va="center", fontsize=8.5)
    axes.set_yticks(range(len(bars)), bars)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.13 * largest), xlabel="MiB", ylabel="recipe", title=title)
    seen = [name for name in MEMORY if any(parts.get(name) for parts in bars.values())]
    handles = [plt.Rectangle((0, 0), 1, 1, color=MEMORY[name]) for name in seen]
    axes.legend(handles, seen, ncols=len(seen), loc="upper left", bbox_to_anchor=(-0.2, -0.22), fontsize=8)
    plt.show()
