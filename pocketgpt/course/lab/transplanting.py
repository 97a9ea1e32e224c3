"""Transplants: your function inside a trained model, to see what the model does with it.

changed = transplant(model, attention=my_attention)     # a copy with the same weights whose layers call my_attention
before_and_after(attention=my_attention)                # loss and text, of the original and with your function
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.assets import asset
from pocketgpt.course.syllabus import exercise_names, find_exercise
from pocketgpt.errors import PocketError
from pocketgpt.inference.sampling import Sampler
from pocketgpt.layers.attention_backends import causal_mask, expand_kv_heads
from pocketgpt.layers.feedforward import SwiGLU
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.models.gpt import GPT
from pocketgpt.models.stack import sharing_weights
from pocketgpt.text.tokenizer import Tokenizer, load_tokenizer


@cache
def pocket_model() -> GPT:
    """The trained model that ships with the course."""
    return GPT.load(asset("pocket-shakespeare"))


@cache
def pocket_tokenizer() -> Tokenizer:
    """Its tokenizer."""
    return load_tokenizer("shakespeare")


def scaled_scores(
    q: Float[Tensor, "*batch seq d"], k: Float[Tensor, "*batch keys d"]
) -> Float[Tensor, "*batch seq keys"]:
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def softmax_of_visible(
    scores: Float[Tensor, "*batch seq keys"],
    mask: Bool[Tensor, "..."],
    softmax: Callable[[Tensor, int], Tensor] = torch.softmax,
) -> Float[Tensor, "*batch seq keys"]:
    return softmax(scores.masked_fill(~mask, -math.inf), -1)


def assembled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    scores: Callable[[Tensor, Tensor], Tensor] = scaled_scores,
    masked_softmax: Callable[[Tensor, Tensor], Tensor] = softmax_of_visible,
) -> tuple[Tensor, Tensor]:
    """Attention in replaceable steps; returns the output and the weights."""
    weights = masked_softmax(scores(q, k), mask)
    return weights @ v, weights


def backend(
    attention: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = assembled_attention,
    mask_of: Callable[[Tensor, Tensor], Tensor] = causal_mask,
) -> Callable[..., Tensor]:
    """Adapts a learner's attention(q, k, v, mask), which expects equally many query and key heads, to the signature of
    an attention backend."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False, dropout: float = 0.0
    ) -> Tensor:
        k, v = expand_kv_heads(k, q.shape[1]), expand_kv_heads(v, q.shape[1])
        if mask is None:
            queries, keys = (torch.arange(x.shape[2], device=x.device) for x in (q, k))
            mask = mask_of(queries, keys) if is_causal else torch.ones(len(queries), len(keys), dtype=torch.bool)
        return attention(q, k, v, mask)[0]

    return run


