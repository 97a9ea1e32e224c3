"""Pictures of chapter 06 can be drawn, say what to see, and name their axes."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from torch.nn import functional as F

from pocketgpt.course.ch06_feed_forward import figures


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


WORDS = ["\n", "First", " W", "it", "ch", ":", "$"]


def draw_all():
    hidden = torch.randn(2, 3, 4, 5).relu()
    return {
        "activation_curves": lambda: figures.activation_curves({"ReLU": F.relu, "GELU": F.gelu}, marked=-0.5),
        "hidden_histograms": lambda: figures.hidden_histograms({"a": hidden, "b": hidden.square()}, "Zeros"),
        "loss_against_share": lambda: figures.loss_against_share([0.5, 1.0], {"a": [2.0, 1.0]}, "Falls", marked=0.7),
        "strongest": lambda: figures.strongest(torch.randn(7), WORDS, "Largest", count=5),
        "seeds_by_model": lambda: figures.seeds_by_model({"a": [1.0, 1.1], "b": [1.2]}, "Seeds"),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    panels = [axes for axes in drawn().axes if axes.axison]
    assert drawn().get_suptitle() or panels[0].get_title(loc="left")
    assert panels[-1].get_xlabel()
    assert panels[0].get_ylabel() or name == "strongest"  # whose rows are labelled with text


def test_the_marked_points_are_on_the_curve_and_on_its_slope(drawn):
    figures.activation_curves({"ReLU²": lambda x: F.relu(x).square()}, marked=1.5)
    value, slope = (axes.lines[1] for axes in drawn().axes)
    assert value.get_ydata()[0] == pytest.approx(2.25) and slope.get_ydata()[0] == pytest.approx(3.0)


def test_zeros_are_counted_apart_and_all_bars_make_a_hundred_percent(drawn):
    hidden = torch.tensor([0.0, 0.0, 0.0, 1e-9, 0.5, -2.0, 300.0, 1.0]).view(1, 2, 4)
    figures.hidden_histograms({"a": hidden}, "Zeros")
    bars = [bar.get_height() for bar in drawn().axes[0].patches]
    assert sum(bars) == pytest.approx(100) and bars[-1] == pytest.approx(37.5)


def test_the_tokens_with_the_largest_numbers_come_first(drawn):
    figures.strongest(torch.tensor([0.1, -3.0, 0.2, 2.0, 0.0, 0.3, 0.1]), WORDS, "Largest", count=2)
    _, bars = drawn().axes
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([-3.0, 2.0])


def test_an_unused_unit_is_marked_and_its_bars_stay_short(drawn):
    figures.strongest(torch.tensor([1e-8, -3e-8, 2e-8, 0.0, 0.0, 0.0, 0.0]), WORDS, "Largest", count=2)
    _, bars = drawn().axes
    assert bars.get_xlim() == (-1, 1) and "unused" in bars.texts[0].get_text()
    figures.strongest(torch.tensor([0.1, -3.0, 0.2, 2.0, 0.0, 0.3, 0.1]), WORDS, "Largest", count=2)
    assert not drawn().axes[1].texts
