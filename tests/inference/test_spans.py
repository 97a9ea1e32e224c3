import pytest

from pocketgpt.errors import PocketError
from pocketgpt.inference import spans as module
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.spans import N_SENTINELS, SPAN_TOKENS, encode_spans, fill_spans, first_sentinel, write_spans
from pocketgpt.models.t5 import T5
from pocketgpt.text.byte_tokenizer import ByteTokenizer

TOKENIZER = ByteTokenizer([bytes([byte]) for byte in range(256)])
TEXT = "To be ___, that is ___."


def test_each_gap_has_a_sentinel_of_its_own():
    tokens = encode_spans(TEXT, TOKENIZER, 500)
    assert tokens == [*b"To be", 500, *b", that is", 501, *b"."]


@pytest.mark.parametrize("text", ["", "no gap", "___" * N_SENTINELS])
def test_no_gap_and_too_many_are_named(text):
    with pytest.raises(
        PocketError, match=f"has {text.count('___')} gaps: write ___ for each missing part, from 1 to 99"
    ):
        encode_spans(text, TOKENIZER, 500)


def test_gaps_are_filled_in_order():
    assert fill_spans(TOKENIZER, TEXT, [list(b" or not"), list(b" it")]) == "To be or not, that is it."
    assert fill_spans(TOKENIZER, TEXT, [list(b" or not"), []], brackets=True) == "To be [or not], that is []."


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ([257, *b" or", 258, *b" it"], [list(b" or"), list(b" it")]),
        ([258, *b" it"], [[], list(b" it")]),  # a gap left out
        ([*b"x", 257, *b"a", 280, *b"b", 258], [list(b"a"), []]),  # tokens before any gap, and a gap that is not there
    ],
)
def test_spans_are_read_from_the_output(output, expected, small, monkeypatch):
    model = T5(small("pocket-t5", vocab_size=257 + len(SPAN_TOKENS)))
    assert first_sentinel(model.config) == 257
    seen = {}
    monkeypatch.setattr(module, "generate_output", lambda model, inputs, **options: seen.update(options) or [output])
    options = {"sampler": Sampler(temperature=0.5), "seed": 7, "max_new_tokens": 8}
    assert write_spans(model, TOKENIZER, TEXT, **options) == expected
    assert seen == options | {"stop_tokens": (259,)}  # the sentinel after that of the last gap
