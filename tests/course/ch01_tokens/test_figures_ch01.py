"""Pictures of tokens lose no letter, and neighbors are those that PyTorch finds."""

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F

from pocketgpt.course.ch00_start_here.figures import next_token_bars
from pocketgpt.course.ch01_tokens.figures import COLUMNS, LETTER, colored_tokens, nearest
from pocketgpt.text.tokenizer import load_tokenizer


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_every_letter_is_drawn_in_order_and_within_the_page():
    tokens = [b"To", b" be", b"\n", b"\n", b"caf", b"\xc3", *[b" words"] * 40]
    colored_tokens(tokens, "")
    letters = plt.gca().texts[1:]  # the first is the title
    assert "".join(letter.get_text() for letter in letters) == "To·be↵↵caf\\xc3" + "·words" * 40
    assert all(0 < letter.get_position()[0] < COLUMNS * LETTER for letter in letters)
    assert len(plt.gca().patches) == len(tokens)


def test_a_text_without_tokens_is_drawn_too():
    colored_tokens([], "nothing")


def test_the_nearest_are_those_of_the_largest_cosine_without_the_token_itself():
    table = torch.randn(20, 6)
    cosines = F.cosine_similarity(table, table[3:4])
    expected = [token for token in cosines.argsort(descending=True).tolist() if token != 3][:4]
    assert [token for token, _ in nearest(table, 3, 4)] == expected
    assert nearest(table, 3, 1)[0][1] == pytest.approx(cosines[expected[0]].item(), abs=1e-6)


def test_the_bars_sum_to_one():
    tokenizer = load_tokenizer("shakespeare")
    next_token_bars(torch.randn(tokenizer.vocab_size).softmax(0), tokenizer, shown=5)
    assert sum(bar.get_width() for bar in plt.gca().patches) == pytest.approx(1, abs=1e-5)
    assert len(plt.gca().patches) == 6


@pytest.mark.parametrize("title", ["$$", "It costs $5 and $6", "$x_1$"])
def test_dollars_in_a_title_are_drawn_as_they_are(title):
    next_token_bars(torch.randn(4096).softmax(0), load_tokenizer("shakespeare"), title)
    plt.gcf().canvas.draw()  # raises ValueError where the title is read as a formula
    assert plt.gca().get_title(loc="left") == title
    assert not plt.gca()._left_title.get_parse_math()
