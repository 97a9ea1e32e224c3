"""Train tiny models at six learning rates, with a leaking mask, and with known mistakes in the training loop.

    python -m pocketgpt.course.ch14_training.experiments

Character models of 60,000 parameters on Shakespeare, on one thread: about 5 minutes on an idle core. The text is
downloaded once. The results are stored in experiments.json beside this file, after every run, so that the command can
be stopped and repeated; the notebook reads them, and trains one of these models itself.
"""

import json
import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from pocketgpt.course.lab.transplanting import transplant
from pocketgpt.course.siblings.family import CHARACTERS, character_tokenizer
from pocketgpt.course.syllabus import find_exercise
from pocketgpt.files import write_json
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.corpora import load_corpus

RESULTS = Path(__file__).with_suffix(".json")
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
WARMUPS = (0, 20)
SEEDS = (0, 1, 2)
STEPS, EVERY = 150, 15
MISTAKE_STEPS = 60
NOISE = 0.03  # nats between two trainings that says nothing
LEAK_STEPS, LEAK_RATE = 300, 1e-2
BATCH, SEQ = 8, 64
HELD_OUT = 48  # windows


def new_model(seed: int = 0) -> GPT:
    """A character model: 2 layers, d_model 48, 4 heads, GELU, rotary positions, 60,000 parameters."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=len(CHARACTERS),
        d_model=48,
        n_layers=2,
        max_seq_len=4 * SEQ,
        mixer=AttentionConfig(n_heads=4),
        feedforward=FeedForwardConfig(activation="gelu", d_ff=192),
    )
    return GPT(config)


def one_too_far(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """The causal mask of a known mistake: each position also sees the one after it."""
    return key_positions[None, :] <= query_positions[:, None] + 1


def with_leak(model: GPT) -> GPT:
    """The model with a mask that reaches one position too far."""
    return transplant(model, causal_mask=one_too_far)


@cache
def characters(split: str) -> Int[Tensor, " characters"]:
    """The training or the validation plays, one token a character."""
    return torch.tensor(character_tokenizer().encode("\n".join(load_corpus("shakespeare", split))))


@cache
def held_out() -> Int[Tensor, "windows seq_plus_1"]:
    """Windows of the validation plays, always the same ones."""
    text = characters("validation")
    starts = torch.randint(len(text) - SEQ, (HELD_OUT, 1), generator=torch.Generator().manual_seed(0))
    return text[starts + torch.arange(SEQ + 1)]


@torch.no_grad()
def held_out_loss(model: GPT) -> float:
    """Mean loss in nats per character on the validation windows."""
    logits = model(held_out()[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), held_out()[:, 1:].flatten()).item()


@torch.no_grad()
def writing_loss(model: GPT) -> float:
    """The same loss with nothing but the beginning of a window before the model, as when it writes."""
    windows = held_out()
    last = [model(windows[:, : n + 1])[:, -1] for n in range(SEQ)]
    return F.cross_entropy(torch.stack(last, dim=1).flatten(0, 1), windows[:, 1:].flatten()).item()


@dataclass(frozen=True)
class Parts:
    """The functions of a training loop; without other ones, the finished answers of the chapter."""

    make_batch: Callable
    cross_entropy: Callable
    learning_rate: Callable
    adamw_step: Callable
    clip_gradients: Callable


def finished_parts() -> Parts:
    names = Parts.__dataclass_fields__
    return Parts(**{name: find_exercise(name).finished_answer for name in names})


@dataclass(frozen=True)
class Point:
    """A place of a training curve: the losses after so many steps, and the gradient's norm in the last of them."""

    step: int
    training: float
    held_out: float
    norm: float


def train(
    model: GPT,
    peak: float = 3e-3,
    warmup: int = 20,
    steps: int = STEPS,
    seed: int = 0,
    every: int = EVERY,
    clip: float = 1.0,
    parts: Parts | None = None,
) -> Iterator[Point]:
    """Train with AdamW (betas 0.9 and 0.95, decay 0.1 for matrices), warm-up and a cosine to a tenth of the peak; yield
    a point before the first step and after every `every` steps."""
    parts = parts or finished_parts()
    text, rng = characters("train"), torch.Generator().manual_seed(seed)
    parameters = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    averages = {name: (torch.zeros_like(each), torch.zeros_like(each)) for name, each in parameters}
    loss, norm = math.nan, math.nan
    for step in range(steps + 1):
        if step % every == 0:
            yield Point(step, loss, held_out_loss(model), norm)
        if step == steps:
            return
        starts = torch.randint(len(text) - SEQ, (BATCH,), generator=rng)
        inputs, targets = parts.make_batch(text, starts, SEQ)
        value = parts.cross_entropy(model(inputs), targets)
        grads = torch.autograd.grad(value, [each for _, each in parameters])
        clipped, size = parts.clip_gradients(list(grads), clip)
        loss, norm = value.item(), float(size)
        rate = parts.learning_rate(step, peak, peak / 10, warmup, steps)
        with torch.no_grad():
            for (name, each), grad in zip(parameters, clipped, strict=True):
                decay = 0.1 if each.ndim == 2 and "embedding" not in name else 0.0
                m, v = averages[name]
                new, m, v = parts.adamw_step(each.detach(), grad, m, v, step + 1, rate, 0.9, 0.95, 1e-8, decay)
                each.copy_(new)
                averages[name] = m, v


