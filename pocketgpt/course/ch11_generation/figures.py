"""Figures of generation: probabilities of the next token, loops of a text, and what a temperature does to texts."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.ch11_generation.experiments import SHAKESPEARE, Measured
from pocketgpt.course.figures.style import COLORS, canvas, readable


def bars(settings: Mapping[str, Float[Tensor, " vocab"]], words: Sequence[str], title: str, shown: int = 14) -> None:
    """Plot the probabilities of the `shown` tokens that are most likely in the first setting, a panel for each setting.

    The last bar is all other tokens together. A token that is ruled out has a cross.
    """
    figure, panels = canvas(len(settings), width=2.5 * max(len(settings), 2) + 0.6, height=3.5, sharey=True)
    panels = [panels] if len(settings) == 1 else list(panels)
    order = next(iter(settings.values())).argsort(descending=True)
    labels = [readable(words[i]) for i in order[:shown].tolist()] + [f"{len(order) - shown:,} others"]
    places = list(range(shown + 1))
    for axes, (name, probabilities) in zip(panels, settings.items(), strict=True):
        ordered = probabilities[order]
        heights = [*ordered[:shown].tolist(), ordered[shown:].sum().item()]
        axes.barh(places, heights, color=[COLORS["reference"]] * shown + [COLORS["quiet"]], height=0.8)
        for place, height in zip(places, heights, strict=True):
            if height == 0:
                axes.text(0.01, place, "×", va="center", fontsize=9, color=COLORS["yours"])
        axes.set(xlim=(0, 1.05), xticks=[0, 0.5, 1], xlabel="probability")
        axes.set_title(f"{name}\n{int((probabilities > 0).sum()):,} tokens possible", fontsize=9)
    panels[0].set_yticks(places, labels, fontsize=8)
    panels[0].set_ylabel("next token")
    panels[0].invert_yaxis()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


def nucleus_sizes(sizes: Int[Tensor, " positions"], p: float, k: int) -> None:
    """Plot how many tokens the nucleus has at each position of a text, in order of size, beside a fixed k."""
    _, axes = canvas(width=7.0, height=3.0)
    ordered = sizes.sort().values
    share = 100 * torch.arange(len(ordered)) / len(ordered)
    axes.plot(share, ordered, color=COLORS["reference"], label=f"nucleus of {p}")
    axes.axhline(k, color=COLORS["yours"], linestyle="--", label=f"top-k with k = {k}")
    axes.set(yscale="log", xlabel="positions, smallest nucleus first (%)", ylabel="tokens that stay")
    axes.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    axes.minorticks_off()
    axes.set_title(f"The nucleus has from {ordered[0]:,} to {ordered[-1]:,} tokens, top-k always {k}")
    axes.legend(fontsize=8)
    plt.show()


def loops(texts: Mapping[str, Sequence[int]], size: int = 4) -> None:
    """Plot which places of a text begin with the same `size` tokens: a loop is a family of diagonals."""
    figure, panels = canvas(len(texts), width=9.0, height=3.5, sharey=True)
    for axes, (name, tokens) in zip(panels, texts.items(), strict=True):
        grams = torch.tensor(tokens).unfold(0, size, 1)
        same = (grams[:, None] == grams).all(-1)
        rows, columns = same.nonzero(as_tuple=True)
        other = rows != columns
        axes.scatter(columns[other], rows[other], s=3, color=COLORS["yours"], linewidths=0)
        axes.plot([0, len(grams)], [0, len(grams)], color=COLORS["quiet"], linewidth=0.8)
        axes.set(xlim=(-2, len(grams) + 1), ylim=(len(grams) + 1, -2), aspect="equal", xlabel="place (tokens)")
        axes.set_title(name, fontsize=9)
    panels[0].set_ylabel("place (tokens)")
    figure.suptitle(
        f"A dot: the same {size} tokens at both places. Greedy text is stripes", x=0.01, ha="left", fontsize=11
    )
    plt.show()


def by_temperature(measured: Mapping[str, Measured]) -> None:
    """Plot repeated 4-grams and surprise against the temperature, with Shakespeare as a line."""
    plain = {
        float(name.removeprefix("T = ")): each
        for name, each in measured.items()
        if name[-1].isdigit() and "," not in name
    }
    temperatures, rows, real = list(plain), list(plain.values()), measured[SHAKESPEARE]
    figure, (left, right) = canvas(2, width=9.0, height=3.3)
    repeated = [100 * each.repeated for each in rows]
    left.plot(temperatures, repeated, "o-", color=COLORS["yours"], label="the model's text")
    left.axhline(100 * real.repeated, color=COLORS["theory"], linestyle="--", linewidth=1.2, label="Shakespeare")
    left.set(xlabel="temperature", ylabel="repeated 4-grams (%)")
    left.set_title("Cold text repeats itself", fontsize=9)
    left.legend(fontsize=8)
    right.plot(temperatures, [each.surprise for each in rows], "o-", color=COLORS["yours"], label="its surprise")
    right.plot(temperatures, [each.entropy for each in rows], "s:", color=COLORS["reference"], markersize=4,
               label="its entropy, meanwhile")  # fmt: skip
    right.axhline(real.surprise, color=COLORS["theory"], linestyle="--", linewidth=1.2, label="surprise at Shakespeare")
    right.set(xlabel="temperature", ylabel="nats per token")
    right.set_title("Real text surprises the model more than its own at T = 1", fontsize=9)
    right.legend(fontsize=8)
    figure.suptitle("Cold is too probable, hot is not probable enough", x=0.01, ha="left", fontsize=11)
    plt.show()
