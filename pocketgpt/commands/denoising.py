"""`pocketgpt generate` with a masked diffusion model, which continues a text or fills its gaps.

The gaps of a prompt such as "To be, or ___ ___ to be" are filled, one token for each `___`. Any other is continued.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pocketgpt.checked import LARGEST_INTEGER, Checked
from pocketgpt.errors import PocketError
from pocketgpt.inference.diffusion import PASSES, Order, fill_in, mask_id, write
from pocketgpt.inference.gaps import GAP, encode_gaps
from pocketgpt.models.gpt import GPT
from pocketgpt.models.stack import check_length
from pocketgpt.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Denoising(Checked):
    """Options of a masked diffusion model, which writes all tokens at once, in several passes."""

    passes: int = PASSES
    """Passes of the model over the text: with more of them, fewer tokens are written at the same time."""
    order: Order = "random"
    """random: a pass reveals any of the hidden tokens. confident: those that the model is most sure of, which is safer
    and more repetitive."""
    remask: float = 0.0
    """Probability that a pass hides a written token again, to be written anew, such as 0.05."""

    def __post_init__(self) -> None:
        self._require_positive_integers("passes")
        self._require(self.passes <= LARGEST_INTEGER, "passes", f"at most {LARGEST_INTEGER:,}")
        self._require_choice("order", Order)
        self._require(0 <= self.remask < 1, "remask", "a number from 0 up to 1, such as 0.05")


def check_options(
    objective: str, options: Denoising, prompt: str, stop: Sequence[str], *, compile: bool, report: bool
) -> None:
    """Raises PocketError for an option that a model with this objective has no use for."""
    if objective != "masked-diffusion":
        given = [name for name, value in vars(options).items() if value != getattr(Denoising(), name)]
        if given:
            raise PocketError(
                f"--{given[0]} is for masked diffusion models, and the objective of this one is {objective!r}: leave "
                "it out."
            )
        return
    for name, value in (("compile", compile), ("report", report)):
        if value:
            raise PocketError(
                f"--{name} is for models that write token by token, and this one writes by denoising: leave it out."
            )
    if stop and GAP in prompt:
        raise PocketError("--stop ends a continuation, and a prompt with gaps is not continued: leave it out.")


def denoised(
    model: GPT, tokenizer: Tokenizer, prompt: str, options: Denoising, *, max_new_tokens: int, **others: Any
) -> tuple[str, str]:
    """The start of the text, which is given, and the rest of it.

    Raises PocketError for a prompt with gaps that is longer than the model's context.
    """
    others |= vars(options)
    if GAP in prompt:
        tokens = encode_gaps(prompt, tokenizer, mask_id(model.config))
        check_length(model.config, len(tokens))
        return "", tokenizer.decode(fill_in(model, tokens, **others))
    tokens = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    longest = model.config.max_seq_len
    if len(tokens) + max_new_tokens > longest and len(tokens) > longest // 2:
        print(f"The prompt has {len(tokens)} tokens; the model reads the last {longest // 2}.", file=sys.stderr)
    stop_tokens = (tokenizer.end_of_text,)
    new = write(model, tokens, max_new_tokens=max_new_tokens, stop_tokens=stop_tokens, **others)
    return prompt, tokenizer.decode(new)
