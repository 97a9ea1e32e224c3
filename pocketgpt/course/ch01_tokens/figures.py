"""Figures of tokens: boundaries in a text, compression against vocabulary size, nearest neighbors in the embedding."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.course.figures.style import COLORS, canvas, readable
from pocketgpt.text.tokenizer import Tokenizer

TINTS = ("#BBDAEF", "#FADFA8", "#B5E3D2", "#F0CFE0", "#DCDCDC")  # light forms of the colors of style.py
COLUMNS, LETTER, LINE = 84, 0.0775, 0.23  # letters in a line; inches of a letter and of a line


def colored_tokens(tokens: Sequence[bytes], title: str = "") -> None:
    """Draw a text as blocks, one for each token; · is a space, ↵ a line break, and half a character is shown as bytes.

    Colors alternate to show the boundaries; they have no other meaning.
    """
    placed, line, column = [], 0, 0
    for i, token in enumerate(tokens):
        text = readable(token.decode(errors="backslashreplace"))
        if column + len(text) > COLUMNS:
            line, column = line + 1, 0
        placed.append((text, line, column, TINTS[i % len(TINTS)]))
        breaks = text.count("↵")
        line, column = line + breaks, 0 if breaks else column + len(text)
    lines = max((line for _, line, _, _ in placed), default=0) + 1
    width, height = COLUMNS * LETTER + 0.2, lines * LINE + 0.45
    _, axes = canvas(width=width, height=height, layout="none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(-0.1, width - 0.1), ylim=(lines * LINE + 0.05, -0.4))
    axes.axis("off")
    axes.text(0, -0.2, title, fontsize=11, va="center")
    for text, line, column, tint in placed:
        x, y = column * LETTER, line * LINE
        axes.add_patch(Rectangle((x + 0.01, y), len(text) * LETTER - 0.02, LINE - 0.03, fc=tint, ec="none"))
        look = {"family": "monospace", "fontsize": 9, "va": "center_baseline"}
        for i, letter in enumerate(text):
            quiet = letter in "·↵"
            axes.text(
                x + (i + 0.5) * LETTER, y + LINE / 2 - 0.015, letter, ha="center", alpha=0.35 if quiet else 1, **look
            )
    plt.show()


def compression(sizes: Sequence[int], bytes_per_token: Sequence[float], title: str = "") -> None:
    """Plot the bytes of text per token against the size of the vocabulary."""
    _, axes = canvas(width=6.5, height=3.0)
    axes.plot(sizes, bytes_per_token, "o-", color=COLORS["query"], markersize=5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set(ylim=(0, None), xlabel="tokens in the vocabulary", ylabel="bytes per token", title=title)
    for size, value in (*zip(sizes[:1], bytes_per_token[:1], strict=True), (sizes[-1], bytes_per_token[-1])):
        axes.annotate(f"{value:.2f}", (size, value), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
    plt.show()


def nearest(table: Float[Tensor, "vocab d_model"], token: int, count: int = 6) -> list[tuple[int, float]]:
    """Find the tokens with the largest cosine similarity to one token, each with that similarity, the largest first."""
    unit = F.normalize(table.detach().float(), dim=-1)
    top = (unit @ unit[token]).topk(count + 1)
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))[1:]


def neighbors(
    table: Float[Tensor, "vocab d_model"], tokens: Sequence[int], tokenizer: Tokenizer, title: str = ""
) -> None:
    """Plot the nearest neighbors of each token in the embedding table, as bars of cosine similarity."""
    figure, row = canvas(len(tokens), width=max(2.0 * len(tokens), 3.0), height=2.4, squeeze=False)
    for axes, token in zip(row[0], tokens, strict=True):
        found = nearest(table, token)
        places = range(len(found))
        axes.barh(places, [similarity for _, similarity in found], color=COLORS["value"], height=0.75)
        axes.set_yticks(places, [readable(tokenizer.decode([other])) for other, _ in found], fontsize=9)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1), xlabel="cosine similarity", title=f"“{readable(tokenizer.decode([token]))}”")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()
