"""Figures of chapter 24: the evidence about a model, or a training, with a planted mistake, beside the right one."""

import math
import textwrap
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from pocketgpt.course.figures.style import COLORS, WEIGHTS, canvas

RIGHT, CASE = COLORS["quiet"], COLORS["yours"]


def bug_case(case: Any, right: Any, title: str) -> None:
    """Draw the evidence of a case (an `Evidence` of the lab), and that of the right model in gray or beside it."""
    figure = {"model": _of_model, "running": _of_running, "training": _of_training}[case.part](case, right)
    figure.suptitle(f"{title}: the case in orange, the right one in gray", x=0.01, ha="left", fontsize=11)
    plt.show()


def _of_model(case: Any, right: Any) -> plt.Figure:
    figure, axes = canvas(4, 2, width=9.6, height=5.9, height_ratios=(1, 1.6))
    _bars(axes[0, 0], "loss, nats per token", right.features["loss"], case.features["loss"], "{:.2f}")
    _bars(axes[0, 1], "positions that see the last token", right.features["probe"], case.features["probe"], "{:.0f}")
    axes[0, 1].set_xlim(0, 256)
    _text(axes[0, 2], axes[0, 3], case.sample, right.sample)
    for column, (evidence, index) in enumerate(((right, 0), (case, 0), (right, 1), (case, 1))):
        weights = evidence.maps[index]
        whose, color = ("right", "#555555") if evidence is right else ("case", CASE)
        panel = axes[1, column]
        panel.imshow(weights.numpy(), cmap=WEIGHTS, vmin=0, vmax=0.5)
        panel.set_title(f"layer {(1, 3)[index]}, {whose}", color=color, fontsize=10)
        sums = weights.sum(-1)
        future = float(weights.triu(1).sum() / weights.sum())
        below = f"above the diagonal {future:.0%}\nrows sum to {_span(float(sums.min()), float(sums.max()))}"
        if evidence is case:
            below += f"\nlargest change {case.features[('first', 'later')[index]]:.2f}"
        else:
            below += "\n "
        panel.set_xlabel(f"key\n{below}", fontsize=8.5)
        panel.set_ylabel("query" if column == 0 else "", fontsize=8.5)
        panel.set(xticks=[0, 10, 20], yticks=[0, 10, 20])
        panel.tick_params(labelsize=8)
    return figure


def _of_running(case: Any, right: Any) -> plt.Figure:
    figure, axes = canvas(2, 2, width=9.6, height=5.0, width_ratios=(1.5, 1), height_ratios=(1.15, 1))
    gaps, length = case.gaps, len(case.gaps)
    panel = axes[0, 0]
    panel.axvspan(-0.5, 15.5, color="#EEEEEE")
    panel.axvspan(length - 8.5, length - 0.5, color="#EEEEEE")
    panel.bar(range(length), gaps.tolist(), color=CASE, width=0.9)
    top = max(1.0, float(gaps.max())) * 1.25
    for x, word in ((7.5, "prompt"), ((length + 7) / 2, "one token at a time"), (length - 4.5, "chunk")):
        panel.text(x, top * 0.97, word, ha="center", va="top", fontsize=8.5)
    if float(gaps.max()) < 1e-3:
        panel.text((length - 1) / 2, top / 2, "no difference anywhere", ha="center", color=CASE, fontsize=10)
    panel.set(xlim=(-0.5, length - 0.5), ylim=(0, top), xlabel="position")
    panel.set_title("how far the logits with the cache are from those without", fontsize=10)
    panel.set_ylabel("largest difference of a logit", fontsize=8.5)
    panel.set_xticks([0, 16, 32, 48, 56, 63])
    panel = axes[0, 1]
    _bars(panel, "loss with the cache, nats per token", right.features["loss"], case.features["loss"], "{:.2f}")
    probe = f"positions that see the last token: {case.features['probe']:.0f} of {length - 1}"
    panel.set_xlabel(f"{probe} (right: {right.features['probe']:.0f})", fontsize=8.5)
    _ranks(axes[1, 1], case.ranks, right.ranks)
    _one_text(axes[1, 0], case.sample, right.sample)
    return figure


