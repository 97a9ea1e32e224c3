"""What the tests share: one thread, a seed, hypothesis without a clock, and small models whose every part matters."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

torch.set_num_threads(1)  # tiny models: a second thread costs more than it brings
# Times never decide a test, and a run is the same run tomorrow.
settings.register_profile("pocketgpt", deadline=None, derandomize=True, database=None)
settings.load_profile("pocketgpt")

SMALL = {"vocab_size": 61, "d_model": 48, "n_layers": 2, "max_seq_len": 24}
SMALL_PARTS = {
    "attention": {"n_heads": 6, "d_head": 8},
    "feedforward": {"d_ff": 64},
    "latent_attention": {"n_heads": 6, "d_head": 8},
    "linear_attention": {"n_heads": 6, "d_head": 8},
    "mamba": {"d_state": 4},
    "mixture_of_experts": {"d_ff": 24},
}


def shrink(part, changes: dict):
    """The config of a part in small, with those of the changes that it has fields for."""
    if isinstance(part, tuple):
        return tuple(shrink(each, changes) for each in part)
    if part is None:
        return None
    sizes = SMALL_PARTS[part.kind]
    if part.kind == "attention":
        sizes = sizes | {"n_kv_heads": 2 if part.n_kv_heads else 6}
        if part.n_anchors:  # hides something within the small context, unless the window is taken away
            sizes = sizes | {"window": 5, "n_anchors": 0 if changes.get("window", 5) is None else 2}
    return replace(part, **sizes | {name: value for name, value in changes.items() if hasattr(part, name)})


@pytest.fixture(autouse=True)
def no_progress_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETGPT_PROGRESS", "off")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def small():
    """small(name, **changes) -> ModelConfig: a preset with everything that makes it special, in small."""

    def small(name: str, **changes) -> ModelConfig:
        original = preset(name)
        own = {field.name for field in fields(ModelConfig)}
        inner = {name: changes.pop(name) for name in list(changes) if name not in own}  # of mixer and feed-forward
        parts = {part: shrink(getattr(original, part), inner) for part in ("mixer", "feedforward")}
        rope = original.rope
        if rope.original_max_seq_len:
            rope = replace(rope, original_max_seq_len=10)  # stretches within the small context
        n_layers = max([2, *(len(part) for part in parts.values() if isinstance(part, tuple))])
        return preset(name, **{**SMALL, "n_layers": n_layers, **parts, "rope": rope, **changes}).resolved()

    return small


@pytest.fixture(scope="session")
def lively():
    """lively(config) -> GPT: with weights so large that no part of the model can be left out unnoticed.

    Fresh weights (std 0.02) make scores close to 0, attention close to uniform, and many mistakes invisible.
    """

    def lively(config: ModelConfig, seed: int = 0) -> GPT:
        model, generator = GPT(config).eval(), torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.data = 0.3 * noise + (1.0 if name.endswith("weight") else 0.0)
            else:
                parameter.data = noise * (1.5 / parameter.shape[1] ** 0.5 if "embedding" not in name else 0.7)
        if config.tie_embeddings:
            model.head.weight = model.embedding.weight
        return model

    return lively


@pytest.fixture(scope="session")
def assert_equal():
    """assert_equal(ours, theirs): 1e-5, relative to the largest value.

    Not to each value: a logit near zero is a sum of products that cancel, and keeps the rounding error of the largest.
    """

    def assert_equal(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=tolerance * theirs.abs().max().item())

    return assert_equal
