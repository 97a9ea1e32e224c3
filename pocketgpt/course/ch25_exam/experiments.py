"""What a learner's block is good for: how far it carries information, and whether a model of such blocks learns."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pocketgpt.assets import asset
from pocketgpt.course.ch10_the_gpt.shared import Config, drawn_rope, of_block
from pocketgpt.course.ch25_exam.shared import block_shapes, config_of
from pocketgpt.course.siblings.family import CHARACTERS, character_tokenizer

BATCH, SEQ = 8, 64
Weights = Mapping[str, Tensor]


def small_config(n_layers: int = 2, window: int = 16) -> Config:
    """A character model of d_model 48."""
    return config_of(
        heads=(4, 2, 12), d_model=48, d_ff=128, n_layers=n_layers, vocab_size=len(CHARACTERS), window=window
    )


def new_weights(config: Config, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a model with a tied head: norms 1, matrices drawn with 0.02, those that write into the stream
    with 0.02 / √(2 · n_layers)."""
    rng = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocab_size, config.d_model)}
    for i in range(config.n_layers):
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block_shapes(config).items()}
    shapes["final_norm.weight"] = (config.d_model,)
    weights = {}
    for name, shape in shapes.items():
        std = 0.02 / (2 * config.n_layers) ** 0.5 if "o_proj" in name or "down_proj" in name else 0.02
        weights[name] = torch.ones(shape) if len(shape) == 1 else std * torch.randn(shape, generator=rng)
    return weights


def stream(block: Callable, x: Float[Tensor, "batch seq d_model"], weights: Weights, config: Config) -> list[Tensor]:
    """The stream before the first block and after each."""
    rope, streams = drawn_rope(config, x.shape[1]), [x]
    for i in range(config.n_layers):
        streams.append(block(streams[-1], of_block(dict(weights), i), rope, config))
    return streams


@torch.no_grad()
def reach(block: Callable, config: Config, seq: int, changed: int) -> Float[Tensor, "depths seq"]:
    """How much each position of the stream changes, before the first block and after each, when one token is another
    one; random weights."""
    rng = torch.Generator().manual_seed(0)
    weights = {name: 5 * w if w.ndim > 1 and "embedding" not in name else w for name, w in new_weights(config).items()}
    x = torch.randn(1, seq, config.d_model, generator=rng)
    other = x.clone()
    other[:, changed] = torch.randn(config.d_model, generator=rng)
    pairs = zip(stream(block, x, weights, config), stream(block, other, weights, config), strict=True)
    return torch.stack([(a - b)[0].norm(dim=-1) for a, b in pairs])


def texts() -> Int[Tensor, " characters"]:
    """The held-out page of the course, a token a character."""
    return torch.tensor(character_tokenizer().encode(asset("held-out.txt").read_text(encoding="utf-8")))


def train(block: Callable, config: Config, steps: int, seed: int = 0) -> list[float]:
    """Train on windows of one page with AdamW; the loss at each step."""
    text, rng = texts(), torch.Generator().manual_seed(seed)
    weights = {name: w.requires_grad_() for name, w in new_weights(config, seed).items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    losses = []
    for _ in range(steps):
        starts = torch.randint(len(text) - SEQ, (BATCH, 1), generator=rng)
        windows = text[starts + torch.arange(SEQ + 1)]
        x = stream(block, weights["embedding.weight"][windows[:, :-1]], weights, config)[-1]
        x = F.rms_norm(x, x.shape[-1:], weights["final_norm.weight"], config.norm_eps)
        loss = F.cross_entropy((x @ weights["embedding.weight"].T).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def means(losses: list[float], parts: int) -> list[float]:
    """Means of the losses over equal parts of a training."""
    edges = [len(losses) * i // parts for i in range(parts + 1)]
    return [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
