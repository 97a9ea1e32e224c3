"""Recall: a task that separates layers that look anything up from layers that keep a summary.

    a 3 d 7 b 3 c 9   c 9 a 3 b 3 d 7      pairs of key and value, then the same pairs in another order

Given the first half and a key of the second half, the model is asked for the key's value. Every text has new pairs, so
there is nothing to learn but to look them up. Training asks for all values. Accuracy counts the first one only, since
later ones can be guessed by ruling out those already given: any value of the text is right three times in ten.

    recall_accuracy(train_recall(AttentionConfig(n_heads=2)))       # share of right answers in new texts
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from pocketgpt.layers.block import MixerConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.schedule import warmup_cosine

N_SYMBOLS = 16
"""Different keys, and as many different values."""
N_PAIRS = 4
"""Pairs in a text."""
RECIPE = TrainConfig(steps=600, batch_size=64, weight_decay=0.0)
"""Muon with a learning rate of 0.02 for the matrices of the blocks, AdamW with 0.003 for the rest."""


def recall_texts(n_texts: int, generator: torch.Generator) -> Int[Tensor, "texts tokens"]:
    """Random texts of 4 · N_PAIRS tokens. Keys are 0 to N_SYMBOLS − 1, each at most once in a half; values follow."""
    keys = torch.rand(n_texts, N_SYMBOLS, generator=generator).argsort(dim=1)[:, :N_PAIRS]
    values = torch.randint(N_SYMBOLS, (n_texts, N_PAIRS), generator=generator) + N_SYMBOLS
    order = torch.rand(n_texts, N_PAIRS, generator=generator).argsort(dim=1)
    halves = [(keys, values), (keys.gather(1, order), values.gather(1, order))]
    return torch.cat([torch.stack(half, dim=2).flatten(1) for half in halves], dim=1)


def recall_answers(
    model: nn.Module, texts: Int[Tensor, "texts tokens"]
) -> tuple[Float[Tensor, "texts pairs vocab"], Int[Tensor, "texts pairs"]]:
    """The model's scores after each key of the second half, and the values that follow."""
    first = texts.shape[1] // 2
    return model(texts[:, :-1])[:, first::2], texts[:, first + 1 :: 2]


def train_recall(mixer: MixerConfig, seed: int = 0, recipe: TrainConfig = RECIPE) -> GPT:
    """Train a model of two layers and d_model 64 with this mixer on the task."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    shape = {"vocab_size": 2 * N_SYMBOLS, "d_model": 64, "n_layers": 2, "max_seq_len": 4 * N_PAIRS}
    model = GPT(ModelConfig(**shape, mixer=mixer, tie_embeddings=False))
    optimizers = build_optimizers(model, recipe)
    rates = {"peak": 1.0, "floor": recipe.final_lr, "warmup_steps": recipe.warmup_steps, "steps": recipe.steps}
    schedules = [LambdaLR(optimizer, lambda step: warmup_cosine(step, **rates)) for optimizer in optimizers]
    for _ in range(recipe.steps):
        scores, values = recall_answers(model, recall_texts(recipe.batch_size, generator))
        F.cross_entropy(scores.flatten(0, 1), values.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return model.eval()


@torch.no_grad()
def recall_accuracy(model: nn.Module, n_texts: int = 1000) -> float:
    """Share of right answers to the first key that is asked, in texts of a seed that no training uses."""
    scores, values = recall_answers(model, recall_texts(n_texts, torch.Generator().manual_seed(2**31)))
    return (scores[:, 0].argmax(dim=-1) == values[:, 0]).float().mean().item()
