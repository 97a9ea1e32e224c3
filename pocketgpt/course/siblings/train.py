"""Train the siblings: `python -m pocketgpt.course.siblings.train` trains all that are missing in assets/siblings.

Three seeds each, on the training plays of Shakespeare, one thread: about an hour in all. The first seed is
shipped in bfloat16; losses.json has the held-out losses of all three. Stop it when you like: what is finished is kept,
and the same command continues.
"""

import argparse
import json
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

from pocketgpt.course.siblings import reversed_lines
from pocketgpt.course.siblings.family import LONGEST, OBJECTIVE_OF, SIBLINGS, TRAINED_LENGTH, character_tokenizer
from pocketgpt.files import write_json
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.batches import ShuffledWindows
from pocketgpt.text.corpora import load_corpus
from pocketgpt.training.evaluate import same_draws
from pocketgpt.training.objectives import OBJECTIVES
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.schedule import warmup_cosine
from pocketgpt.training.step import training_step

FOLDER = Path(__file__).parents[3] / "assets" / "siblings"
SEEDS = (0, 1, 2)
LENGTHS = (64, 128, 256)
RECIPE = TrainConfig(
    steps=2000, batch_size=32, seq_len=TRAINED_LENGTH, optimizer="adamw", lr=3e-3, warmup=0.05, final_lr=0.1
)
STEPS_OF = {"diffusion": 4000}
"""Steps of the siblings that need more than the recipe's."""
HELD_OUT_WINDOWS = 400  # of 256 characters
DRAWS = 8
"""Times that an objective with random masks reads the held-out text."""
CARD = f"""# Siblings

Tiny character models of 87,000 parameters (3 layers, d_model 48, 4 heads), trained on Shakespeare to be compared: each
differs from `base` (rotary positions, pre-norm RMSNorm, GELU, four key/value heads) in the part that it is named after.
They are for the course, and too small to be of use elsewhere. `mixture` has 142,000 parameters in four experts a layer,
of which as many are active as the others have; `latent` has keys and values of rank 24.

Trained with `python -m pocketgpt.course.siblings.train`: AdamW, learning rate {RECIPE.lr:g} with warm-up and cosine,
{RECIPE.steps:,} steps of {RECIPE.batch_size} × {TRAINED_LENGTH} characters of the training plays. The weights are
those of seed 0.

Held-out loss in nats per character, for the seeds {SEEDS}, on the first {HELD_OUT_WINDOWS * LONGEST:,} characters
of *King John* in windows of three lengths. The models have learned from windows of {TRAINED_LENGTH}; a table of learned
positions ends there.

`diffusion` is not causal and learns by masked diffusion, in {STEPS_OF["diffusion"]:,} steps. It has one more token, the
mask. Its numbers are an upper bound on the loss, the mean of {DRAWS} random draws of the hidden characters.
`masked_words` is the same model and learns to fill in 15 % of the characters, as BERT does; its numbers are the mean
over those characters, and no loss of the whole text.

| | 64 | 128 | 256 |
|---|---|---|---|"""


def recipe_of(name: str) -> TrainConfig:
    """`RECIPE` with the objective and the steps of a sibling."""
    return replace(RECIPE, objective=OBJECTIVE_OF.get(name, RECIPE.objective), steps=STEPS_OF.get(name, RECIPE.steps))


def train(config: ModelConfig, recipe: TrainConfig, text: np.ndarray, seed: int, label: str) -> GPT:
    """Train one sibling, and show progress."""
    torch.manual_seed(seed)
    model = GPT(config)
    loss = OBJECTIVES[recipe.objective].build_loss(model)
    (optimizer,) = build_optimizers(model, recipe)
    windows = ShuffledWindows(text, recipe.batch_size, recipe.seq_len, seed)
    rates = {"peak": recipe.lr, "floor": recipe.final_lr * recipe.lr, "warmup_steps": recipe.warmup_steps}
    scaler = torch.amp.GradScaler(enabled=False)
    for step in tqdm(range(recipe.steps), desc=label, unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, **rates, steps=recipe.steps)
        training_step(loss, [windows.batch(step)], [optimizer], autocast=nullcontext(), scaler=scaler, clip=recipe.clip)
    return model.eval()


@torch.no_grad()
def held_out_losses(
    model: GPT, text: Int[Tensor, " characters"], objective: str = RECIPE.objective
) -> dict[int, float]:
    """Loss in nats per character on the same text, cut into windows of each length that the model accepts.

    An objective with random masks reads the text `DRAWS` times, with the same masks for every model.
    """
    text = text[: HELD_OUT_WINDOWS * LONGEST + 1]
    loss = OBJECTIVES[objective].build_loss(model)
    draws = 1 if objective == "next-token" else DRAWS
    losses = {}
    for length in LENGTHS:
        if length <= model.config.max_seq_len:
            inputs, targets = text[:-1].view(-1, length), text[1:].view(-1, length)
            batches = list(zip(inputs.split(64), targets.split(64), strict=True)) * draws
            with same_draws(model.device):
                total = sum(loss(*batch, n_targets=1.0).item() for batch in batches)
            losses[length] = round(total / draws / targets.numel(), 4)
    return losses


def text_of(split: str) -> np.ndarray:
    """Characters of the training or the held-out plays, as tokens."""
    return np.array(character_tokenizer().encode("\n".join(load_corpus("shakespeare", split))), dtype=np.uint16)


def card(losses: dict[str, dict[str, dict[str, float]]]) -> str:
    """The card of the siblings in Markdown: what they are, how they were trained, and every seed's losses."""
    rows = [
        f"| {name} | "
        + " | ".join(" · ".join(f"{seed[str(n)]:.3f}" for seed in seeds.values() if str(n) in seed) for n in LENGTHS)
        + " |"
        for name, seeds in losses.items()
    ]
    return "\n".join([CARD, *rows]) + "\n"


def main(folder: Path = FOLDER) -> None:
    """Train every sibling and seed whose losses are not in the folder yet."""
    torch.set_num_threads(1)
    training, held_out = text_of("train"), torch.from_numpy(text_of("validation").astype(np.int64))
    record = folder / "losses.json"
    losses = json.loads(record.read_text()) if record.exists() else {}
    for seed, (name, config) in product(SEEDS, SIBLINGS.items()):
        if str(seed) in losses.get(name, {}):
            continue
        recipe = recipe_of(name)
        model = train(config, recipe, training, seed, f"{name}, seed {seed}")
        if seed == SEEDS[0]:
            (folder / name).mkdir(parents=True, exist_ok=True)
            model.save(folder / name, torch.bfloat16)
            model = GPT.load(folder / name)  # measured as shipped
        measured = held_out_losses(model, held_out, recipe.objective)
        losses.setdefault(name, {})[str(seed)] = {str(length): loss for length, loss in measured.items()}
        write_json(record, losses)
        write_card(folder)
    reversed_lines.main(folder)
    write_card(folder)


def write_card(folder: Path) -> None:
    """Write README.md from the records in the folder."""
    losses = json.loads((folder / "losses.json").read_text())
    (folder / "README.md").write_text(card(losses) + reversed_lines.card(folder), encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
