"""A column of a page: texts, equations and tables below each other, measured so that nothing overlaps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from pocketgpt.course.figures.style import COLORS, INK
from pocketgpt.errors import PocketError

GRAY = "#5A5A5A"
WITH_INDEX = 9.4
"""Size of formulas in rows, whose indices are drawn at 0.7 of it."""


@dataclass
class Column:
    """A column that begins at (x, y) and may reach down to `bottom`, all in points from the top left corner.

    `size` is that of texts, `small` that of side notes, `formula` that of equations, in points.
    """

    axes: Axes
    renderer: RendererAgg
    x: float
    y: float
    width: float
    bottom: float
    size: float = 7.8
    small: float = 7.0
    formula: float = 10.0

    def heading(self, title: str) -> None:
        """Write a heading with a line below it."""
        self._write(self.x, self.y + 11, title, 10.0, weight="bold", color=COLORS["query"])
        self.axes.plot([self.x, self.x + self.width], [self.y + 15, self.y + 15], color=COLORS["query"], linewidth=0.8)
        self.skip(22)

    def skip(self, points: float) -> None:
        """Move down."""
        self.y += points

    def paragraph(self, text: str, *, chapter: int | None = None, bullet: str = "", size: float | None = None) -> None:
        """Write a text that wraps; its chapter stands at the right end of its last line."""
        size = size or self.size
        indent = 8.0 if bullet else 0.0
        lines = list(self._wrapped(text, self.width - indent - 16 * (chapter is not None), size))
        for number, line in enumerate(lines):
            if bullet and number == 0:
                self._write(self.x, self.y + size, bullet, size, color=COLORS["yours"], weight="bold")
            self._write(self.x + indent, self.y + size, line, size)
            if chapter is not None and number == len(lines) - 1:
                self.chapter_number(self.y + size, chapter)
            self.skip(size * 1.26)
        self.skip(1.8)

    def equation(self, name: str, lines: Sequence[str], chapter: int) -> None:
        """Write a formula of one or more lines beside its name."""
        start, label_width = self.y, 9.1 * self.size
        for number, line in enumerate(lines):
            formula = f"${line}$"
            width, height, descent = self._measure(formula, self.formula)
            height = max(height, self.formula * 1.1)
            if width > self.width - label_width - 10:
                raise PocketError(f"The formula of {name!r} is {width:.0f} points wide.")
            base = self.y + height - descent
            self._write(self.x + label_width, base, formula, self.formula)
            if number == 0:
                self.chapter_number(base, chapter)
            self.skip(height + 3.2)
        middle = (start + self.y - 3.2) / 2
        names = list(self._wrapped(name, label_width - 4, self.size, weight="bold"))
        for number, part in enumerate(names):
            offset = (number - (len(names) - 1) / 2) * self.size * 1.15
            self._write(self.x, middle + offset + self.size * 0.36, part, self.size, weight="bold")
        self.skip(max(0.0, self.size * 1.15 * len(names) - (self.y - start)) + 2.2)

    def row(
        self,
        cells: Sequence[str],
        places: Sequence[float],
        *,
        size: float | None = None,
        pitch: float = 1.5,
        shaded: bool = False,
        aligned: str = "",
        **style: object,
    ) -> None:
        """Write cells at places from the left edge; `aligned` has an l or an r for each, left by default."""
        size = size or self.size
        height = size * pitch
        if shaded:
            self.axes.fill_between([self.x - 2, self.x + self.width], self.y, self.y + height, color="#F1F1EE", lw=0)
        for cell, place, side in zip(cells, places, aligned or "l" * len(cells), strict=True):
            where = {"l": "left", "r": "right"}[side]
            at = max(size, WITH_INDEX) if "$" in cell else size
            self._write(self.x + place, self.y + height / 2 + size * 0.36, cell, at, ha=where, **style)
        self.skip(height)

    def chapter_number(self, y: float, chapter: int) -> None:
        """Write the number of a chapter at the right edge."""
        self._write(self.x + self.width, y, str(chapter), self.small, ha="right", color=COLORS["yours"], weight="bold")

    def _write(self, x: float, y: float, text: str, size: float, **style: object) -> None:
        if y > self.bottom:
            raise PocketError(f"{text!r} is {y - self.bottom:.0f} points below the end of its column.")
        style = {"color": INK, "va": "baseline"} | style
        self.axes.text(x, y, text, fontsize=size, parse_math="$" in text, **style)

    def _measure(self, text: str, size: float, weight: str = "normal") -> tuple[float, float, float]:
        font = FontProperties(size=size, weight=weight)
        return self.renderer.get_text_width_height_descent(text, font, "$" in text)

    def _wrapped(self, text: str, width: float, size: float, weight: str = "normal") -> Iterator[str]:
        line = ""
        for word in text.split(" "):  # not at non-breaking spaces
            longer = f"{line} {word}".strip()
            if line and self._measure(longer, size, weight)[0] > width:
                yield line
                line = word
            else:
                line = longer
        yield line
