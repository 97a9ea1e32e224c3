"""Pictures of chapter 10: they can be drawn, say what to see, and show the numbers they are given."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch10_the_gpt import figures
from pocketgpt.models.presets import preset

COUNTS = {"a": {"embedding": 30, "head": 30, "attention": 40}, "b": {"embedding": 1, "feed-forward": 3}}


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    return {
        "parameters_by_part": lambda: figures.parameters_by_part(COUNTS, "Shares"),
        "lens_map": lambda: figures.lens_map([["x", "y"]] * 3, torch.rand(3, 2), ["a", "b"], "Lens"),
        "loss_by_depth": lambda: figures.loss_by_depth(torch.rand(5), torch.rand(5), 0.7, "Depth"),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    panels = drawn().axes
    assert drawn().get_suptitle() or panels[0].get_title(loc="left")
    assert panels[0].get_xlabel() and panels[0].get_ylabel()


def test_the_shares_of_a_model_fill_its_bar(drawn):
    figures.parameters_by_part(COUNTS, "Shares")
    widths = [bar.get_width() for bar in drawn().axes[0].patches]
    assert sum(widths) == pytest.approx(200) and sorted(widths)[-1] == pytest.approx(75)


def test_the_table_is_computed_from_configs(capsys):
    models = {"gpt2": preset("gpt2").resolved(), "mine": preset("pocket", n_layers=7, norm_weight=True).resolved()}
    figures.comparison(models, in_all=lambda config: config.n_layers * 1000)
    rows = {line[:24].strip(): line[24:].split() for line in capsys.readouterr().out.splitlines()}
    assert rows["positions"] == ["learned", "rope"]
    assert rows["norm"] == ["LayerNorm", "RMSNorm"]
    assert rows["in all"] == ["12,000", "7,000"]
    assert rows["cache, numbers a token"] == [str(2 * 12 * 768), str(2 * 7 * 2 * 64)]


@pytest.mark.parametrize("name", ["gpt2", "llama", "brain", "pocket", "pocket-shakespeare", "smollm2-135m"])
def test_every_value_of_the_table_fits_its_column(name):
    for value in figures.ROWS.values():
        assert len(str(value(preset(name).resolved()))) < 22