def _of_training(case: Any, right: Any) -> plt.Figure:
    figure, axes = canvas(3, 2, width=9.6, height=5.2)
    n = len(case.log["training"])
    steps = [round(120 / n * (i + 1)) for i in range(n)]
    panel = axes[0, 0]
    for evidence, color in ((right, RIGHT), (case, CASE)):
        panel.plot(steps, evidence.log["training"], color=color, linewidth=1.2, label="training")
        panel.plot([0, *steps], evidence.log["held_out"], color=color, linewidth=1.6, linestyle="--", label="held out")
    panel.set_title("loss (dashed: held out)", fontsize=10)
    panel.set(xlabel="step", ylim=(0, None))
    panel.set_ylabel("nats per character", fontsize=8.5)
    for place, name, title in (
        ((0, 1), "rate", "learning rate"),
        ((0, 2), "gradient", "norm of the gradient"),
        ((1, 0), "weights", "norm of the weights"),
    ):
        panel = axes[place]
        for evidence, color in ((right, RIGHT), (case, CASE)):
            values = evidence.log[name]
            xs = range(len(values)) if name == "rate" else steps if name == "gradient" else [0, *steps]
            panel.plot(xs, values, color=color, linewidth=1.6)
        panel.set_title(title, fontsize=10)
        panel.set(xlabel="step")
        if name == "gradient":
            panel.set_yscale("log")
            panel.set_ylim(0.01, 30)
            panel.set_yticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
            panel.minorticks_off()
        elif name == "rate":
            panel.axhline(0, color=COLORS["theory"], linewidth=0.6)
            panel.set_ylim(-0.0018, 0.0034)
            panel.set_yticks([-0.001, 0, 0.001, 0.002, 0.003], ["−0.001", "0", "0.001", "0.002", "0.003"])
        else:
            panel.set_ylim(0, None)
    for panel in axes.flat:
        panel.tick_params(labelsize=8)
    _text(axes[1, 1], axes[1, 2], case.sample, right.sample)
    probe = f"positions that see the last token: {case.features['probe']:.0f} of 63 (right: 0)"
    text = axes[1, 1].text(0, -0.08, probe, transform=axes[1, 1].transAxes, fontsize=9)
    text.set_in_layout(False)
    return figure


def _bars(panel: Axes, title: str, right: float, case: float, form: str) -> None:
    panel.barh([1, 0], [right, case], color=[RIGHT, CASE], height=0.6)
    farthest = max(right, case, 1e-9)
    for y, value in ((1, right), (0, case)):
        panel.text(value + 0.02 * farthest, y, form.format(value), va="center", fontsize=9)
    panel.set_title(title, fontsize=10)
    panel.set(yticks=[1, 0], yticklabels=["right", "case"], xlim=(0, 1.3 * farthest), ylim=(-0.6, 1.6))
    panel.tick_params(labelsize=8)


def _ranks(panel: Axes, case: Any, right: Any) -> None:
    borders = ((0, 1, "1st"), (1, 5, "2nd to 5th"), (5, 20, "6th to 20th"), (20, math.inf, "beyond"))
    for y, (low, high, _) in enumerate(borders):
        for shift, ranks, color in ((-0.19, right, RIGHT), (0.19, case, CASE)):
            share = float(((ranks >= low) & (ranks < high)).float().mean())
            panel.barh(y + shift, share, height=0.36, color=color)
            panel.text(share + 0.01, y + shift, f"{share:.0%}", va="center", fontsize=8)
    panel.set(yticks=range(len(borders)), yticklabels=[name for *_, name in borders], xlim=(0, 1.15))
    panel.invert_yaxis()
    panel.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    panel.set_title("rank of the drawn tokens", fontsize=10)
    panel.tick_params(labelsize=8)


def _text(left: Axes, free: Axes, case: str, right: str) -> None:
    """Two samples over the place of two panels."""
    free.axis("off")
    _one_text(left, case, right, width=50)


def _one_text(panel: Axes, case: str, right: str, width: int = 62) -> None:
    panel.axis("off")
    for y, whose, sample, color in ((1.0, "the case", case, CASE), (0.47, "the right one", right, "#555555")):
        for down, shown, options in (
            (0.0, f"{whose} writes", {"color": color, "fontsize": 9}),
            (0.11, _wrapped(sample, width, 4), {"fontsize": 8, "family": "monospace"}),
        ):
            text = panel.text(0, y - down, shown, transform=panel.transAxes, va="top", **options)
            text.set_in_layout(False)  # it may be wider than its panel


def _wrapped(sample: str, width: int, rows: int) -> str:
    """A sample on a few lines: line breaks as ↵, unprintable characters as □."""
    shown = "".join(each if each.isprintable() and each != "\ufffd" else "□" for each in sample.replace("\n", "↵"))
    lines = textwrap.wrap(shown, width, drop_whitespace=False)
    return "\n".join(lines[:rows]) + (" …" if len(lines) > rows else "")


def _span(low: float, high: float) -> str:
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} … {high:.2f}"
