"""Run a learner's function inside a trained model, for the length of a `with` block, and compare loss and text.

with transplant(model, attention=my_attention):
    ...                                        # every layer now calls my_attention

before_and_after(attention=my_attention)       # the loss and the text, with the model's own part and with yours
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.assets import asset
from pocketgpt.errors import PocketError
from pocketgpt.gpt import GPT
from pocketgpt.inference.sampling import Sampler
from pocketgpt.layers.attention import causal_mask, expand_kv_heads
from pocketgpt.layers.feedforward import SwiGLU
from pocketgpt.layers.norm import RMSNorm
from pocketgpt.text.tokenizer import Tokenizer


@cache
def pocket_model() -> GPT:
    """The trained model that ships with the course."""
    return GPT.load(asset("pocket-shakespeare"))


@cache
def pocket_tokenizer() -> Tokenizer:
    """Its tokenizer."""
    return Tokenizer.load("shakespeare")


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


def core(
    attention: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = assembled_attention,
    mask_of: Callable[[Tensor, Tensor], Tensor] = causal_mask,
) -> Callable[..., Tensor]:
    """Adapt a learner's attention(q, k, v, mask) to the signature of `Attention.core`.

    The learner's function expects equally many query and key heads, so keys and values are expanded first.
    """

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool, dropout: float) -> Tensor:
        k, v = expand_kv_heads(k, q.shape[1]), expand_kv_heads(v, q.shape[1])
        if mask is None:
            queries, keys = (torch.arange(x.shape[2], device=x.device) for x in (q, k))
            mask = mask_of(queries, keys) if is_causal else torch.ones(len(queries), len(keys), dtype=torch.bool)
        return attention(q, k, v, mask)[0]

    return run


def _in_attention(attribute: str, wrap: Callable[[Callable], Callable]) -> Callable[[GPT, Callable], list]:
    return lambda model, function: [(block.attention, attribute, wrap(function)) for block in model.blocks]


def _norms(model: GPT, function: Callable) -> list:
    norms = [module for module in model.modules() if isinstance(module, RMSNorm)]
    return [(norm, "forward", partial(function, weight=norm.weight, eps=norm.eps)) for norm in norms]


def _swiglus(model: GPT, function: Callable) -> list:
    layers = [module for module in model.modules() if isinstance(module, SwiGLU)]
    return [
        (
            layer,
            "forward",
            partial(function, gate=layer.gate_proj.weight, up=layer.up_proj.weight, down=layer.down_proj.weight),
        )
        for layer in layers
    ]


# For each name: the signature of your function, and the parts of the model that it replaces.
REPLACEABLE_PARTS: dict[str, tuple[str, Callable[[GPT, Callable], list]]] = {
    "softmax": (
        "softmax(x, dim)",
        _in_attention(
            "core", lambda f: core(partial(assembled_attention, masked_softmax=partial(softmax_of_visible, softmax=f)))
        ),
    ),
    "attention_scores": (
        "attention_scores(q, k)",
        _in_attention("core", lambda f: core(partial(assembled_attention, scores=f))),
    ),
    "masked_softmax": (
        "masked_softmax(scores, mask)",
        _in_attention("core", lambda f: core(partial(assembled_attention, masked_softmax=f))),
    ),
    "causal_mask": ("causal_mask(query_positions, key_positions)", _in_attention("core", lambda f: core(mask_of=f))),
    "attention": ("attention(q, k, v, mask) -> (output, weights)", _in_attention("core", core)),
    "apply_rope": ("apply_rope(x, cos, sin)", _in_attention("rotate", lambda f: f)),
    "rms_norm": ("rms_norm(x, weight, eps)", _norms),
    "swiglu": ("swiglu(x, gate, up, down)", _swiglus),
}


@contextmanager
def transplant(model: GPT, **functions: Callable) -> Iterator[GPT]:
    """Replace parts of the model by your functions until the block ends, also when it ends with an error.

    Raises PocketError for a name that replaces no part of the model, and for two functions that replace the same.
    """
    unknown = set(functions) - set(REPLACEABLE_PARTS)
    if unknown:
        known = ", ".join(signature for signature, _ in REPLACEABLE_PARTS.values())
        raise PocketError(f"{', '.join(sorted(unknown))} cannot replace a part of the model. These can: {known}.")
    places = [place for name, function in functions.items() for place in REPLACEABLE_PARTS[name][1](model, function)]
    if len({(id(module), attribute) for module, attribute, _ in places}) < len(places):
        raise PocketError(f"{' and '.join(functions)} would replace the same part of the model: put in one at a time.")
    own = [(module, attribute, module.__dict__.get(attribute)) for module, attribute, _ in places]
    try:
        for module, attribute, function in places:
            module.__dict__[attribute] = function
        yield model
    finally:
        for module, attribute, function in own:
            if function is None:
                module.__dict__.pop(attribute, None)
            else:
                module.__dict__[attribute] = function


@dataclass(frozen=True)
class Outcome:
    """Loss on a passage the model was not trained on, and a continuation of a prompt."""

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
    with transplant(model, **functions):
        after = outcome(model, tokenizer, prompt, new_tokens, choose or seeded())
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
    kept: list[Tensor] = []

    def recording(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        output, weights = attention(q, k, v, mask)
        kept.append(weights)
        return output, weights

    with transplant(model, attention=recording):
        model(tokens)
    return torch.stack(kept)
