"""Figure of next-token probabilities."""

import matplotlib.pyplot as plt
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, canvas, readable
from pocketgpt.text.tokenizer import Tokenizer


def next_token_bars(
    probabilities: Float[Tensor, " vocab"], tokenizer: Tokenizer, title: str = "", shown: int = 10
) -> None:
    """Plot the most probable tokens as bars, and a gray bar for all the others together."""
    top = probabilities.detach().cpu().topk(shown)
    words = [readable(tokenizer.decode([token])) for token in top.indices.tolist()]
    others = max(0.0, 1.0 - top.values.sum().item())
    labels = [*words, f"the other {len(probabilities) - shown:,}"]
    _, axes = canvas(width=7.0, height=0.26 * len(labels) + 0.9)
    bars = axes.barh(range(len(labels)), [*top.values.tolist(), others], color=COLORS["output"], height=0.75)
    axes.set_yticks(range(len(labels)), labels)
    bars[-1].set_color(COLORS["quiet"])
    axes.bar_label(bars, fmt=lambda p: f"{p:.1%}", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.0), xlabel="probability", title=title)
    axes.xaxis.set_major_formatter(lambda p, _: f"{p:.0%}")
    axes.tick_params(axis="y", length=0)
    plt.show()
