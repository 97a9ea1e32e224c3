"""Figures of attention heads: how they are cut out of a row, what they look at, what they write, which are missed."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, WEIGHTS, canvas

TOKEN_COLORS = (COLORS["query"], COLORS["key"], COLORS["value"], COLORS["output"])
LAYER_MARKS = "os^Dv*PX"

Names = Mapping[tuple[int, int], str]


def heads_of_tokens(
    x: Float[Tensor, "seq width"],
    splits: Mapping[str, Float[Tensor, "heads seq d_head"]],
) -> None:
    """Draw the numbers of a few tokens, a color for each token, and below them the heads that each split makes."""
    seq, width = x.shape
    figure, grid = canvas(1, 1 + len(splits), width=0.62 * width + 1.6, height=1.5 + 1.5 * len(splits), squeeze=False)
    token_of = {number: t for t, row in enumerate(x.tolist()) for number in row}
    for axes, (title, heads) in zip(grid[:, 0], {"The tokens, a row each": x[None], **splits}.items(), strict=True):
        left = 0.0
        for h, head in enumerate(heads.tolist()):
            for t, row in enumerate(head):
                for c, number in enumerate(row):
                    color = TOKEN_COLORS[token_of[number] % len(TOKEN_COLORS)]
                    axes.add_patch(plt.Rectangle((left + c, t), 0.94, 0.9, facecolor=color))
                    axes.text(left + c + 0.47, t + 0.46, f"{number:g}", color="white", ha="center", va="center")
            if len(heads) > 1:
                axes.text(left + len(head[0]) / 2, -0.18, f"head {h}", ha="center", va="bottom", fontsize=9)
            left += len(head[0]) + 0.6
        axes.set(xlim=(-0.9, width + 0.6 * len(next(iter(splits.values())))), ylim=(seq + 0.1, -0.75), aspect="equal")
        axes.set(yticks=[t + 0.46 for t in range(seq)], yticklabels=[f"row {t}" for t in range(seq)], xticks=[])
        axes.set_title(title, fontsize=10)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    title = "Each head must hold one piece of every token (a color is a token)"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


def heads_and_one(
    weights: Float[Tensor, "layers heads seq keys"],
    words: Sequence[str],
    chosen: tuple[int, int],
    names: Names,
) -> None:
    """Draw all heads of all layers as a grid of small maps, and the chosen (layer, head) enlarged beside it."""
    layers, heads = weights.shape[:2]
    figure, whole = canvas(width=11.0, height=5.0)
    whole.remove()
    cells = figure.add_gridspec(layers, heads + 1, width_ratios=[1.0] * heads + [5.6])
    for layer in range(layers):
        for head in range(heads):
            axes, name = figure.add_subplot(cells[layer, head]), names.get((layer, head))
            _map(axes, weights[layer, head], aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{layer}.{head}", fontsize=8, color=COLORS["yours"] if name else INK, loc="center")
            if (layer, head) == chosen:
                for side in axes.spines.values():
                    side.set(visible=True, color=COLORS["yours"], linewidth=2.5)
    axes = figure.add_subplot(cells[:, heads])
    image = _map(axes, weights[chosen])
    size = min(7.5, 300 / len(words))
    axes.set_xticks(range(len(words)), words, rotation=90, fontsize=size)
    axes.set_yticks(range(len(words)), words, fontsize=size)
    axes.set(xlabel="key: the token looked at", ylabel="query: the token that looks")
    axes.set_title(f"Head {chosen[0]}.{chosen[1]}, enlarged: {names.get(chosen, 'it has no name')}", fontsize=10)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.6)
    title = "All heads, layer.head: they look at different tokens (orange: it has a name)"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


def named_heads(shares: Mapping[str, tuple[float, float]]) -> None:
    """Draw, for each named head, the share of its weight on the tokens of its name, beside the mean of all heads."""
    _, axes = canvas(width=7.0, height=0.36 * len(shares) + 1.2)
    for row, (own, mean) in enumerate(shares.values()):
        axes.barh(row, own, height=0.62, color=COLORS["query"], label="this head" if row == 0 else None)
        label = "mean of all heads" if row == 0 else None
        axes.plot([mean, mean], [row - 0.42, row + 0.42], color=COLORS["theory"], linewidth=2, label=label)
        says = f"{own:.0%}" if own == own else "no such token in this text"
        axes.text((own if own == own else 0.0) + 0.01, row, says, va="center", fontsize=8)
    axes.set_yticks(range(len(shares)), list(shares), fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(shares) - 0.4, -0.6))
    axes.set_xlabel("share of the weight on the tokens that the name promises")
    axes.set_title("Do heads look where their names say, more than heads do on average?", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")
    plt.show()


def importance_map(deltas: Float[Tensor, "layers heads"], names: Names, together: Float[Tensor, " layers"]) -> None:
    """Draw the rise of the loss with one head silenced, layers by heads, and with the whole layer silenced."""
    layers, heads = deltas.shape
    _, (left, right) = canvas(2, width=10.0, height=0.72 * layers + 1.2, width_ratios=(3.2, 1))
    most = float(deltas.max())
    image = left.imshow(deltas.numpy(), cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
    for layer in range(layers):
        for head in range(heads):
            delta, name = float(deltas[layer, head]), names.get((layer, head), "")
            look = {"ha": "center", "color": "white" if delta > 0.6 * most else INK}
            left.text(head, layer - (0.12 if name else 0.0), _signed(delta), va="center", fontsize=9, **look)
            left.text(head, layer + 0.26, name, va="center", fontsize=6.8, **look)
    left.set(xlabel="head", ylabel="layer", xticks=range(heads), yticks=range(layers))
    left.set_title(f"One head silenced: the loss rises by {most:.2f} at most", fontsize=10)
    bar = left.figure.colorbar(image, ax=left, location="left", shrink=0.9)
    bar.set_label("rise of the loss (nats)")
    bars = right.barh(range(layers), together.tolist(), color=COLORS["yours"], label="all six at once")
    right.barh(range(layers), deltas.sum(-1).tolist(), color=COLORS["quiet"], height=0.4, label="one by one, added up")
    right.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    right.set(yticks=range(layers), ylabel="layer")
    right.set(xlabel="rise of the loss (nats)", xlim=(0, 1.25 * float(together.max())))
    right.set_title("A whole layer: more than the sum", fontsize=10)
    right.invert_yaxis()
    right.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.24))
    plt.show()


def heads_dropped(curves: Mapping[str, Mapping[int, float]], base: float) -> None:
    """Draw the loss against the number of silenced heads, for several orders in which they go."""
    _, axes = canvas(width=6.5, height=3.2)
    colors = (COLORS["reference"], COLORS["yours"], COLORS["theory"])
    for color, (label, losses) in zip(colors, curves.items(), strict=False):
        axes.plot(list(losses), list(losses.values()), "o-", color=color, markersize=5, label=label)
    axes.axhline(base, color=COLORS["quiet"], linestyle=":", linewidth=1, label="all heads at work")
    axes.set(xlabel="heads silenced, of 24", ylabel="loss (nats per token)", xticks=range(0, 25, 4))
    axes.set_title("A few heads go unnoticed, half of them do not")
    axes.legend(fontsize=8)
    plt.show()


def loudness(
    lengths: Float[Tensor, "layers heads"], deltas: Float[Tensor, "layers heads"], marked: Sequence[tuple[int, int]]
) -> None:
    """Draw the rise of the loss without a head against the length of what it writes, a mark for each layer."""
    _, axes = canvas(width=6.5, height=3.4)
    for layer, (x, y) in enumerate(zip(lengths.tolist(), deltas.tolist(), strict=True)):
        mark, depth = LAYER_MARKS[layer % len(LAYER_MARKS)], layer / len(lengths)
        axes.plot(x, y, mark, color=plt.get_cmap(WEIGHTS)(depth), markersize=7, label=f"layer {layer}")
    for layer, head in marked:
        place = (float(lengths[layer, head]), float(deltas[layer, head]))
        axes.annotate(f"{layer}.{head}", place, xytext=(7, 4), textcoords="offset points", fontsize=9)
    axes.axhline(0, color=COLORS["quiet"], linestyle=":", linewidth=1)
    axes.set(xlabel="mean length of what the head adds to its layer's output")
    axes.set(ylabel="rise of the loss without it (nats)")
    axes.set_title("Heads that write equally much are missed very differently")
    axes.legend(fontsize=8)
    plt.show()


def _map(axes: Axes, weights: Float[Tensor, "seq keys"], aspect: str = "equal"):
    for side in axes.spines.values():
        side.set_visible(False)
    look = {"cmap": WEIGHTS, "vmin": 0, "vmax": 1, "interpolation": "nearest", "aspect": aspect}
    return axes.imshow(weights.detach().cpu().numpy(), **look)


def _signed(number: float) -> str:
    """Format a difference to three decimals, with a minus sign, and no sign for zero."""
    return "0.000" if abs(number) < 5e-4 else f"{number:+.3f}".replace("-", "−")
