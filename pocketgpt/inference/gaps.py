"""Gaps in a text: `___` stands for one missing token, and a model that sees both sides fills it in.

    tokens = encode_gaps("What's in a ___?", tokenizer, mask_id)     # the gap is [MASK]
    filled = fill_gaps(model, tokens, mask_id)                       # the gap is a token

The gap that the model is surest of is filled first, so that the others see it: as many passes as gaps.
Source: Wang and Cho 2019, BERT has a mouth, and it must speak (arXiv 1902.04094), section 3.
"""

from collections.abc import Sequence

import torch

from pocketgpt.errors import PocketError
from pocketgpt.inference.diffusion import as_row
from pocketgpt.inference.generate import NOT_FINITE, check_finite, evaluation_mode, seeded
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.stack import Stack, check_length
from pocketgpt.text.tokenizer import Tokenizer

GAP = "___"
SUREST = Sampler(temperature=0.0)


def encode_gaps(text: str, tokenizer: Tokenizer, mask_id: int) -> list[int]:
    """The tokens of the text, with `mask_id` for each gap.

    A space before a gap belongs to the gap, because a word and the space before it are one token.
    """
    tokens = []
    for number, piece in enumerate(text.replace(f" {GAP}", GAP).split(GAP)):
        tokens += ([mask_id] if number else []) + tokenizer.encode(piece)
    return tokens


@torch.no_grad()
def fill_gaps(
    model: Stack, tokens: Sequence[int], mask_id: int, *, sampler: Sampler = SUREST, seed: int | None = None
) -> list[int]:
    """Replace every `mask_id` by a token, without dropout.

    Raises PocketError for a causal model, a token outside the vocabulary, or logits that are not finite, and
    ContextError for more tokens than there are positions for.
    """
    if model.config.causal:
        raise PocketError(
            "A causal model does not see the text after a gap: use one that was trained for masked words."
        )
    check_length(model.config, len(tokens))
    generator = seeded(model.device, seed)
    text = as_row(model, tokens)[0]  # (T)
    with evaluation_mode(model):
        for _ in range(list(tokens).count(mask_id)):
            gaps = (text == mask_id).nonzero()[:, 0]
            logits = model(text[None])[0, gaps]  # (gaps, vocab)
            if not logits.isfinite().all():
                check_finite(NOT_FINITE)  # raises PocketError
            logits[:, mask_id] = -torch.inf
            words = sampler(logits, generator)  # (gaps)
            certainty = logits.softmax(dim=-1).gather(1, words[:, None])[:, 0]
            surest = certainty.argmax()
            text[gaps[surest]] = words[surest]
    return text.tolist()
