import ast
import inspect
from dataclasses import fields, is_dataclass
from itertools import pairwise

import pytest

from pocketgpt.checked import ConfigError
from pocketgpt.models.presets import PRESETS
from pocketgpt.training.recipes import FINETUNING, RECIPES, TrainConfig, finetuning_recipe, recipe

# For each field a value that cannot work.
WRONG = {
    "objective": "next-word",
    "steps": 0,
    "batch_size": -1,
    "accumulation": 0,
    "seq_len": 0,
    "optimizer": "sgd",
    "lr": 0.0,
    "muon_lr": 2.0,
    "schedule": "linear",
    "warmup": -0.1,
    "decay": 0.0,
    "final_lr": -0.1,
    "weight_decay": -0.1,
    "beta1": 1.0,
    "beta2": 1.5,
    "clip": 0.0,
    "dropout": 1.0,
    "lora_rank": 0,
    "lora_alpha": 0.0,
    "precision": "fp8",
    "head_chunk": 0,
    "max_skipped": 0,
    "eval_every": 0,
    "eval_tokens": 1,
    "save_every": 0,
    "keep_every": 1100,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_answered_with_field_value_and_what_would_work(name):
    config = TrainConfig()
    object.__setattr__(config, name, WRONG[name])  # past the type checks that run with the tests
    with pytest.raises(ConfigError) as error:
        config.__post_init__()
    message = str(error.value)
    assert f"TrainConfig.{name} = {WRONG[name]!r}" in message
    assert "use " in message


def test_a_gradient_scaler_and_shared_gradients_do_not_go_together():
    with pytest.raises(ConfigError, match=r"precision = 'fp16'.*bf16 or float32 with fsdp"):
        TrainConfig(fsdp=True, precision="fp16")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer": "muon"}, "optimizer = 'muon' cannot work: use adamw with lora_rank"),
        ({"optimizer": "adamw", "fsdp": True}, "fsdp = True cannot work: use False with lora_rank"),
    ],
)
def test_low_rank_pairs_do_not_go_with_what_is_for_whole_matrices(changes, said):
    with pytest.raises(ConfigError, match=said):
        TrainConfig(lora_rank=8, **changes)


def test_recipes_for_trained_models_have_names():
    assert finetuning_recipe() == finetuning_recipe("finetune") == FINETUNING["finetune"]
    assert finetuning_recipe("lora").lora_rank
    with pytest.raises(ConfigError, match=r"no recipe 'quick' for --init-from: choose one of finetune, lora"):
        finetuning_recipe("quick")


def test_warmup_and_decay_are_a_part_of_the_steps_or_their_number():
    config = TrainConfig(steps=1000, warmup=0.05, decay=300.0)
    assert (config.warmup_steps, config.decay_steps) == (50, 300)


def test_every_field_says_what_it_is():
    parts = [part for part in TrainConfig.__mro__ if is_dataclass(part)]
    documented = {
        field.target.id
        for part in parts
        for field, doc in pairwise(ast.parse(inspect.getsource(part)).body[0].body)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr)
    }
    assert documented == {field.name for field in fields(TrainConfig)}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_recipe_that_fits_it(preset):
    assert recipe(preset).seq_len <= PRESETS[preset].max_seq_len


def test_the_recipe_of_latent_is_that_of_the_features():
    latent = recipe("latent")
    assert (latent.optimizer, latent.lr, latent.warmup, latent.steps) == ("adamw", 1e-3, 500.0, 15_000)
    assert (latent.schedule, latent.precision) == ("cosine", "fp16")


def test_recipes_belong_to_presets():
    assert set(RECIPES) <= set(PRESETS)


def test_an_unknown_recipe_is_answered_with_the_ones_there_are():
    with pytest.raises(ConfigError, match=r"slow.*quick, shipped"):
        recipe("pocket-shakespeare", "slow")
