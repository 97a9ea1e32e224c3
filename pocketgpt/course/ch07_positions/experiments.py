"""Experiment of chapter 07: the size of the embedding beside the sinusoids that are added to it.

    python -m pocketgpt.course.ch07_positions.experiments        # 15 small models, 10 minutes on one thread

Every model has the size of a sibling and reads the same text; only the first addition differs. The losses are stored
in experiments.json beside this file, and `scaling_losses()` reads them.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from pocketgpt.course.siblings.family import SIBLINGS
from pocketgpt.course.siblings.train import held_out_losses, text_of
from pocketgpt.files import write_json
from pocketgpt.layers.positions import sinusoids
from pocketgpt.models.gpt import GPT
from pocketgpt.text.batches import ShuffledWindows
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.recipes import TrainConfig

RESULTS = Path(__file__).with_name("experiments.json")
SEEDS = (0, 1, 2)
STEPS = 300
RECIPE = TrainConfig(steps=STEPS, batch_size=32, seq_len=64, optimizer="adamw", lr=3e-3)
D_MODEL = SIBLINGS["sinusoidal"].d_model

# How the first vectors are made: the standard deviation of the embedding when training begins, the factor in front of
# it, and the factor in front of the sinusoids (0: no positions).
VARIANTS: dict[str, tuple[float, float, float]] = {
    "no positions": (0.02, 1.0, 0.0),
    "sinusoids added, embedding of 0.02": (0.02, 1.0, 1.0),
    "sinusoids shrunk to 0.02": (0.02, 1.0, 0.02 * math.sqrt(2)),
    "embedding of 0.02 times √d_model": (0.02, math.sqrt(D_MODEL), 1.0),
    "embedding of 1/√d_model times √d_model": (1 / math.sqrt(D_MODEL), math.sqrt(D_MODEL), 1.0),
}


class ScaledSum(nn.Module):
    """Adds sinusoids times `amount` to the embedding times `scale`."""

    def __init__(self, scale: float, amount: float) -> None:
        super().__init__()
        self.scale = scale
        self.amount = amount

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], positions: Int[Tensor, "rows seq"]
    ) -> Float[Tensor, "batch seq d_model"]:
        return self.scale * x + self.amount * sinusoids(positions, x.shape[-1])


def new_model(variant: str, seed: int) -> GPT:
    """A sibling without positions, with the sum of the variant in their place."""
    std, scale, amount = VARIANTS[variant]
    torch.manual_seed(seed)
    model = GPT(replace(SIBLINGS["no_positions"]))
    nn.init.normal_(model.embedding.weight, std=std)
    model.positions = ScaledSum(scale, amount)
    return model


def train(model: GPT, text: np.ndarray, seed: int, label: str) -> list[float]:
    """Train a model with RECIPE at a constant rate; return the loss of every step."""
    (optimizer,) = build_optimizers(model, RECIPE)
    windows, losses = ShuffledWindows(text, RECIPE.batch_size, RECIPE.seq_len, seed), []
    for step in tqdm(range(STEPS), desc=label, unit="step"):
        tokens, targets = windows.batch(step)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), RECIPE.clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def scaling_losses() -> dict[str, list[float]]:
    """Held-out loss of each variant after training, in nats per character, one number per seed."""
    return {variant: [seed["held out"] for seed in seeds] for variant, seeds in json.loads(RESULTS.read_text()).items()}


def learning_curves() -> dict[str, Float[Tensor, "seeds points"]]:
    """Training loss of each variant: a row per seed, a mean over every ten steps."""
    stored = json.loads(RESULTS.read_text())
    return {variant: torch.tensor([seed["curve"] for seed in seeds]) for variant, seeds in stored.items()}


def main() -> None:
    """Train every variant with every seed, and store the losses."""
    torch.set_num_threads(1)
    training, held_out = text_of("train"), torch.from_numpy(text_of("validation").astype(np.int64))
    results = {}
    for variant in VARIANTS:
        results[variant] = []
        for seed in SEEDS:
            model = new_model(variant, seed)
            losses = torch.tensor(train(model, training, seed, f"{variant}, seed {seed}"))
            curve = [round(loss, 3) for loss in losses.view(-1, 10).mean(1).tolist()]
            final = held_out_losses(model.eval(), held_out)[RECIPE.seq_len]
            results[variant].append({"held out": round(final, 3), "curve": curve})
    write_json(RESULTS, results)


if __name__ == "__main__":
    main()
