"""Siblings differ in one part, have equally many parameters, and are trained."""

import math

import pytest
import torch

from pocketgpt.assets import asset
from pocketgpt.course.lab import character_tokenizer, sibling
from pocketgpt.course.lab.reporting import before_and_after
from pocketgpt.course.siblings.family import SIBLINGS, TRAINED_LENGTH
from pocketgpt.course.siblings.train import held_out_losses
from pocketgpt.errors import PocketError
from pocketgpt.models.gpt import GPT


def test_siblings_have_equally_many_parameters():
    sizes = {name: GPT(config).n_params() for name, config in SIBLINGS.items()}
    base = sizes.pop("base")
    assert sizes.pop("learned") - base == TRAINED_LENGTH * SIBLINGS["learned"].d_model
    assert base - sizes.pop("post_norm") == SIBLINGS["post_norm"].d_model  # the norm before the head
    assert set(sizes.values()) == {base}


def test_all_siblings_together_are_small():
    files = [path for path in asset("siblings").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_characters_go_back_and_forth_and_an_unknown_one_is_named():
    tokenizer = character_tokenizer()
    text = "ROMEO:\nWhat's in a name?"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    with pytest.raises(PocketError, match="'é'"):
        tokenizer.encode("café")
    with pytest.raises(PocketError, match="post_norm"):
        sibling("postnorm")


def test_losses_are_means_over_the_same_characters_at_every_length():
    model = GPT(SIBLINGS["no_positions"]).eval()
    torch.nn.init.zeros_(model.embedding.weight)  # the head is tied: every character has the same probability
    text = torch.randint(78, (400 * 256 + 1,))
    assert held_out_losses(model, text) == {length: round(math.log(78), 4) for length in (64, 128, 256)}


def test_a_transplant_report_names_the_window_of_the_sibling(capsys):
    before_and_after(model="base", attention_scores=lambda q, k: q @ k.mT, new_tokens=3)
    printed = capsys.readouterr().out
    assert "0 of 63" in printed and "The loss rose" in printed
