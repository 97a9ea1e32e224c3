"""The pictures of the exam can be drawn and say what to see; what is measured after it tells blocks apart."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch25_exam import experiments, figures
from pocketgpt.course.syllabus import find_exercise

BLOCK = find_exercise("parallel_block")


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def test_the_two_blocks_are_named(drawn):
    figures.two_blocks()
    assert "same norm" in drawn().get_suptitle()
    texts = [text.get_text() for axes in drawn().axes for text in axes.texts]
    assert texts.count("norm") == 3 and texts.count("attention") == texts.count("feed-forward") == 2


def test_the_map_of_a_change_says_how_far_a_block_carries_it(drawn):
    figures.reach_map(torch.rand(4, 24), changed=4, window=5)
    assert "4 positions further" in drawn().axes[0].get_title(loc="left")
    assert drawn().axes[0].get_xlabel() and drawn().axes[0].get_ylabel()


def test_each_block_carries_a_change_one_window_further_and_never_back():
    changes = experiments.reach(BLOCK.finished_answer, experiments.small_config(3, window=5), seq=24, changed=4)
    assert [row.gt(1e-5).nonzero().flatten().tolist() for row in changes] == [
        list(range(4, last + 1)) for last in (4, 8, 12, 16)
    ]


def test_a_window_that_lets_the_future_in_reaches_back():
    mistakes = {each.name: each.function for each in find_exercise("window_attention").mistakes}

    def leaking(*inputs):
        return BLOCK.assemble(*inputs, window_attention=mistakes["future_in_the_window"])

    changes = experiments.reach(leaking, experiments.small_config(1, window=3), seq=12, changed=6)
    assert changes[1].gt(1e-5).nonzero().flatten().tolist() == [4, 5, 6, 7, 8]


def test_the_loss_of_a_new_model_is_that_of_one_that_knows_nothing_and_falls():
    losses = experiments.train(BLOCK.finished_answer, experiments.small_config(), steps=6)
    assert losses[0] == pytest.approx(torch.tensor(77.0).log().item(), abs=0.05)
    assert losses[-1] < losses[0] - 0.3


def test_means_are_taken_over_equal_parts():
    assert experiments.means([1.0, 3.0, 5.0, 7.0, 9.0, 11.0], 3) == [2.0, 6.0, 10.0]
