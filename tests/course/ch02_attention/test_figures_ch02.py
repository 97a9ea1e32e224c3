"""Attention figures are drawn for any text, also for one of a single token."""

import matplotlib.pyplot as plt
import pytest
import torch

from pocketgpt.course.ch02_attention.figures import attention_grid, attention_map, looks_at


@pytest.mark.parametrize("words", [["·"], ["$$", "·costs", "$"]])
def test_a_text_of_any_length_is_drawn(words):
    weights = torch.ones(2, 3, len(words), len(words)).softmax(-1)
    attention_grid(weights, "title", {(0, 0): "a name"})
    attention_map(weights[0, 0], words, "title")
    looks_at(weights[0, 0, -1], words, "title")
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    assert [label.get_text() for label in plt.gca().get_xticklabels()] == words
    plt.close("all")
