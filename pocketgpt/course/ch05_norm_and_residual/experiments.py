"""Train pre-norm and post-norm from two kinds of starting weights, with and without warm-up.

    python -m pocketgpt.course.ch05_norm_and_residual.experiments

Character models of width 48 on Shakespeare, 100 steps each, on one thread: about 10 minutes on an idle core. The text
is downloaded once. The losses are stored in experiments.json beside this file, after every run, so that the command
can be stopped and repeated; the notebook reads them, and trains one of these models itself.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from pocketgpt.course.siblings.family import character_tokenizer
from pocketgpt.files import write_json
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.corpora import load_corpus

RESULTS = Path(__file__).with_suffix(".json")
ORDERS = ("pre", "post")
STARTS = ("gpt2", "xavier")
SEEDS = {4: 3, 12: 3, 24: 1, 8: 1}  # number of seeds by depth, in the order in which they run
WARMUPS = (0, 40)
STEPS, EVERY = 100, 10
BATCH, SEQ = 12, 48
LEARNING_RATE = 3e-3
CHARACTERS = character_tokenizer().vocab_size


def new_model(order: str, start: str, n_layers: int, seed: int = 0) -> GPT:
    """A character model of width 48 with LayerNorm; `order` is pre or post, `start` gpt2 or xavier.

    gpt2: normal with standard deviation 0.02, projections into the residual stream divided by √(2 · n_layers).
    xavier: each matrix uniform, with variance 2 / (rows + columns) (Glorot and Bengio 2010), as in 2017.
    """
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=CHARACTERS,
        d_model=48,
        n_layers=n_layers,
        max_seq_len=SEQ,
        mixer=AttentionConfig(n_heads=4),
        feedforward=FeedForwardConfig(activation="gelu"),
        norm="layernorm",
        norm_bias=True,
        norm_order=order,
        tie_embeddings=False,
    )
    model = GPT(config)
    if start == "xavier":
        for parameter in model.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
    return model


def next_character_loss(model: GPT, windows: Int[Tensor, "batch seq_plus_1"]) -> Float[Tensor, ""]:
    """Mean loss in nats per character."""
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def random_windows(text: Int[Tensor, " characters"], n: int) -> Int[Tensor, "n seq_plus_1"]:
    """Windows of SEQ + 1 characters at random places."""
    starts = torch.randint(len(text) - SEQ, (n, 1))
    return text[starts + torch.arange(SEQ + 1)]


@dataclass(frozen=True)
class Point:
    """A place of a training curve: the loss on held-out text after so many steps."""

    step: int
    loss: float


def train(
    model: GPT,
    text: Int[Tensor, " characters"],
    held_out: Int[Tensor, "n seq_plus_1"],
    warmup: int = 0,
    steps: int = STEPS,
) -> Iterator[Point]:
    """Train with AdamW at a constant rate, which grows linearly during the first `warmup` steps; yield a point before
    the first step and after every EVERY steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for step in range(steps + 1):
        if step % EVERY == 0:
            with torch.no_grad():
                yield Point(step, next_character_loss(model, held_out).item())
        if step == steps:
            return
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / max(1, warmup))
        loss = next_character_loss(model, random_windows(text, BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def run_name(start: str, order: str, n_layers: int, warmup: int, seed: int) -> str:
    """'xavier post 12 warmup 0 seed 0': the name of a run in the stored results."""
    return f"{start} {order} {n_layers} warmup {warmup} seed {seed}"


def stored_curves(n_layers: int, warmup: int) -> Float[Tensor, "starts orders seeds points"]:
    """The stored training curves of a depth, in the order of STARTS and ORDERS."""
    runs = json.loads(RESULTS.read_text())["runs"]
    curves = [
        runs[run_name(start, order, n_layers, warmup, seed)]
        for start, order, seed in itertools.product(STARTS, ORDERS, range(SEEDS[n_layers]))
    ]
    return torch.tensor(curves).view(len(STARTS), len(ORDERS), SEEDS[n_layers], -1)


def frequencies_loss() -> float:
    """The stored loss of a model that knows how frequent each character is, and nothing else."""
    return json.loads(RESULTS.read_text())["frequencies_loss"]


def main() -> None:
    torch.set_num_threads(1)
    text, held_out_text = ("\n".join(load_corpus("shakespeare", split)) for split in ("train", "validation"))
    text, held_out_text = (torch.tensor(character_tokenizer().encode(each)) for each in (text, held_out_text))
    torch.manual_seed(0)
    held_out = random_windows(held_out_text, 64)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}
    frequencies = torch.bincount(text, minlength=CHARACTERS) / len(text)
    results["frequencies_loss"] = round(-frequencies[held_out[:, 1:]].log().mean().item(), 4)
    depths_and_seeds = [(n_layers, seed) for n_layers, seeds in SEEDS.items() for seed in range(seeds)]
    grid = list(itertools.product(depths_and_seeds, STARTS, ORDERS, WARMUPS))
    for (n_layers, seed), start, order, warmup in tqdm(grid, unit="run"):
        name = run_name(start, order, n_layers, warmup, seed)
        if name in results["runs"]:
            continue
        model = new_model(order, start, n_layers, seed)
        points = train(model, text, held_out, warmup)
        results["runs"][name] = [round(point.loss, 4) for point in points]
        write_json(RESULTS, results)


if __name__ == "__main__":
    main()
