"""Report of a transplant: loss, causality probe and text, of the trained model and of the copy with your functions.

before_and_after(attention=my_attention)                   # both, one below the other
before_and_after(model="post_norm", attention=...)         # the same with a sibling
earlier_changes(model, tokens)                             # the causality probe alone: 0 in a causal model
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.assets import asset
from pocketgpt.course.lab.caching import WithCache
from pocketgpt.course.lab.pocket import pocket_model, pocket_tokenizer
from pocketgpt.course.lab.predictions import Prediction
from pocketgpt.course.lab.transplanting import replaceable_part, transplant
from pocketgpt.course.siblings.family import TRAINED_LENGTH, CharacterTokenizer, character_tokenizer, sibling
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.gpt import GPT
from pocketgpt.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Trained:
    """A trained model, its tokenizer, and the held-out passage in windows of the length it was trained on."""

    model: GPT
    tokenizer: Tokenizer | CharacterTokenizer
    windows: Int[Tensor, "windows seq"]


@cache
def trained(name: str = "pocket") -> Trained:
    """Load a trained model of the course: "pocket", or a sibling. Raises PocketError for another name."""
    if name == "pocket":
        model, tokenizer, length = pocket_model(), pocket_tokenizer(), pocket_model().config.max_seq_len
    else:
        model, tokenizer, length = sibling(name), character_tokenizer(), TRAINED_LENGTH
    passage = torch.tensor(tokenizer.encode(asset("held-out.txt").read_text(encoding="utf-8")))
    return Trained(model, tokenizer, passage[: len(passage) // length * length].view(-1, length))


@torch.inference_mode()
def earlier_changes(model: GPT | WithCache, tokens: Int[Tensor, "batch seq"]) -> int:
    """Causality probe: count the earlier positions whose logits change when the last token does.

    In a causal model it is 0. The loss cannot show a leak: a model that has learned to use one has a low loss.
    Differences up to 1e-4 count as rounding.
    """
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % model.config.vocab_size
    same = torch.isclose(model(tokens), model(other), rtol=0, atol=1e-4, equal_nan=True)
    return int((~same.all(dim=-1))[:, :-1].sum())


@torch.inference_mode()
def loss_and_leaks(model: GPT | WithCache, windows: Int[Tensor, "windows seq"]) -> tuple[float, int]:
    """Mean loss in nats per token, and the causality probe of the first window."""
    loss = F.cross_entropy(model(windows)[:, :-1].flatten(0, 1), windows[:, 1:].flatten())
    return loss.item(), earlier_changes(model, windows[:1])


@dataclass(frozen=True)
class Outcome:
    """Measurements of a model: loss and causality probe on a held-out passage, and the continuation of a prompt."""

    loss: float
    """Mean negative log-likelihood, in nats per token."""
    changes: int
    """Earlier positions of the first window that change with its last token."""
    window: int
    """Tokens in a window."""
    text: str

    def __str__(self) -> str:
        text = "\n".join("    " + line for line in self.text.rstrip().splitlines())
        return f"loss {self.loss:.2f}, positions that see a later token: {self.changes} of {self.window - 1}\n{text}\n"


@torch.inference_mode()
def outcome(
    model: GPT,
    subject: Trained,
    prompt: str,
    new_tokens: int,
    choose: Callable[[Tensor], Tensor],
    decoding: bool = False,
) -> Outcome:
    """Measure a model on the held-out passage, and continue the prompt by `new_tokens`: both without a cache, or both
    with one (`decoding`), where prompt and new tokens must fit the model's context."""
    loss, changes = loss_and_leaks(WithCache(model) if decoding else model, subject.windows)
    tokens = torch.tensor([subject.tokenizer.encode(prompt)])
    window = subject.windows.shape[1]
    cache, unread = new_cache(model, 1) if decoding else None, tokens
    for _ in range(new_tokens):
        logits = model(unread, cache) if decoding else model(tokens[:, -window:])
        unread = choose(logits[:, -1])[:, None]
        tokens = torch.cat((tokens, unread), dim=1)
    return Outcome(loss, changes, window, subject.tokenizer.decode(tokens[0].tolist()))


def before_and_after(
    *,
    model: str | None = None,
    guess: Prediction | None = None,
    prompt: str = "ROMEO:\n",
    new_tokens: int = 40,
    seed: int = 0,
    choose: Callable[[Tensor], Tensor] | None = None,
    **functions: Callable,
) -> None:
    """Print loss, causality probe and text of a trained model, first with its own parts, then with your functions.

    Functions that work with a cache are measured in a model that reads and writes with one (`read_with_cache`).
    `model` is "pocket" or the name of a sibling; by default one that has the part. `guess` is a prediction to print
    beside the outcome. `choose` picks the next token from logits of shape (batch, vocab); by default a seeded draw from
    the 40 most probable, at temperature 0.8.
    """
    parts = [part for part in map(replaceable_part, functions) if part]
    subject = trained(model or (parts[0].model if parts else "pocket"))

    def seeded() -> Callable[[Tensor], Tensor]:
        return partial(Sampler(temperature=0.8, top_k=40), generator=torch.Generator().manual_seed(seed))

    decoding = any(part.decoding for part in parts)
    before = outcome(subject.model, subject, prompt, new_tokens, seeded(), decoding)
    after = outcome(transplant(subject.model, **functions), subject, prompt, new_tokens, choose or seeded(), decoding)
    names = ", ".join([*functions, *(["choose"] if choose else [])])
    ours = [name for name, function in functions.items() if _is_finished(name, function)]
    whose = "the finished" if ours and len(ours) == len(functions) else "your"
    print(f"Original model: {before}\nWith {whose} {names}: {after}")
    verdict = _verdict(before, after).removeprefix("✓ " if ours else "")  # no praise for what is not the learner's
    if guess is None:
        print(verdict)
    else:
        guess.compare(verdict)


def _is_finished(name: str, function: Callable) -> bool:
    """True for the version of an exercise that a notebook uses in place of a missing answer."""
    return name in exercise_names() and function is find_exercise(name).finished_answer


def _verdict(before: Outcome, after: Outcome) -> str:
    if not abs(before.loss - after.loss) < 0.005:
        verb = "fell" if after.loss < before.loss else "rose"
        return f"The loss {verb} from {before.loss:.2f} to {after.loss:.2f}."
    if after.changes:
        return "The loss is the same, but positions see later tokens: a leak."
    if before.text != after.text:
        return "The loss is the same, and the words differ."
    return "✓ The same loss and the same words: the model cannot tell the difference."
