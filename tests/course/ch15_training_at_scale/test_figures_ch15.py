"""The pictures of chapter 15 can be drawn and say what to see; the stored table is complete."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch15_training_at_scale import effects, figures
from pocketgpt.course.ch15_training_at_scale.two_processes import Result
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.training.loss import NextTokenLoss


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    parts = {"weights": 3.0, "kept for the backward pass": 9.0}
    return {
        "agreement": lambda: figures.agreement([4, 12, 128], [0.3, 0.6, 1.0], [2.0, 1.3, 1.0], 256),
        "float16_range": lambda: figures.float16_range(torch.randn(500) * 1e-6, 1.0),
        "memory_bars": lambda: figures.memory_bars({"float32": parts, "bf16": parts}, "title"),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    assert figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    assert figure.axes[0].get_ylabel()
    assert figure.axes[-1].get_xlabel()


def test_the_map_of_a_step_has_the_exercises_of_the_chapter(drawn):
    figures.training_step_map()
    texts = " ".join(text.get_text() for text in drawn().axes[0].texts)
    assert all(f"15.{number}" in texts for number in range(1, 6))


def test_the_title_counts_what_float16_loses(drawn):
    gradients = torch.tensor([1e-9, 1e-9, 1e-3, 1.0])
    figures.float16_range(gradients, 1.0)
    title = drawn().axes[0].get_title(loc="left")
    assert title == "Scale 2^0: float16 turns 50.0 % of the gradients into 0, none overflow"
    figures.float16_range(gradients, 2.0**20)
    assert drawn().axes[0].get_title(loc="left").endswith("0.0 % of the gradients into 0, 1 overflow")


def test_every_shown_variant_is_stored():
    stored = {row["variant"] for row in effects.stored_report()["rows"]}
    assert set(effects.SHOWN) <= stored


def test_the_table_has_a_row_for_each_technique_also_where_little_could_be_measured():
    one = Result({}, {"one": 0.02}, {"one": 4096})
    two = Result({}, {"ddp": 0.03, "fsdp": 0.06}, {"ddp": 4096, "fsdp": 2048})
    lines = effects.effects_table({"float32": 1.5}, {"float32": None}, one, two, [0.08, 0.002]).splitlines()
    names = [*effects.SHOWN.values(), *effects.PROCESSES.values(), "float16 with a loss scale"]
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in names)
    assert "1,500 ms" in lines[2] and "2 KiB" in lines[-4]
    assert effects.effects_table({}, {}, one, Result(problem="no"), [0.0, 0.0])


def small_model() -> GPT:
    torch.manual_seed(0)
    parts = {"mixer": AttentionConfig(n_heads=2), "feedforward": FeedForwardConfig(d_ff=32)}
    return GPT(ModelConfig(vocab_size=31, d_model=16, n_layers=3, max_seq_len=16, **parts))


def test_kept_bytes_grow_with_the_batch_and_shrink_with_checkpointing():
    loss, tokens = NextTokenLoss(small_model()), torch.randint(31, (4, 17))
    one, four = (effects.kept_bytes(loss, tokens[:n, :-1], tokens[:n, 1:]) for n in (1, 4))
    assert 3 * one < four < 4.2 * one
    loss.model.recompute_blocks = True
    assert effects.kept_bytes(loss, tokens[:, :-1], tokens[:, 1:]) < 0.5 * four


def test_kept_bytes_of_a_matrix_product_are_those_of_its_input():
    layer, x = torch.nn.Linear(8, 4, bias=False), torch.randn(5, 8)

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, tokens, targets):
            return self.layer(tokens).sum()

    assert effects.kept_bytes(Loss(), x, x) == x.nbytes
