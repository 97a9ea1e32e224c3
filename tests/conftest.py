"""What the tests share: one thread, a seed, hypothesis without a clock, and small models whose every part matters."""

from dataclasses import replace

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from pocketgpt.config import ModelConfig, preset
from pocketgpt.gpt import GPT

torch.set_num_threads(1)  # tiny models: a second thread costs more than it brings
# Times never decide a test, and a run is the same run tomorrow.
settings.register_profile("pocketgpt", deadline=None, derandomize=True, database=None)
settings.load_profile("pocketgpt")

SMALL = {"vocab_size": 61, "d_model": 48, "n_layers": 2, "n_heads": 6, "d_head": 8, "d_ff": 64, "max_seq_len": 24}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def small():
    """small(name, **changes) -> ModelConfig: a preset with everything that makes it special, in small."""

    def small(name: str, **changes) -> ModelConfig:
        original = preset(name)
        kv_heads = 2 if original.n_kv_heads < original.n_heads else 6
        rope = original.rope
        if rope.original_max_seq_len:
            rope = replace(rope, original_max_seq_len=10)  # stretches within the small context
        return preset(name, **{**SMALL, "n_kv_heads": kv_heads, "rope": rope, **changes})

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
