from dataclasses import replace
from typing import get_args

import pytest

from pocketgpt.checked import ConfigError
from pocketgpt.models.presets import PRESETS
from pocketgpt.training.objectives import OBJECTIVES, check_vocabulary, find_objective
from pocketgpt.training.recipes import RECIPES, ObjectiveName, TrainConfig, recipe


def test_every_name_of_the_recipe_is_in_the_table():
    assert set(get_args(ObjectiveName)) == set(OBJECTIVES)


def test_next_token_is_refused_for_a_model_that_sees_the_next_token(config, tokenizer):
    with pytest.raises(ConfigError, match=r"next-token.*causal = False.*--model\.causal"):
        find_objective(TrainConfig(), replace(config, causal=False), tokenizer)


def test_an_objective_without_chunks_refuses_them(config, tokenizer, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "next-token", replace(OBJECTIVES["next-token"], in_chunks=False))
    with pytest.raises(ConfigError, match=r"head_chunk = 64 cannot work with the objective 'next-token'"):
        find_objective(TrainConfig(head_chunk=64), config, tokenizer)


@pytest.mark.parametrize(("extra", "fitting"), [((), (257, 300)), (("[MASK]",), (258,)), (("[A]", "[B]"), (259,))])
@pytest.mark.parametrize("rows", [256, 257, 258, 259, 300])
def test_extra_tokens_are_the_last_rows_of_the_vocabulary(config, tokenizer, monkeypatch, rows, extra, fitting):
    monkeypatch.setitem(OBJECTIVES, "next-token", replace(OBJECTIVES["next-token"], extra_tokens=extra))
    fits = rows in fitting if extra else rows >= fitting[0]
    try:
        check_vocabulary("next-token", replace(config, vocab_size=rows), tokenizer)
    except ConfigError as error:
        assert not fits and str(rows) in str(error) and "257" in str(error)
    else:
        assert fits


@pytest.mark.parametrize(("preset", "name"), [(preset, name) for preset in RECIPES for name in RECIPES[preset]])
def test_every_recipe_has_an_objective_that_fits_its_preset(preset, name):
    assert OBJECTIVES[recipe(preset, name).objective].causal == PRESETS[preset].causal


def test_the_arithmetic_of_a_step_is_that_of_the_model_if_it_reads_all_tokens(model):
    assert OBJECTIVES["next-token"].flops_per_token(model, 10) == model.flops_per_token(10)
