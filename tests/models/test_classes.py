"""A config decides the class of its model, in memory and on disk."""

import json

import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.models.bert import BERT
from pocketgpt.models.classes import MODELS, build_model, load_model
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS


def test_each_config_has_a_model_of_its_class(small):
    assert type(build_model(small("llama"))) is GPT
    assert type(build_model(small("pocket-bert"))) is BERT
    assert {type(config) for config in PRESETS.values()} == set(MODELS)


def test_only_another_class_than_gpt_is_named_in_the_config(small, tmp_path):
    for name, kind in (("llama", None), ("pocket-bert", "bert")):
        build_model(small(name)).save(tmp_path / name)
        values = json.loads((tmp_path / name / "config.json").read_text())
        assert values.get("kind") == kind and ("kind" in values) == (kind is not None)


def test_the_folder_decides_the_class_that_is_loaded(small, lively, tmp_path):
    for name in ("llama", "pocket-bert"):
        model = lively(small(name))
        model.save(tmp_path / name)
        loaded = load_model(tmp_path / name)
        assert type(loaded) is type(model) and not loaded.training
        assert torch.equal(loaded.head.weight, model.head.weight)


def test_another_class_than_the_folders_is_refused_with_the_function_for_all(small, tmp_path):
    build_model(small("pocket-bert")).save(tmp_path)
    with pytest.raises(PocketError, match=r"kind 'bert', and a ModelConfig has None: .*load_model\(folder\)"):
        GPT.load(tmp_path)


def test_an_unknown_class_is_named(small, tmp_path):
    config = small("pocket-bert")
    build_model(config).save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict() | {"kind": "elmo"}))
    with pytest.raises(PocketError, match=r"config.json .*kind 'elmo'"):
        load_model(tmp_path)


def test_a_config_without_its_kind_is_of_a_gpt(small):
    values = small("llama").to_dict()
    assert ModelConfig.from_dict(values) == small("llama")
    with pytest.raises(PocketError, match="kind None"):
        type(small("pocket-bert")).from_dict({**small("pocket-bert").to_dict(), "kind": None})
