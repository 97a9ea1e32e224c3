"""The second step of the capstone: the folder `my_gpt/`, with the weights that the learner's loop has trained."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.lab.reporting import earlier_changes
from pocketgpt.course.syllabus import find_exercise
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.checkpoint import save_checkpoint

FOLDER = "my_gpt"
OF_THE_LOOP = ("make_batch", "cross_entropy", "learning_rate", "adamw_step", "clip_gradients", "perplexity")


def save_trained(
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    step: int,
    loss: float,
    perplexity: float,
    sample: str,
    folder: str | Path = FOLDER,
) -> GPT:
    """Write the model into a folder that every command of pocketgpt reads, with a card, and return it.

    The card names the losses, the causality probe, a sample, and which functions of the loop are the learner's.
    """
    model = GPT(config)
    state = {name: weight.detach() for name, weight in weights.items()}
    if config.tie_embeddings:
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state)
    model.eval()
    probe = earlier_changes(model, torch.arange(48)[None] % config.vocab_size)
    measured = {"step": step, "validation_loss": loss, "perplexity": perplexity, "positions_that_see_later": probe}
    save_checkpoint(Path(folder), model, tokenizer, measured)
    (Path(folder) / "README.md").write_text(_card(measured, sample), encoding="utf-8")
    return model


def _card(measured: Mapping[str, Any], sample: str) -> str:
    own = [name for name in OF_THE_LOOP if _is_own(name)]
    quoted = "\n".join("    " + line for line in sample.splitlines())
    return f"""# My GPT

Trained on Shakespeare with the loop of chapter 14, for {measured["step"]:,} steps.

| | |
|---|---|
| held-out loss, nats per token | {measured["validation_loss"]:.3f} |
| perplexity | {measured["perplexity"]:.1f} |
| positions that see a later token | {measured["positions_that_see_later"]} |
| functions of the loop that are mine | {", ".join(own) or "none yet"} |

A sample:

{quoted}
"""


def _is_own(name: str) -> bool:
    """Whether the notebook defines the function, and it passes its check."""
    answer = vars(sys.modules["__main__"]).get(name)
    exercise = find_exercise(name)
    return answer not in (None, exercise.finished_answer) and diagnose(exercise, answer) is None
