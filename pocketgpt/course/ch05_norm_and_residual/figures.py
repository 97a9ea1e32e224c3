"""Figures of norms, of the order of norm and layer, of gradients and training curves, and of the residual stream."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, canvas

PRE, POST = COLORS["reference"], COLORS["yours"]
ORDER_NAMES = {"pre": "pre-norm", "post": "post-norm"}
START_NAMES = {"gpt2": "GPT-2's start", "xavier": "Xavier's start"}


def two_norms(
    inputs: Float[Tensor, "vectors d_model"],
    by_rms: Float[Tensor, "vectors d_model"],
    by_layer: Float[Tensor, "vectors d_model"],
    names: Sequence[str],
) -> None:
    """Plot vectors, and below each one what RMSNorm and LayerNorm make of it."""
    figure, grid = canvas(len(inputs), 3, width=2.3 * len(inputs) + 0.9, height=4.2, squeeze=False)
    rows = (inputs, COLORS["quiet"], "x"), (by_rms, PRE, "RMSNorm"), (by_layer, POST, "LayerNorm")
    for axes_row, (vectors, color, label) in zip(grid, rows, strict=True):
        for axes, vector in zip(axes_row, vectors, strict=True):
            axes.bar(range(len(vector)), vector.tolist(), color=color)
            axes.axhline(0, color=INK, linewidth=0.8)
            axes.set_xticks(range(len(vector)))
            if vectors is not inputs:  # what the norms give is compared; the inputs are of any size
                axes.set_ylim(min(0, 1.1 * vectors.min().item()), 1.1 * vectors.max().item())
        axes_row[0].set_ylabel(label)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("coordinate")
    _title(figure, "Both norms forget the size of x, and LayerNorm forgets its mean as well")
    plt.show()


def block_orders() -> None:
    """Draw pre-norm and post-norm: the residual stream runs upward, the layer stands beside it."""
    figure, row = canvas(2, width=6.4, height=3.3)
    for axes, order in zip(row, ("pre", "post"), strict=True):
        axes.set(xlim=(0, 10), ylim=(0, 10))
        axes.axis("off")
        pre = order == "pre"
        axes.plot([3, 3], [0.3, 9.2], color=PRE if pre else POST, linewidth=4, solid_capstyle="butt", zorder=1)
        axes.annotate("", (3, 9.9), (3, 9.0), arrowprops={"arrowstyle": "-|>", "color": PRE if pre else POST, "lw": 3})
        axes.plot([3, 7, 7, 3], [1.2, 1.2, 6.3, 6.3], color=INK, linewidth=1.3, zorder=0)
        tips = [(3.7, 6.3), (7, 3.8), *([(7, 2.0)] if pre else [])]
        tails = [(4.4, 6.3), (7, 3.2), (7, 1.3)]
        for tip, tail in zip(
            tips, tails, strict=False
        ):  # the branch leaves the stream below, and comes back to it at the plus
            axes.annotate(
                "", tip, tail, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
            )
        if pre:
            _box(axes, 7.0, 2.6, "norm", COLORS["key"])
        _box(axes, 7.0, 4.4, "layer", "#DDDDDD")
        if not pre:
            _box(axes, 3.0, 7.9, "norm", COLORS["key"])
        axes.plot(3, 6.3, "o", color="white", markeredgecolor=INK, markersize=15, zorder=3)
        axes.text(3, 6.3, "+", ha="center", va="center", fontsize=12, zorder=4)
        axes.text(2.4, 0.5, "x", ha="right", va="center", style="italic")
        formula = "x + layer(norm(x))" if pre else "norm(x + layer(x))"
        axes.set_title(f"{ORDER_NAMES[order]}: {formula}", fontsize=10)
        axes.text(4.6, 8.8, "no norm on\nthe stream" if pre else "every sum\nis normalized", fontsize=8, va="center")
    _title(figure, "The two orders: where does the norm stand, beside the stream or on it?")
    plt.show()


def _box(axes: Axes, x: float, y: float, label: str, color: str) -> None:
    axes.add_patch(
        FancyBboxPatch((x - 1.2, y - 0.5), 2.4, 1.0, boxstyle="round,pad=0.1", facecolor=color, edgecolor=INK, zorder=2)
    )
    axes.text(x, y, label, ha="center", va="center", fontsize=9, zorder=3)


def gradients_by_depth(gradients: Mapping[tuple[str, str], Mapping[int, Float[Tensor, " n_blocks"]]]) -> None:
    """Plot the size of the gradient in each block, a line for each depth; `gradients` by (start, order) and depth."""
    starts = list(dict.fromkeys(start for start, _ in gradients))
    figure, grid = canvas(2, len(starts), width=8.4, height=2.7 * len(starts), sharex=True, sharey=True, squeeze=False)
    for (start, order), by_depth in gradients.items():
        axes = grid[starts.index(start), ("pre", "post").index(order)]
        for i, (depth, norms) in enumerate(by_depth.items()):
            shade = plt.get_cmap("viridis")(0.9 * i / max(1, len(by_depth) - 1))
            place = torch.linspace(0, 1, len(norms))
            axes.plot(place, norms, ".-", color=shade, linewidth=1.3, markersize=4, label=f"{depth} blocks")
        (low, shallow), *_, (high, deep) = by_depth.items()
        ends = [f"{name} {shallow[i]:.2g} → {deep[i]:.2g}" for name, i in (("first", 0), ("last", -1))]
        what = f"{low} → {high} blocks: {', '.join(ends)}"
        axes.set_title(f"{START_NAMES[start]}, {ORDER_NAMES[order]}\n{what}", fontsize=8.5)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    grid[0, -1].legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in grid[:, 0]:
        axes.set_ylabel("size of the gradient")
    for axes in grid[-1]:
        axes.set_xticks([0, 1], ["first", "last"])
        axes.set_xlabel("block")
    _title(figure, "New models: post-norm's gradient does not fall with depth, whichever the start")
    plt.show()


def training_curves(
    curves: Mapping[int, Float[Tensor, "starts orders seeds points"]], every: int, frequencies: float, depth: int
) -> None:
    """Plot held-out loss against steps, a panel for each start; `curves` by the number of warm-up steps.

    A line is the median of the seeds, the band around it their range; `frequencies` is the loss of a model that knows
    how frequent each character is.
    """
    stuck = [
        f"{ORDER_NAMES[order]} from {START_NAMES[start]}"
        for i, start in enumerate(START_NAMES)
        for j, order in enumerate(ORDER_NAMES)
        if all(of_all[i, j, :, -1].min() > frequencies - 0.1 for of_all in curves.values())
    ]
    figure, row = canvas(2, width=8.8, height=3.4, sharey=True)
    for start, axes in enumerate(row):
        for warmup, of_all in curves.items():
            for order, color in enumerate((PRE, POST)):
                seeds = of_all[start, order]
                steps = torch.arange(seeds.shape[-1]) * every
                label = f"{list(ORDER_NAMES.values())[order]}{f', warm-up {warmup}' if warmup else ''}"
                line = "--" if warmup else "-"
                axes.plot(steps, seeds.median(0).values, line, color=color, linewidth=1.8, label=label)
                axes.fill_between(steps, seeds.amin(0), seeds.amax(0), color=color, alpha=0.2, linewidth=0)
        axes.axhline(frequencies, color=COLORS["theory"], linestyle=":", linewidth=1.2)
        axes.text(axes.get_xlim()[1], frequencies, "frequencies\nalone", fontsize=7.5, va="center")
        axes.set(xlabel="step", title=list(START_NAMES.values())[start])
    row[0].set(ylabel="held-out loss (nats per character)", ylim=(2.2, 4.2))
    row[0].legend(fontsize=8, loc="upper right")
    learn = "learns" if len(stuck) == 1 else "learn"
    said = f"{' and '.join(stuck)} {learn} frequencies and no more" if stuck else "all four learn"
    _title(figure, f"{depth} blocks, {(curves[0].shape[-1] - 1) * every} steps: {said}")
    plt.show()


def stream_growth(sizes: Float[Tensor, " places"], shares: Float[Tensor, " layers"]) -> None:
    """Plot the size of the residual stream before each layer and at the end, and what each layer adds beside it.

    Layers alternate: attention, feed-forward.
    """
    figure, (left, right) = canvas(2, width=8.6, height=3.1)
    blocks = len(shares) // 2
    places = ["in"] + [f"{block}.{kind}" for block in range(blocks) for kind in ("att", "ff")]
    left.plot(range(len(sizes)), sizes, "o-", color=COLORS["output"], markersize=4)
    left.set(ylabel="root mean square of the stream", xlabel="after layer", ylim=(0, None))
    left.set_xticks(range(len(places)), places, fontsize=8)
    left.set_title(f"From {sizes[0]:.2f} to {sizes[-1]:.2f}", fontsize=10)
    for kind, color, label in ((0, COLORS["query"], "attention"), (1, COLORS["value"], "feed-forward")):
        bars = right.bar(range(kind, len(shares), 2), shares[kind::2].tolist(), color=color, label=label)
        right.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    right.set_xticks(range(len(shares)), places[1:], fontsize=8)
    right.set(ylabel="share: ‖added‖ / ‖stream‖", xlabel="layer")
    right.set_title(f"Layer {places[1:][int(shares.argmax())]} adds most beside what is there", fontsize=10)
    right.legend(fontsize=8)
    right.margins(y=0.15)
    _title(figure, "The stream of the trained model grows on its way through it")
    plt.show()


def rearranged_blocks(losses: Mapping[str, float], as_trained: float, guessing: float) -> None:
    """Plot the loss of a model whose blocks were left out, repeated or exchanged, as bars by name."""
    figure, axes = canvas(width=7.4, height=0.3 * len(losses) + 1.1)
    names, values = list(losses), list(losses.values())
    kinds = {"without": COLORS["yours"], "twice": COLORS["value"], "exchanged": COLORS["key"]}
    colors = [next(color for word, color in kinds.items() if word in name) for name in names]
    bars = axes.barh(names, values, color=colors)
    axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    axes.axvline(as_trained, color=INK, linewidth=1)
    axes.axvline(guessing, color=COLORS["quiet"], linewidth=1, linestyle=":")
    axes.invert_yaxis()
    axes.set(xlabel="loss (nats per token); solid: as trained, dotted: guessing")
    _title(figure, "Any block may run twice; block 0 must run, and must run first")
    plt.show()


def _title(figure: plt.Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
