"""The pictures of chapter 11 can be drawn and say what to see; its stored experiments are the declared ones."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from torch.nn import functional as F

from pocketgpt.course.ch11_generation import experiments, figures
from pocketgpt.course.lab.pocket import pocket_model

WORDS = [f" word{i}" for i in range(30)]


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    some = torch.randn(30).softmax(0)
    texts = {"greedy": [1, 2, 3, 4, 5] * 4, "other": list(range(20))}
    return {
        "bars": lambda: figures.bars({"one": some, "two": some.square() / some.square().sum()}, WORDS, "title"),
        "one panel of bars": lambda: figures.bars({"one": some}, WORDS, "title"),
        "nucleus_sizes": lambda: figures.nucleus_sizes(torch.randint(1, 900, (50,)), 0.9, 40),
        "loops": lambda: figures.loops(texts),
        "by_temperature": lambda: figures.by_temperature(experiments.measured_texts()),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    assert figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    assert figure.axes[0].get_ylabel() and figure.axes[-1].get_xlabel()


def test_the_last_bar_is_all_other_tokens(drawn):
    some = torch.randn(30).softmax(0)
    figures.bars({"one": some}, WORDS, "title", shown=4)
    widths = [bar.get_width() for bar in drawn().axes[0].patches]
    assert sum(widths) == pytest.approx(1)
    assert widths[:4] == pytest.approx(some.sort(descending=True).values[:4].tolist())


def test_a_loop_of_five_tokens_makes_dots_five_places_apart(drawn):
    figures.loops({"greedy": [1, 2, 3, 4, 5] * 4, "other": list(range(20))})
    looping, other = (axes.collections[0].get_offsets() for axes in drawn().axes)
    assert len(looping) > 0 and all(abs(x - y) % 5 == 0 for x, y in looping)
    assert len(other) == 0


def test_repeated_4_grams_are_those_that_occurred_before():
    assert experiments.repeated_4_grams(list(range(20))) == 0
    assert experiments.repeated_4_grams([7] * 13) == 1 - 1 / 10


def test_surprise_is_the_loss_and_entropy_that_of_the_distribution():
    model, tokens = pocket_model(), torch.arange(300, 320)
    surprise, entropy = experiments.surprise_and_entropy(model, tokens[:5].tolist(), tokens[5:].tolist())
    with torch.no_grad():
        logits = model(tokens[None, :-1])[0, 4:]
    torch.testing.assert_close(surprise, F.cross_entropy(logits, tokens[5:], reduction="none"))
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=logits).entropy())


def test_the_stored_experiments_have_every_setting_and_greedy_is_measured_anew():
    stored = experiments.measured_texts()
    assert list(stored) == [*experiments.SETTINGS, experiments.SHAKESPEARE]
    model = pocket_model()
    again = experiments.measure(model, experiments.written_by(model, experiments.Sampler(temperature=0.0), 0))
    assert (stored["T = 0"].repeated, stored["T = 0"].surprise) == pytest.approx(tuple(again[:2]), abs=2e-3)
