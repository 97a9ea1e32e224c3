"""The pictures of chapter 08 can be drawn and say what to see; its stored experiments are the declared ones."""

import json
import math

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch08_rope import experiments, figures
from pocketgpt.course.lab.pocket import pocket_model
from pocketgpt.layers.rope import frequencies
from pocketgpt.layers.rope_scaling import RopeConfig

FREQUENCIES = frequencies(8, RopeConfig(), 16)


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    losses = {"plain": [4.0, 5.0], "linear 4": [5.0, 5.0], "window 256": [3.0, 3.0]}
    copies = {"plain": {64: 1.0, 128: 2.0}, "yarn 4": {64: 1.0, 128: 1.5}}
    return {
        "clocks": lambda: figures.clocks(FREQUENCIES, [[0], [5]], "title"),
        "angles_by_position": lambda: figures.angles_by_position(FREQUENCIES, 16, 100),
        "scores_by_distance": lambda: figures.scores_by_distance(
            {0: torch.rand(9), 5: torch.rand(9)}, torch.rand(3, 9)
        ),
        "errors_by_position": lambda: figures.errors_by_position([10, 100], {"float32": torch.tensor([1e-6, 1e-4])}),
        "loss_by_position": lambda: figures.loss_by_position(losses, 256, 256, "title"),
        "copies_by_distance": lambda: figures.copies_by_distance(copies, 100, 1.5, "title"),
        "layouts": lambda: figures.layouts(8),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert figure.get_suptitle() or panels[0].get_title(loc="left")
    assert panels[0].get_ylabel()
    assert panels[-1].get_xlabel() or figure.get_supxlabel()


def test_hands_begin_at_twelve_and_turn_clockwise_by_position_times_frequency(drawn):
    figures.clocks(FREQUENCIES, [[0], [7]], "title")
    dials = drawn().axes
    for pair, frequency in enumerate(FREQUENCIES.tolist()):
        for row, position in ((0, 0), (1, 7)):
            (hand,) = dials[row * len(FREQUENCIES) + pair].lines
            tip = hand.get_xdata()[1], hand.get_ydata()[1]
            assert tip == pytest.approx((math.sin(position * frequency), math.cos(position * frequency)))


def test_the_angle_between_two_hands_is_that_of_the_distance(drawn):
    figures.clocks(FREQUENCIES, [[103, 100]], "title")
    for axes, frequency in zip(drawn().axes, FREQUENCIES.tolist(), strict=True):
        wedge = axes.patches[1]
        assert wedge.theta2 - wedge.theta1 == pytest.approx(math.degrees(3 * frequency))


def test_the_stored_experiments_have_every_variant_bin_and_distance():
    stored = json.loads(experiments.RESULTS.read_text())
    assert list(stored["by position"]) == [*experiments.ROPES, *experiments.WINDOWS]
    assert all(len(losses) == experiments.LONG // experiments.BIN for losses in stored["by position"].values())
    assert list(stored["copies"]) == list(experiments.COPYING)
    assert all(tuple(map(int, each)) == experiments.DISTANCES for each in stored["copies"].values())


@torch.inference_mode()
def test_up_to_the_trained_length_plain_dynamic_and_window_are_the_shipped_model():
    tokens = torch.arange(20)[None]
    for variant in ("plain", "dynamic", "window 256"):
        logits = experiments.long_model(variant)(tokens)
        torch.testing.assert_close(logits, pocket_model()(tokens), rtol=1e-4, atol=1e-4)


def test_a_text_with_a_copy_repeats_its_beginning_at_the_distance():
    plays = [torch.arange(1000), torch.arange(1000, 2000)]
    texts = experiments.texts_with_a_copy(plays, 100, torch.Generator().manual_seed(0))
    assert texts.shape == (experiments.TEXTS, 100 + experiments.COPIED)
    assert torch.equal(texts[:, : experiments.COPIED], texts[:, 100:])
