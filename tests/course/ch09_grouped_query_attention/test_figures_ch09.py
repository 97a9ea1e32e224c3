"""The pictures of chapter 09 can be drawn and say what to see."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch09_grouped_query_attention import figures

RIGHT = torch.tensor([0, 0, 0, 1, 1, 1])
TILED = torch.tensor([0, 1, 0, 1, 0, 1])
CONTEXTS = [1024, 4096]


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    curves = {n: {start: torch.rand(3, 4) for start in figures.STARTS} for n in (2, 1)}
    return {
        "who_reads_whom": lambda: figures.who_reads_whom({"right": RIGHT, "wrong": TILED}, RIGHT, "title"),
        "cache_by_context": lambda: figures.cache_by_context(CONTEXTS, {"a": [2**30, 2**32]}, 2**31, "title"),
        "loss_by_kv_heads": lambda: figures.loss_by_kv_heads({4: [1.0, 1.1], 1: [1.2, 1.4]}, "title"),
        "uptraining_curves": lambda: figures.uptraining_curves(curves, 20, {2: 0.5, 1: 0.6}, "title"),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    assert figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()[0].get_text()
    assert figure.axes[-1].get_xlabel() or name == "who_reads_whom"


def test_lines_lead_to_the_head_that_is_read_and_wrong_ones_are_dashed(drawn):
    figures.who_reads_whom({"right": RIGHT, "wrong": TILED}, RIGHT, "title")
    right, wrong = drawn().axes
    assert [line.get_xdata()[1] for line in right.lines] == [1, 1, 1, 4, 4, 4]
    assert [line.get_xdata()[1] for line in wrong.lines] == [1, 4, 1, 4, 1, 4]
    assert [line.get_linestyle() for line in wrong.lines] == ["-", "--", "-", "-", "--", "-"]
    assert wrong.get_title(loc="left").endswith("4 of 6 read the right head")


def test_the_cache_is_drawn_in_gib(drawn):
    figures.cache_by_context(CONTEXTS, {"a": [2**30, 2**32]}, None, "title")
    assert drawn().axes[0].lines[0].get_ydata().tolist() == [1.0, 4.0]


def test_error_bars_reach_from_the_lowest_to_the_highest_seed(drawn):
    figures.loss_by_kv_heads({4: [1.0, 1.3], 1: [1.2, 1.4]}, "title")
    (bars,) = drawn().axes[0].collections
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        pytest.approx([1.0, 1.3]),
        pytest.approx([1.2, 1.4]),
    ]
