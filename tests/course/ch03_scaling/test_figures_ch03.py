"""The theory that chapter 03 draws over the measurements, held against samples; and that its pictures can be drawn."""

import math

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch03_scaling import figures as scaling


def weights_of_normal_scores(sigma: float, queries: int, n_keys: int) -> torch.Tensor:
    return (sigma * torch.randn(queries, n_keys, dtype=torch.float64)).softmax(-1)


def test_two_numbers_tie_with_the_density_of_their_difference():
    assert scaling.tie_density(2) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-6)


@pytest.mark.parametrize("n_keys", [3, 16, 64])
def test_large_scores_leave_the_gradient_and_entropy_of_near_ties(n_keys):
    sigma = 40.0
    p = weights_of_normal_scores(sigma, 200_000, n_keys)
    expected = scaling.tie_density(n_keys) / sigma
    assert (p * (1 - p)).sum(-1).mean().item() == pytest.approx(expected, rel=0.05)
    assert torch.special.entr(p).sum(-1).mean().item() == pytest.approx(expected * math.pi**2 / 6, rel=0.05)


def test_small_scores_leave_the_entropy_and_gradient_of_the_random_energy_model():
    n_keys, sigma = 4096, 1.0
    p = weights_of_normal_scores(sigma, 500, n_keys)
    assert torch.special.entr(p).sum(-1).mean().item() == pytest.approx(math.log(n_keys) - sigma**2 / 2, abs=0.01)
    assert p.square().sum(-1).mean().item() == pytest.approx(math.exp(sigma**2) / n_keys, rel=0.05)


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    p = torch.rand(2, 3, 5)
    return {
        "weights_by_width": lambda: scaling.weights_by_width(torch.randn(5), [1, 9]),
        "jacobians": lambda: scaling.jacobians(torch.randn(3, 4, 4), ["a", "b", "c"]),
        "against_width": lambda: scaling.against_width([1, 4, 16], torch.rand(2, 3) + 0.1, p, p, n_keys=8),
        "learning_curves": lambda: scaling.learning_curves(torch.rand(2, 2, 3, 20), ["a", "b"], 2.0),
        "entropy_by_layer": lambda: scaling.entropy_by_layer(torch.rand(2, 4), 3.0),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert figure.get_suptitle() or panels[0].get_title(loc="left")
    assert panels[0].get_ylabel() and panels[-1].get_xlabel()
