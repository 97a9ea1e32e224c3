import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pocketgpt.errors import PocketError
from pocketgpt.models.gpt import GPT
from pocketgpt.text.tokenizer import load_tokenizer
from pocketgpt.text.word_tokenizer import train_word_tokenizer
from pocketgpt.training.evaluate import Evaluation, evaluate, token_lengths
from pocketgpt.training.objectives import OBJECTIVES

TEXT = "Shall I compare thee to a summer’s day? Thou art more lovely and more temperate."


class Uniform(nn.Module):
    """Believes that every token is equally likely."""

    def __init__(self, vocab_size):
        super().__init__()
        self.vocab_size = vocab_size
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, tokens):
        return self.weight.expand(*tokens.shape, self.vocab_size)


def ids(tokenizer, text=TEXT):
    return np.array(tokenizer.encode(text), np.uint16)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_loss_is_the_mean_over_tokens_predicted_one_by_one(model, tokenizer, batch_size):
    tokens = ids(tokenizer)
    losses = []
    for position in range(1, len(tokens)):
        window = (position - 1) // 10 * 10
        context = torch.tensor(tokens[window:position].astype(np.int64))[None]
        with torch.no_grad():
            losses.append(F.cross_entropy(model(context)[0, -1], torch.tensor(int(tokens[position]))).item())
    result = evaluate(model, tokens, token_lengths(tokenizer), seq_len=10, batch_size=batch_size)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert result.tokens == len(losses)


def test_perplexity_of_knowing_nothing_is_the_size_of_the_vocabulary(tokenizer):
    result = evaluate(Uniform(257), ids(tokenizer), token_lengths(tokenizer), seq_len=8)
    assert result.perplexity == pytest.approx(257, rel=1e-5)


def test_bits_per_byte_divide_by_the_bytes_of_the_text():
    shakespeare = load_tokenizer("shakespeare")
    tokens = ids(shakespeare)
    result = evaluate(Uniform(4096), tokens, token_lengths(shakespeare), seq_len=8)
    n_bytes = len(TEXT.encode()) - len(shakespeare.token_bytes(int(tokens[0])))  # the first token is not predicted
    assert result.bits_per_byte == pytest.approx(12 * (len(tokens) - 1) / n_bytes, rel=1e-5)


def test_end_of_text_is_predicted_but_adds_no_bytes(tokenizer):
    tokens = np.append(ids(tokenizer, "abc"), np.uint16(tokenizer.end_of_text)).astype(np.uint16)
    result = evaluate(Uniform(257), tokens, token_lengths(tokenizer), seq_len=8)
    assert result.tokens == 3
    assert result.bits_per_byte == pytest.approx(3 * math.log2(257) / 2, rel=1e-5)


def test_dropout_is_off_during_evaluation_and_on_again_after(tokenizer):
    model = nn.Sequential(nn.Embedding(257, 257), nn.Dropout(0.5)).train()
    tokens = ids(tokenizer)
    first = evaluate(model, tokens, token_lengths(tokenizer), seq_len=8)
    assert first == evaluate(model, tokens, token_lengths(tokenizer), seq_len=8)
    assert model.training


@pytest.mark.parametrize("objective", ["next-token", "masked-words"])
def test_what_balances_the_experts_is_no_part_of_the_loss(small, tokenizer, objective):
    torch.manual_seed(0)
    causal, tokens = objective == "next-token", ids(tokenizer)
    model = GPT(small("pocket-moe", vocab_size=tokenizer.vocab_size + 1, causal=causal)).eval()
    arguments = {"seq_len": 10, "batch_size": 2, "objective": OBJECTIVES[objective]}
    before = evaluate(model, tokens, token_lengths(tokenizer), **arguments)
    window = torch.from_numpy(tokens[None, :11].astype(np.int64))
    step = OBJECTIVES[objective].build_loss(model.train())(window[:, :-1], window[:, 1:])
    assert all(block.feedforward.balance_loss > 0 for block in model.blocks) and step.requires_grad
    assert evaluate(model, tokens, token_lengths(tokenizer), **arguments) == before


def test_a_perplexity_beyond_all_numbers_is_infinite():
    assert Evaluation(loss=1e4, bits_per_byte=1e4, tokens=1).perplexity == math.inf


def test_one_token_is_too_little(model, tokenizer):
    with pytest.raises(PocketError, match="too short"):
        evaluate(model, ids(tokenizer, "a"), token_lengths(tokenizer), seq_len=8)


@pytest.mark.parametrize("text", ["ZZZZ", "It is,   so to say: (quite) easy!\n\n" * 3])
def test_bits_per_byte_count_the_bytes_of_a_text_that_the_tokenizer_loses(text):
    words = train_word_tokenizer([TEXT.lower() * 3], 40)
    tokens = ids(words, text)
    lengths = token_lengths(words, len(text.encode()) / len(tokens))
    result = evaluate(Uniform(40), tokens, lengths, seq_len=8)
    share = (len(tokens) - 1) / len(tokens)  # the first token is not predicted
    assert result.bits_per_byte == pytest.approx(math.log2(40) * (len(tokens) - 1) / (len(text) * share), rel=1e-5)


def test_a_lossless_tokenizer_counts_the_bytes_of_each_token(tokenizer):
    assert torch.equal(token_lengths(tokenizer, 3.0), token_lengths(tokenizer))
