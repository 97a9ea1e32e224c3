"""Train tiny models with one planted mistake each, and store what their logs show.

    python -m pocketgpt.course.ch24_find_the_bug.experiments

The models, the text and the loop are those of chapter 14. About 5 minutes on an idle core; after every run the results
are stored in assets/bug_runs.json, so that the command can be stopped and repeated.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pocketgpt.assets import asset
from pocketgpt.course.ch14_training import experiments
from pocketgpt.course.lab.bug_causes import PLANTS, RIGHT
from pocketgpt.course.lab.bug_plants import mistake
from pocketgpt.course.lab.reporting import earlier_changes
from pocketgpt.course.siblings.family import character_tokenizer
from pocketgpt.files import write_json
from pocketgpt.models.gpt import GPT

SEEDS = (0, 1, 2)
STEPS, EVERY = 120, 5
WARMUP = 20


def measured(plant: tuple[str, str] | None, seed: int) -> dict[str, Any]:
    """The log of one training: a number every EVERY steps for each curve, the probe, and a sample at the end."""
    model, parts = experiments.new_model(seed), experiments.finished_parts()
    if plant and plant[0] == "causal_mask":
        model = experiments.with_leak(model)
    elif plant:
        parts = replace(parts, **{plant[0]: mistake(*plant)})
    rates: list[float] = []
    parts = replace(parts, learning_rate=_noted(parts.learning_rate, rates))
    points, weights = [], []
    for point in experiments.train(model, warmup=WARMUP, steps=STEPS, seed=seed, every=EVERY, parts=parts):
        points.append(point)
        weights.append(_norm(model))
    return {
        "training": _rounded(point.training for point in points[1:]),
        "held_out": _rounded(point.held_out for point in points),
        "gradient": [float(f"{point.norm:.3g}") for point in points[1:]],
        "weights": _rounded(weights),
        "rate": [float(f"{rate:.3g}") for rate in rates],
        "probe": earlier_changes(model, experiments.held_out()[:1, :-1]),
        "sample": sample(model, seed),
    }


def _noted(function: Callable, into: list[float]) -> Callable:
    def learning_rate(*inputs: Any) -> float:
        into.append(function(*inputs))
        return into[-1]

    return learning_rate


def _norm(model: GPT) -> float:
    """The norm of all weights that decay: the matrices, without the embedding."""
    decaying = [each for name, each in model.named_parameters() if each.ndim == 2 and "embedding" not in name]
    return math.sqrt(sum(float(each.detach().square().sum()) for each in decaying))


def _rounded(numbers: Any) -> list[float | None]:
    return [round(x, 3) if math.isfinite(x) else None for x in numbers]


@torch.no_grad()
def sample(model: GPT, seed: int, n: int = 60) -> str:
    """What the model writes after ROMEO:, at temperature 0.8."""
    tokenizer, rng = character_tokenizer(), torch.Generator().manual_seed(seed)
    tokens: Tensor = torch.tensor([tokenizer.encode("ROMEO:\n")])
    for _ in range(n):
        logits = model(tokens[:, -experiments.SEQ :])[:, -1] / 0.8
        tokens = torch.cat((tokens, torch.multinomial(logits.softmax(-1), 1, generator=rng)), dim=1)
    return tokenizer.decode(tokens[0].tolist())


def main() -> None:
    torch.set_num_threads(1)
    path = asset("symptoms.json").with_name("bug_runs.json")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for (name, plant), seed in tqdm(list(product({RIGHT: None, **PLANTS["training"]}.items(), SEEDS)), unit="run"):
        if f"{name} {seed}" not in results:
            results[f"{name} {seed}"] = measured(plant, seed)
            write_json(path, results)


if __name__ == "__main__":
    main()
