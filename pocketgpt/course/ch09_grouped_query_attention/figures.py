"""Figures of grouped-query attention: who shares with whom, the cache against the context, and losses."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, canvas

CURVES = (
    COLORS["query"],
    COLORS["key"],
    COLORS["value"],
    COLORS["output"],
    COLORS["yours"],
    COLORS["reference"],
)
MARKERS = "osD^vP"
GIB = 2**30
STARTS = {
    "mean": ("mean of the heads", COLORS["value"], "o"),
    "first": ("first head", COLORS["key"], "s"),
    "random": ("new numbers", COLORS["output"], "^"),
    "control": ("all four heads, same steps", COLORS["theory"], "D"),
}
"""Label, color and marker of the ways to begin uptraining."""


def who_reads_whom(reads: Mapping[str, Int[Tensor, " heads"]], right: Int[Tensor, " heads"], title: str) -> None:
    """Plot which key/value head each query head reads, a panel for each entry; lines that should lead elsewhere are
    dashed and orange."""
    n_heads, n_kv_heads = len(right), int(right.max()) + 1
    width = (1.0 + 0.58 * n_heads) * len(reads)
    figure, row = canvas(len(reads), width=max(5.5, width), height=2.5, squeeze=False)
    places = [(right == j).nonzero().float().mean().item() for j in range(n_kv_heads)]  # below the middle of its group
    for axes, (name, each) in zip(row[0], reads.items(), strict=True):
        correct = each == right
        for h in range(n_heads):
            color, style = (COLORS["reference"], "-") if correct[h] else (COLORS["yours"], "--")
            axes.plot([h, places[int(each[h])]], [0.84, 0.16], color=color, linestyle=style, linewidth=1.8, zorder=1)
            _box(axes, h, 1, str(h), COLORS["query"])
        for j, place in enumerate(places):
            _box(axes, place, 0, chr(ord("a") + j), COLORS["key"])
        axes.set(xlim=(-0.6, n_heads - 0.4), ylim=(-0.22, 1.22), xticks=[])
        axes.set_yticks([0, 1], ["key/value head", "query head"] if axes is row[0, 0] else ["", ""])
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_title(f"{name}: {int(correct.sum())} of {n_heads} read the right head", fontsize=9)
    _title(figure, title)
    plt.show()


def _box(axes: Axes, x: float, y: float, label: str, color: str) -> None:
    frame = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": color, "linewidth": 1.8}
    axes.text(x, y, label, ha="center", va="center", fontsize=9, color=INK, zorder=2, bbox=frame)


def cache_by_context(
    contexts: Sequence[int], caches: Mapping[str, Sequence[int]], memory: int | None, title: str
) -> None:
    """Plot bytes of the cache, in GiB, against the tokens of a text, a curve for each model; both axes are
    logarithmic. `memory` is a number of bytes to mark."""
    _, axes = canvas(width=8.4, height=3.9)
    for i, (name, sizes) in enumerate(caches.items()):
        gib = [size / GIB for size in sizes]
        axes.plot(contexts, gib, marker=MARKERS[i], color=CURVES[i], markersize=4, linewidth=1.6, label=name)
    if memory:
        axes.axhline(memory / GIB, color=COLORS["quiet"], linestyle="--", linewidth=1.2)
        axes.text(contexts[0], memory / GIB * 1.12, f"{memory / GIB:.0f} GiB", fontsize=8, va="bottom")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(contexts, [f"{context // 1024}k" for context in contexts])
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.01, 0.1, 1, 10, 100, 1000, 10_000) if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="context (tokens)", ylabel="keys and values (GiB)", title=title)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    plt.show()


def loss_by_kv_heads(losses: Mapping[int, Sequence[float]], title: str) -> None:
    """Plot the losses of all seeds against the number of key/value heads, with their mean and the range from lowest to
    highest."""
    _, axes = canvas(width=6.2, height=3.1)
    counts = list(losses)
    means = [sum(seeds) / len(seeds) for seeds in losses.values()]
    below = [mean - min(seeds) for mean, seeds in zip(means, losses.values(), strict=True)]
    above = [max(seeds) - mean for mean, seeds in zip(means, losses.values(), strict=True)]
    places = range(len(counts))
    axes.errorbar(places, means, yerr=[below, above], color=COLORS["reference"], capsize=5, marker="s",
                  label="mean, and range of the seeds")  # fmt: skip
    for place, seeds in zip(places, losses.values(), strict=True):
        axes.plot([place + 0.06] * len(seeds), seeds, "o", color=COLORS["theory"], markersize=4,
                  label="_" * (place > 0) + "one seed")  # fmt: skip
    axes.set_xticks(places, [str(count) for count in counts])
    axes.set(xlim=(-0.4, len(counts) - 0.6), xlabel="key/value heads, for 4 query heads",
             ylabel="held-out loss\n(nats per character)", title=title)  # fmt: skip
    axes.legend(fontsize=8, loc="upper left")
    plt.show()


def uptraining_curves(
    curves: Mapping[int, Mapping[str, Float[Tensor, "seeds points"]]],
    every: int,
    from_scratch: Mapping[int, float],
    title: str,
) -> None:
    """Plot the held-out loss while a model with fewer heads is trained on, a panel for each number of key/value heads:
    the mean of the seeds, with their range as a band. `from_scratch` is a loss to mark in each panel."""
    figure, row = canvas(len(curves), width=9.6, height=3.5, sharey=True, squeeze=False)
    for axes, (count, starts) in zip(row[0], curves.items(), strict=True):
        for name, losses in starts.items():
            label, color, marker = STARTS[name]
            steps = [every * i for i in range(losses.shape[1])]
            axes.plot(steps, losses.mean(0), color=color, marker=marker, markersize=3.5, linewidth=1.5, label=label)
            axes.fill_between(steps, losses.amin(0), losses.amax(0), color=color, alpha=0.25, linewidth=0)
        axes.axhline(from_scratch[count], color=COLORS["quiet"], linestyle="--", linewidth=1.2,
                     label="trained so from the start")  # fmt: skip
        axes.set(xlabel="steps of training on")
        axes.set_title(f"4 key/value heads become {count}", fontsize=9)
    row[0, 0].set_ylabel("held-out loss\n(nats per character)")
    row[0, -1].legend(fontsize=8)
    _title(figure, title)
    plt.show()


def _title(figure: plt.Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
