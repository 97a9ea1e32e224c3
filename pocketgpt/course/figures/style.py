"""Style of the figures: colors and sizes, defined once.

The colors are those of Okabe and Ito (2008), distinct under every common kind of color blindness. Each means the same
thing in all chapters.
"""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

COLORS = {
    "query": "#0072B2",
    "key": "#E69F00",
    "value": "#009E73",
    "output": "#CC79A7",
    "yours": "#D55E00",
    "reference": "#56B4E9",
    "theory": "#000000",
    "quiet": "#999999",
}
WEIGHTS = "cividis"
"""Color map of attention weights and probabilities: dark is 0."""
SIGNED = "PuOr"
"""Color map of values around zero."""
INK = "#222222"

STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "image.cmap": WEIGHTS,
    "text.parse_math": False,  # titles and labels quote texts, in which $ is a dollar
    "text.color": INK,
}


def canvas(
    columns: int = 1, rows: int = 1, *, width: float = 7.0, height: float = 3.2, **options
) -> tuple[Figure, Any]:
    """Create a figure in the style of the course, and its axes (an array if there are several).

    `width` and `height` are those of the whole figure, in inches.
    """
    plt.rcParams.update(STYLE)  # not for this call alone: titles and labels are drawn later
    return plt.subplots(rows, columns, figsize=(width, height), **options)


def readable(token: str) -> str:
    """Format a token as a label: · for a space, ↵ for a line break, ∅ for an empty token."""
    return token.replace(" ", "·").replace("\n", "↵") or "∅"
