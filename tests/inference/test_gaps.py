"""Gaps: `___` is a token that the model fills in from both sides, the surest one first."""

import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.inference.gaps import encode_gaps, fill_gaps
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.bert import BERT
from pocketgpt.models.stack import ContextError
from pocketgpt.text.tokenizer import load_tokenizer

MASK = 4096


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("shakespeare")


@pytest.mark.parametrize(
    "text", ["To be, or not to ___, that is the ___", "___ be ______", "No gap", "", "___", "a___b"]
)
def test_a_gap_is_the_mask_and_the_rest_is_the_text(text, tokenizer):
    tokens = encode_gaps(text, tokenizer, MASK)
    assert tokens.count(MASK) == text.count("___")
    shown = "".join("___" if token == MASK else tokenizer.decode([token]) for token in tokens)
    assert shown == text.replace(" ___", "___")


def test_the_space_before_a_gap_belongs_to_the_missing_word(tokenizer):
    [word] = tokenizer.encode(" love")
    tokens = encode_gaps("I ___ thee", tokenizer, MASK)
    assert tokenizer.decode([word if token == MASK else token for token in tokens]) == "I love thee"


class Oracle(BERT):
    """Knows that the token at place p is p, for even places at once, for odd ones when their neighbors are there."""

    def __init__(self, config):
        super().__init__(config)
        self.seen = []

    def forward(self, tokens):
        self.seen.append(tokens[0].tolist())
        logits = torch.zeros(1, tokens.shape[1], self.config.vocab_size)
        logits[..., 60] = 30.0  # the mask itself, were it allowed
        row = tokens[0].tolist()
        for place, token in enumerate(row):
            sure = place % 2 == 0 or 60 not in row[place - 1 : place] + row[place + 1 : place + 2]
            logits[0, place, place if sure else 40] = 10.0 + place / 10 if sure else 1.0
            assert token in (place, 60)
        return logits


def test_the_surest_gap_is_filled_first_and_seen_by_the_others(small):
    oracle = Oracle(small("pocket-bert"))
    assert fill_gaps(oracle, [0, 60, 60, 3, 60, 5], 60) == list(range(6))
    assert oracle.seen == [[0, 60, 60, 3, 60, 5], [0, 60, 60, 3, 4, 5], [0, 60, 2, 3, 4, 5]]


def test_the_rest_of_the_text_stays_and_no_mask_is_left(small, lively):
    model, tokens = lively(small("pocket-bert")), [3, 60, 5, 60, 60, 9]
    filled = fill_gaps(model, tokens, 60)
    assert [filled[place] for place in (0, 2, 5)] == [3, 5, 9] and 60 not in filled
    assert fill_gaps(model, [3, 5], 60) == [3, 5]


def test_the_same_seed_draws_the_same_words_and_training_mode_returns(small, lively):
    model = lively(small("pocket-bert", dropout=0.3)).train()
    drawn = [fill_gaps(model, [60] * 9, 60, sampler=Sampler(temperature=3.0), seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert model.training


def test_what_cannot_be_filled_is_refused(small, lively):
    with pytest.raises(PocketError, match="causal model does not see the text after a gap"):
        fill_gaps(lively(small("llama")), [60], 60)
    damaged = lively(small("pocket-bert"))
    damaged.head.bias.data[7] = torch.nan
    with pytest.raises(PocketError, match="logits are NaN"):
        fill_gaps(damaged, [60], 60)
    with pytest.raises(ContextError, match="25 tokens are more than the 24"):
        fill_gaps(lively(small("pocket-bert")), [60] * 25, 60)
    with pytest.raises(PocketError, match="contains token 61, and the vocabulary has ids 0 to 60"):
        fill_gaps(lively(small("pocket-bert")), [61, 60], 60)
