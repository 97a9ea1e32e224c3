"""Pictures of chapter 14: they can be drawn, say what to see, and show the numbers they are given."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch14_training import figures

RATES = (1e-3, 1e-2, 1e-1)


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    curves = torch.rand(3, 2, 5)
    return {
        "schedule": lambda: figures.schedule({"a": [0, 1, 0.5], "b": [1, 0.5, 0.1]}, "Rates"),
        "rate_curves": lambda: figures.rate_curves(curves, RATES, 10, "Curves", curves + 1, ("with", "without")),
        "rate_curves, one chosen": lambda: figures.rate_curves(curves, RATES, 10, "Curves", chosen=1e-2),
        "gradient_norms": lambda: figures.gradient_norms({"a": [3.0, 0.5, 0.2]}, 1.0, "Norms"),
        "whole_run": lambda: figures.whole_run([3.0, 2.0, 1.0], {0: 3.0, 2: 1.2}, 3.1, "Run"),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    panels = drawn().axes
    assert drawn().get_suptitle() or panels[0].get_title(loc="left")
    assert all(panel.get_xlabel() and panel.get_ylabel() for panel in panels)


def test_the_line_of_a_rate_is_the_mean_of_its_seeds(drawn):
    curves = torch.rand(3, 2, 5)
    figures.rate_curves(curves, RATES, 10, "Curves")
    lines = drawn().axes[0].get_lines()
    assert lines[1].get_ydata() == pytest.approx(curves[1].mean(0).tolist())
    assert list(lines[1].get_xdata()) == [0, 10, 20, 30, 40]


def test_ticks_on_logarithmic_axes_are_plain_numbers(drawn):
    figures.rate_curves(torch.rand(3, 2, 5), RATES, 10, "Curves")
    assert [tick.get_text() for tick in drawn().axes[1].get_xticklabels()] == ["0.001", "0.01", "0.1"]
