"""Masked words: which tokens are chosen, what the model sees of them, and where the loss is measured."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pocketgpt.models.bert import BertConfig
from pocketgpt.models.classes import build_model
from pocketgpt.models.gpt import GPT
from pocketgpt.training.masked_words import MaskedWordsLoss, choose, hide

MASK = 257


@pytest.fixture
def bert(config):
    values = {name: getattr(config, name) for name in ("vocab_size", "d_model", "n_layers", "max_seq_len", "mixer")}
    return build_model(BertConfig(**values | {"vocab_size": MASK + 1})).eval()


class Recorder(nn.Module):
    """A model that records what it sees, and gives every token the same probability."""

    def __init__(self, config):
        super().__init__()
        self.config, self.seen = config, []
        self.head = nn.Linear(4, config.vocab_size, bias=False)
        nn.init.zeros_(self.head.weight)

    def features(self, tokens):
        self.seen.append(tokens)
        return torch.ones(*tokens.shape, 4)


@pytest.mark.parametrize(("seq", "n_chosen"), [(1, 1), (3, 1), (10, 2), (64, 10), (100, 15), (256, 38)])
def test_a_fixed_number_of_different_places_is_chosen_in_every_row(seq, n_chosen):
    places = choose(torch.zeros(50, seq, dtype=torch.long))
    assert places.shape == (50, n_chosen)
    assert all(len(set(row)) == n_chosen for row in places.tolist())
    assert places.min() >= 0 and places.max() < seq


def test_every_place_is_chosen_equally_often_and_rows_differ():
    places = choose(torch.zeros(20_000, 20, dtype=torch.long))  # 3 of 20
    counts = F.one_hot(places, 20).sum(dim=(0, 1))
    assert (counts / 20_000 - 0.15).abs().max() < 0.0125  # five standard errors
    assert len({tuple(sorted(row)) for row in places[:50].tolist()}) > 40


def test_dice_decide_between_mask_another_token_and_the_token_itself():
    words, others = torch.arange(7), torch.arange(7) + 100
    dice = torch.tensor([0.0, 0.5, 0.799, 0.801, 0.899, 0.901, 0.999])
    assert hide(words, dice, others, MASK).tolist() == [MASK, MASK, MASK, 103, 104, 5, 6]
    assert words.tolist() == list(range(7))


def test_of_a_hundred_tokens_15_are_chosen_and_12_hidden(bert):
    recorder = Recorder(bert.config)
    text = torch.zeros(2000, 100, dtype=torch.long)
    MaskedWordsLoss(recorder)(text, text)
    [seen] = recorder.seen
    masked, other = (seen == MASK), (seen != text) & (seen != MASK)
    # Five standard errors of the means over 2,000 rows of 15 draws each.
    assert masked.float().sum(1).mean().item() == pytest.approx(15 * 0.8, abs=0.18)
    assert other.float().sum(1).mean().item() == pytest.approx(15 * 0.1 * 256 / 257, abs=0.14)
    assert (masked | other).sum(1).max() <= 15
    assert len(seen[other].unique()) > 250  # any token


def test_a_token_is_never_replaced_by_the_mask(bert, monkeypatch):
    monkeypatch.setattr("pocketgpt.training.masked_words.HIDDEN", 0.0)
    recorder = Recorder(bert.config)
    MaskedWordsLoss(recorder)(*2 * [torch.zeros(2000, 100, dtype=torch.long)])  # 3,000 are replaced
    assert (recorder.seen[0] < MASK).all()


def test_loss_is_cross_entropy_at_the_chosen_places_only(bert, monkeypatch):
    """The whole matrix of logits, and −100 wherever nothing was chosen, as others compute it."""
    text, draws = torch.randint(257, (3, 32)), {}

    def recorded(name, function):
        def call(*args):
            draws[name] = function(*args)
            return draws[name]

        return call

    module = "pocketgpt.training.masked_words"
    monkeypatch.setattr(f"{module}.choose", recorded("places", choose))
    monkeypatch.setattr(f"{module}.hide", recorded("seen", hide))
    loss = MaskedWordsLoss(bert)(text, text)
    labels, inputs = torch.full_like(text, -100), text.clone()
    for row, places in enumerate(draws["places"].tolist()):
        for column, place in enumerate(places):
            labels[row, place] = text[row, place]
            inputs[row, place] = draws["seen"][row, column]
    assert (labels != -100).sum() == 3 * 5
    expected = F.cross_entropy(bert(inputs).transpose(1, 2), labels, ignore_index=-100)
    torch.testing.assert_close(loss, expected)


def test_two_parts_of_a_step_add_up_to_the_mean(bert):
    text = torch.randint(257, (6, 20))
    torch.manual_seed(1)
    parts = [MaskedWordsLoss(bert)(part, part, n_targets=text.numel()) for part in text.split([2, 4])]
    torch.manual_seed(1)
    means = [MaskedWordsLoss(bert)(part, part) for part in text.split([2, 4])]
    torch.testing.assert_close(sum(parts), means[0] / 3 + means[1] * 2 / 3)


def test_equal_seeds_hide_the_same_tokens(bert):
    text, losses = torch.randint(257, (3, 32)), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(MaskedWordsLoss(bert)(text, text).item())
    assert losses[0] == losses[1] != losses[2]


def test_a_gpt_without_causal_mask_learns_them_too(config):
    model = GPT(replace(config, vocab_size=258, causal=False))
    text = torch.randint(257, (3, 32))
    MaskedWordsLoss(model)(text, text).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