def run_name(rate: float, warmup: int, seed: int) -> str:
    """'rate 0.003 warmup 20 seed 0': the name of a run in the stored results."""
    return f"rate {rate:g} warmup {warmup} seed {seed}"


def stored() -> dict[str, Any]:
    """All stored results."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def stored_curves(warmup: int) -> Float[Tensor, "rates seeds points"]:
    """Held-out losses every EVERY steps, in the order of RATES and SEEDS."""
    runs = stored()["rates"]
    curves = [runs[run_name(rate, warmup, seed)] for rate, seed in product(RATES, SEEDS)]
    return torch.tensor(curves).view(len(RATES), len(SEEDS), -1)


def training_mistakes(*exercises: str) -> None:
    """Print what the known mistakes of these exercises do to a training of MISTAKE_STEPS steps, sorted by loss.

    Only counted are those whose loss is within NOISE of the right functions' (three seeds), those that end with an
    error or without a number, and of each exercise those whose loss, to a tenth, is that of a row above.
    """
    results = stored()["mistakes"]
    right = results["right"]
    low, high = min(right) - NOISE, max(right) + NOISE
    rows: dict[tuple[str, float], tuple[float, str]] = {}
    losses = []
    for exercise in exercises:
        sentences = {mistake.name: mistake.sentence for mistake in find_exercise(exercise).mistakes}
        for name, loss in results[exercise].items():
            losses.append(math.inf if loss is None else loss)
            if loss is not None and not low <= loss <= high:
                row = loss, f"{exercise}: {sentences[name].split(':')[0].rstrip('.')}"
                key = exercise, round(loss, 1)
                rows[key] = min(row, rows.get(key, row))
    hidden, errors = sum(low <= loss <= high for loss in losses), losses.count(math.inf)
    print(f"  loss  the right functions: {min(right):.2f} to {max(right):.2f}")
    print(
        f"        {hidden} of {len(losses)} mistakes: {low:.2f} to {high:.2f}, not to be told from the right functions"
    )
    print(f"        {errors} more: an error, or no number at the end")
    print(f"        {len(losses) - hidden - errors - len(rows)} more: about the loss of a row below")
    for loss, sentence in sorted(rows.values()):
        shown = f"{loss:6.2f}  " if loss < 1000 else f"{loss:6.0f}  "
        print(textwrap.fill(sentence, 96, initial_indent=shown, subsequent_indent=" " * 8))


def with_mistake(exercise: str, function: Callable) -> float | None:
    """The held-out loss after a training with a mistake; None if it stops with an error or ends without a number."""
    parts = replace(finished_parts(), **{exercise: function})
    try:
        *_, last = train(new_model(), steps=MISTAKE_STEPS, every=MISTAKE_STEPS, parts=parts)
    except Exception:  # a mistake may raise anything
        return None
    return round(last.held_out, 3) if math.isfinite(last.held_out) else None


def main() -> None:
    torch.set_num_threads(1)
    results = stored() if RESULTS.exists() else {"rates": {}, "leak": {}, "norms": {}, "mistakes": {}}
    for seed, (kind, change) in tqdm(list(product(SEEDS, (("leak", with_leak), ("right", lambda model: model))))):
        name = f"{kind} seed {seed}"
        if name not in results["leak"]:
            model = change(new_model(seed))
            *_, last = train(model, LEAK_RATE, steps=LEAK_STEPS, seed=seed)
            measured = (last.training, last.held_out, writing_loss(model))
            results["leak"][name] = [round(each, 3) for each in measured]
            write_json(RESULTS, results)
    for seed, rate, warmup in tqdm(list(product(SEEDS, RATES, WARMUPS)), unit="run"):
        name = run_name(rate, warmup, seed)
        if name not in results["rates"]:
            points = list(train(new_model(seed), rate, warmup, seed=seed))
            results["rates"][name] = [round(point.held_out, 3) for point in points]
            write_json(RESULTS, results)
    for rate in (3e-3, 1e-1):
        if f"{rate:g}" not in results["norms"]:
            points = list(train(new_model(), rate, warmup=0, every=1))
            results["norms"][f"{rate:g}"] = [round(point.norm, 3) for point in points[1:]]
            write_json(RESULTS, results)
    if "right" not in results["mistakes"]:
        finals = [list(train(new_model(seed), steps=MISTAKE_STEPS, seed=seed))[-1].held_out for seed in SEEDS]
        results["mistakes"]["right"] = [round(each, 3) for each in finals]
    todo = [(name, each) for name in Parts.__dataclass_fields__ for each in find_exercise(name).mistakes]
    for name, mistake in tqdm(todo, unit="mistake"):
        rows = results["mistakes"].setdefault(name, {})
        if mistake.name not in rows:
            rows[mistake.name] = with_mistake(name, mistake.function)
            write_json(RESULTS, results)


if __name__ == "__main__":
    main()
