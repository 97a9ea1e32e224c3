"""Drawing of the two pages, A4 in landscape."""

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pocketgpt.course.figures.style import COLORS, INK, STYLE
from pocketgpt.course.reference.cheat_sheet.column import GRAY, Column
from pocketgpt.course.reference.cheat_sheet.content import (
    GUESSING,
    Step,
    equations,
    letters,
    sizes,
    steps,
    symptoms,
    traps,
)
from pocketgpt.course.reference.costs import MODELS, cost_table

WIDTH, HEIGHT = 842.0, 595.0  # A4 in points
TOP, BOTTOM = 40.0, 583.0
RC = STYLE | {
    "figure.constrained_layout.use": False,
    "pdf.fonttype": 42,
    "mathtext.fontset": "dejavusans",
    "text.hinting": "none",  # texts are measured at 72 dots per inch and drawn at other resolutions
}
EDGES = {"attention": COLORS["key"], "feed-forward": COLORS["value"]}


def draw() -> list[Figure]:
    """Draw both pages. Raises PocketError if a text does not fit."""
    with rc_context(RC):
        return [_first(), _second()]


def _first() -> Figure:
    columns = _page("PocketGPT · cheat sheet 1 · the model", ((24, 296), (334, 262), (604, 214)), 1.08)
    left, middle, right = columns
    left.heading(f"One pass, with one of {sizes()['L']} blocks in full")
    _way(left)
    left.skip(8)
    left.heading("Letters")
    for latex, meaning, value in letters():
        number = f"{value:,}" if value else ""
        left.row([f"${_roman(latex)}$", meaning, number], [0, 38, left.width], pitch=1.42, aligned="llr")
    _equations(middle, "Equations of the model", "model")
    right.heading("What it costs")
    _costs(right)
    return left.axes.figure


def _second() -> Figure:
    columns = _page("PocketGPT · cheat sheet 2 · training, running, debugging", ((24, 256), (292, 260), (566, 252)))
    left, middle, right = columns
    _equations(left, "Training", "training")
    left.skip(5)
    _equations(left, "Attention in pieces", "pieces")
    middle.heading("Traps")
    for group, entries in traps().items():
        middle.row([group], [0], weight="bold")
        for text, chapter in entries:
            middle.paragraph(text, chapter=chapter, bullet="•")
        middle.skip(3)
    _equations(middle, "Sampling", "sampling")
    right.heading("What you see, and what it probably is")
    _symptoms(right)
    return left.axes.figure


def _equations(column: Column, title: str, group: str) -> None:
    column.heading(title)
    for equation in equations(group):
        column.equation(equation.name, equation.lines, equation.chapter)


def _page(title: str, places: tuple[tuple[float, float], ...], scale: float = 1.0) -> list[Column]:
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")
    axes.text(24, 27, title, fontsize=13, weight="bold", color=INK)
    axes.text(WIDTH - 24, 27, "numbers in orange: the chapter", fontsize=7.5, color=COLORS["yours"], ha="right")
    sizes = {"size": 7.8 * scale, "small": 7.0 * scale, "formula": 10.0 * scale}
    return [Column(axes, canvas.get_renderer(), x, TOP, width, BOTTOM, **sizes) for x, width in places]


def _way(column: Column) -> None:
    """The steps of a pass beside the residual stream, with a bar for each half of the block."""
    places = [18, 178, column.width - 15]
    column.row(["step", "result", "pocket model"], places, size=column.small, color=GRAY, aligned="llr")
    first, begun, part, additions, last = column.y, column.y, "", [], 0.0
    for step in steps():
        if step.part != part:
            _bar(column, begun, part)
            column.skip(4)
            begun, part = column.y, step.part
        height = column.size * 1.5
        if step.name.startswith("+"):
            additions.append(column.y + height / 2)
        if step.name == "final norm":
            last = column.y + height / 2
        column.chapter_number(column.y + height / 2 + column.small * 0.36, step.chapter)
        shape = f"$({', '.join(_roman(letter) for letter in step.shape)})$"
        column.row([step.name, shape, _numbers(step)], places, aligned="llr")
    stream = column.x + 2
    column.axes.plot([stream, stream], [first + 23, last], color=INK, linewidth=1.2, zorder=1)
    column.axes.plot([stream, column.x + 14], [last, last], color=INK, linewidth=1.2, zorder=1)
    for y in additions:
        column.axes.plot([stream, stream + 8], [y, y], color=INK, linewidth=0.8, zorder=1)
        column.axes.plot(stream, y, marker="o", markersize=6, color="white", markeredgecolor=INK, markeredgewidth=0.9)
        column.axes.plot(stream, y, marker="+", markersize=4.5, color=INK, markeredgewidth=0.9)


def _bar(column: Column, begun: float, part: str) -> None:
    """The bar of a half of the block: it reads the stream at its upper end and adds to it at its lower end."""
    if not part:
        return
    left, right = column.x + 6, column.x + 14
    column.axes.fill_between([left, right], begun, column.y, color=EDGES[part], lw=0, zorder=2)
    middle = {"x": (left + right) / 2 + 0.2, "y": (begun + column.y) / 2, "s": part}
    column.axes.text(
        **middle, rotation=90, fontsize=column.small, color="white", ha="center", va="center", weight="bold"
    )
    column.axes.plot([column.x + 2, left], [begun + 5] * 2, color=INK, linewidth=0.8, zorder=1)


def _numbers(step: Step) -> str:
    values = sizes()
    return " · ".join(f"{values[letter]:,}" for letter in step.shape if letter in values)


def _costs(column: Column) -> None:
    places = [0, column.width - 70, column.width]
    column.row(["", *MODELS], places, weight="bold", aligned="lrr")
    for number, (name, formula, *values) in enumerate(cost_table()):
        shaded = number % 2 == 0
        column.row([name, *values], places, shaded=shaded, aligned="lrr", pitch=1.42)
        if formula:
            column.row([formula], [6], size=column.small, color=GRAY, pitch=1.32, shaded=shaded)
    column.skip(3)
    column.paragraph(
        "FLOPs are for one token in a full context. The rules 2N and 6N leave attention out.", size=column.small
    )
    column.paragraph("Llama-3-8B: arXiv 2407.21783 and its config.json.", size=column.small)


def _symptoms(column: Column) -> None:
    places = [22, 48, 56, column.width]
    column.row(["loss", "leaks", "mistake", "chapter"], places, size=column.small, color=GRAY, aligned="rrlr")
    guessed = False
    for row in symptoms():
        if row.loss > GUESSING and not guessed:
            guessed = True
            column.row(
                [f"{GUESSING:.2f}", "0", "a model that knows nothing: ln V"],
                places[:3],
                aligned="rrl",
                pitch=1.43,
                weight="bold",
            )
        style = {"weight": "bold"} if row.chapter is None else {}
        cells = [f"{row.loss:.2f}", str(row.leaks), row.shown, "" if row.chapter is None else str(row.chapter)]
        column.row(cells, places, aligned="rrlr", pitch=1.43, shaded=row.leaks > 0, **style)
    column.skip(3)
    column.paragraph(
        "Each mistake in the trained pocket model. Loss: nats per token of a held-out page. "
        "Leaks: earlier positions that change with the last token (shaded: not 0).",
        size=column.small,
    )


def _roman(latex: str) -> str:
    return latex.replace("\\text", "\\mathrm").replace("d_ff", "d_{ff}").replace("d_{ff}", "d_\\mathrm{ff}")
