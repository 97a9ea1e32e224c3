"""The sibling with an encoder: a T5 that reads a line and writes its words in reverse order, character by character.

    model = sibling("t5")
    write_reversed(model, ["what is in a name"])        # ["name a in is what"]

The words at the end of the input are the first of the output. No model of the text so far can know them: the decoder
has to look at the input, and the place where it looks moves backward, a word at a time. `train.py` trains this sibling
with the others, and `python -m pocketgpt.course.siblings.reversed_lines` trains it alone.
"""

import argparse
import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from pocketgpt.course.siblings.family import SEQUENCE_SIBLINGS, character_tokenizer
from pocketgpt.files import write_json
from pocketgpt.inference.seq2seq import generate_output
from pocketgpt.models.classes import load_model
from pocketgpt.models.t5 import T5, shift_right
from pocketgpt.text.corpora import load_corpus
from pocketgpt.training.loss import IGNORE
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.schedule import warmup_cosine
from pocketgpt.training.step import training_step

FOLDER = Path(__file__).parents[3] / "assets" / "siblings"
RECORD = "exact_match.json"
SEEDS = (0, 1, 2)
LONGEST_LINE = 24  # characters
HELD_OUT_LINES = 500
RECIPE = TrainConfig(steps=2000, batch_size=32, optimizer="muon", lr=3e-3, muon_lr=0.02, warmup=0.05, final_lr=0.1)
END = "\n"
"""Ends every input, so that the last word can be found, and every output."""


def reverse_words(line: str) -> str:
    """The words of the line in reverse order: what the model is to write."""
    return " ".join(reversed(line.split()))


def lines_of(split: str) -> list[str]:
    """Lines of the training or the held-out plays, each once: words of small letters, at least two of them."""
    lines = (
        re.findall("[a-z']+", line.lower()) for text in load_corpus("shakespeare", split) for line in text.splitlines()
    )
    joined = (" ".join(words) for words in lines if len(words) > 1)
    return list(dict.fromkeys(line for line in joined if len(line) <= LONGEST_LINE))


def held_out_lines() -> list[str]:
    """Lines of the held-out plays that are not in the training plays as well."""
    known = set(lines_of("train"))
    return [line for line in lines_of("validation") if line not in known][:HELD_OUT_LINES]


class OutputLoss(nn.Module):
    """Mean cross-entropy of an output, its end included, in nats per character."""

    def __init__(self, model: T5) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Int[Tensor, "batch keys"],
        targets: Int[Tensor, "batch seq"],
        n_targets: int | float | Float[Tensor, ""] | Int[Tensor, ""],
    ) -> Float[Tensor, ""]:
        """The sum over the targets that are not IGNORE, divided by `n_targets`. The start token pads the inputs."""
        start = self.model.config.start_token
        logits = self.model(tokens, shift_right(targets, start, IGNORE), mask=tokens != start)
        return (
            F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum") / n_targets
        )


def batch_of(lines: Sequence[str], padding: int) -> tuple[Int[Tensor, "batch keys"], Int[Tensor, "batch seq"]]:
    """Inputs, padded with `padding`, and targets, padded with IGNORE."""
    encode = character_tokenizer().encode
    inputs = [torch.tensor(encode(line + END)) for line in lines]
    targets = [torch.tensor(encode(reverse_words(line) + END)) for line in lines]
    pad = nn.utils.rnn.pad_sequence
    return pad(inputs, True, padding), pad(targets, True, IGNORE)


def train(lines: Sequence[str], seed: int, recipe: TrainConfig = RECIPE) -> T5:
    """Train the sibling on random lines, and show progress."""
    torch.manual_seed(seed)
    model = T5(SEQUENCE_SIBLINGS["t5"])
    loss = OutputLoss(model)
    optimizers = build_optimizers(model, recipe)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    scaler = torch.amp.GradScaler(enabled=False)
    generator = np.random.default_rng(seed)
    for step in tqdm(range(recipe.steps), desc=f"t5, seed {seed}", unit="step"):
        for group in groups:
            peak, warmup = group["peak_lr"], recipe.warmup_steps
            floor = recipe.final_lr * peak
            group["lr"] = warmup_cosine(step, peak=peak, floor=floor, warmup_steps=warmup, steps=recipe.steps)
        drawn = [lines[i] for i in generator.integers(len(lines), size=recipe.batch_size)]
        batch = batch_of(drawn, model.config.start_token)
        training_step(loss, [batch], optimizers, autocast=nullcontext(), scaler=scaler, clip=recipe.clip)
    return model.eval()


def write_reversed(model: T5, lines: Sequence[str]) -> list[str]:
    """The most probable output for each line."""
    tokenizer = character_tokenizer()
    [end] = tokenizer.encode(END)
    inputs = [tokenizer.encode(line + END) for line in lines]
    outputs = generate_output(
        model, inputs, max_new_tokens=2 * LONGEST_LINE, stop_tokens=(end, model.config.start_token)
    )
    return [tokenizer.decode(output) for output in outputs]


def exact_match(model: T5, lines: Sequence[str]) -> float:
    """Share of the lines whose output is right in every character."""
    outputs = write_reversed(model, lines)
    return sum(map(str.__eq__, outputs, map(reverse_words, lines))) / len(lines)


def card(folder: Path = FOLDER) -> str:
    """The part of the siblings' card about this one, in Markdown; empty before it is trained."""
    matches = read_matches(folder)
    if not matches:
        return ""
    shares = " · ".join(f"{share:.1%}" for share in matches.values())
    size = f"{RECIPE.steps:,} steps of {RECIPE.batch_size} lines of up to {LONGEST_LINE} characters"
    return f"""
`t5` answers an input instead of continuing a text: it reads a line and writes its words in reverse order. It has two
layers in the encoder and two in the decoder, about as many parameters as the others, and was trained with Muon, in
{size}. Share of {HELD_OUT_LINES} lines of the held-out plays that it writes
without a mistake, for the seeds {SEEDS}: {shares}.
"""


def read_matches(folder: Path = FOLDER) -> dict[str, float]:
    """The exact match of each seed that is trained."""
    record = folder / RECORD
    return json.loads(record.read_text()) if record.exists() else {}


def main(folder: Path = FOLDER) -> None:
    """Train every seed whose exact match is not in the folder yet."""
    torch.set_num_threads(1)
    matches = read_matches(folder)
    missing = [seed for seed in SEEDS if str(seed) not in matches]
    if not missing:
        return
    training, held_out = lines_of("train"), held_out_lines()
    for seed in missing:
        model = train(training, seed)
        if seed == SEEDS[0]:
            model.save(folder / "t5", torch.bfloat16)
            model = load_model(folder / "t5")  # measured as shipped
        matches[str(seed)] = round(exact_match(model, held_out), 4)
        write_json(folder / RECORD, matches)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
