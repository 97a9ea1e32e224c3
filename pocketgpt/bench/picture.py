"""One picture for each benchmark."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from pocketgpt.bench.report import Report, Row
from pocketgpt.training.run_log import BLUE, ORANGE

# One more of Okabe and Ito's palette, and a gray for what is only there to compare with.
GREEN, GRAY = "#009E73", "#999999"


def draw(report: Report, folder: Path) -> Path:
    """Write BENCHMARK.png."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    DRAWINGS[report.benchmark](report, figure)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    file = folder / f"{report.benchmark}.png"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    return file


def color_of(name: str) -> str:
    """Ours in blue and green, what one would use instead in orange and gray."""
    if name.startswith("transformers"):
        return ORANGE
    return GRAY if name == "float32" else GREEN if "kernels" in name else BLUE


def draw_train(report: Report, figure: Figure) -> None:
    speed, memory = figure.subplots(1, 2, sharey=True)
    rows = list(reversed(report.rows))
    names, colors = [row["variant"] for row in rows], [color_of(row["variant"]) for row in rows]
    best = max(rows, key=lambda row: row["tokens_per_second"])
    bars = speed.barh(names, [row["tokens_per_second"] for row in rows], color=colors)
    speed.bar_label(
        bars, [f" {row['tokens_per_second']:,.0f} · {row['ratio']:.1f}×" for row in rows], fontsize=8, padding=8
    )
    for place, row in enumerate(rows):
        speed.plot(row["middle_half"], [place, place], color="black", linewidth=1.5)
    speed.margins(x=0.25)
    speed.set_xlabel("tokens per second (line: middle half of the runs)")
    mfu = best["sustained_mfu"] or best["mfu"]
    speed.set_title(f"{best['variant']} is fastest: {mfu:.0%} MFU", fontsize=11)
    mebibytes = [(row["peak_bytes"] or 0) / 2**20 for row in rows]  # None on a system that does not tell
    bars = memory.barh(names, mebibytes, color=colors)
    memory.bar_label(bars, [f"{each:,.0f}" for each in mebibytes], fontsize=8, padding=4)
    memory.margins(x=0.2)
    memory.set_xlabel("MiB beyond weights and optimizer")
    memory.set_title(f"{names[mebibytes.index(min(mebibytes))]} needs least memory", fontsize=11)


def draw_generate(report: Report, figure: Figure) -> None:
    time, first = figure.subplots(1, 2)
    formats = {"float32": BLUE, "bf16": ORANGE, "int8": GREEN}
    for name, rows in lines(report.rows, "variant").items():
        theirs, compiled = name.startswith("transformers"), name.endswith("compiled")
        style = {
            "color": next(color for format, color in formats.items() if format in name),
            "linestyle": "--" if theirs else "-" if compiled else ":",
            "marker": "o",
            "markersize": 4,
        }
        contexts = [row["context"] for row in rows]
        time.plot(contexts, [row["ms_per_token"] for row in rows], **style, label=name)
        time.fill_between(contexts, *zip(*([1000 / s for s in row["middle_half"]] for row in rows), strict=True),
                          color=style["color"], alpha=0.15)  # fmt: skip
        first.plot(contexts, [row["first_token_ms"] for row in rows], **style)
    fastest = min(report.rows, key=lambda row: row["ms_per_token"])
    time.set_title(
        f"{fastest['variant']}: {fastest['tokens_per_second']:.0f} tokens/s, "
        f"{fastest['limit_share']:.0%} of what memory allows",
        fontsize=10,
    )
    time.set_ylabel("ms per token (band: middle half)")
    time.set_ylim(bottom=0)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=4)
    first.set_title("The first token waits for the whole prompt", fontsize=10)
    first.set_ylabel("ms to the first token")
    first.loglog()
    first.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    first.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    first.minorticks_off()
    for axes in (time, first):
        axes.set_xticks(contexts, [f"{each:,}" for each in contexts])
        axes.set_xlabel("tokens in the context")


def draw_attention(report: Report, figure: Figure) -> None:
    time, memory = figure.subplots(1, 2)
    for (name, direction), rows in lines(report.rows, "variant", "pass").items():
        style = {
            "color": BLUE if name == "fused" else ORANGE,
            "linestyle": "-" if direction == "forward" else "--",
            "marker": "o",
            "markersize": 4,
        }
        tokens = [row["tokens"] for row in rows]
        time.plot(tokens, [row["milliseconds"] for row in rows], **style, label=f"{name}, {direction}")
        memory.plot(tokens, [max((row["peak_bytes"] or 0) / 2**20, 0.1) for row in rows], **style)
    longest = max(row["tokens"] for row in report.rows)
    last = {(row["variant"], row["pass"]): row for row in report.rows if row["tokens"] == longest}
    slow, fast = (last.get((name, "forward"), report.rows[0]) for name in ("step by step", "fused"))
    faster = slow["milliseconds"] / fast["milliseconds"]
    time.set_title(f"At {longest:,} tokens, fused is {faster:.1f}× as fast", fontsize=11)
    time.set_ylabel("milliseconds")
    time.legend(frameon=False, fontsize=8)
    if fast["peak_bytes"]:
        memory.set_title(f"… and needs 1/{slow['peak_bytes'] / fast['peak_bytes']:.0f} of the memory", fontsize=11)
    memory.set_ylabel("MiB at the peak (0.1: not measurable)")
    for axes in (time, memory):
        axes.loglog()
        axes.set_xticks(tokens, [f"{t:,}" for t in tokens])
        axes.minorticks_off()
        axes.set_xlabel("tokens")
    guide(time, report.rows)


def guide(axes: Axes, rows: list[Row]) -> None:
    """A line of slope 2 to compare with."""
    tokens = sorted({row["tokens"] for row in rows})
    top = max(row["milliseconds"] for row in rows)
    axes.plot(tokens, [top * (t / tokens[-1]) ** 2 for t in tokens], color=GRAY, linewidth=0.8, linestyle=":")
    middle = tokens[len(tokens) // 2]
    axes.annotate("slope 2", (middle, 1.2 * top * (middle / tokens[-1]) ** 2), color=GRAY, fontsize=8, ha="right")


def lines(rows: list[Row], *keys: str) -> dict:
    """Rows by the value of one key, or the values of several, in order."""
    grouped: dict = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        grouped.setdefault(key if len(keys) > 1 else key[0], []).append(row)
    return grouped


DRAWINGS = {"train": draw_train, "generate": draw_generate, "attention": draw_attention}
