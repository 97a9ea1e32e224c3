"""The pictures of chapter 04 can be drawn, say what to see, and name their axes."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch04_multi_head_attention import figures


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


WORDS = ["To", "·be", ",", "$", "↵"]
NAMES = {(1, 2): "previous token"}


def draw_all():
    maps = torch.rand(2, 3, 5, 5).tril()
    return {
        "heads_and_one": lambda: figures.heads_and_one(maps, WORDS, (1, 2), NAMES),
        "named_heads": lambda: figures.named_heads({"1.2 previous token": (0.7, 0.2), "1.0 induction": (0.4, 0.1)}),
        "importance_map": lambda: figures.importance_map(torch.randn(2, 3), NAMES, torch.rand(2)),
        "heads_dropped": lambda: figures.heads_dropped({"a": {0: 4.0, 6: 5.0}, "b": {0: 4.0, 6: 5.0}}, 4.0),
        "loudness": lambda: figures.loudness(torch.rand(2, 3), torch.rand(2, 3), [(1, 2)]),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert figure.get_suptitle() or panels[0].get_title(loc="left")
    assert any(axes.get_xlabel() for axes in panels)
    assert any(axes.get_ylabel() or len(axes.get_yticklabels()) > 1 for axes in panels)


def test_a_number_keeps_the_color_of_its_token_in_every_head(drawn):
    x = torch.arange(8.0).view(2, 4)
    right = x.view(2, 2, 2).transpose(0, 1)
    figures.heads_of_tokens(x, {"yours": right})
    tokens, heads = drawn().axes
    color = {text.get_text(): patch.get_facecolor() for text, patch in zip(tokens.texts, tokens.patches, strict=True)}
    numbers = [text for text in heads.texts if not text.get_text().startswith("head")]
    assert len(numbers) == len(heads.patches) == 8
    for text, patch in zip(numbers, heads.patches, strict=True):
        assert patch.get_facecolor() == color[text.get_text()]


def test_the_chosen_head_is_framed_and_enlarged_with_its_name(drawn):
    draw_all()["heads_and_one"]()
    titles = [axes.get_title(loc="left") for axes in drawn().axes]
    assert any("Head 1.2, enlarged: previous token" in title for title in titles)


def test_a_share_of_nothing_says_so(drawn):
    figures.named_heads({"3.0 induction": (float("nan"), float("nan"))})
    assert "no such token in this text" in [text.get_text() for text in drawn().axes[0].texts]


@pytest.mark.parametrize(("delta", "shown"), [(0.0894, "+0.089"), (-0.0072, "−0.007"), (-0.0002, "0.000")])
def test_differences_have_a_sign_unless_they_round_to_zero(delta, shown):
    assert figures._signed(delta) == shown
