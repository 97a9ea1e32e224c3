"""Map of a whole GPT, drawn from its config at three zoom levels; each part shows the number of its chapter."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

from pocketgpt.course.figures.style import COLORS, INK, canvas
from pocketgpt.course.syllabus import CHAPTERS
from pocketgpt.errors import PocketError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig

IN_ATTENTION = ("attention", "scaling", "multi_head_attention", "rope", "grouped_query_attention", "kv_cache")
NUMBERS = {chapter.topic: chapter.number for chapter in CHAPTERS if chapter.on_map}
TOPICS = tuple(NUMBERS)
INSIDE = {"attention": (*IN_ATTENTION, "flash_attention")}
INSIDE["block"] = (*INSIDE["attention"], "norm_and_residual", "feed_forward")

NORMS = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}
FEED_FORWARDS = {
    "swiglu": "SwiGLU",
    "geglu": "GEGLU",
    "gelu": "GELU",
    "gelu_tanh": "GELU",
    "relu": "ReLU",
    "relu2": "ReLU²",
}
HERE, LINE, PANEL = COLORS["yours"], "#8A8A8A", "#F1F1EE"


def model_map(config: ModelConfig, highlight: str | None = None) -> None:
    """Draw the model that a config describes; `highlight` is the topic of a chapter, such as "attention".

    From left to right: the whole model, one of its blocks, and the attention in that block.
    Raises PocketError for a topic that has no place on the map.
    """
    if highlight is not None and highlight not in TOPICS:
        raise PocketError(f"There is no {highlight!r} on the map. There are: {', '.join(TOPICS)}.")
    config = config.resolved()
    if not isinstance(config.mixer, AttentionConfig) or not isinstance(config.feedforward, FeedForwardConfig):
        raise PocketError("The map shows models of attention and feed-forward layers, one kind of each.")
    _, axes = canvas(width=9.0, height=5.4, layout="none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, 90), ylim=(54, 0))  # tenths of an inch, from the top left corner
    axes.axis("off")
    pen = _Pen(axes, highlight)
    _whole_model(pen, config)
    _one_block(pen, config)
    _attention(pen, config)
    plt.show()


def _whole_model(pen: "_Pen", config: ModelConfig) -> None:
    x, width, line = 1.0, 22.5, 6.0
    pen.text(x, 2.6, "The model", ha="left", fontsize=10.5, weight="bold")
    pen.legend(x + 14.5, 2.6, "chapter")
    pen.text(x, 5.4, "“To be, or not to”", style="italic", ha="left", fontsize=9)
    pen.arrow((line, 6.4), (line, 8.0))
    pen.box(x, 8.0, width, 3.5, "tokenizer", "tokens")
    pen.arrow((line, 11.5), (line, 15.0), shape="batch, seq")
    pen.box(x, 15.0, width, 3.5, "embedding", "tokens")
    if config.positions in ("learned", "sinusoidal"):
        pen.arrow((line, 18.5), (line, 20.5))
        pen.plus(line, 21.9, "positions")
        pen.arrow((line + 3.0, 21.9), (line + 1.4, 21.9))
        pen.box(x + 8.0, 20.2, width - 8.0, 3.5, f"{config.positions}\npositions", "positions", fontsize=7.5)
        pen.arrow((line, 23.3), (line, 25.4))
    else:
        pen.arrow((line, 18.5), (line, 25.4), shape="batch, seq, d_model")
    for shift in (1.4, 0.7, 0.0):  # a stack of cards
        label, topics = ("", ()) if shift else (f"block, {config.n_layers} times", ("the_gpt",))
        pen.box(x + shift, 25.4 + shift, width - 1.4, 4.4, label, *topics, inside="block")
    pen.arrow((line, 31.2), (line, 39.5))
    pen.text(line + 1.0, 32.8, "(batch, seq, d_model)", **SHAPE)
    if config.norm_order == "pre":
        pen.box(x, 34.4, width, 3.5, NORMS[config.norm], "norm_and_residual")
    pen.box(x, 39.5, width, 3.5, "head" + " = embeddingᵀ" * config.tie_embeddings, "the_gpt")
    pen.arrow((line, 43.0), (line, 46.5), shape="batch, seq, vocab")
    pen.arrow((21.2, 43.0), (21.2, 46.5))
    pen.box(x, 46.5, 13.0, 3.5, "next token", "generation")
    pen.box(x + 14.0, 46.5, 8.5, 3.5, "loss", "training")
    pen.text(line + 1.0, 52.0, "“be”", style="italic", ha="left", fontsize=9)
    pen.arrow((line, 50.0), (line, 53.0))


def _one_block(pen: "_Pen", config: ModelConfig) -> None:
    pen.zoom((23.5, 25.4, 31.2), (29.5, 1.0, 53.0))
    pen.panel(29.5, 23.5, "One block")
    line, x, width = 32.6, 36.5, 15.0  # the residual stream; the boxes beside it
    middle = x + width / 2
    pen.arrow((line, 4.6), (line, 51.6), color=INK, weight=2.4)
    pen.text(line + 1.4, 50.0, "the residual stream", ha="left", fontsize=8, color="#555555")
    pen.text(line + 1.0, 5.4, "(batch, seq, d_model)", **SHAPE)
    attention = ("attention", ("attention",), "attention", 6.0)
    feed_forward = (f"feed-forward\n{FEED_FORWARDS[config.feedforward.activation]}", ("feed_forward",), None, 6.0)
    y = 9.5
    for label, topics, inside, height in (attention, feed_forward):
        top, before = y, config.norm_order == "pre"
        pen.arrow((line, top + 1.75), (x, top + 1.75))
        if before:
            pen.box(x, y, width, 3.5, NORMS[config.norm], "norm_and_residual")
            pen.arrow((middle, y + 3.5), (middle, y + 6.0))
            y += 6.0
        pen.box(x, y, width, height, label, *topics, inside=inside)
        pen.arrow((middle, y + height), (middle, y + height + 3.0), (line + 1.4, y + height + 3.0))
        pen.plus(line, y + height + 3.0, "norm_and_residual")
        if inside:
            attention_at = (x + width, y, y + height)
        y += height + 3.0
        if not before:
            pen.box(line - 1.8, y + 2.6, 13.0, 3.5, NORMS[config.norm], "norm_and_residual")
            y += 6.0
        y += 5.0
    pen.zoom(attention_at, (57.0, 1.0, 53.0))


def _attention(pen: "_Pen", config: ModelConfig) -> None:
    pen.panel(57.0, 32.0, "Its attention")
    q, k, v, half = 62.8, 73.0, 83.2, 4.6  # the lanes of queries, keys and values, and half their width
    names = {"query": q, "key": k, "value": v}
    pen.text(k + 1.0, 5.4, "(batch, seq, d_model)", **SHAPE)
    for name, lane in names.items():
        pen.arrow((k, 4.6), (k, 7.2), (lane, 7.2), (lane, 8.8))
        pen.box(lane - half, 8.8, 2 * half, 3.3, f"{name[0]}_proj", color=COLORS[name])
        pen.arrow((lane, 12.1), (lane, 13.7), color=COLORS[name])
    pen.box(q - half, 13.7, 2 * half, 3.6, "", "multi_head_attention", color=COLORS["query"])
    pen.box(k - half, 13.7, v - k + 2 * half, 3.6, "", "grouped_query_attention", color=COLORS["key"])
    pen.heads(q - half + 0.6, 15.5, config.mixer.n_heads, COLORS["query"])
    pen.heads(k - half + 0.6, 15.5, config.mixer.n_kv_heads, COLORS["key"])
    pen.heads(v - half + 0.6, 15.5, config.mixer.n_kv_heads, COLORS["value"])
    rotated = config.positions == "rope"
    if rotated:
        pen.box(q - half, 19.4, k - q + 2 * half, 3.3, "RoPE: positions", "positions", "rope", fontsize=8.0)
        pen.arrow((q, 17.3), (q, 19.4), color=COLORS["query"])
        pen.arrow((k, 17.3), (k, 19.4), color=COLORS["key"])
    pen.arrow((k, 22.7 if rotated else 17.3), (k, 24.6), color=COLORS["key"])
    pen.arrow((v, 17.3), (v, 24.6), color=COLORS["value"])
    pen.box(k - half, 24.6, v - k + 2 * half, 3.3, "KV cache", "kv_cache")
    pen.dashed(57.6, 29.4, 30.8, 15.6, "flash_attention")
    pen.text(78.1, 29.4, "FlashAttention", fontsize=6.8, bbox={"fc": PANEL, "ec": "none", "pad": 1})
    pen.arrow((q, 22.7 if rotated else 17.3), (q, 31.0), color=COLORS["query"])
    pen.arrow((k, 27.9), (k, 31.0), color=COLORS["key"])
    pen.arrow((v, 27.9), (v, 41.0), color=COLORS["value"])
    pen.box(q - half, 31.0, k - q + 2 * half, 3.3, "q kᵀ / √d_head", "attention", "scaling", fontsize=8.0)
    pen.arrow((q, 34.3), (q, 36.0))
    softmax = "mask, softmax" if config.causal else "softmax"
    pen.box(q - half, 36.0, k - q + 2 * half, 3.3, softmax, "start_here", "attention", fontsize=8.0)
    pen.arrow((q, 39.3), (q, 41.0))
    pen.box(q - half, 41.0, v - q + 2 * half, 3.3, "weights times v", "attention", fontsize=8.0)
    pen.arrow((q, 44.3), (q, 47.3))
    pen.box(q - half, 47.3, v - q + 2 * half, 3.3, "heads side by side, o_proj", "multi_head_attention", fontsize=8.0)


SHAPE = {"fontsize": 7, "family": "monospace", "color": "#555555", "ha": "left"}


class _Pen:
    """Draws parts and arrows, in color where they belong to the highlighted topic. y grows downward."""

    def __init__(self, axes: Axes, highlight: str | None) -> None:
        self.axes, self.highlight = axes, highlight

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        label: str,
        *topics: str,
        inside: str | None = None,
        color: str = LINE,
        fontsize: float = 8.5,
    ) -> None:
        """Draw a part with the numbers of its chapters; `inside` names its contents, so that a highlight shows."""
        here = self.highlight in topics
        leads = self.highlight in INSIDE.get(inside, ())
        edge = HERE if here or leads else color
        self._rounded(x, y, width, height, fc=HERE if here else "white", ec=edge, lw=1.8 if edge != LINE else 1.1)
        room = width - 3.0 * len(topics)
        look = {"color": "white", "weight": "bold"} if here else {}
        self.text(x + room / 2 + 0.3, y + height / 2, label, fontsize=fontsize, **look)
        for i, topic in enumerate(topics):
            self.badge(x + room + 3.0 * i + 1.2, y + height / 2, topic)

    def badge(self, x: float, y: float, topic: str) -> None:
        """Draw the number of a chapter on a disc."""
        here = topic == self.highlight
        quiet = self.highlight is not None and not here
        self.axes.add_patch(
            Circle((x, y), 1.3, fc="white" if here else "#B5B5B5" if quiet else INK, ec="none", zorder=4)
        )
        self.text(x, y, str(NUMBERS[topic]), fontsize=7.5, weight="bold", color=HERE if here else "white")

    def legend(self, x: float, y: float, meaning: str) -> None:
        self.axes.add_patch(Circle((x, y), 1.3, fc=INK, ec="none", zorder=4))
        self.text(x, y, "n", fontsize=7.5, weight="bold", color="white", style="italic")
        self.text(x + 1.9, y, meaning, fontsize=8, ha="left")

    def plus(self, x: float, y: float, topic: str) -> None:
        """Draw the point where a branch is added to the stream."""
        here = self.highlight == topic
        self.axes.add_patch(
            Circle((x, y), 1.4, fc=HERE if here else "white", ec=HERE if here else INK, lw=1.4, zorder=4)
        )
        self.text(x, y, "+", fontsize=10, color="white" if here else INK, weight="bold")

    def heads(self, x: float, y: float, count: int, color: str) -> None:
        """Draw a square for each head; above six, two squares and the number."""
        drawn = count if count <= 6 else 2
        for i in range(drawn):
            self._rounded(x + 0.85 * i, y - 0.45, 0.7, 0.9, fc=color, ec="none", zorder=4, corner=0.1)
        if drawn < count:
            self.text(x + 0.85 * drawn + 0.2, y, f"… {count}", fontsize=7, ha="left")

    def dashed(self, x: float, y: float, width: float, height: float, topic: str) -> None:
        """Draw a frame around parts that one chapter fuses."""
        here = topic == self.highlight
        self._rounded(
            x, y, width, height, fc="none", ec=HERE if here else LINE, lw=2.2 if here else 1.1, ls=(0, (4, 3))
        )
        self.badge(x + width - 2.2, y, topic)

    def arrow(
        self, *points: tuple[float, float], color: str = LINE, weight: float = 1.3, shape: str | None = None
    ) -> None:
        """Draw an arrow through the points; `shape` labels the tensor that flows along it."""
        self.axes.plot(*zip(*points[:-1], strict=True), color=color, lw=weight, solid_joinstyle="round", zorder=2)
        style = {"arrowstyle": "-|>", "mutation_scale": 6 + weight, "shrinkA": 0, "shrinkB": 0, "lw": weight}
        self.axes.add_patch(FancyArrowPatch(points[-2], points[-1], color=color, zorder=2, **style))
        if shape:
            (x, top), (_, bottom) = points
            self.text(x + 1.0, (top + bottom) / 2, f"({shape})", **SHAPE)

    def zoom(self, small: tuple[float, float, float], large: tuple[float, float, float]) -> None:
        """Draw a wedge from the right edge (x, top, bottom) of a part to the left edge of its enlargement."""
        (x, top, bottom), (panel, panel_top, panel_bottom) = small, large
        corners = [(x, top), (panel, panel_top), (panel, panel_bottom), (x, bottom)]
        self.axes.add_patch(Polygon(corners, fc="#E4E4DF", ec="none", zorder=0, alpha=0.8))

    def panel(self, x: float, width: float, title: str) -> None:
        self._rounded(x, 1.0, width, 52.0, fc=PANEL, ec="none", zorder=0.5, corner=0.4)
        self.text(x + 1.2, 2.6, title, ha="left", fontsize=10.5, weight="bold")

    def text(self, x: float, y: float, text: str, **look: object) -> None:
        self.axes.text(x, y, text, **{"ha": "center", "va": "center_baseline", "zorder": 5, "fontsize": 8.5, **look})

    def _rounded(self, x: float, y: float, width: float, height: float, corner: float = 0.8, **look: object) -> None:
        style = f"round,pad=0,rounding_size={corner}"
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, **{"zorder": 3, **look}))
