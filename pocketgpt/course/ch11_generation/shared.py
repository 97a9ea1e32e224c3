"""The model and the choices that the exercises of chapter 11 are given as arguments."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.course.checking.recipes import Others, Recipe

VOCAB = 12


class _Toy(nn.Module):
    """A causal model with weights that the seed decides. In training mode, in which it begins, it drops half of its
    numbers, always the same ones. With `passes` it refuses to be called more often than that. An id outside of the
    vocabulary is an error, as in `nn.Embedding`."""

    def __init__(self, seed: int, passes: int | None) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.embedding = torch.randn(VOCAB, 8, generator=rng)
        self.positions = torch.randn(64, 8, generator=rng)
        self.head = torch.randn(8, VOCAB, generator=rng)
        self.passes = passes

    def forward(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        if self.passes is not None:
            self.passes -= 1
            if self.passes < 0:
                raise RuntimeError(
                    "The model was called too often: one call gives every row its next token, and none is needed when "
                    "all texts have ended."
                )
        seq = tokens.shape[1]
        x = F.embedding(tokens, self.embedding) + self.positions[:seq]
        age = torch.arange(seq)[:, None] - torch.arange(seq)
        weights = torch.where(age >= 0, 0.9 ** age.clamp_min(0), 0.0)  # a token counts less the older it is
        hidden = torch.tanh(weights @ x / 2)
        if self.training:
            hidden = hidden * (torch.arange(8) % 2)
        return hidden @ self.head


@dataclass(frozen=True)
class ToyModel(Recipe):
    """The toy model of a seed."""

    seed: int
    passes: int | None = None

    def build(self, others: Others) -> nn.Module:
        return _Toy(self.seed, self.passes)

    def __repr__(self) -> str:
        return "a model"


def greedy(logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
    return logits.argmax(dim=1)


def second_best(logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
    return logits.topk(2, dim=1).indices[:, 1]


def near_the_best(logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
    """The first id whose logit is at most 0.9 below the largest: it depends on differences of logits, not on their
    order alone."""
    return (logits >= logits.amax(dim=1, keepdim=True) - 0.9).int().argmax(dim=1)


class _Turns:
    """Takes turns: the largest logit, the second and the third, as its calls are counted. It wants one row of logits
    for each text."""

    def __init__(self, texts: int) -> None:
        self.texts, self.calls = texts, 0

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
        if logits.ndim != 2 or len(logits) > self.texts:
            raise ValueError(
                f"choose was given the shape {tuple(logits.shape)}: it takes one row for each text, (B, V)."
            )
        self.calls += 1
        return logits.topk(3, dim=1).indices[:, (self.calls - 1) % 3]


@dataclass(frozen=True)
class InTurn(Recipe):
    """A choice that remembers how often it was called, as one that draws does."""

    texts: int = 1

    def build(self, others: Others) -> Callable:
        return _Turns(self.texts)

    def __repr__(self) -> str:
        return "in_turn"


def drawn_ids(rng: torch.Generator, length: int) -> list[int]:
    return torch.randint(VOCAB, (length,), generator=rng).tolist()


def written_freely(seed: int, prompt: list[int], n: int, choose, context: int) -> list[int]:
    """What the toy model writes without a stop token."""
    model, tokens, choose = _Toy(seed, None).eval(), list(prompt), deepcopy(choose)
    for _ in range(n):
        tokens.append(int(choose(model(torch.tensor([tokens[-context:]]))[:, -1])))
    return tokens[len(prompt) :]


def depends_on_the_scale(seed: int, prompt: list[int], n: int, choose, context: int) -> bool:
    """True if another temperature, either way, and probabilities in place of logits each give another text."""
    free = written_freely(seed, prompt, n, choose, context)
    changes = (lambda x: x / 0.8, lambda x: x / 1.25, lambda x: x.softmax(dim=-1))
    return all(
        written_freely(seed, prompt, n, lambda x, change=change: choose(change(x)), context) != free
        for change in changes
    )


def stop_at(written: list[int], place: int) -> set[int]:
    """Two stop tokens: the one that was written at that place, and one that was not written, if there is one."""
    others = sorted(set(range(VOCAB)) - set(written))
    return {written[place], *others[:1]}
