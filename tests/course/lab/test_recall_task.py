from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from pocketgpt.course.lab.recall_task import (
    N_PAIRS,
    N_SYMBOLS,
    RECIPE,
    recall_accuracy,
    recall_texts,
    train_recall,
)
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.models.gpt import GPT


class LookUp(nn.Module):
    """Answers with the token that followed the first occurrence of the newest one, or with another offset from it."""

    def __init__(self, offset: int = 1) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        first = (tokens[:, None] == tokens[..., None]).int().argmax(dim=-1)  # (B, T)
        found = tokens.gather(1, (first + self.offset).clamp(0, tokens.shape[1] - 1))
        return F.one_hot(found, 2 * N_SYMBOLS).float()


def test_texts_ask_for_every_pair_once_in_another_order():
    texts = recall_texts(50, torch.Generator().manual_seed(0))
    assert texts.shape == (50, 4 * N_PAIRS)
    moved = 0
    for text in texts.tolist():
        pairs = [tuple(text[i : i + 2]) for i in range(0, len(text), 2)]
        first, second = pairs[:N_PAIRS], pairs[N_PAIRS:]
        assert sorted(first) == sorted(second) and len({key for key, _ in first}) == N_PAIRS
        assert all(key < N_SYMBOLS <= value < 2 * N_SYMBOLS for key, value in pairs)
        moved += first != second
    assert moved > 40


def test_looking_up_the_key_is_right_and_repeating_it_is_wrong():
    assert recall_accuracy(LookUp()) == 1.0
    assert recall_accuracy(LookUp(offset=0)) == 0.0


def test_training_learns_which_symbols_are_values_within_a_few_steps():
    recipe = replace(RECIPE, steps=25)
    model = train_recall(AttentionConfig(n_heads=2), recipe=recipe)
    assert isinstance(model, GPT) and not model.training
    # Any of the values in the text is right three times in ten; a value at random one time in sixteen.
    assert recall_accuracy(model, 200) > 0.15
