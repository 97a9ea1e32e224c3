"""Siblings differ in one part, have equally many parameters, and are trained."""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.assets import asset
from pocketgpt.course.lab import character_tokenizer, sibling, sibling_losses
from pocketgpt.course.lab.reporting import before_and_after, loss_and_leaks, trained
from pocketgpt.course.siblings.family import CHARACTERS, OBJECTIVE_OF, SIBLINGS, TRAINED_LENGTH
from pocketgpt.course.siblings.train import card, held_out_losses
from pocketgpt.errors import PocketError
from pocketgpt.models.gpt import GPT


def test_siblings_have_equally_many_active_parameters():
    sizes = {name: GPT(config).n_active_params() for name, config in SIBLINGS.items()}
    base = sizes.pop("base")
    assert sizes.pop("learned") - base == TRAINED_LENGTH * SIBLINGS["learned"].d_model
    assert base - sizes.pop("post_norm") == SIBLINGS["post_norm"].d_model  # the norm before the head
    for name in ("delta", "latent"):
        assert 0 < sizes.pop(name) - base < base / 1000  # widths are whole numbers
    assert GPT(SIBLINGS["mixture"]).n_params() > 1.6 * base
    for name in OBJECTIVE_OF:
        assert sizes.pop(name) - base == SIBLINGS[name].d_model  # the mask
    assert set(sizes.values()) == {base}


@pytest.mark.parametrize("name", [name for name in SIBLINGS if name not in OBJECTIVE_OF])
def test_each_is_trained_and_causal(name):
    subject = trained(name)
    assert subject.model.config == SIBLINGS[name].resolved()
    loss, leaks = loss_and_leaks(subject.model, subject.windows)
    assert loss < 2.6 and leaks == 0  # guessing has ln 78 = 4.36


@pytest.mark.parametrize("name", SIBLINGS)
def test_losses_are_of_three_seeds_and_every_length(name):
    losses = sibling_losses()[name]
    assert list(losses) == [length for length in (64, 128, 256) if length <= SIBLINGS[name].max_seq_len]
    for seeds in losses.values():
        assert len(seeds) == 3 and all(1 < loss < math.log(78) for loss in seeds)


def test_the_card_shows_the_losses_of_every_seed():
    losses = json.loads(asset("siblings/losses.json").read_text(encoding="utf-8"))
    assert asset("siblings/README.md").read_text(encoding="utf-8").startswith(card(losses))


def test_all_siblings_together_are_small():
    files = [path for path in asset("siblings").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000


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


def test_an_objective_with_random_masks_draws_the_same_ones_for_every_model():
    model = GPT(SIBLINGS["diffusion"]).eval()
    torch.nn.init.zeros_(model.embedding.weight)
    text = torch.randint(78, (16 * 256 + 1,))
    once, again = (held_out_losses(model, text, "masked-diffusion") for _ in range(2))
    assert once == again
    assert list(once.values()) == pytest.approx([math.log(78)] * 3, rel=0.1)  # the mask is not one of the 78


def test_the_diffusion_sibling_fills_gaps_better_than_the_frequencies_of_letters():
    model, tokens = trained("diffusion").model, trained("diffusion").windows
    hidden = torch.arange(TRAINED_LENGTH) % 4 == 2  # every fourth character
    with torch.no_grad():
        logits = model(tokens.masked_fill(hidden, len(CHARACTERS)))[..., :-1]
    assert F.cross_entropy(logits[:, hidden].flatten(0, 1), tokens[:, hidden].flatten()).item() < 2.5  # 3.35


def test_a_transplant_report_names_the_window_of_the_sibling(capsys):
    before_and_after(model="base", attention_scores=lambda q, k: q @ k.mT, new_tokens=3)
    printed = capsys.readouterr().out
    assert "0 of 63" in printed and "The loss rose" in printed
