"""The pictures of chapter 12 can be drawn, say what to see, and show the numbers they were given."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch12_kv_cache import figures

STATIC = torch.tensor([[0, 1, -1, -1], [0, 1, 2, -1], [0, 1, 2, 3]])
RING = torch.tensor([[0, 1, -1], [0, 1, 2], [3, 1, 2]])


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    curves = {"no cache": [2.0, 20.0, 40.0], "cache": [2.0, 2.0, 2.0]}
    errors = {"right": torch.full((9,), 1e-5), "wrong": torch.full((9,), 1.0)}
    return {
        "time_per_token": lambda: figures.time_per_token((1, 512, 1024), curves, since=512),
        "filling": lambda: figures.filling({"static": STATIC, "ring of 3": RING}, "title"),
        "ring": lambda: figures.ring({2: RING[0], 4: RING[2]}, "title"),
        "logit_errors": lambda: figures.logit_errors(errors, {"right": 4.1, "wrong": 5.0}, prompt=3),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    assert figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    assert figure.axes[0].get_ylabel()
    assert figure.axes[-1].get_xlabel()


def test_the_fitted_slope_is_the_exponent_of_a_power():
    contexts = [100, 512, 1024, 2048]
    assert figures.exponent(contexts, [7.0, *(3e-5 * n**1.5 for n in contexts[1:])], since=512) == pytest.approx(1.5)


def test_the_slopes_are_in_the_legend(drawn):
    draw_all()["time_per_token"]()
    texts = [text.get_text() for text in drawn().axes[0].get_legend().get_texts()]
    assert texts == ["no cache: slope 1.0", "cache: slope 0.0"]


def test_a_position_is_printed_once_where_it_is_written(drawn):
    draw_all()["filling"]()
    static, ring = drawn().axes
    written = [(text.get_position(), text.get_text()) for text in static.texts]
    assert written == [((0, 0), "0"), ((1, 0), "1"), ((2, 1), "2"), ((3, 2), "3")]
    assert ((0, 2), "3") in [(text.get_position(), text.get_text()) for text in ring.texts]


def test_the_arrow_of_a_ring_points_to_the_oldest_token(drawn):
    figures.ring({4: RING[2]}, "title")
    (arrow,) = [text for text in drawn().axes[0].texts if not text.get_text()]
    labels = {text.get_text(): text.get_position() for text in drawn().axes[0].texts if text.get_text()}
    x, y = labels["1"]  # positions 3, 1, 2 are in the ring
    assert arrow.xy[0] * y == pytest.approx(arrow.xy[1] * x) and arrow.xy[0] * x + arrow.xy[1] * y > 0
