"""The pictures of chapter 07 can be drawn and say what to see; its stored experiment is the declared one."""

import json

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch07_positions import experiments, figures
from pocketgpt.course.siblings.family import SIBLINGS
from pocketgpt.layers.positions import SinusoidalPositions, sinusoids


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    table = torch.randn(12, 6)
    losses = {kind: {64: [2.0, 2.1], 128: [2.2, 2.3], 256: [2.4, 2.5]} for kind in figures.KINDS}
    losses["learned"] = {64: [1.9, 1.8]}
    return {
        "table_image": lambda: figures.table_image(table),
        "similarities": lambda: figures.similarities({"a": table, "b": table[:9]}, [0, 2, 4], "title"),
        "hands": lambda: figures.hands(table[:3], table[3:6], steps=3),
        "losses_by_length": lambda: figures.losses_by_length(losses),
        "size_curves": lambda: figures.size_curves({"a": table, "b": table}, 10, "title"),
        "repeated": lambda: figures.repeated({"learned": table[0], "b": table[1]}, list("abcabc"), 2, "title"),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert figure.get_suptitle() or panels[0].get_title(loc="left")
    assert panels[0].get_ylabel() and panels[-1].get_xlabel()


def test_similarities_are_drawn_from_each_start_over_the_distance(drawn):
    table = sinusoids(torch.arange(20), 8)
    figures.similarities({"sinusoids": table}, [0, 3], "title")
    first, second = drawn().axes[0].lines
    assert len(first.get_ydata()) == 17
    torch.testing.assert_close(torch.tensor(second.get_ydata()[5]), table[3] @ table[8])


def test_the_stored_experiment_has_every_variant_seed_and_step():
    stored = json.loads(experiments.RESULTS.read_text())
    assert list(stored) == list(experiments.VARIANTS)
    for seeds in stored.values():
        assert len(seeds) == len(experiments.SEEDS)
        assert all(len(seed["curve"]) == experiments.STEPS // 10 for seed in seeds)


def test_a_variant_begins_with_the_size_that_it_names_and_is_the_library_s_sum():
    variant = "embedding of 0.02 times √d_model"
    model, d_model = experiments.new_model(variant, seed=0), SIBLINGS["sinusoidal"].d_model
    assert model.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    x, positions = torch.randn(2, 3, d_model), torch.arange(3)[None]
    torch.testing.assert_close(model.positions(x, positions), SinusoidalPositions()(x, positions))
    as_in_2017 = experiments.new_model("embedding of 1/√d_model times √d_model", seed=0)
    assert as_in_2017.embedding.weight.std().item() == pytest.approx(d_model**-0.5, rel=0.05)
