"""The pictures of chapter 05 can be drawn, and a title says only what its picture shows."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch05_norm_and_residual import figures


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    cases = [(start, order) for start in ("gpt2", "xavier") for order in ("pre", "post")]
    x = torch.randn(3, 4)
    return {
        "two_norms": lambda: figures.two_norms(x, x, x, ["a", "b", "c"]),
        "gradients_by_depth": lambda: figures.gradients_by_depth(
            {case: {n: torch.rand(n) + 0.1 for n in (2, 5)} for case in cases}
        ),
        "training_curves": lambda: figures.training_curves({0: torch.rand(2, 2, 3, 6) + 2}, 10, 3.3, 12),
        "stream_growth": lambda: figures.stream_growth(torch.rand(5), torch.rand(4)),
        "rearranged_blocks": lambda: figures.rearranged_blocks({"without 0": 5.0, "1 twice": 4.2}, 4.1, 8.3),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    assert figure.get_suptitle()
    assert any(axes.get_ylabel() for axes in figure.axes) or name == "rearranged_blocks"
    assert figure.axes[-1].get_xlabel()


def test_the_drawing_of_the_orders_names_both(drawn):
    figures.block_orders()
    titles = [axes.get_title(loc="left") for axes in drawn().axes]
    assert titles == ["pre-norm: x + layer(norm(x))", "post-norm: norm(x + layer(x))"]


def test_the_title_of_the_curves_names_what_is_stuck_and_nothing_else(drawn):
    curves = torch.full((2, 2, 3, 6), 2.5)
    figures.training_curves({0: curves, 40: curves}, 10, 3.3, 4)
    assert drawn().get_suptitle() == "4 blocks, 50 steps: all four learn"
    stuck = curves.clone()
    stuck[1, 1] = 3.32
    figures.training_curves({0: stuck, 40: stuck}, 10, 3.3, 12)
    assert drawn().get_suptitle() == "12 blocks, 50 steps: post-norm from Xavier's start learns frequencies and no more"
    figures.training_curves({0: stuck, 40: curves}, 10, 3.3, 12)  # warm-up frees it
    assert drawn().get_suptitle() == "12 blocks, 50 steps: all four learn"
