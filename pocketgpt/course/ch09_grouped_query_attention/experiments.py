"""Uptraining: a trained multi-head model loses key/value heads and is trained on, from several starts.

    python -m pocketgpt.course.ch09_grouped_query_attention.experiments     # 10 minutes on one idle thread

The model is the sibling `base`, four heads trained for 2,000 steps. `uptraining_losses()` reads the results from
experiments.json beside this file; the notebook repeats one run on `excerpt()`, a piece of the training plays.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pocketgpt.course.siblings.family import LONGEST, TRAINED_LENGTH, character_tokenizer, sibling
from pocketgpt.files import write_json
from pocketgpt.models.gpt import GPT
from pocketgpt.text.corpora import load_corpus

RESULTS = Path(__file__).with_name("experiments.json")
EXCERPT = Path(__file__).with_name("excerpt.txt")
STARTS = ("mean", "first", "random")
KV_HEADS = (2, 1)
SEEDS = (0, 1, 2)
STEPS, EVERY = 200, 20  # a tenth of the sibling's own training
BATCH = 32
LEARNING_RATE = 3e-3  # the peak of the sibling's own training
HELD_OUT = 400 * LONGEST  # the characters on which siblings are measured
LIVE_STEPS = 40

Pool = Callable[[Tensor, int, int], Tensor]
"""pool(weight, n_kv_heads, d_head): a k_proj or v_proj with fewer heads."""


def mean_of_neighbors(weight: Float[Tensor, "rows d_model"], n_kv_heads: int, d_head: int) -> Tensor:
    """The start of Ainslie et al. 2023 (arXiv 2305.13245)."""
    return weight.unflatten(0, (n_kv_heads, -1, d_head)).mean(dim=1).flatten(0, 1)


def first_of_neighbors(weight: Float[Tensor, "rows d_model"], n_kv_heads: int, d_head: int) -> Tensor:
    return weight.unflatten(0, (n_kv_heads, -1, d_head))[:, 0].flatten(0, 1)


def random_rows(weight: Float[Tensor, "rows d_model"], n_kv_heads: int, d_head: int) -> Tensor:
    """New numbers of the size of the trained ones."""
    return torch.randn(n_kv_heads * d_head, weight.shape[1]) * weight.std()


POOLS: dict[str, Pool] = {"mean": mean_of_neighbors, "first": first_of_neighbors, "random": random_rows}


@torch.no_grad()
def with_fewer_kv_heads(model: GPT, n_kv_heads: int, pool: Pool = mean_of_neighbors) -> GPT:
    """A copy of a trained model whose k_proj and v_proj have `n_kv_heads` heads, made by `pool`. All else is equal."""
    mixer = replace(model.config.mixer, n_kv_heads=n_kv_heads)
    fewer = GPT(replace(model.config, mixer=mixer))
    weights = dict(model.state_dict())
    for name, weight in weights.items():
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            weights[name] = pool(weight, n_kv_heads, mixer.d_head)
    fewer.load_state_dict(weights)
    return fewer.eval()


def next_character_loss(model: GPT, windows: Int[Tensor, "batch seq_plus_1"]) -> Float[Tensor, ""]:
    """Mean loss in nats per character."""
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def train_on(model: GPT, batches: Int[Tensor, "steps batch seq_plus_1"], lr: float = LEARNING_RATE) -> Iterator[int]:
    """One step of AdamW for each batch, at a rate that falls to 0 along a line; yields the number of steps done."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    for step, windows in enumerate(batches):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / len(batches))
        loss = next_character_loss(model, windows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step + 1


@torch.inference_mode()
def held_out_loss(model: GPT, text: Int[Tensor, " characters"]) -> float:
    """Loss in nats per character in windows of the trained length."""
    inputs, targets = (each.view(-1, TRAINED_LENGTH) for each in (text[:-1], text[1:]))
    losses = [
        F.cross_entropy(model(rows).flatten(0, 1), wanted.flatten(), reduction="sum")
        for rows, wanted in zip(inputs.split(256), targets.split(256), strict=True)
    ]
    return (sum(losses) / targets.numel()).item()


def excerpt() -> Int[Tensor, "steps batch seq_plus_1"]:
    """The batches of the notebook's own run: LIVE_STEPS batches of windows that do not overlap."""
    text = torch.tensor(character_tokenizer().encode(EXCERPT.read_text(encoding="utf-8")))
    order = torch.randperm(LIVE_STEPS * BATCH, generator=torch.Generator().manual_seed(0))
    return text.view(-1, TRAINED_LENGTH + 1)[order].view(LIVE_STEPS, BATCH, -1)


def run_name(start: str, n_kv_heads: int, seed: int) -> str:
    """'mean 2 seed 0': the name of a run in the stored results. The untouched model is 'control 4'."""
    return f"{start} {n_kv_heads} seed {seed}"


RUNS = [("control", 4), *itertools.product(STARTS, KV_HEADS)]


def uptraining_losses() -> dict[tuple[str, int], list[list[float]]]:
    """Held-out loss after 0, EVERY, … STEPS steps by start and number of key/value heads, a list for each seed."""
    stored = json.loads(RESULTS.read_text())
    return {(start, n): [stored[run_name(start, n, seed)] for seed in SEEDS] for start, n in RUNS}


def main() -> None:
    """Train every run that is not stored yet."""
    torch.set_num_threads(1)
    text, held_out = ("\n".join(load_corpus("shakespeare", split)) for split in ("train", "validation"))
    EXCERPT.write_text(text[1_000_000:][: LIVE_STEPS * BATCH * (TRAINED_LENGTH + 1)], encoding="utf-8")
    text, held_out = (torch.tensor(character_tokenizer().encode(each)) for each in (text, held_out[: HELD_OUT + 1]))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed, (start, n_kv_heads) in tqdm(list(itertools.product(SEEDS, RUNS)), unit="run"):
        name = run_name(start, n_kv_heads, seed)
        if name in results:
            continue
        torch.manual_seed(seed)
        model = with_fewer_kv_heads(sibling("base"), n_kv_heads, POOLS.get(start, mean_of_neighbors))
        begins = torch.randint(
            len(text) - TRAINED_LENGTH, (STEPS, BATCH, 1), generator=torch.Generator().manual_seed(seed)
        )
        losses = [held_out_loss(model, held_out)]
        for done in train_on(model, text[begins + torch.arange(TRAINED_LENGTH + 1)]):
            if done % EVERY == 0:
                losses.append(held_out_loss(model, held_out))
        results[name] = [round(loss, 4) for loss in losses]
        write_json(RESULTS, results)


if __name__ == "__main__":
    main()
