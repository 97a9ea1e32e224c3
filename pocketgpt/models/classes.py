"""Model classes: from a config to the model of its class, in memory and on disk.

config.json names the class by the config's `kind`; without a `kind` it is a GPT.
"""

from pathlib import Path

import torch

from pocketgpt.models.bert import BERT, BertConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.saving import load_config, load_weights
from pocketgpt.models.stack import Stack
from pocketgpt.models.t5 import T5, T5Config

MODELS: dict[type[ModelConfig], type[Stack]] = {ModelConfig: GPT, BertConfig: BERT, T5Config: T5}
"""From the config of a model to its class."""


def build_model(config: ModelConfig) -> Stack:
    """The model of this config, with random weights."""
    return MODELS[type(config)](config)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Stack:
    """The model of any class that `save` wrote, in float32 and ready to run (`eval`).

    Raises PocketError if a file is missing, damaged, or does not belong to the config.
    """
    model = build_model(load_config(folder, MODELS))
    load_weights(model, folder)
    return model.to(device).eval()
