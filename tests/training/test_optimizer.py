from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.classes import build_model
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.recipes import TrainConfig


@pytest.fixture
def gpt2_like() -> GPT:
    """Has everything that must not decay: biases, LayerNorms, learned positions."""
    torch.manual_seed(0)
    return GPT(
        ModelConfig(
            vocab_size=50,
            d_model=16,
            n_layers=2,
            max_seq_len=8,
            mixer=AttentionConfig(n_heads=2, bias=True, output_bias=True),
            feedforward=FeedForwardConfig(activation="gelu", bias=True),
            positions="learned",
            norm="layernorm",
            norm_bias=True,
        )
    )


def decay_by_name(model: nn.Module, config: TrainConfig) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: group["weight_decay"]
        for optimizer in build_optimizers(model, config)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def take_steps(model, optimizers, n=3):
    torch.manual_seed(1)
    for _ in range(n):
        tokens = torch.randint(50, (4, 9))
        NextTokenLoss(model)(tokens[:, :-1], tokens[:, 1:]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def assert_same_weights(model, other):
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_is_updated_exactly_once(preset, optimizer):
    with torch.device("meta"):
        model = build_model(PRESETS[preset])
    optimizers = build_optimizers(model, TrainConfig(optimizer=optimizer))
    updated = [id(parameter) for each in optimizers for group in each.param_groups for parameter in group["params"]]
    assert sorted(updated) == sorted(id(parameter) for parameter in model.parameters())


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_matrices_decay_and_embeddings_norms_and_biases_do_not(gpt2_like, optimizer):
    decay = decay_by_name(gpt2_like, TrainConfig(optimizer=optimizer, weight_decay=0.3))
    for name, value in decay.items():
        is_projection = name.endswith("_proj.weight")
        assert value == (0.3 if is_projection else 0.0), name


def test_an_untied_head_decays(config):
    model = GPT(replace(config, tie_embeddings=False))
    decay = decay_by_name(model, TrainConfig(weight_decay=0.3))
    assert decay["head.weight"] == 0.3
    assert decay["embedding.weight"] == 0.0


def test_frozen_parameters_are_left_out(gpt2_like):
    gpt2_like.blocks[0].requires_grad_(False)
    assert not any(name.startswith("blocks.0.") for name in decay_by_name(gpt2_like, TrainConfig()))


def test_adamw_equals_torch_with_groups_written_by_hand(gpt2_like):
    reference = deepcopy(gpt2_like)
    by_hand = torch.optim.AdamW(
        [
            {"params": [p for n, p in reference.named_parameters() if n.endswith("_proj.weight")], "weight_decay": 0.1},
            {
                "params": [p for n, p in reference.named_parameters() if not n.endswith("_proj.weight")],
                "weight_decay": 0.0,
            },
        ],
        lr=1e-2,
        betas=(0.9, 0.95),
    )
    take_steps(gpt2_like, build_optimizers(gpt2_like, TrainConfig(optimizer="adamw", lr=1e-2)))
    take_steps(reference, [by_hand])
    assert_same_weights(gpt2_like, reference)


def test_muon_equals_torch_on_the_matrices_with_adamw_on_the_rest(gpt2_like):
    reference = deepcopy(gpt2_like)
    by_hand = [
        torch.optim.Muon([p for n, p in reference.named_parameters() if n.endswith("_proj.weight")], lr=0.02),
        torch.optim.AdamW(
            [p for n, p in reference.named_parameters() if not n.endswith("_proj.weight")],
            lr=1e-2,
            betas=(0.9, 0.95),
            weight_decay=0.0,
        ),
    ]
    take_steps(gpt2_like, build_optimizers(gpt2_like, TrainConfig(optimizer="muon", lr=1e-2, muon_lr=0.02)))
    take_steps(reference, by_hand)
    assert_same_weights(gpt2_like, reference)


def test_a_model_without_blocks_trains_with_muon_too():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))
    [optimizer] = build_optimizers(model, TrainConfig(optimizer="muon"))
    assert isinstance(optimizer, torch.optim.AdamW)


def test_one_optimizer_is_enough_where_nothing_is_left_for_the_other(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("blocks.") and parameter.ndim == 2
    [muon] = build_optimizers(model, TrainConfig(optimizer="muon"))
    assert isinstance(muon, torch.optim.Muon)
    model.requires_grad_(False)
    with pytest.raises(PocketError, match="no trainable parameter"):
        build_optimizers(model, TrainConfig(optimizer="muon"))


def test_muon_updates_the_matrices_of_encoder_and_decoder():
    with torch.device("meta"):
        model = build_model(PRESETS["pocket-t5"])
    muon, _ = build_optimizers(model, TrainConfig(optimizer="muon"))
    updated = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    matrices = {id(module.weight) for name, module in model.named_modules() if name.endswith("_proj")}
    assert updated == matrices and len(matrices) == 2 * 6 + 2 * 10