def with_softmax(softmax: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """An attention backend with another softmax."""
    return backend(partial(assembled_attention, masked_softmax=partial(softmax_of_visible, softmax=softmax)))


def rotate_with(model: GPT, function: Callable) -> None:
    for mixer in model.mixers():
        mixer.rotate = function


def normalize_with(model: GPT, function: Callable) -> None:
    for norm in model.modules():
        if isinstance(norm, RMSNorm):
            norm.forward = partial(function, weight=norm.weight, eps=norm.eps)


def feed_forward_with(model: GPT, function: Callable) -> None:
    for layer in model.modules():
        if isinstance(layer, SwiGLU):
            gate, up, down = layer.gate_proj.weight, layer.up_proj.weight, layer.down_proj.weight
            layer.forward = partial(function, gate=gate, up=up, down=down)


@dataclass(frozen=True)
class ReplaceablePart:
    """A part of the model that a function can take the place of.

    signature   of the function
    place       what it shares with the parts that cannot be replaced together with it
    insert      lets a model compute with the function
    """

    signature: str
    place: str
    insert: Callable[[GPT, Callable], object]


def _in_attention(signature: str, adapt: Callable[[Callable], Callable]) -> ReplaceablePart:
    return ReplaceablePart(signature, "attention", lambda model, function: model.use_attention(adapt(function)))


REPLACEABLE_PARTS = {
    "softmax": _in_attention("softmax(x, dim)", with_softmax),
    "attention_scores": _in_attention(
        "attention_scores(q, k)", lambda f: backend(partial(assembled_attention, scores=f))
    ),
    "masked_softmax": _in_attention(
        "masked_softmax(scores, mask)", lambda f: backend(partial(assembled_attention, masked_softmax=f))
    ),
    "causal_mask": _in_attention("causal_mask(query_positions, key_positions)", lambda f: backend(mask_of=f)),
    "attention": _in_attention("attention(q, k, v, mask) -> (output, weights)", backend),
    "apply_rope": ReplaceablePart("apply_rope(x, cos, sin)", "rotation", rotate_with),
    "rms_norm": ReplaceablePart("rms_norm(x, weight, eps)", "norm", normalize_with),
    "swiglu": ReplaceablePart("swiglu(x, gate, up, down)", "feed-forward", feed_forward_with),
}
"""By the name under which `transplant` takes the function."""


def transplant(model: GPT, **functions: Callable) -> GPT:
    """A copy of the model, with the same weights, that computes with your functions. The model itself does not change.

    Each function is given by the name of a replaceable part, or of an exercise that says which part it replaces.
    Raises PocketError for a name that is no part of the model, and for two functions that would take the same place.
    """
    parts = {name: REPLACEABLE_PARTS.get(_part_of(name)) for name in functions}
    if unknown := sorted(name for name, part in parts.items() if part is None):
        known = ", ".join(part.signature for part in REPLACEABLE_PARTS.values())
        raise PocketError(f"{', '.join(unknown)} cannot replace a part of the model. These can: {known}.")
    if len({part.place for part in parts.values()}) < len(parts):
        raise PocketError(f"{' and '.join(functions)} would replace the same part of the model: put in one at a time.")
    copy = sharing_weights(model)
    for name, function in functions.items():
        parts[name].insert(copy, function)
    return copy


def _part_of(name: str) -> str | None:
    """The part that a name stands for: an exercise's is the one it replaces."""
    return find_exercise(name).replaces if name in exercise_names() else name


@dataclass(frozen=True)
class Outcome:
    """Loss of a model on a passage it was not trained on, and its continuation of a prompt."""

    loss: float
    """Mean negative log-likelihood, in nats per token."""
    text: str


@torch.inference_mode()
def outcome(
    model: GPT, tokenizer: Tokenizer, prompt: str, new_tokens: int, choose: Callable[[Tensor], Tensor]
) -> Outcome:
    """The loss on the held-out passage, and the prompt with `new_tokens` more, computed without a cache."""
    passage = torch.tensor(tokenizer.encode(asset("held-out.txt").read_text()))
    windows = passage[: len(passage) // 256 * 256].view(-1, 256)
    loss = F.cross_entropy(model(windows)[:, :-1].flatten(0, 1), windows[:, 1:].flatten())
    tokens = torch.tensor([tokenizer.encode(prompt)])
    for _ in range(new_tokens):
        tokens = torch.cat((tokens, choose(model(tokens)[:, -1])[:, None]), dim=1)
    return Outcome(loss.item(), tokenizer.decode(tokens[0].tolist()))


def before_and_after(
    *,
    prompt: str = "ROMEO:\n",
    new_tokens: int = 40,
    seed: int = 0,
    choose: Callable[[Tensor], Tensor] | None = None,
    **functions: Callable,
) -> None:
    """Print the loss and the text of the trained model, first with its own parts and then with your functions.

    `choose` picks the next token from logits of shape (batch, vocab); a seeded draw at temperature 0.8 if not given.
    """
    model, tokenizer = pocket_model(), pocket_tokenizer()

    def seeded() -> Callable[[Tensor], Tensor]:
        return partial(Sampler(temperature=0.8, top_k=40), generator=torch.Generator().manual_seed(seed))

    before = outcome(model, tokenizer, prompt, new_tokens, seeded())
    after = outcome(transplant(model, **functions), tokenizer, prompt, new_tokens, choose or seeded())
    names = ", ".join([*functions, *(["choose"] if choose else [])])
    print(f"Original model: loss {before.loss:.2f}\n{_indented(before.text)}\n")
    print(f"With your {names}: loss {after.loss:.2f}\n{_indented(after.text)}\n")
    if abs(before.loss - after.loss) < 0.005 and before.text == after.text:
        print("✓ The same loss and the same words: the model cannot tell the difference.")
    elif abs(before.loss - after.loss) < 0.005:
        print("The loss is the same, and the words differ.")
    else:
        print(
            f"The loss {'rose' if not after.loss < before.loss else 'fell'} from {before.loss:.2f} to {after.loss:.2f}."
        )


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.rstrip().splitlines())


@torch.inference_mode()
def attention_weights(
    model: GPT, tokens: Int[Tensor, "batch seq"], attention: Callable = assembled_attention
) -> Float[Tensor, "layers batch heads seq seq"]:
    """The weights of every layer and head while the model reads `tokens`, computed by the given attention function."""
    recorded: list[Tensor] = []

    def recording(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        output, weights = attention(q, k, v, mask)
        recorded.append(weights)
        return output, weights

    transplant(model, attention=recording)(tokens)
    return torch.stack(recorded)
