"""Pictures of chapter 12: time per token, caches as they fill, and what mistakes change."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import Wedge
from torch import Tensor

from pocketgpt.course.figures.style import COLORS, INK, canvas

EMPTY = "#EEEEEE"
CURVES = (COLORS["yours"], COLORS["reference"], COLORS["key"], COLORS["value"], COLORS["output"], COLORS["query"])


def exponent(contexts: Sequence[int], milliseconds: Sequence[float], since: int = 0) -> float:
    """Fitted slope of the time against the context on logarithmic axes, from the context `since` on."""
    points = [(n, ms) for n, ms in zip(contexts, milliseconds, strict=True) if n >= since]
    x, y = torch.tensor(points, dtype=torch.float64).log().unbind(1)
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / x.square().sum())


def time_per_token(contexts: Sequence[int], curves: Mapping[str, Sequence[float]], since: int) -> None:
    """Plot milliseconds for one more token against the tokens before it, with the slope from `since` on."""
    _, axes = canvas(width=7.6, height=3.8)
    for (name, values), color in zip(curves.items(), CURVES, strict=False):
        slope = exponent(contexts, values, since)
        axes.plot(contexts, values, "o-", color=color, markersize=4, label=f"{name}: slope {slope:.1f}")
        late = [(n, ms) for n, ms in zip(contexts, values, strict=True) if n >= since]
        middle = torch.tensor(late, dtype=torch.float64).log().mean(0).exp()
        line = [float(middle[1] * (n / middle[0]) ** slope) for n, _ in late]
        axes.plot([n for n, _ in late], line, "--", color=COLORS["theory"], linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="tokens before it", ylabel="milliseconds for one more token")
    axes.set_xticks(contexts, [f"{n:,}" for n in contexts])
    low, high = (edge(map(edge, curves.values())) for edge in (min, max))
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low / 2 < n < 2 * high]
    axes.set_yticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set_title("Without a cache each token pays for the whole text again")
    axes.legend(fontsize=8, title=f"dashed: fitted from {since} on", title_fontsize=8)
    plt.show()


def filling(caches: Mapping[str, Int[Tensor, "calls slots"]], title: str) -> None:
    """Plot the position in each slot after each call of the model, one panel for each cache; −1 is an empty slot."""
    widths = [positions.shape[1] for positions in caches.values()]
    figure, panels = canvas(len(caches), width=9.6, height=3.6, gridspec_kw={"width_ratios": widths}, squeeze=False)
    last = max(int(positions.max()) for positions in caches.values())
    for axes, (name, positions) in zip(panels[0], caches.items(), strict=True):
        colors = plt.get_cmap("cividis").with_extremes(bad=EMPTY)
        shown = torch.where(positions < 0, torch.nan, positions.float())
        axes.imshow(shown, cmap=colors, vmin=0, vmax=last, aspect="auto", interpolation="nearest")
        before = torch.cat((torch.full_like(positions[:1], -1), positions[:-1]))
        for call, slot in (positions != before).nonzero().tolist():
            number = int(positions[call, slot])
            color = "white" if number < 0.6 * last else INK
            axes.text(slot, call, number, ha="center", va="center", fontsize=7, color=color)
        axes.set(xlabel="slot", title=name)
        axes.title.set_fontsize(9)
        axes.set_xticks(range(positions.shape[1]))
        axes.tick_params(labelsize=7)
    panels[0, 0].set_ylabel("call of the model")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


def ring(rings: Mapping[int, Int[Tensor, " window"]], title: str) -> None:
    """Plot rings, by the number of tokens seen: the position in every slot, and an arrow to the next one to write."""
    figure, panels = canvas(len(rings), width=2.4 * len(rings), height=2.9, squeeze=False)
    last = max(max(rings), 2) - 1
    for axes, (n_seen, positions) in zip(panels[0], rings.items(), strict=True):
        _dial(axes, positions, n_seen, last)
        axes.set_xlabel(f"{n_seen} tokens seen", fontsize=9)
    panels[0, 0].set_ylabel("slot 0 at the top, then clockwise", fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    plt.show()


def _dial(axes: Axes, positions: Int[Tensor, " window"], n_seen: int, last: int) -> None:
    window, colors = len(positions), plt.get_cmap("cividis")
    step = 360 / window
    for slot, position in enumerate(positions.tolist()):
        middle = 90 - slot * step
        color = EMPTY if position < 0 else colors(position / last)
        axes.add_patch(
            Wedge((0, 0), 1, middle - step / 2, middle + step / 2, width=0.45, facecolor=color, edgecolor="white")
        )
        x, y = _point(middle, 0.78)
        ink = "white" if 0 <= position < 0.6 * last else INK
        axes.text(x, y, position if position >= 0 else "empty", ha="center", va="center", fontsize=7, color=ink)
    tip = _point(90 - n_seen % window * step, 0.52)
    axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "->", "color": COLORS["yours"], "linewidth": 1.6})
    axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal", xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)


def _point(degrees: float, radius: float) -> tuple[float, float]:
    angle = torch.tensor(degrees).deg2rad()
    return radius * float(angle.cos()), radius * float(angle.sin())


def logit_errors(errors: Mapping[str, Float[Tensor, " seq"]], losses: Mapping[str, float], prompt: int) -> None:
    """Plot how far the logits are from those of a full pass, against the position, and beside it the loss."""
    figure, (left, right) = canvas(2, width=9.6, height=3.8, gridspec_kw={"width_ratios": (1.7, 1)})
    for (name, values), color in zip(errors.items(), CURVES, strict=False):
        left.plot(values.clamp_min(1e-7), color=color, linewidth=1.2, label=name)
    left.axvline(prompt, color=COLORS["quiet"], linestyle=":", linewidth=1.2)
    left.text(prompt, 1.3e-7, f" the first {prompt} in one pass", fontsize=7.5, va="bottom")
    left.set(yscale="log", xlabel="position (tokens)", ylabel="largest difference of a logit", ylim=(1e-7, 1e3))
    left.set_yticks([1e-6, 1e-4, 1e-2, 1, 100], ["10⁻⁶", "10⁻⁴", "0.01", "1", "100"])
    left.set_title("Logits (colors as in the bars): every mistake is far above rounding", fontsize=9)
    names = list(losses)
    right.barh(range(len(names)), list(losses.values()), color=CURVES[: len(names)])
    for i, loss in enumerate(losses.values()):
        right.text(loss + 0.1, i, f"{loss:.2f}", va="center", fontsize=8)
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="loss (nats per token)", xlim=(0, 1.2 * max(losses.values())))
    right.set_title("Loss: two can hardly be told from right", fontsize=9)
    figure.suptitle("What a mistake changes: always the logits, not always the loss", x=0.01, ha="left", fontsize=11)
    plt.show()
