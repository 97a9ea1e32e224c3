"""`pocketgpt generate` with a model that fills the gaps of a text: one for masked words, or for span corruption."""

from pocketgpt.errors import PocketError
from pocketgpt.inference.gaps import GAP, encode_gaps, fill_gaps
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.spans import fill_spans, write_spans
from pocketgpt.models.stack import Stack
from pocketgpt.text.tokenizer import Tokenizer


def with_words(
    model: Stack, tokenizer: Tokenizer, text: str, *, max_new_tokens: int, sampler: Sampler, seed: int | None
) -> str:
    """The text with each gap filled by one token. Raises PocketError for a text without gaps."""
    if GAP not in text:
        raise PocketError(
            f"This model was trained for masked words: it fills gaps, and cannot continue a text. Write {GAP} for each "
            f'missing token, such as "To be or not to {GAP}."'
        )
    mask_id = tokenizer.vocab_size
    tokens = encode_gaps(text, tokenizer, mask_id)
    return tokenizer.decode(fill_gaps(model, tokens, mask_id, sampler=sampler, seed=seed))


def with_spans(
    model: Stack, tokenizer: Tokenizer, text: str, *, max_new_tokens: int, sampler: Sampler, seed: int | None
) -> str:
    """The text with each gap filled by any number of tokens, `max_new_tokens` in all. Raises PocketError for a text
    without gaps."""
    spans = write_spans(model, tokenizer, text, max_new_tokens=max_new_tokens, sampler=sampler, seed=seed)
    return fill_spans(tokenizer, text, spans)


FILLED = {"masked-words": with_words, "span-corruption": with_spans}
"""Writes the text with its gaps filled, by the objective of the model."""
