"""Benchmark reports: a table, a JSON file, and a figure."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pocketgpt.bench.timing import growth
from pocketgpt.files import read_json, replacing, write_json
from pocketgpt.table import table
from pocketgpt.training.run_log import BLUE, ORANGE

Row = dict[str, Any]
# Okabe and Ito's color-blind safe palette.
COLORS = (BLUE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", ORANGE)

STYLES = {"transformers": "o--", "onnxruntime": "o:"}
"""How lines of others are drawn."""


@dataclass
class Report:
    """The rows of one benchmark, its settings and machine, and notes on the results."""

    benchmark: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> Path:
        """Write BENCHMARK.json."""
        file = folder / f"{self.benchmark}.json"
        write_json(file, asdict(self))
        return file

    @classmethod
    def load(cls, file: Path) -> "Report":
        return cls(**read_json(file))

    def text(self) -> str:
        """Format the rows as a table, with the notes below it; empty columns are left out."""
        names = [name for name in self.rows[0] if any(shown(name, row.get(name)) for row in self.rows)]
        cells = [[shown(name, row.get(name)) for name in names] for row in self.rows]
        headings = [name.replace("_", " ") for name in names]
        return "\n".join([table(headings, cells), "", *self.notes]).rstrip()

    def series(self) -> dict[str, list[Row]]:
        """Group the rows by variant."""
        names = dict.fromkeys(row["variant"] for row in self.rows)
        return {name: [row for row in self.rows if row["variant"] == name] for name in names}


def shown(name: str, value: Any) -> str:
    """Format a value for the table: bytes in MiB, shares in percent, spreads as low … high. Single runs are
    only in the JSON file."""
    if value is None or name == "seconds":
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " … ".join(shown(name, each) for each in value)
    if name.endswith("bytes"):
        return f"{value / 2**20:,.0f} MiB"
    if name.endswith(("mfu", "share")):
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 1000 or isinstance(value, int) else f"{value:.3g}"


def growth_notes(report: Report, x: str) -> list[str]:
    """Write a note per variant: its exponents of growth over the longer half of `x`, where constant costs are small."""
    notes = []
    for name, rows in report.series().items():
        longer = rows[len(rows) // 2 :] if len(rows) > 2 else rows
        sizes = [row[x] for row in longer]
        if len(longer) > 1:
            single = [growth(sizes, list(run)) for run in zip(*(row["seconds"] for row in longer), strict=False)]
            time = growth(sizes, [row["milliseconds"] for row in longer])
            note = f"{name}: time grows as T^{time:.2f} (single runs {min(single):.2f} … {max(single):.2f})"
            if all(row.get("peak_bytes") for row in longer):
                note += f", memory as T^{growth(sizes, [row['peak_bytes'] for row in longer]):.2f}"
            notes.append(f"{note}, over T = {sizes[0]:,} … {sizes[-1]:,}.")
    return notes


def draw(report: Report, columns: dict[str, str], x: str, folder: Path) -> Path:
    """Write BENCHMARK.png: two columns over the column `x`, each with its label, one line for each variant.

    Bars of milliseconds are the middle half of the runs. Lines of transformers are dashed, of onnxruntime dotted.
    """
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    numeric = x != "variant"
    for axes, (column, label) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        scale = 2**20 if column.endswith("bytes") else 1  # MiB
        for (name, rows), color in zip(report.series().items(), COLORS * 2, strict=False):
            values = np.array([row[column] or np.nan for row in rows]) / scale
            halves = np.array([row["middle_half"] for row in rows]).T
            error = abs(halves - values) if column == "milliseconds" else None
            style = STYLES.get(name.partition(",")[0], "o-")
            axes.errorbar([row[x] for row in rows], values, error, fmt=style, color=color)
        axes.set_title(f"{best(report.rows, column, x)} {label if scale == 1 else ''}", fontsize=10)
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        if numeric:
            axes.set(xlabel=f"{x} (tokens)", xscale="log", yscale="log")
            ticks = sorted({row[x] for row in report.rows})
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axes.set_xticks([], minor=True)
        else:
            axes.set_ylim(bottom=0)
            axes.tick_params("x", rotation=90)
    if numeric:
        figure.legend(report.series(), frameon=False, fontsize=8, loc="outside lower center", ncols=4)
    with replacing(folder / f"{report.benchmark}.png") as beside:
        figure.savefig(beside, dpi=150, format="png")
    return folder / f"{report.benchmark}.png"


def best(rows: list[Row], column: str, x: str) -> str:
    """Name the variant with the highest speed, or the least time or memory, at the largest `x`."""
    largest = max(row[x] for row in rows) if x != "variant" else None
    known = [row for row in rows if row[column] and largest in (None, row[x])]
    choose = max if column.endswith("per_second") else min
    row = choose(known, key=lambda row: row[column], default=None)
    return f"Best: {row['variant']}, {shown(column, row[column])}" if row else ""
