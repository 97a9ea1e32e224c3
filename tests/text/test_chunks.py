import os
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.errors import PocketError
from pocketgpt.text import chunks
from pocketgpt.text.byte_tokenizer import train_tokenizer
from pocketgpt.text.tokenizer import load_tokenizer
from pocketgpt.text.word_tokenizer import train_word_tokenizer

TRAINERS = [train_tokenizer, train_word_tokenizer]


@given(text=st.lists(st.sampled_from(["a" * 300, " " * 300, "!" * 300, "a", " ", "é"])).map("".join))
def test_parts_without_long_words_make_the_text(text):
    assert "".join(chunks.split_long_words(text)) == text
    assert max(map(len, chunks.split_long_words("a" * 600))) == chunks.LONGEST_WORD


@pytest.mark.parametrize("train", TRAINERS)
def test_one_word_of_a_megabyte_trains_in_seconds(train):
    word, started = "".join("abcdefgh"[i * i % 31 % 8] for i in range(1_000_000)), time.perf_counter()
    train([word], 290 if train is train_tokenizer else 40)
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("train", TRAINERS)
def test_half_a_surrogate_pair_trains_as_the_replacement_character(train):
    size = 261 if train is train_tokenizer else 13
    vocabularies = [train([f"ab{end} ab{end} ab{end}"] * 3, size).vocabulary for end in ("\ud83d", "\ufffd")]
    assert vocabularies[0] == vocabularies[1]


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize("size", [10**9, 2**64, -1])
def test_a_vocabulary_that_nobody_can_train_is_refused(train, size):
    with pytest.raises(PocketError, match=str(size)):
        train(["a b"], size)


def test_any_run_of_white_space_is_encoded_without_loss():
    tokenizer = load_tokenizer()
    for text in (" " * 999_999, "\n" * 1_500_000 + "a"):
        tokens = tokenizer.encode(text)
        assert sum(len(tokenizer.vocabulary[token]) for token in tokens) == len(text)


def test_ctrl_c_interrupts_work_that_does_not_return():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        chunks.interruptible(lambda: time.sleep(5))


def test_an_error_inside_interruptible_work_is_raised():
    with pytest.raises(ZeroDivisionError):
        chunks.interruptible(lambda: 1 / 0)
