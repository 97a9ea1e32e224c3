"""Missing spans: `___` stands for any number of missing tokens, and a T5 writes them.

    spans = write_spans(model, tokenizer, "What's in a ___? That which we call a ___")     # a list of tokens for each
    fill_spans(tokenizer, "What's in a ___? That which we call a ___", spans)              # the text, filled

The model reads the text with one sentinel for each gap. It writes each sentinel again, followed by what was missing
there. A gap of a BERT is one token (`gaps.py`); here the model decides how many it takes.

The sentinels are the last ids of the vocabulary but one; the last is the token that every output begins with.
Source: Raffel et al. 2019, T5 (arXiv 1910.10683), section 3.1.4.
"""

from collections.abc import Sequence

from pocketgpt.errors import PocketError
from pocketgpt.inference.gaps import GAP, encode_gaps
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.seq2seq import MOST_PROBABLE, generate_output
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.t5 import T5
from pocketgpt.text.tokenizer import Tokenizer

N_SENTINELS = 100
SPAN_TOKENS = (*(f"<{number}>" for number in range(N_SENTINELS)), "<start>")
"""Special tokens of a model that writes spans, after the tokenizer's own."""


def first_sentinel(config: ModelConfig) -> int:
    """Id of the sentinel of the first gap; the others follow it."""
    return config.vocab_size - len(SPAN_TOKENS)


def encode_spans(text: str, tokenizer: Tokenizer, sentinel: int) -> list[int]:
    """The tokens of the text, with a sentinel for each gap.

    Raises PocketError for a text without gaps, and for more of them than there are sentinels.
    """
    n_gaps = text.count(GAP)
    if not 0 < n_gaps < N_SENTINELS:
        raise PocketError(
            f"The text has {n_gaps} gaps: write {GAP} for each missing part, from 1 to {N_SENTINELS - 1} of them, such "
            f'as "To be or {GAP}, that is the {GAP}."'
        )
    pieces = encode_gaps(text, tokenizer, -1)
    numbers = iter(range(n_gaps))
    return [sentinel + next(numbers) if token == -1 else token for token in pieces]


def write_spans(
    model: T5,
    tokenizer: Tokenizer,
    text: str,
    *,
    max_new_tokens: int = 100,
    sampler: Sampler = MOST_PROBABLE,
    seed: int | None = None,
) -> list[list[int]]:
    """Write the tokens of each gap of the text, in order; a gap that the model leaves out has none.

    Raises PocketError for a text without gaps, and ContextError for one longer than max_seq_len.
    """
    sentinel = first_sentinel(model.config)
    tokens = encode_spans(text, tokenizer, sentinel)
    n_gaps = text.count(GAP)
    stop = (sentinel + n_gaps,)  # the sentinel after that of the last gap ends the output
    [output] = generate_output(
        model, [tokens], max_new_tokens=max_new_tokens, sampler=sampler, stop_tokens=stop, seed=seed
    )
    spans: list[list[int]] = [[] for _ in range(n_gaps)]
    gap = None
    for token in output:
        if token >= sentinel:
            gap = token - sentinel if token < sentinel + n_gaps else None
        elif gap is not None:
            spans[gap].append(token)
    return spans


def fill_spans(tokenizer: Tokenizer, text: str, spans: Sequence[Sequence[int]], brackets: bool = False) -> str:
    """The text with its gaps filled; `brackets` show what was filled in."""
    pieces = text.replace(f" {GAP}", GAP).split(GAP)
    filled = pieces[0]
    for span, piece in zip(spans, pieces[1:], strict=True):
        written = tokenizer.decode(span)
        filled += f" [{written.strip()}]{piece}" if brackets else written + piece
    return filled
